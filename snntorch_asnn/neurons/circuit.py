r"""Resistance, capacitance and time step of an ``AdaptiveLapicque``, and the leak that follows from them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["check_circuit", "is_decay", "leak_of"]


def check_circuit(**values: Any) -> dict[str, Any]:
    """The arguments of a circuit, without gradient; False stands for one that follows from the others.

    Raises:
        TypeError: if an argument is not a number.
        ValueError: if an argument is not one positive number, or ``beta`` is not below 1.
    """
    given = {name: value for name, value in values.items() if value is not False}
    for name, value in given.items():
        if not isinstance(value, (int, float, Tensor)):
            raise TypeError(f"{name} must be a number; got {value!r}")
        if isinstance(value, Tensor) and value.numel() != 1:
            raise ValueError(f"{name} must be one number; got shape {tuple(value.shape)}")
        if float(value) <= 0 or float(value) != float(value):
            raise ValueError(f"{name} must be positive; got {value!r}")
    if float(given.get("beta", 0)) >= 1:
        raise ValueError(
            f"beta must be below 1, since R and C would be infinite otherwise; got {given['beta']!r}"
        )
    return {name: value.detach() if isinstance(value, Tensor) else value for name, value in values.items()}


def leak_of(R: Tensor, C: Tensor, time_step: Tensor) -> Tensor:
    r"""The leak :math:`1 - \Delta t/RC`, dimensionless."""
    leak: Tensor = 1 - (time_step / (R * C))
    return leak.detach()


def is_decay(beta: Tensor, R: Tensor, C: Tensor, time_step: Tensor) -> bool:
    r"""Whether ``beta`` is :math:`e^{-\Delta t/RC}`, which snnTorch keeps under that name, and not a leak."""
    decay = torch.exp(-time_step / (R * C)).to(beta)
    return beta.numel() == 1 and torch.allclose(beta.flatten(), decay.flatten())
