"""Readouts, which reduce the logits of all steps ``[T, B, C]`` to logits of the sequence ``[B, C]``."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from snntorch_asnn._arguments import check_count
from snntorch_asnn.neurons.time_parameters import resize_parameter

__all__ = ["MeanReadout", "TimeWeightedReadout"]


class MeanReadout(nn.Module):
    """Mean of the logits over time: ``out = mean over t of logits[t]``.

    A subclass weights the steps in :meth:`weigh`; the output is the mean of the weighted logits.

    Args:
        num_steps: Number of steps T, at least 1.

    Raises:
        TypeError: ``num_steps`` is not an integer.
        ValueError: ``num_steps`` is below 1, or the logits have another number of steps.

    Example::

        >>> import torch
        >>> MeanReadout(num_steps=2)(torch.tensor([[[1.0, 0.0]], [[3.0, 1.0]]]))
        tensor([[2.0000, 0.5000]])
    """

    time_parameters: tuple[str, ...] = ()

    def __init__(self, num_steps: int) -> None:
        super().__init__()
        self.num_steps = check_count("num_steps", num_steps)

    def forward(self, logits: Tensor) -> Tensor:
        """Map ``[T, B, C]`` to ``[B, C]``."""
        return self.weigh(logits).mean(0)

    def weigh(self, logits: Tensor) -> Tensor:
        """Return the weighted logits ``[T, B, C]``, whose mean over time is the output."""
        if logits.ndim < 2 or logits.shape[0] != self.num_steps:
            raise ValueError(
                f"logits must be [T, B, C] with T = {self.num_steps}; got shape {tuple(logits.shape)}"
            )
        return logits

    def resize_steps(self, num_steps: int) -> Self:
        """Change the number of steps, and resample parameters that depend on the step linearly in time.

        Args:
            num_steps: New number of steps T.

        Returns:
            The readout itself.

        Raises:
            ValueError, TypeError: ``num_steps`` is not a positive integer.
        """
        num_steps = check_count("num_steps", num_steps)
        for name in self.time_parameters:
            resize_parameter(self, name, num_steps)
        self.num_steps = num_steps
        return self

    def extra_repr(self) -> str:
        """Show the number of steps."""
        return f"num_steps={self.num_steps}"


class TimeWeightedReadout(MeanReadout):
    """Mean over time of scaled logits: ``out = mean over t of scale[t] * logits[t]``.

    Every scale starts at 1, so the readout starts as the plain mean.

    Args:
        num_steps: Number of steps T, at least 1.
        learn_scale: Whether ``scale`` is a Parameter; otherwise it is a buffer.

    Attributes:
        scale: Factor of each step's logits, ``(T,)``.

    Raises:
        TypeError: ``num_steps`` is not an integer.
        ValueError: ``num_steps`` is below 1, or the logits have another number of steps.

    Source: "Adaptive Spiking Neural Networks with Hybrid Coding", arXiv 2408.12407.

    Example::

        >>> import torch
        >>> readout = TimeWeightedReadout(num_steps=2)
        >>> _ = torch.nn.init.constant_(readout.scale, 0.5)
        >>> readout(torch.tensor([[[1.0, 0.0]], [[3.0, 1.0]]])).tolist()
        [[1.0, 0.25]]
    """

    time_parameters = ("scale",)
    scale: Tensor

    def __init__(self, num_steps: int, learn_scale: bool = True) -> None:
        super().__init__(num_steps)
        scale = torch.ones(self.num_steps)
        if learn_scale:
            self.scale = nn.Parameter(scale)
        else:
            self.register_buffer("scale", scale)

    def weigh(self, logits: Tensor) -> Tensor:
        """Return ``scale[t] * logits[t]``, ``[T, B, C]``."""
        logits = super().weigh(logits)
        return self.scale.view(-1, *[1] * (logits.ndim - 1)) * logits
