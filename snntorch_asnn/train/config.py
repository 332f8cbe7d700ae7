"""The settings of a training run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snntorch_asnn.models import list_models
from snntorch_asnn.spikegen import CODES
from snntorch_asnn.train.losses import LOSSES
from snntorch_asnn.train.normalization import moments_of, parse_moments
from snntorch_asnn.train.settings import check_choice, check_names, check_settings, check_values, setting

FOLDER_DATA_NAMES = ("image-folder", "imagenet")
EVENT_DATA_NAMES = ("n-mnist", "cifar10-dvs", "dvs-gesture")
DATA_NAMES = (
    "digits",
    "mnist",
    "fashion-mnist",
    "cifar10",
    "cifar100",
    *FOLDER_DATA_NAMES,
    *EVENT_DATA_NAMES,
)
AUGMENTATIONS = ("auto", "none", "crop-flip", "crop-flip-rotate", "random-resized-crop")
OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("one-cycle", "cosine", "constant")
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true")
PRECISIONS = ("32", "bf16", "16", "64")
SHARINGS = ("layer", "channel")
NORMS_OVER_TIME = ("auto", "pooled", "sequential", "step_statistics", "step")

# What may differ when a run is continued: where it runs and what it shows, not what it computes.
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


_BEFORE_THEY_WERE_SETTINGS = {"normalize": "none", "norm_over_time": "pooled"}


@dataclass(frozen=True)
class TrainConfig:
    """All settings of one training run; the options of ``snntorch-asnn train`` are its fields.

    Settings are checked when the object is made; ``encoding``, ``neuron`` and ``readout`` when
    :func:`snntorch_asnn.models.create_model` gets them, before anything is written.

    ``batch_size`` is what one training step sees, over all devices and accumulated parts together, so
    that a run means the same on any number of devices.

    Raises:
        ValueError: a setting is out of its range, or names something unknown.
        TypeError: a setting has the wrong type.

    Example::

        >>> config = TrainConfig(data="digits", epochs=2)
        >>> str(config.out)
        'runs/digits-lenet-hybrid-asnn-seed0'
        >>> TrainConfig(epochs=-1)
        Traceback (most recent call last):
            ...
        ValueError: epochs must be at least 1; got -1
    """

    data: str = setting("digits", "Data", "Data set", choices=DATA_NAMES)
    data_dir: Path | None = setting(
        None, "Data", "Folder of the images; digits need none. Downloads go to ./data."
    )
    image_size: int = setting(
        64, "Data", "Side in pixels that image-folder and imagenet are resized to.", at_least=1
    )
    normalize: str = setting(
        "auto",
        "Data",
        "What analog steps of a code show: auto, images of CIFAR and ImageNet normalised where the code is"
        " direct, as published; none; or 'MEAN STD', such as '0.5 0.25' or '0.5,0.4,0.4 0.2,0.2,0.3'.",
    )
    train_subset: int | None = setting(
        None, "Data", "Use only so many training images, validation included.", at_least=1
    )
    val_fraction: float = setting(
        0.1, "Data", "Part of the training images held out for validation.", above=0, below=1
    )
    verify: bool = setting(
        True, "Data", "Decode every image of image-folder and imagenet before training begins."
    )

    augment: str = setting(
        "auto",
        "Augmentation",
        "Geometric, where auto is random-resized-crop for imagenet, crop-flip for other colour images,"
        " else none",
        choices=AUGMENTATIONS,
    )
    crop_padding: int | None = setting(
        None, "Augmentation", "Pixels around an image before it is cropped; an eighth if none.", at_least=1
    )
    rotation: float = setting(
        25.0, "Augmentation", "Largest angle of crop-flip-rotate, in degrees.", at_least=0, at_most=180
    )
    rand_augment: str | None = setting(
        None, "Augmentation", "RandAugment in timm's words, such as rand-m9-n1-mstd0.4-inc1."
    )
    random_erasing: float = setting(
        0.0, "Augmentation", "Probability that a rectangle of an image is erased.", at_least=0, at_most=1
    )
    mixup: float = setting(
        0.0, "Augmentation", "Alpha of mixup's Beta distribution; 1 mixes uniformly, 0 never.", at_least=0
    )
    cutmix: float = setting(0.0, "Augmentation", "Alpha of cutmix's Beta distribution; 0: never.", at_least=0)
    mixup_until: int | None = setting(
        None, "Augmentation", "Last epoch with mixup or cutmix; all if none.", at_least=1
    )

    model: str = setting("lenet", "Model", "Architecture; see `snntorch-asnn models`.")
    encoding: str = setting(
        "hybrid", "Model", f"Code of the images: {', '.join(CODES)}; events need none, they are a sequence."
    )
    neuron: str = setting(
        "asnn",
        "Model",
        "asnn, tebn, dalif, plif, lif or if; asnn learns leak and gain for every step, lif nothing.",
    )
    sharing: str = setting("layer", "Model", "Parameters of neurons are one for each", choices=SHARINGS)
    readout: str = setting(
        "time_weighted", "Model", "How logits are joined over time: time_weighted or mean."
    )
    carry: bool = setting(False, "Model", "Carry the analog current of a hybrid code on to the later steps.")
    norm_over_time: str = setting(
        "auto",
        "Model",
        "Steps that batch norms take their statistics from, where auto is what the model's reference does",
        choices=NORMS_OVER_TIME,
    )
    num_steps: int = setting(4, "Model", "Number of time steps T.", at_least=1)

    loss: str = setting("cross-entropy", "Loss", "On the logits of the steps", choices=LOSSES)
    label_smoothing: float = setting(
        0.0, "Loss", "Part of the target spread over all classes.", at_least=0, below=1
    )
    tet_lambda: float = setting(0.0, "Loss", "Weight of the regulariser of tet.", at_least=0, at_most=1)
    teacher: Path | None = setting(
        None,
        "Loss",
        "Whose answers are imitated too: folder of a run, or a checkpoint of torchvision or timm.",
    )
    kd_alpha: float = setting(0.5, "Loss", "Weight of the teacher.", at_least=0, at_most=1)
    kd_temperature: float = setting(4.0, "Loss", "Temperature of the teacher's answers.", above=0)

    epochs: int = setting(10, "Training", "Passes over the images, cooldown included.", at_least=1)
    batch_size: int = setting(128, "Training", "Images per step, over all devices.", at_least=1)
    accumulate: int = setting(
        1, "Training", "Parts that each device takes its batch in, to save memory.", at_least=1
    )
    optimizer: str = setting("adamw", "Training", "Optimizer", choices=OPTIMIZERS)
    momentum: float = setting(0.9, "Training", "Momentum of sgd.", at_least=0, below=1)
    # Adam's first step divides by 0.1, and float32 ends at 3.4e38.
    lr: float = setting(3e-3, "Training", "Peak learning rate.", above=0, at_most=1e37)
    schedule: str = setting("one-cycle", "Training", "Of the learning rate", choices=SCHEDULES)
    min_lr: float = setting(1e-5, "Training", "Learning rate that cosine ends at.", at_least=0)
    warmup_epochs: int = setting(0, "Training", "Linear warm-up of cosine and constant.", at_least=0)
    warmup_lr: float = setting(1e-5, "Training", "Learning rate that a warm-up starts at.", above=0)
    cooldown_epochs: int = setting(0, "Training", "Last epochs of cosine, at its end.", at_least=0)
    weight_decay: float = setting(
        0.0, "Training", "Decoupled decay of weight matrices and kernels.", at_least=0
    )
    clip_grad: float | None = setting(None, "Training", "Largest norm of the gradient.", above=0)
    ema: float | None = setting(
        None,
        "Training",
        "Evaluate and keep an exponential moving average of the weights, with this decay.",
        above=0,
        below=1,
    )
    seed: int = setting(0, "Training", "Of weights, order of the images and augmentation.", at_least=0)

    device: str = setting("auto", "Machine", "auto, cpu, cuda or cuda:N.")
    devices: int = setting(1, "Machine", "Devices or processes on each machine.", at_least=1)
    nodes: int = setting(1, "Machine", "Machines.", at_least=1)
    strategy: str = setting("auto", "Machine", "How several devices work together", choices=STRATEGIES)
    precision: str = setting(
        "32", "Machine", "Bits of activations, where bf16 and 16 leave weights in 32", choices=PRECISIONS
    )
    compile: bool = setting(False, "Machine", "Train through torch.compile.")
    workers: int = setting(
        0, "Machine", "Processes for each device that load and augment; 0: its own.", at_least=0
    )
    threads: int | None = setting(None, "Machine", "CPU threads; all cores if not given.", at_least=1)

    out: Path | None = setting(None, "Run", "Folder. Default: runs/DATA-MODEL-ENCODING-NEURON-seedN.")
    overwrite: bool = setting(False, "Run", "Replace the files of an earlier run there.")
    resume: bool = setting(False, "Run", "Continue the run there.")
    checkpoint_every: int | None = setting(
        None, "Run", "Steps between checkpoints, besides those of every epoch.", at_least=1
    )
    tensorboard: bool = setting(True, "Run", "Log for TensorBoard too, if it is installed.")

    def __post_init__(self) -> None:
        check_settings(self)
        check_choice("model", self.model, list_models())
        moments_of(self)
        self._check_together()
        object.__setattr__(self, "out", self.folder_of(vars(self)))

    def _check_together(self) -> None:
        if self.warmup_epochs + self.cooldown_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs and cooldown_epochs must leave some of the {self.epochs} epochs;"
                f" got {self.warmup_epochs} and {self.cooldown_epochs}"
            )
        if self.overwrite and self.resume:
            raise ValueError("resume must not be set together with overwrite; got both")
        processes = self.devices * self.nodes
        if self.batch_size % (processes * self.accumulate):
            raise ValueError(
                f"batch_size must be a multiple of devices × nodes × accumulate, which is"
                f" {processes * self.accumulate}; got {self.batch_size}"
            )

    @property
    def run_folder(self) -> Path:
        """The folder that the run writes to: :attr:`out`, with its default filled in."""
        assert self.out is not None
        return self.out

    @classmethod
    def folder_of(cls, values: Mapping[str, Any]) -> Path:
        """Return the folder of a run with these settings, the others being the defaults."""
        if values.get("out") is not None:
            return Path(values["out"])
        setting = {field.name: field.default for field in dataclasses.fields(cls)} | dict(values)
        return Path("runs", "{data}-{model}-{encoding}-{neuron}-seed{seed}".format(**setting))

    @classmethod
    def check_values(cls, values: Mapping[str, Any]) -> None:
        """Check some of the settings, each by itself, where the others are not known yet.

        Raises:
            ValueError: a name is not a setting, or a value is out of its range.
            TypeError: a value has the wrong type.
        """
        check_values(cls, values)
        if "model" in values:
            check_choice("model", values["model"], list_models())
        if values.get("normalize", "auto") != "auto":
            parse_moments(values["normalize"])

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON types, to be read back with :meth:`from_dict`."""
        values = dataclasses.asdict(self)
        return {name: str(v) if isinstance(v, Path) else v for name, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Make a configuration from what :meth:`to_dict` returned.

        Raises:
            ValueError: a name is not a setting, or a value is out of its range.
        """
        check_names(cls, values)
        return cls(**values)

    @classmethod
    def from_stored(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Make a configuration from the settings that a run has written.

        A run of an earlier version lacks settings that came later; they get the value that does what that
        version did.

        Raises:
            ValueError: a name is not a setting, or a value is out of its range.
        """
        return cls.from_dict(_BEFORE_THEY_WERE_SETTINGS | dict(values))
