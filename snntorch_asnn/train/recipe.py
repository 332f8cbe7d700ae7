"""Recipes: the settings of a training run in a small TOML file, and how they are overridden."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snntorch_asnn._arguments import check_choice
from snntorch_asnn.train.config import FOLDER_DATA_NAMES, TrainConfig
from snntorch_asnn.train.run_folder import RunFolder

_SHIPPED = Path(__file__).with_name("recipes")
_PER_RUN = ("out", "overwrite", "resume")
_CODES_WITHOUT_ANALOG_STEPS = ("temporal", "binary_temporal", "latency", "phase", "bit_plane")
_AUGMENTATIONS_WITH_A_CROP = ("auto", "crop-flip", "crop-flip-rotate")


@dataclass(frozen=True)
class Recipe:
    """A name, a description, and the settings that differ from the defaults."""

    name: str
    description: str
    settings: Mapping[str, Any]


def list_recipes() -> list[str]:
    """Return the names of the recipes that come with the package, sorted.

    Example::

        >>> list_recipes()
        ['digits', 'lenet', 'resnet19_cifar', 'sew_imagenet', 'spikformer_cifar']
    """
    return sorted(file.stem for file in _SHIPPED.glob("*.toml"))


def load_recipe(name: str | Path) -> Recipe:
    """Read a recipe.

    Args:
        name: One of :func:`list_recipes`, or a file that ends in ``.toml``. The file has a line
            ``name = value`` for each setting of :class:`~snntorch_asnn.train.TrainConfig` that differs from
            its default, and a ``description``.

    Raises:
        ValueError: There is no such recipe, the file is no TOML, or a setting is unknown or out of its range.
        TypeError: A setting has the wrong type.

    Example::

        >>> load_recipe("lenet").settings["data"]
        'cifar100'
    """
    file = Path(name)
    if file.suffix != ".toml":
        check_choice("recipe", str(name), list_recipes())
        file = _SHIPPED / f"{name}.toml"
    if not file.is_file():
        raise ValueError(
            f"recipe must be one of {', '.join(list_recipes())}, or a TOML file; there is no file {file}"
        )
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"recipe must be a TOML file; {file}: {error}") from error
    description = settings.pop("description", "")
    try:
        TrainConfig.check_values(settings)
    except (ValueError, TypeError) as error:
        raise type(error)(f"recipe {file}: {error}") from error
    return Recipe(file.stem, str(description), settings)


def make_config(recipe: str | Path | None, given: Mapping[str, Any]) -> TrainConfig:
    """Return the settings of a recipe, overridden by the settings in ``given``.

    With ``resume`` the settings of the run in the folder come first, so that the folder alone is enough to
    resume it. The settings of the recipe and in ``given`` must then agree with them.

    Raises:
        ValueError: As :func:`load_recipe`; or a setting in ``given`` is unknown, out of its range or without
            effect beside the others; or there is no run to resume, or its settings are damaged.
        TypeError: A setting has the wrong type.

    Example::

        >>> config = make_config("lenet", {"epochs": 3, "mixup_until": None})
        >>> config.lr, config.epochs
        (0.005, 3)
    """
    settings = override(recipe, given)
    config = TrainConfig.from_dict({**_settings_to_resume(settings), **settings})
    check_used([config], given)
    return config


def override(recipe: str | Path | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a recipe, overridden by the settings in ``given``, as a dict."""
    TrainConfig.check_values(given)
    return {**(load_recipe(recipe).settings if recipe is not None else {}), **given}


def check_used(configs: Sequence[TrainConfig], given: Mapping[str, Any]) -> None:
    """Refuse settings that the user has asked for, but that have no effect in any of the runs.

    Args:
        configs: All settings of each run.
        given: The settings that the user has named. A setting at its default asks for nothing.

    Raises:
        ValueError: Names such a setting, and the setting that rules it out.
    """
    default = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    unused = [unused_settings(config) for config in configs]
    for name, reason in unused[0].items():
        if name in given and given[name] != default[name] and all(name in others for others in unused):
            raise ValueError(f"{name} must be left out {reason}, where it has no effect; got {given[name]!r}")


def unused_settings(config: TrainConfig) -> dict[str, str]:
    """Return the settings that have no effect, each with the reason, such as ``with schedule=one-cycle``.

    Example::

        >>> unused_settings(TrainConfig(loss="tet", optimizer="sgd"))["rotation"]
        'with augment=auto'
    """
    rules = {
        "image_size": ("data", config.data not in FOLDER_DATA_NAMES),
        "verify": ("data", config.data not in FOLDER_DATA_NAMES),
        "crop_padding": ("augment", config.augment not in _AUGMENTATIONS_WITH_A_CROP),
        "rotation": ("augment", config.augment != "crop-flip-rotate"),
        "tet_lambda": ("loss", config.loss != "tet"),
        "kd_alpha": ("teacher", config.teacher is None),
        "kd_temperature": ("teacher", config.teacher is None),
        "normalize": ("encoding", config.encoding in _CODES_WITHOUT_ANALOG_STEPS),
        "momentum": ("optimizer", config.optimizer != "sgd"),
        "min_lr": ("schedule", config.schedule != "cosine"),
        "warmup_epochs": ("schedule", config.schedule == "one-cycle"),
        "cooldown_epochs": ("schedule", config.schedule != "cosine"),
        "warmup_lr": ("warmup_epochs", config.warmup_epochs == 0),
    }
    unused = {
        name: f"with {other}={'none' if getattr(config, other) is None else getattr(config, other)}"
        for name, (other, holds) in rules.items()
        if holds
    }
    if config.mixup == 0 and config.cutmix == 0:
        unused["mixup_until"] = "with mixup=0 and cutmix=0"
    return unused


def _settings_to_resume(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the run that is to be resumed, and its folder; nothing for a new run."""
    if not settings.get("resume") or settings.get("overwrite"):  # TrainConfig refuses both together
        return {}
    folder = RunFolder(TrainConfig.folder_of(settings))
    folder.check_has_run()
    kept = {name: value for name, value in folder.read_config().to_dict().items() if name not in _PER_RUN}
    return {**kept, "out": folder.path}
