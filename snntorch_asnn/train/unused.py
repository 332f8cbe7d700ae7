"""Settings that have no effect beside others."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from snntorch_asnn.train.config import FOLDER_DATA_NAMES, TrainConfig

_WITHOUT_ANALOG_STEPS = ("temporal", "binary_temporal", "latency", "phase", "bit_plane")
_WITH_A_CROP = ("auto", "crop-flip", "crop-flip-rotate")


def check_used(configs: Sequence[TrainConfig], given: Mapping[str, Any]) -> None:
    """Refuse settings that were asked for and would have no effect in any run.

    Args:
        configs: all settings of each run.
        given: those that the user has named; one at its default asks for nothing.

    Raises:
        ValueError: names such a setting, and the one that rules it out.
    """
    default = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    unused = [unused_settings(config) for config in configs]
    for name, reason in unused[0].items():
        if name in given and given[name] != default[name] and all(name in others for others in unused):
            raise ValueError(f"{name} must be left out {reason}, where it has no effect; got {given[name]!r}")


def unused_settings(config: TrainConfig) -> dict[str, str]:
    """Return the settings that have no effect, each with why, such as ``with schedule=one-cycle``.

    Example::

        >>> unused_settings(TrainConfig(loss="tet", optimizer="sgd"))["rotation"]
        'with augment=auto'
    """
    of = config.to_dict()
    rules = {
        "image_size": ("data", config.data not in FOLDER_DATA_NAMES),
        "verify": ("data", config.data not in FOLDER_DATA_NAMES),
        "crop_padding": ("augment", config.augment not in _WITH_A_CROP),
        "rotation": ("augment", config.augment != "crop-flip-rotate"),
        "tet_lambda": ("loss", config.loss != "tet"),
        "kd_alpha": ("teacher", config.teacher is None),
        "kd_temperature": ("teacher", config.teacher is None),
        "normalize": ("encoding", config.encoding in _WITHOUT_ANALOG_STEPS),
        "momentum": ("optimizer", config.optimizer != "sgd"),
        "min_lr": ("schedule", config.schedule != "cosine"),
        "warmup_epochs": ("schedule", config.schedule == "one-cycle"),
        "cooldown_epochs": ("schedule", config.schedule != "cosine"),
        "warmup_lr": ("warmup_epochs", config.warmup_epochs == 0),
    }
    unused = {
        name: f"with {other}={'none' if of[other] is None else of[other]}"
        for name, (other, holds) in rules.items()
        if holds
    }
    if config.mixup == 0 and config.cutmix == 0:
        unused["mixup_until"] = "with mixup=0 and cutmix=0"
    return unused
