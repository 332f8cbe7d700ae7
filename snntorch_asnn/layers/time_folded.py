"""Layers that know no time, applied to every step of a sequence in one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from snntorch_asnn._torch import BatchNormBase, has_hooks
from snntorch_asnn.layers.norm_over_time import (
    NormOverTime,
    RunsNorms,
    has_steps,
    normed,
    takes_batch_statistics,
)
from snntorch_asnn.layers.step_norm import StepBatchNorm, begin_norm_over_time

__all__ = ["TimeFolded", "fold_time", "fold_time_of", "max_pool"]


def fold_time(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply ``layer``, which knows batches only, to all steps of a sequence at once.

    Time is folded into the batch for the call, ``[T, B, ...] -> [T * B, ...]``, and unfolded after
    it. A batch norm in training mode therefore takes its statistics over time and batch together,
    and moves its running averages once per call; :class:`TimeFolded` has a choice.

    Args:
        layer: A module or function that maps ``[N, ...]`` to ``[N, ...]``.
        x: The sequence, ``[T, B, ...]``. A batch of size 0 passes wherever ``layer`` lets it pass.

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


def fold_time_of(layer: nn.Module, x: Tensor, over_time: NormOverTime, step: int | None = None) -> Tensor:
    """:func:`fold_time`, but for batch norms in ``layer``, which see the steps as ``over_time`` says.

    Args:
        layer: A module that knows no time.
        x: The sequence, ``[T, B, ...]``.
        over_time: Which steps the norms take their statistics from.
        step: The first of the input, where it is a part of a sequence.
    """
    if isinstance(layer, TimeFolded):
        return layer(x, step)  # type: ignore[no-any-return]
    if over_time == "pooled":
        return fold_time(layer, x)
    if isinstance(layer, BatchNormBase):
        return normed(layer, x, 2, over_time, step)
    norms = [module for module in layer.modules() if isinstance(module, BatchNormBase)]
    if not any(has_steps(norm) or takes_batch_statistics(norm) for norm in norms):
        return fold_time(layer, x)
    if not isinstance(layer, nn.Sequential) or has_hooks(layer):
        return _in_a_loop(layer, norms, x, step)
    for child in layer:
        x = fold_time_of(child, x, over_time, step)
    return x


def _in_a_loop(layer: nn.Module, norms: list[BatchNormBase], x: Tensor, step: int | None) -> Tensor:
    """Call a module that runs norms by itself, or has hooks, for one step after the other.

    Raises:
        ValueError: Its norms have another number of steps than ``x``, which is none that begins at a step.
    """
    of_steps = [norm for norm in norms if isinstance(norm, StepBatchNorm)]
    if step is None and any(norm.num_steps != len(x) for norm in of_steps):
        raise ValueError(f"x must have {of_steps[0].num_steps} steps, as its norms have; got {len(x)}")
    out: list[Tensor] = []
    try:
        for t, x_t in enumerate(x.unbind(), step or 0):
            for norm in of_steps:
                norm.only_step = t
            out.append(layer(x_t))
    finally:
        for norm in of_steps:
            norm.only_step = None
    return torch.stack(out)


class TimeFolded(RunsNorms, nn.Sequential):
    """An ``nn.Sequential`` over ``[T, B, ...]``, with time folded as by :func:`fold_time`.

    Args:
        *layers: As of ``nn.Sequential``.
        norm_over_time: Which steps the batch norms among them take their statistics from, see
            :func:`~snntorch_asnn.layers.set_norm_over_time`. ``"sequential"`` is a loop over time. None is
            ``"pooled"``, or what a :class:`~snntorch_asnn.layers.StepBatchNorm` among them is.
        num_steps: T, for ``"step_statistics"`` and ``"step"``.

    Raises:
        ValueError: ``norm_over_time`` is unknown, or ``num_steps`` missing.

    Example::

        >>> import torch
        >>> conv = TimeFolded(torch.nn.Conv2d(1, 6, 3), torch.nn.BatchNorm2d(6), norm_over_time="sequential")
        >>> conv(torch.rand(4, 2, 1, 8, 8)).shape
        torch.Size([4, 2, 6, 6, 6])
    """

    runs_any_module = True

    def __init__(
        self, *layers: Any, norm_over_time: NormOverTime | None = None, num_steps: int | None = None
    ) -> None:
        super().__init__(*layers)
        begin_norm_over_time(self, norm_over_time, num_steps)

    def __getitem__(self, index: slice | int) -> Any:
        """One layer, or a ``TimeFolded`` of several."""
        part: Any = super().__getitem__(index)
        if isinstance(part, TimeFolded) and isinstance(index, slice):
            part.norm_over_time = self.norm_over_time
        return part

    def forward(self, x: Tensor, step: int | None = None) -> Tensor:
        """Map ``[T, B, ...]`` to ``[T, B, ...]``; ``step`` is the first of a part of a sequence."""
        if self.norm_over_time == "pooled":
            return fold_time(super().forward, x)
        step = self.only_step if step is None else step
        for layer in cast(nn.Sequential, self):
            x = fold_time_of(layer, x, self.norm_over_time, step)
        return x

    def extra_repr(self) -> str:
        """Show which steps the norms see, where it is not all together."""
        return "" if self.norm_over_time == "pooled" else f"norm_over_time={self.norm_over_time!r}"


def max_pool(halve: bool = True) -> nn.Module:
    """Build a max pooling of ``[T, B, C, H, W]`` that halves the image, or nothing that changes it.

    The window is 3×3 and moves by 2, as in the published networks.
    """
    return TimeFolded(nn.MaxPool2d(3, stride=2, padding=1)) if halve else nn.Identity()
