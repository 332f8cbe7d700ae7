"""Models from the files that :meth:`SpikingModel.save_pretrained` writes."""

from __future__ import annotations

import os
from typing import Any

from snntorch_asnn.models import tensor_file
from snntorch_asnn.models.base import SpikingModel
from snntorch_asnn.models.registry import create_model

__all__ = ["from_pretrained"]


def from_pretrained(path: str | os.PathLike[str], **settings: Any) -> SpikingModel:
    """Read a model that :meth:`SpikingModel.save_pretrained` wrote.

    Reading executes nothing that the file holds: it holds tensors, and settings that name a model of the
    zoo.

    Args:
        path: the file.
        **settings: those that no file can hold, such as a callable for ``neuron``, and no others.

    Returns:
        The model on the CPU, in training mode like every fresh one.

    Raises:
        FileNotFoundError: there is no such file.
        ModuleNotFoundError: safetensors is not installed.
        ValueError: the file is none of ours or damaged, does not fit the model that it names, or lacks a
            setting that is not given here.

    Example::

        >>> import tempfile
        >>> from snntorch_asnn.models import create_model
        >>> model = create_model("spikformer_tiny", num_classes=10, num_steps=4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save_pretrained(f"{folder}/model.safetensors")
        ...     from_pretrained(f"{folder}/model.safetensors").num_steps
        4
    """
    recipe, tensors = tensor_file.read(path)
    if recipe.keys() != {"name", "settings", "by_hand"}:
        raise ValueError(f"path must be a file that save_pretrained wrote; got {str(path)!r}")
    by_hand = set(recipe["by_hand"])
    if missing := sorted(by_hand - settings.keys()):
        raise ValueError(f"settings must hold {', '.join(missing)}, which {str(path)!r} could not hold")
    if extra := sorted(settings.keys() - by_hand):
        raise ValueError(f"settings must not hold {', '.join(extra)}, which {str(path)!r} holds")
    model = create_model(recipe["name"], **_with_tuples(recipe["settings"]), **settings)
    own = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in tensors.items()}
    for key in sorted(own.keys() | found.keys()):
        if own.get(key) != found.get(key):
            raise ValueError(
                f"path must hold {key!r} of shape {own.get(key)}, as {recipe['name']} has it;"
                f" got {found.get(key)} in {str(path)!r}"
            )
    model.load_state_dict(tensors, assign=True)
    return model


def _with_tuples(settings: dict[str, Any]) -> dict[str, Any]:
    """JSON knows lists only; arguments are tuples."""
    return {key: _as_tuple(value) for key, value in settings.items()}


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value
