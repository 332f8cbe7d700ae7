"""The settings of a training run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from snntorch_asnn._arguments import check_choice
from snntorch_asnn.models import list_models
from snntorch_asnn.spikegen import CODES
from snntorch_asnn.train.fields import check_fields, check_names, check_values, setting

FolderData = Literal["image-folder", "imagenet"]
EventData = Literal["n-mnist", "cifar10-dvs", "dvs-gesture"]
SmallData = Literal["digits", "mnist", "fashion-mnist", "cifar10", "cifar100"]
DataName = Literal[SmallData, FolderData, EventData]
Augmentation = Literal["auto", "none", "crop-flip", "crop-flip-rotate", "random-resized-crop"]
LossName = Literal["cross-entropy", "tet", "step-wise"]
Moments: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation, each one number or one for each channel."""

FOLDER_DATA_NAMES: tuple[str, ...] = get_args(FolderData)
MACHINE_SETTINGS = (
    "data_dir",
    "verify",
    "device",
    "devices",
    "nodes",
    "strategy",
    "compile",
    "workers",
    "threads",
    "checkpoint_every",
    "tensorboard",
    "out",
    "overwrite",
    "resume",
)
"""Settings that may change when a run is resumed: they do not change the numbers that it computes."""

_DEFAULTS_OF_OLD_RUNS = {"normalize": "none", "norm_over_time": "pooled"}
# The CIFAR-10 values, which the published codes of the method and of Spikformer use for CIFAR-100 too.
_CIFAR: Moments = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
_IMAGENET: Moments = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PUBLISHED_MOMENTS = {"cifar10": _CIFAR, "cifar100": _CIFAR, "imagenet": _IMAGENET}


