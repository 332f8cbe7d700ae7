"""The numbers of the neuron's equation, one set for every time step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Coefficients", "aligned", "spread", "summed_to"]


class Coefficients(NamedTuple):
    r"""What multiplies, adds to and is compared with the membrane, each ``[T, *feature_shape]``.

    All have the dtype of the state. ``previous_threshold`` is the threshold of the spike that a delayed
    reset answers, ``scale`` what a spike is worth in the output. ``shift``, in units of the membrane, is
    added to the input current: :math:`u[t] = \beta[t] v[t-1] + (g[t] x[t] + c[t])`.
    """

    beta: Tensor
    gain: Tensor
    threshold: Tensor
    previous_threshold: Tensor
    scale: Tensor
    shift: Tensor | None = None

    @property
    def feature_shape(self) -> torch.Size:
        """Shape of one step's coefficients, which broadcasts against the last dimensions of the input."""
        return self.beta.shape[1:]

    @property
    def given(self) -> tuple[Tensor, ...]:
        """Those that there are, as operators take them: all, or all but the shift."""
        return self[:5] if self.shift is None else self  # type: ignore[return-value]

    def of_step(self, t: int) -> Coefficients:
        """The coefficients of one step, ``[*feature_shape]``."""
        return self.map(lambda c: c[t])

    def map(self, function: Callable[[Tensor], Tensor]) -> Coefficients:
        """``function`` of every coefficient that there is."""
        return Coefficients(*(None if c is None else function(c) for c in self))  # type: ignore[arg-type]

    def after(self, factor: Tensor, offset: Tensor) -> Coefficients:
        """The coefficients that make of ``x`` what these make of ``factor * x + offset``.

        ``factor`` and ``offset`` are ``[T, *features]``, or ``[1, *features]`` for all steps alike, where
        ``features`` broadcasts against the shape of one step's coefficients.
        """
        features = self.features_after(factor)
        return self.multiplied(factor, offset).map(lambda c: spread(c, features))

    def multiplied(self, factor: Tensor, offset: Tensor) -> Coefficients:
        """As :meth:`after`, but with the other coefficients in their own shapes, which broadcast."""
        longest = max(self.gain.ndim, factor.ndim)
        gain, factor, offset = (aligned(c, longest) for c in (self.gain, factor, offset))
        shift = gain * offset if self.shift is None else gain * offset + aligned(self.shift, longest)
        return self._replace(gain=gain * factor, shift=shift)

    def features_after(self, factor: Tensor) -> torch.Size:
        """``feature_shape`` of what :meth:`after` returns."""
        shorter, longer = sorted((self.feature_shape, factor.shape[1:]), key=len)
        missing = (1,) * (len(longer) - len(shorter))
        return torch.Size(b if a == 1 else a for a, b in zip((*missing, *shorter), longer, strict=True))

    def current(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """One step's input and the gain it still needs: a shift has to be added after the gain."""
        if self.shift is None:
            return x, self.gain
        return self.gain * x + self.shift, torch.ones_like(self.gain)


def aligned(coefficient: Tensor, ndim: int) -> Tensor:
    """``[T, *feature_shape]`` with so many dimensions, of which the new ones follow time."""
    steps, *own = coefficient.shape
    return coefficient.reshape(steps, *(1,) * (ndim - 1 - len(own)), *own)


def spread(coefficient: Tensor, features: Sequence[int], num_steps: int = -1) -> Tensor:
    """``[T, *feature_shape]``, or ``[1, ...]`` for one of all steps, spread to ``[T, *features]``."""
    return aligned(coefficient, 1 + len(features)).expand(num_steps, *features)


def summed_to(grad: Tensor, shape: torch.Size) -> Tensor:
    """``[T, *features]`` summed to a coefficient's own shape, which broadcasts against it."""
    if grad.shape == shape:
        return grad
    steps, *own = shape
    return grad.sum_to_size(steps, *(1,) * (grad.ndim - len(shape)), *own).reshape(shape)
