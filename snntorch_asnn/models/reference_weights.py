"""Load checkpoints of reference implementations into the models of this package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from snntorch_asnn.layers.norm_over_time import has_steps
from snntorch_asnn.models.base import Copies, SpikingModel, TargetKeys
from snntorch_asnn.models.earlier_keys import is_pointwise

__all__ = ["LoadReport", "load_reference_weights"]


@dataclass(frozen=True)
class LoadReport:
    """Result of :func:`load_reference_weights`.

    Attributes:
        taken: Keys of the checkpoint that were loaded.
        dropped: Keys of the checkpoint that the model does not use.
        missed: Keys of the model that are not in the checkpoint and keep their values.
    """

    taken: tuple[str, ...]
    dropped: tuple[str, ...]
    missed: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(
            f"{verb} {len(keys)}: {', '.join(keys) or '-'}"
            for verb, keys in (
                ("taken", self.taken),
                ("dropped", self.dropped),
                ("missed", self.missed),
            )
        )


def load_reference_weights(model: SpikingModel, state_dict: Mapping[str, Tensor]) -> LoadReport:
    """Load a checkpoint of the model's reference implementation.

    If anything does not fit, the model stays unchanged. Norms with values for each step get the reference's
    values at every step. Linear layers accept the weights of 1×1 convolutions.

    Args:
        model: Model of the zoo, whose class knows the reference's key names.
        state_dict: Checkpoint, as returned by ``torch.load(path, weights_only=True)``.

    Returns:
        The keys that were taken, dropped and missed.

    Raises:
        TypeError: ``model`` is not a model of the zoo or has no reference, or a value is not a tensor.
        ValueError: A key is unknown or missing, a shape differs, or a value is not finite.

    Example::

        >>> from snntorch_asnn.models import create_model
        >>> model = create_model("lenet", num_classes=10, num_steps=4)
        >>> load_reference_weights(model, {"con1.weight": torch.zeros(32, 1, 3, 3)})
        Traceback (most recent call last):
            ...
        ValueError: state_dict['con1.weight'] must have shape (32, 3, 3, 3); got (32, 1, 3, 3)
    """
    if not isinstance(model, SpikingModel):
        raise TypeError(f"model must be a model of the zoo without a wrapper; got {type(model).__name__}")
    targets = model.reference_keys()
    own = model.state_dict()
    one_step = _with_one_step_of_norms(model, own)
    staged: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        if key not in targets:
            raise ValueError(
                f"state_dict must hold only keys of the reference {type(model).__name__}; got {key!r}"
            )
        staged |= _stage(key, value, targets[key], one_step)
    for key, place in targets.items():
        if key not in state_dict and not set(_targets(place)) <= staged.keys():
            raise ValueError(
                f"state_dict must hold {key!r} of shape {_shape(place, one_step)}, but the key is missing"
            )
    with torch.no_grad():
        for name, value in staged.items():
            own[name].copy_(value)
    return LoadReport(
        taken=tuple(key for key in state_dict if targets[key] is not None),
        dropped=tuple(key for key in state_dict if targets[key] is None),
        missed=tuple(name for name in own if name not in staged),
    )


def _with_one_step_of_norms(model: SpikingModel, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the model's tensors; values of norms for each step lose their time dimension."""
    dims = {
        f"{name}.{key}": key != "num_batches_tracked"
        for name, norm in model.named_modules()
        if has_steps(norm)
        for key in norm.state_dict()
    }
    return {key: value[0] if value.ndim > dims.get(key, value.ndim) else value for key, value in own.items()}


def _targets(place: TargetKeys) -> tuple[str, ...]:
    return (place,) if isinstance(place, str) else place or ()


def _shape(place: TargetKeys, own: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Return the shape in the checkpoint: the same as the key's, or a row of T values for each key."""
    if isinstance(place, str):
        return tuple(own[place].shape)
    if isinstance(place, Copies):
        return tuple(own[place[0]].shape)
    rows = _targets(place)
    return (len(rows), own[rows[0]].shape[0])


def _stage(key: str, value: Tensor, place: TargetKeys, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Check one tensor of the checkpoint, and return the tensors of the model that it sets."""
    if not isinstance(value, Tensor):
        raise TypeError(f"state_dict[{key!r}] must be a tensor; got {type(value).__name__}")
    if place is None:
        return {}
    wanted = _shape(place, own)
    if isinstance(place, str) and is_pointwise(value, own[place]):
        value = value.flatten(1)
    if tuple(value.shape) != wanted:
        raise ValueError(f"state_dict[{key!r}] must have shape {wanted}; got {tuple(value.shape)}")
    if not value.isfinite().all():
        raise ValueError(f"state_dict[{key!r}] must be finite; got NaN or infinity")
    if isinstance(place, str):
        return {place: value}
    if isinstance(place, Copies):
        return dict.fromkeys(place, value)
    return {name: _spread(row, own[name]) for name, row in zip(place, value, strict=True)}


def _spread(per_step: Tensor, like: Tensor) -> Tensor:
    """Expand one value per step ``(T,)`` to the shape ``(T, *feature_shape)`` of ``like``."""
    return per_step.view(-1, *[1] * (like.ndim - 1)).expand_as(like)
