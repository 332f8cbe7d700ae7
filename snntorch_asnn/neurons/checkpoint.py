"""Reading the checkpoints of snnTorch's own neurons."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snntorch_asnn.neurons.time_parameters import unconstrain

if TYPE_CHECKING:
    from snntorch_asnn.neurons.adaptive import AdaptiveNeuron

__all__ = ["adopt_snntorch_state"]


def adopt_snntorch_state(neuron: AdaptiveNeuron, state_dict: dict[str, Tensor], prefix: str) -> list[str]:
    """Spread the entries of a snnTorch neuron in ``state_dict`` over the steps of ``neuron``, in place.

    A checkpoint without a ``gain`` is snnTorch's; its neuron has a gain of 1.

    Returns:
        What does not fit, one message each.
    """
    if f"{prefix}gain" in state_dict or f"{prefix}beta" not in state_dict:
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


def _spread_over_steps(value: Tensor, own: Tensor, feature_shape: tuple[int, ...]) -> Tensor:
    if value.numel() == 1:
        return value.reshape(()).expand(own.shape).clone()
    if own.ndim > 0 and tuple(value.shape) == feature_shape:
        return value.expand(own.shape).clone()
    raise ValueError(
        f"snnTorch's value has the shape {tuple(value.shape)}, one step of this neuron {feature_shape}; "
        f"build it with feature_shape={tuple(value.shape)}"
    )