@dataclass(frozen=True)
class TrainConfig:
    """All settings of one training run; the options of ``snntorch-asnn train`` are its fields.

    The constructor checks every setting. Only ``encoding``, ``neuron`` and ``readout`` are checked later, by
    :func:`snntorch_asnn.models.create_model`, before anything is written.

    ``batch_size`` counts the images of one training step over all devices and accumulated parts, so that a
    run means the same on any number of devices.

    Raises:
        ValueError: A setting is out of its range, or names something unknown.
        TypeError: A setting has the wrong type.

    Example::

        >>> config = TrainConfig(data="digits", epochs=2)
        >>> str(config.out)
        'runs/digits-lenet-hybrid-asnn-seed0'
        >>> TrainConfig(epochs=-1)
        Traceback (most recent call last):
            ...
        ValueError: epochs must be at least 1; got -1
    """

    data: DataName = setting("digits", "Data", "Data set.")
    data_dir: Path | None = setting(
        None, "Data", "Folder with the images; digits need none. Downloads go to ./data."
    )
    image_size: int = setting(
        64, "Data", "Size in pixels to which image-folder and imagenet are resized.", at_least=1
    )
    normalize: str = setting(
        "auto",
        "Data",
        "Normalisation of the images that analog steps of a code show: auto normalises CIFAR and ImageNet"
        " under the direct code, as published; none; or 'MEAN STD', such as '0.5 0.25' or"
        " '0.5,0.4,0.4 0.2,0.2,0.3'.",
    )
    train_subset: int | None = setting(
        None, "Data", "Number of training images to use, validation images included; all if none.", at_least=1
    )
    val_fraction: float = setting(
        0.1, "Data", "Fraction of the training images held out for validation.", above=0, below=1
    )
    verify: bool = setting(
        True, "Data", "Decode every image of image-folder and imagenet before training begins."
    )

    augment: Augmentation = setting(
        "auto",
        "Augmentation",
        "Random crops, flips and rotations; auto is random-resized-crop for imagenet, crop-flip for other"
        " colour images, and none for the rest.",
    )
    crop_padding: int | None = setting(
        None,
        "Augmentation",
        "Pixels added around an image before it is cropped; an eighth of its size if none.",
        at_least=1,
    )
    rotation: float = setting(
        25.0, "Augmentation", "Largest angle of crop-flip-rotate, in degrees.", at_least=0, at_most=180
    )
    rand_augment: str | None = setting(
        None, "Augmentation", "RandAugment policy in timm's notation, such as rand-m9-n1-mstd0.4-inc1."
    )
    random_erasing: float = setting(
        0.0, "Augmentation", "Probability that a rectangle of an image is erased.", at_least=0, at_most=1
    )
    mixup: float = setting(
        0.0,
        "Augmentation",
        "Alpha of mixup's Beta distribution: 1 is uniform, 0 turns mixup off.",
        at_least=0,
    )
    cutmix: float = setting(
        0.0, "Augmentation", "Alpha of CutMix's Beta distribution: 0 turns CutMix off.", at_least=0
    )
    mixup_until: int | None = setting(
        None, "Augmentation", "Last epoch with mixup or CutMix; every epoch if none.", at_least=1
    )

    model: str = setting("lenet", "Model", "Architecture; `snntorch-asnn models` lists them.")
    encoding: str = setting(
        "hybrid",
        "Model",
        f"Code of the images: {', '.join(CODES)}; none for events, which are a sequence already.",
    )
    neuron: str = setting(
        "asnn",
        "Model",
        "asnn, tebn, dalif, plif, lif or if; asnn learns leak and gain for every step, lif learns nothing.",
    )
    sharing: Literal["layer", "channel"] = setting(
        "layer", "Model", "Whether neurons share parameters in a layer or in a channel."
    )
    readout: str = setting(
        "time_weighted", "Model", "How logits are averaged over time: time_weighted or mean."
    )
    carry: bool = setting(
        False, "Model", "Keep adding the analog current of a hybrid code at the later steps."
    )
    norm_over_time: Literal["auto", "pooled", "sequential", "step_statistics", "step"] = setting(
        "auto",
        "Model",
        "Time steps that share batch norm statistics; auto does as the model's reference does.",
    )
    num_steps: int = setting(4, "Model", "Number of time steps T.", at_least=1)

    loss: LossName = setting("cross-entropy", "Loss", "Loss on the logits of the steps.")
    label_smoothing: float = setting(
        0.0, "Loss", "Fraction of the target that is spread over all classes.", at_least=0, below=1
    )
    tet_lambda: float = setting(0.0, "Loss", "Weight of the regulariser of tet.", at_least=0, at_most=1)
    teacher: Path | None = setting(
        None,
        "Loss",
        "Network to distil from: the folder of a run, or a checkpoint of torchvision or timm.",
    )
    kd_alpha: float = setting(0.5, "Loss", "Weight of the teacher.", at_least=0, at_most=1)
    kd_temperature: float = setting(4.0, "Loss", "Temperature of the teacher's answers.", above=0)

    epochs: int = setting(10, "Training", "Passes over the images, cooldown included.", at_least=1)
    batch_size: int = setting(128, "Training", "Images per step, over all devices.", at_least=1)
    accumulate: int = setting(
        1, "Training", "Parts into which each device splits its batch, to save memory.", at_least=1
    )
    optimizer: Literal["adamw", "sgd"] = setting("adamw", "Training", "Optimizer.")
    momentum: float = setting(0.9, "Training", "Momentum of sgd.", at_least=0, below=1)
    # Adam's first step divides by 0.1, and float32 ends at 3.4e38.
    lr: float = setting(3e-3, "Training", "Peak learning rate.", above=0, at_most=1e37)
    schedule: Literal["one-cycle", "cosine", "constant"] = setting(
        "one-cycle", "Training", "Schedule of the learning rate."
    )
    min_lr: float = setting(1e-5, "Training", "Learning rate at the end of cosine.", at_least=0)
    warmup_epochs: int = setting(0, "Training", "Linear warm-up of cosine and constant.", at_least=0)
    warmup_lr: float = setting(1e-5, "Training", "Learning rate at the start of the warm-up.", above=0)
    cooldown_epochs: int = setting(
        0, "Training", "Epochs at the end of cosine that stay at min_lr.", at_least=0
    )
    weight_decay: float = setting(
        0.0, "Training", "Decoupled decay of weight matrices and kernels.", at_least=0
    )
    clip_grad: float | None = setting(None, "Training", "Largest norm of the gradient.", above=0)
    ema: float | None = setting(
        None,
        "Training",
        "Decay of an exponential moving average of the weights, which is then evaluated and kept.",
        above=0,
        below=1,
    )
    seed: int = setting(
        0, "Training", "Random seed for initialisation, shuffling and augmentation.", at_least=0
    )

    device: str = setting("auto", "Machine", "auto, cpu, cuda or cuda:N.")
    devices: int = setting(1, "Machine", "Devices or processes on each machine.", at_least=1)
    nodes: int = setting(1, "Machine", "Number of machines.", at_least=1)
    strategy: Literal["auto", "ddp", "ddp_find_unused_parameters_true"] = setting(
        "auto", "Machine", "How several devices work together."
    )
    precision: Literal["32", "bf16", "16", "64"] = setting(
        "32", "Machine", "Precision of activations; bf16 and 16 keep the weights in 32 bits."
    )
    compile: bool = setting(False, "Machine", "Train through torch.compile.")
    workers: int = setting(
        0,
        "Machine",
        "Processes that load and augment images for each device; 0 uses the training process.",
        at_least=0,
    )
    threads: int | None = setting(None, "Machine", "CPU threads; all cores if none.", at_least=1)

    out: Path | None = setting(None, "Run", "Run folder. Default: runs/DATA-MODEL-ENCODING-NEURON-seedN.")
    overwrite: bool = setting(False, "Run", "Replace the files of an earlier run in the folder.")
    resume: bool = setting(False, "Run", "Resume the run in the folder.")
    checkpoint_every: int | None = setting(
        None, "Run", "Steps between checkpoints; each epoch ends with one in any case.", at_least=1
    )
    tensorboard: bool = setting(True, "Run", "Log for TensorBoard too, if it is installed.")

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice("model", self.model, list_models())
        moments_of(self)
        self._check_together()
        object.__setattr__(self, "out", self.folder_of(vars(self)))

    def _check_together(self) -> None:
        if self.warmup_epochs + self.cooldown_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs and cooldown_epochs must add up to less than epochs={self.epochs};"
                f" got {self.warmup_epochs} and {self.cooldown_epochs}"
            )
        if self.overwrite and self.resume:
            raise ValueError("resume must not be set together with overwrite; got both")
        parts = self.devices * self.nodes * self.accumulate
        if self.batch_size % parts:
            raise ValueError(
                f"batch_size must be a multiple of devices × nodes × accumulate, which is {parts};"
                f" got {self.batch_size}"
            )

    @property
    def run_folder(self) -> Path:
        """The run folder: :attr:`out`, or its default."""
        assert self.out is not None
        return self.out

    @classmethod
    def folder_of(cls, values: Mapping[str, Any]) -> Path:
        """Return the run folder for some settings; the others have their defaults."""
        if values.get("out") is not None:
            return Path(values["out"])
        settings = {field.name: field.default for field in dataclasses.fields(cls)} | dict(values)
        return Path("runs", "{data}-{model}-{encoding}-{neuron}-seed{seed}".format(**settings))

    @classmethod
    def check_values(cls, values: Mapping[str, Any]) -> None:
        """Check some of the settings, each by itself.

        Raises:
            ValueError: A name is not a setting, or a value is out of its range.
            TypeError: A value has the wrong type.
        """
        check_values(cls, values)
        if "model" in values:
            check_choice("model", values["model"], list_models())
        if values.get("normalize", "auto") != "auto":
            _parse_moments(values["normalize"])

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON types; :meth:`from_dict` reads them back."""
        values = dataclasses.asdict(self)
        return {name: str(v) if isinstance(v, Path) else v for name, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Make a configuration from the dict that :meth:`to_dict` returned.

        Raises:
            ValueError: A name is not a setting, or a value is out of its range.
        """
        check_names(cls, values)
        return cls(**values)

    @classmethod
    def from_stored(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Make a configuration from the settings in a run folder, which an earlier version may have written.

        A setting that the earlier version lacked gets the value that keeps that version's behaviour.

        Raises:
            ValueError: A name is not a setting, or a value is out of its range.
        """
        return cls.from_dict(_DEFAULTS_OF_OLD_RUNS | dict(values))


def moments_of(config: TrainConfig) -> Moments | None:
    """Return the mean and standard deviation to normalise images with, or None.

    ``"auto"`` does as published codes do: it normalises CIFAR and ImageNet under the direct code only.

    Raises:
        ValueError: ``normalize`` cannot be read.

    Example::

        >>> moments_of(TrainConfig(normalize="0.5 0.25"))
        ((0.5,), (0.25,))
    """
    if config.normalize == "auto":
        return _PUBLISHED_MOMENTS.get(config.data) if config.encoding == "direct" else None
    return _parse_moments(config.normalize)


def _parse_moments(text: str) -> Moments | None:
    if text == "none":
        return None
    try:
        mean, std = (tuple(float(number) for number in part.split(",")) for part in text.split())
    except ValueError:
        mean = std = ()
    fits = len(mean) == len(std) or 1 in (len(mean), len(std))
    if not (mean and std and fits and all(map(math.isfinite, (*mean, *std)))):
        raise ValueError(
            "normalize must be auto, none, or mean and standard deviation such as '0.5 0.25', with commas"
            f" between the numbers of several channels; got {text!r}"
        )
    if min(std) <= 0:
        raise ValueError(f"normalize must have standard deviations above 0; got {text!r}")
    return mean, std
