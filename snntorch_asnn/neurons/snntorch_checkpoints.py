"""Reading the checkpoints of snnTorch's own neurons, and older ones of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from snntorch_asnn.neurons.leak_constraint import SIGMOID_SLOPE, unconstrain

if TYPE_CHECKING:
    from snntorch_asnn.neurons.adaptive import AdaptiveNeuron

__all__ = ["adopt_state"]


def adopt_state(
    neuron: AdaptiveNeuron, state_dict: dict[str, Tensor], prefix: str, version: int | None
) -> list[str]:
    """Spread the entries of a snnTorch neuron in ``state_dict`` over the steps of ``neuron``, in place.

    snnTorch's neuron has a gain of 1. Entries of this package's neurons (see :func:`_is_snntorchs`) stay as
    they are, but for those of an older ``version``.

    Returns:
        What does not fit, one message each.
    """
    if not _is_snntorchs(neuron, state_dict, prefix):
        if version == 1 and neuron.beta_constraint == "sigmoid":
            keys = [f"{prefix}{name}" for name in neuron.leaks if f"{prefix}{name}" in state_dict]
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
            if name in neuron.leaks:
                state_dict[key] = unconstrain(state_dict[key], neuron.beta_constraint, name)
        except ValueError as error:
            errors.append(f"{key}: {error}")
            state_dict[key] = own.detach()
    return errors


def _is_snntorchs(neuron: AdaptiveNeuron, state_dict: dict[str, Tensor], prefix: str) -> bool:
    """Whether the entries are those of a snnTorch neuron, and ``neuron`` can take them.

    They are if there is a ``beta`` but no ``gain``, nothing is parametrized, and ``beta`` has not the shape
    ``(T, *feature_shape)`` of ``neuron``'s own. One of that very shape is read as an adaptive neuron's whose
    gain was left out, and the gain is then missing. So snnTorch's leaks of as many neurons as there are
    steps load only into a neuron with that ``feature_shape``, and one leak of shape ``(1,)`` for T = 1 only
    as a number, of shape ``()``.
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
        f"snnTorch's value has the shape {tuple(value.shape)}, one step of this neuron {feature_shape}; "
        f"build it with feature_shape={tuple(value.shape)}"
    )
