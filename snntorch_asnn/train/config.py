"""The settings of a training run."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from snntorch_asnn.models import list_models

DATA_NAMES = ("digits", "fashion-mnist", "cifar10", "cifar100", "image-folder")
SCHEDULES = ("one-cycle", "cosine")
AUGMENTATIONS = ("auto", "none", "crop-flip")
_KINDS = {str: "a string", bool: "True or False"}


def _about(group: str, help: str) -> dict[str, str]:
    return {"group": group, "help": help}


@dataclass(frozen=True)
class TrainConfig:
    """All settings of one training run; the options of ``snntorch-asnn train`` are its fields.

    Settings are checked when the object is made; ``encoding``, ``neuron`` and ``readout`` when
    :func:`snntorch_asnn.models.create_model` gets them, before anything is written.

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

    data: str = field(default="digits", metadata=_about("Data", f"One of {', '.join(DATA_NAMES)}."))
    data_dir: Path | None = field(
        default=None,
        metadata=_about("Data", "Folder of the images; digits need none. Downloads go to ./data."),
    )
    image_size: int = field(
        default=64, metadata=_about("Data", "Side in pixels that image-folder is resized to.")
    )
    augment: str = field(
        default="auto",
        metadata=_about("Data", f"{', '.join(AUGMENTATIONS)}; auto: crop-flip for colour images."),
    )
    train_subset: int | None = field(
        default=None,
        metadata=_about("Data", "Use only so many training images, validation included."),
    )
    val_fraction: float = field(
        default=0.1, metadata=_about("Data", "Part of the training images held out for validation.")
    )
    model: str = field(default="lenet", metadata=_about("Model", "Architecture; see `snntorch-asnn models`."))
    encoding: str = field(
        default="hybrid", metadata=_about("Model", "Code that turns an image into time steps.")
    )
    neuron: str = field(
        default="asnn",
        metadata=_about("Model", "asnn: leak and gain learned for every step; lif: fixed."),
    )
    readout: str = field(
        default="time_weighted",
        metadata=_about("Model", "How logits are joined over time: time_weighted or mean."),
    )
    num_steps: int = field(default=4, metadata=_about("Model", "Number of time steps T."))
    epochs: int = field(default=10, metadata=_about("Training", "Passes over the images."))
    batch_size: int = field(default=128, metadata=_about("Training", "Images per step."))
    lr: float = field(default=3e-3, metadata=_about("Training", "Peak learning rate of Adam."))
    schedule: str = field(
        default="one-cycle",
        metadata=_about("Training", f"Of the learning rate: {', '.join(SCHEDULES)}."),
    )
    weight_decay: float = field(
        default=0.0, metadata=_about("Training", "Decoupled decay of weight matrices and kernels.")
    )
    seed: int = field(
        default=0, metadata=_about("Training", "Of weights, order of the images and augmentation.")
    )
    device: str = field(default="auto", metadata=_about("Machine", "auto, cpu, cuda or cuda:N."))
    compile: bool = field(default=False, metadata=_about("Machine", "Train through torch.compile."))
    workers: int = field(
        default=0, metadata=_about("Machine", "Processes that load and augment; 0: this one.")
    )
    threads: int | None = field(
        default=None, metadata=_about("Machine", "CPU threads; all cores if not given.")
    )
    out: Path | None = field(
        default=None,
        metadata=_about("Run", "Folder. Default: runs/DATA-MODEL-ENCODING-NEURON-seedN."),
    )
    overwrite: bool = field(
        default=False, metadata=_about("Run", "Replace the files of an earlier run there.")
    )

    def __post_init__(self) -> None:
        for name in (
            "data",
            "augment",
            "model",
            "encoding",
            "neuron",
            "readout",
            "schedule",
            "device",
        ):
            _check_type(name, getattr(self, name), str)
        for name in ("compile", "overwrite"):
            _check_type(name, getattr(self, name), bool)
        self._check_numbers()
        _check_choice("data", self.data, DATA_NAMES)
        _check_choice("model", self.model, tuple(list_models()))
        _check_choice("augment", self.augment, AUGMENTATIONS)
        _check_choice("schedule", self.schedule, SCHEDULES)
        default_out = f"runs/{self.data}-{self.model}-{self.encoding}-{self.neuron}-seed{self.seed}"
        object.__setattr__(self, "out", _as_path("out", default_out if self.out is None else self.out))
        if self.data_dir is not None:
            object.__setattr__(self, "data_dir", _as_path("data_dir", self.data_dir))

    def _check_numbers(self) -> None:
        for name in ("image_size", "num_steps", "epochs", "batch_size"):
            _check_int(name, getattr(self, name), minimum=1)
        for name in ("seed", "workers"):
            _check_int(name, getattr(self, name), minimum=0)
        for name in ("train_subset", "threads"):
            if getattr(self, name) is not None:
                _check_int(name, getattr(self, name), minimum=1)
        _check_number("lr", self.lr)
        if self.lr <= 0:
            raise ValueError(f"lr must be above 0; got {self.lr}")
        _check_number("weight_decay", self.weight_decay)
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must be at least 0; got {self.weight_decay}")
        _check_number("val_fraction", self.val_fraction)
        if not 0 < self.val_fraction < 1:
            raise ValueError(f"val_fraction must be between 0 and 1; got {self.val_fraction}")

    @property
    def run_folder(self) -> Path:
        """The folder that the run writes to: :attr:`out`, with its default filled in."""
        assert self.out is not None
        return self.out

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON types, to be read back with :meth:`from_dict`."""
        values = dataclasses.asdict(self)
        return {name: str(v) if isinstance(v, Path) else v for name, v in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """Make a configuration from what :meth:`to_dict` returned.

        Raises:
            ValueError: a name is not a setting, or a value is out of its range.
        """
        unknown = sorted(set(values) - {f.name for f in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"config must hold only settings of a run; got {', '.join(unknown)}")
        return cls(**values)


def _check_type(name: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {_KINDS[kind]}; got {value!r}")


def _check_int(name: str, value: object, minimum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer; got {value!r}")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}; got {value}")


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number; got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite; got {value}")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        nearest = get_close_matches(value, choices, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}{hint}")


def _as_path(name: str, value: object) -> Path:
    if not isinstance(value, str | Path):
        raise TypeError(f"{name} must be a path; got {value!r}")
    return Path(value)
