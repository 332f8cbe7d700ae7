"""A batch norm as the kernels of its moments take it."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["NormState"]


class NormState(NamedTuple):
    """Parameters and running averages of a batch norm, and how they move."""

    weight: Tensor | None
    bias: Tensor | None
    running: tuple[Tensor, Tensor] | None
    """Running averages of mean and variance to be updated, ``[C]`` or ``[T, C]``."""
    tracked: Tensor | None
    """Number of batches so far, for cumulative averages; None for exponential averages."""
    momentum: float
    eps: float
