"""Models into the files that :func:`~snntorch_asnn.models.from_pretrained` reads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from snntorch_asnn.layers.norm_over_time import RunsNorms
from snntorch_asnn.models import tensor_file
from snntorch_asnn.models.rebuilding import check_finite, unlike

if TYPE_CHECKING:
    from snntorch_asnn.models.base import SpikingModel

__all__ = ["save"]


def save(model: SpikingModel, path: str | os.PathLike[str]) -> None:
    """Write weights and settings of a model, see :meth:`SpikingModel.save_pretrained`.

    Raises:
        ValueError: The file could not be read again as this model.
    """
    recipe = model.recipe
    if recipe is None:
        raise ValueError("model must be made by create_model, which notes the settings")
    kinds = {module.norm_over_time for module in model.modules() if isinstance(module, RunsNorms)}
    if others := kinds - {model.norm_over_time}:
        raise ValueError(
            f"model must have one norm_over_time, {model.norm_over_time!r}; some of its layers have "
            f"{', '.join(map(repr, sorted(others)))}: call set_norm_over_time on the whole model"
        )
    recipe["settings"]["norm_over_time"] = model.norm_over_time
    state = model.state_dict()
    _check_recipe(model, recipe, state)
    check_finite(state, path)
    tensor_file.write(path, state, recipe)


def _check_recipe(model: SpikingModel, recipe: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Refuse to save a model that its recipe does not make: the file could not be read again."""
    by_hand = model._by_hand
    assert model._create is not None
    if not set(recipe["by_hand"]) <= by_hand.keys():
        return  # a copy does not know what was given by hand
    try:
        with torch.device("meta"):
            made = model._create(recipe["name"], **recipe["settings"], **by_hand)
    except Exception:
        if recipe["by_hand"]:  # code of the user's own, which may not know that device
            return
        raise
    if difference := unlike(made.state_dict(), state):
        raise ValueError(
            "model must be the one that its settings make, or it could not be read again:"
            f" {difference}. Layers are changed by arguments of create_model, and by the model's"
            " reset_classifier and resize_steps"
        )
