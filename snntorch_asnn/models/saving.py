"""Save models to files that :func:`~snntorch_asnn.models.from_pretrained` loads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from snntorch_asnn.layers.norm_over_time import RunsNorms
from snntorch_asnn.models import tensor_file
from snntorch_asnn.models.rebuilding import check_finite, first_difference

if TYPE_CHECKING:
    from snntorch_asnn.models.base import SpikingModel

__all__ = ["save"]


def save(model: SpikingModel, path: str | os.PathLike[str]) -> None:
    """Save weights and settings of a model, see :meth:`SpikingModel.save_pretrained`.

    Raises:
        ValueError: The file could not be loaded as this model again.
    """
    recipe = model.recipe
    if recipe is None:
        raise ValueError(
            f"model must be made by create_model, which records the settings; got {type(model).__name__} "
            "without settings"
        )
    kinds = {module.norm_over_time for module in model.modules() if isinstance(module, RunsNorms)}
    if others := kinds - {model.norm_over_time}:
        raise ValueError(
            f"model must have one norm_over_time, {model.norm_over_time!r}; got layers with "
            f"{', '.join(map(repr, sorted(others)))}; call set_norm_over_time on the whole model"
        )
    recipe["settings"]["norm_over_time"] = model.norm_over_time
    state = model.state_dict()
    _check_recipe(model, recipe, state)
    check_finite(state, path)
    tensor_file.write(path, state, recipe)


def _check_recipe(model: SpikingModel, recipe: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Refuse to save a model that differs from its recipe, because the file could not be loaded again."""
    by_hand = model._by_hand
    assert model._create is not None
    if not set(recipe["by_hand"]) <= by_hand.keys():
        return  # A copy of a model does not have these settings.
    try:
        with torch.device("meta"):
            made = model._create(recipe["name"], **recipe["settings"], **by_hand)
    except Exception:
        if recipe["by_hand"]:  # The user's code may not support the meta device.
            return
        raise
    if difference := first_difference(made.state_dict(), state):
        raise ValueError(
            f"model must match its settings to be loaded again: {difference}. Change layers with arguments "
            "of create_model, or with the model's reset_classifier and resize_steps"
        )
