"""Load models from files that :meth:`SpikingModel.save_pretrained` writes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from snntorch_asnn._arguments import check_count, check_flags, did_you_mean
from snntorch_asnn.layers.step_norm import join_step_norms
from snntorch_asnn.models import tensor_file
from snntorch_asnn.models.base import SpikingModel
from snntorch_asnn.models.rebuilding import check_integers, rebuild
from snntorch_asnn.models.registry import create_model, with_tuples

__all__ = ["from_pretrained"]


def from_pretrained(
    path: str | os.PathLike[str],
    *,
    num_classes: int | None = None,
    num_steps: int | None = None,
    resize: bool = False,
    **settings: Any,
) -> SpikingModel:
    """Load a model that :meth:`SpikingModel.save_pretrained` saved.

    Loading executes no code: the file holds only tensors and the settings of a model of the zoo. A damaged or
    malicious file raises an error before more memory is allocated than the size of the file.

    Args:
        path: File to load.
        num_classes: Number of classes, if it differs from the file's. The last layer is then freshly
            initialised.
        num_steps: Number of steps T, if it differs from the file's. This needs ``resize=True``.
        resize: Whether to resample the file's steps to ``num_steps``, see
            :meth:`SpikingModel.resize_steps`.
        **settings: Settings that the file could not store, such as a callable for ``neuron``, and no others.

    Returns:
        The model on the CPU, in training mode.

    Raises:
        FileNotFoundError: There is no such file.
        ModuleNotFoundError: The package safetensors is not installed.
        TypeError: ``num_classes`` or ``num_steps`` is not an integer, or a setting is unknown.
        ValueError: The file is damaged or not from ``save_pretrained``, its tensors do not fit its settings
            or are not finite, or it needs a setting that is not given here. Or ``num_steps`` differs from the
            file's, and ``resize`` is False or the model cannot be resampled.

    Example::

        >>> import tempfile
        >>> from snntorch_asnn.models import create_model
        >>> model = create_model("spikformer_tiny", num_classes=10, num_steps=4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save_pretrained(f"{folder}/model.safetensors")
        ...     from_pretrained(f"{folder}/model.safetensors", num_classes=3).head
        Linear(in_features=64, out_features=3, bias=True)
    """
    check_flags(resize=resize)
    if num_classes is not None:
        num_classes = check_count("num_classes", num_classes)
    if num_steps is not None:
        num_steps = check_count("num_steps", num_steps)
    recipe, tensors = tensor_file.read(path)
    name, stored, by_hand = _parts(recipe, path)
    _check_by_hand(settings, stored, by_hand, path)
    stored, tensors = _current_version(stored, tensors)
    check_integers(stored, tensors, path)
    given = with_tuples(stored) | settings
    model = rebuild(lambda: create_model(name, **given), tensors, path)
    if num_steps is not None and num_steps != model.num_steps:
        if not resize:
            raise ValueError(
                f"num_steps must be {model.num_steps}, as in {str(path)!r}; got {num_steps}; pass "
                "resize=True to resample the model"
            )
        model.resize_steps(num_steps)
    if num_classes is not None and num_classes != model.num_classes:
        model.reset_classifier(num_classes)
    return model


def _check_by_hand(
    given: Mapping[str, Any], stored: Mapping[str, Any], by_hand: set[str], path: str | os.PathLike[str]
) -> None:
    """Refuse settings that are missing, stored in the file, or unknown."""
    if missing := sorted(by_hand - given.keys()):
        raise ValueError(f"settings must include {', '.join(missing)}, which {str(path)!r} does not store")
    extra = sorted(given.keys() - by_hand)
    if held := [name for name in extra if name in stored]:
        raise ValueError(f"settings must not include {', '.join(held)}, which {str(path)!r} already stores")
    if extra:
        known = ["num_classes", "num_steps", "resize", *by_hand]
        hint = did_you_mean(extra[0], known) or f"; it takes {', '.join(known)}"
        raise TypeError(f"from_pretrained takes no argument {extra[0]!r} for {str(path)!r}{hint}")


def _parts(recipe: Any, path: str | os.PathLike[str]) -> tuple[str, dict[str, Any], set[str]]:
    """Check a recipe, and return its name, its settings and the names of the settings that it lacks."""
    kinds = {"name": str, "settings": dict, "by_hand": list}
    if not isinstance(recipe, Mapping) or recipe.keys() != kinds.keys():
        raise ValueError(f"path must be a file that save_pretrained wrote; got {str(path)!r}")
    for key, kind in kinds.items():
        if not isinstance(recipe[key], kind):
            raise ValueError(
                f"path must be a file that save_pretrained wrote; got {str(path)!r}, whose {key!r} is"
                f" {recipe[key]!r}"
            )
    if not all(isinstance(entry, str) for entry in recipe["by_hand"]):
        raise ValueError(
            f"path must be a file that save_pretrained wrote; got {str(path)!r}, whose 'by_hand' is"
            f" {recipe['by_hand']!r}"
        )
    return recipe["name"], recipe["settings"], set(recipe["by_hand"])


def _current_version(
    settings: dict[str, Any], tensors: dict[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Convert settings and tensors of an earlier version's file to the current version.

    Norms were always pooled, unless ``step_norm`` was set. ``kernel_dims`` and ``stem`` only changed shapes
    and names in files.
    """
    settings = {key: value for key, value in settings.items() if key not in ("kernel_dims", "stem")}
    if "norm_over_time" in settings:
        return settings, tensors
    known = {key: value for key, value in settings.items() if key != "step_norm"}
    kind = "step" if settings.get("step_norm") else "pooled"
    return known | {"norm_over_time": kind}, join_step_norms(tensors)
