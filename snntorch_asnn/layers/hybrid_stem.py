"""The first layer of a hybrid-coded network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from snntorch_asnn.layers.time_folded import TimeFolded, fold_time

__all__ = ["HybridStem"]


class HybridStem(nn.Module):
    """A first layer in two copies, one for the analog steps and one for the spikes that follow.

    A hybrid code shows the image itself in its first ``direct_steps`` steps and binary planes in
    the others. The two differ in mean and spread, so that each has its own weights and norm.

    Args:
        direct: layer for steps ``0 .. direct_steps - 1``, applied with time folded into the batch.
        spike: layer for the other steps, with the same output shape.
        direct_steps: number of analog steps, at least 1 and fewer than the steps of the sequence.

    Example::

        >>> import torch
        >>> stem = HybridStem(torch.nn.Conv2d(1, 6, 3), torch.nn.Conv2d(1, 6, 3), direct_steps=1)
        >>> stem(torch.rand(4, 2, 1, 8, 8)).shape
        torch.Size([4, 2, 6, 6, 6])
    """

    def __init__(self, direct: nn.Module, spike: nn.Module, direct_steps: int = 1) -> None:
        super().__init__()
        self.direct = direct
        self.spike = spike
        self.direct_steps = direct_steps

    @staticmethod
    def build(layer: Callable[[], nn.Module], direct_steps: int, num_steps: int) -> nn.Module:
        """Return a :class:`HybridStem` for a hybrid code, one time-folded layer for any other.

        Args:
            layer: makes one copy of the layer, such as ``functools.partial(torch.nn.Conv2d, 3, 32,
                3)``.
            direct_steps: number of analog steps of the code; 0, or all of them, means that one copy
                is enough.
            num_steps: T.
        """
        if 0 < direct_steps < num_steps:
            return HybridStem(layer(), layer(), direct_steps)
        return TimeFolded(layer())

    def forward(self, planes: Tensor) -> Tensor:
        """Map ``[T, B, ...]`` to ``[T, B, ...]``."""
        analog, spikes = planes[: self.direct_steps], planes[self.direct_steps :]
        return torch.cat([fold_time(self.direct, analog), fold_time(self.spike, spikes)])

    def extra_repr(self) -> str:
        """Show the number of analog steps."""
        return f"direct_steps={self.direct_steps}"
