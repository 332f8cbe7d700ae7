"""Layers that know no time, applied to every step of a sequence in one call."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

__all__ = ["TimeFolded", "fold_time"]


def fold_time(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply ``layer``, which knows batches only, to all steps of a sequence at once.

    Time is folded into the batch for the call, ``[T, B, ...] -> [T * B, ...]``, and unfolded after
    it. A batch norm in training mode therefore takes its statistics over time and batch together,
    and moves its running averages once per call.

    Args:
        layer: a module or function that maps ``[N, ...]`` to ``[N, ...]``.
        x: the sequence, ``[T, B, ...]``. A batch of size 0 passes wherever ``layer`` lets it pass.

    Returns:
        What ``layer`` gives, as ``[T, B, ...]``.

    Raises:
        ValueError: ``x`` has fewer than 2 dimensions.

    Example::

        >>> import torch
        >>> fold_time(torch.nn.Conv2d(1, 6, 3), torch.rand(4, 2, 1, 8, 8)).shape
        torch.Size([4, 2, 6, 6, 6])
    """
    if x.ndim < 2:
        raise ValueError(f"x must be [T, B, ...]; got shape {tuple(x.shape)}")
    out = layer(x.flatten(0, 1))
    return out.view(x.shape[:2] + out.shape[1:])


class TimeFolded(nn.Sequential):
    """An ``nn.Sequential`` over ``[T, B, ...]``, with time folded as by :func:`fold_time`.

    Example::

        >>> import torch
        >>> conv = TimeFolded(torch.nn.Conv2d(1, 6, 3), torch.nn.BatchNorm2d(6))
        >>> conv(torch.rand(4, 2, 1, 8, 8)).shape
        torch.Size([4, 2, 6, 6, 6])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[T, B, ...]`` to ``[T, B, ...]``."""
        return fold_time(super().forward, x)
