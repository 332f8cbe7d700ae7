"""Recipes: settings of a training run in a small TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.run_folder import RunFolder
from snntorch_asnn.train.settings import check_choice
from snntorch_asnn.train.unused import check_used

_SHIPPED = Path(__file__).with_name("recipes")
_PER_RUN = ("out", "overwrite", "resume")


@dataclass(frozen=True)
class Recipe:
    """A name, what it is for, and the settings that differ from the defaults."""

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
        name: one of :func:`list_recipes`, or a file that ends in ``.toml``: a line ``name = value`` for
            each setting of :class:`~snntorch_asnn.train.TrainConfig` that differs from its default, and a
            ``description``.

    Raises:
        ValueError: there is no such recipe, it is no TOML, or a setting is unknown or out of its range.
        TypeError: a setting has the wrong type.

    Example::

        >>> load_recipe("lenet").settings["data"]
        'cifar100'
    """
    file = Path(name)
    if file.suffix != ".toml":
        check_choice("recipe", str(name), list_recipes())
        file = _SHIPPED / f"{name}.toml"
    if not file.is_file():
        raise ValueError(f"recipe must be one of {', '.join(list_recipes())} or a file; {file} is none")
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
    """Return the settings of a recipe, with those in ``given`` in place of its own.

    With ``resume`` the settings of the run in the folder come first, so that the folder alone is enough
    to continue it; those of the recipe and in ``given`` must then agree with them.

    Raises:
        ValueError: as :func:`load_recipe`; a setting in ``given`` is unknown, out of its range, or has no
            effect beside the others; or there is no run to be continued, or one with damaged settings.
        TypeError: a setting has the wrong type.

    Example::

        >>> config = make_config("lenet", {"epochs": 3, "mixup_until": None})
        >>> config.lr, config.epochs
        (0.005, 3)
    """
    settings = override(recipe, given)
    config = TrainConfig.from_dict({**_of_run(settings), **settings})
    check_used([config], given)
    return config


def override(recipe: str | Path | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a recipe, with those in ``given`` in place of its own.

    Raises:
        ValueError: as :func:`load_recipe`, or a setting in ``given`` is unknown or out of its range.
        TypeError: a setting has the wrong type.
    """
    TrainConfig.check_values(given)
    return {**(load_recipe(recipe).settings if recipe is not None else {}), **given}


def _of_run(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the run that is to be continued, with its folder; nothing for another run."""
    if not settings.get("resume") or settings.get("overwrite"):  # both at once are refused for themselves
        return {}
    folder = RunFolder(TrainConfig.folder_of(settings))
    folder.check_has_run()
    kept = {name: value for name, value in folder.read_config().to_dict().items() if name not in _PER_RUN}
    return {**kept, "out": folder.path}
