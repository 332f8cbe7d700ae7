"""Reading the checkpoints of snnTorch's own neurons, and older ones of this package."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from snntorch_asnn.neurons.leak_constraint import SIGMOID_SLOPE, unconstrain

__all__ = ["spread_checkpoint"]


def spread_checkpoint(
    neuron: Any, leaks: tuple[str, ...], state_dict: dict[str, Tensor], prefix: str, version: int | None
) -> list[str]:
    """Spread the entries of a snnTorch neuron in ``state_dict`` over the steps of ``neuron``, in place.

    The gain is set to 1, as snnTorch's neurons have none. Entries of this package's neurons (see
    :func:`_is_of_snntorch`) stay as they are; leaks of an older ``version`` are converted.

    Args:
        neuron: the adaptive neuron that loads the entries.
        leaks: names of its leaks.
        state_dict: the entries.
        prefix: prefix of the neuron's names in ``state_dict``.
        version: version of this package's entries; None for snnTorch's.

    Returns:
        One message for each entry that does not fit.
    """
    if not _is_of_snntorch(neuron, state_dict, prefix):
        if version == 1 and neuron.beta_constraint == "sigmoid":
            keys = [f"{prefix}{name}" for name in leaks if f"{prefix}{name}" in state_dict]
            state_dict.update({key: state_dict[key] / SIGMOID_SLOPE for key in keys})
        return []
    state_dict[f"{prefix}gain"] = torch.ones_like(neuron.gain)
    errors = []
    for name in neuron.time_parameters:
        key, own = f"{prefix}{name}", getattr(neuron, name)
        value = state_dict.get(key)
        if name == "gain" or value is None:
            continue
        try:
            state_dict[key] = _spread_over_steps(value, own, neuron.feature_shape)
            if name in leaks:
                state_dict[key] = unconstrain(state_dict[key], neuron.beta_constraint, name)
        except ValueError as error:
            errors.append(f"{key}: {error}")
            state_dict[key] = own.detach()
    return errors


def _is_of_snntorch(neuron: Any, state_dict: dict[str, Tensor], prefix: str) -> bool:
    """Whether the entries are those of a snnTorch neuron, and ``neuron`` can load them.

    This is so if there is a ``beta`` but no ``gain``, nothing is parametrized, and ``beta`` does not have the
    shape ``(T, *feature_shape)`` of the neuron's own. A ``beta`` of that very shape is read as an adaptive
    neuron's whose gain was left out, and the gain is then reported as missing. So snnTorch's leaks of as many
    neurons as there are steps load only into a neuron with that ``feature_shape``, and one leak of shape
    ``(1,)`` for T = 1 only as a number, of shape ``()``.
    """
    if f"{prefix}gain" in state_dict or parametrize.is_parametrized(neuron):
        return False
    if any(key.startswith(f"{prefix}parametrizations.") for key in state_dict):
        return False
    beta = state_dict.get(f"{prefix}beta")
    return beta is not None and beta.shape != neuron.beta.shape


def _spread_over_steps(value: Tensor, own: Tensor, feature_shape: tuple[int, ...]) -> Tensor:
    if value.numel() == 1:
        return value.reshape(()).expand(own.shape).clone()
    if own.ndim > 0 and tuple(value.shape) == feature_shape:
        return value.expand(own.shape).clone()
    raise ValueError(
        f"snnTorch's value has the shape {tuple(value.shape)}, but one step of this neuron has the shape "
        f"{feature_shape}; build the neuron with feature_shape={tuple(value.shape)}"
    )
