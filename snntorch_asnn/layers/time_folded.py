"""Apply layers without a time dimension to every step of a sequence in one call."""

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
    """Apply a layer without a time dimension to all steps of a sequence at once.

    Time is folded into the batch for the call, ``[T, B, ...] -> [T * B, ...]``, and unfolded after
    it. So a batch norm in training mode takes its statistics over time and batch together and updates
    its running averages once per call. :class:`TimeFolded` offers other choices.

    Args:
        layer: Module or function that maps ``[N, ...]`` to ``[N, ...]``.
        x: Sequence ``[T, B, ...]``. A batch of size 0 works if it works for ``layer``.

    Returns:
        Output of ``layer`` as ``[T, B, ...]``.

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
    """Do :func:`fold_time` with a choice for the batch norms in ``layer``.

    Args:
        layer: Module without a time dimension.
        x: Sequence ``[T, B, ...]``.
        over_time: Which steps the norms take their statistics from.
        step: First step of ``x`` if it is part of a sequence.
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
    """Call a module step by step, because it runs norms itself or has hooks.

    Raises:
        ValueError: ``x`` is a whole sequence, and its norms have another number of steps.
    """
    step_norms = [norm for norm in norms if isinstance(norm, StepBatchNorm)]
    if step is None and any(norm.num_steps != len(x) for norm in step_norms):
        raise ValueError(f"x must have {step_norms[0].num_steps} steps, like its norms; got {len(x)}")
    out: list[Tensor] = []
    try:
        for t, x_t in enumerate(x.unbind(), step or 0):
            for norm in step_norms:
                norm.only_step = t
            out.append(layer(x_t))
    finally:
        for norm in step_norms:
            norm.only_step = None
    return torch.stack(out)


class TimeFolded(RunsNorms, nn.Sequential):
    """An ``nn.Sequential`` over ``[T, B, ...]`` that folds time into the batch like :func:`fold_time`.

    Args:
        *layers: As in ``nn.Sequential``.
        norm_over_time: Which steps the batch norms take their statistics from, see
            :func:`~snntorch_asnn.layers.set_norm_over_time`. ``"sequential"`` is a loop over time. None means
            ``"pooled"``, or the kind of a :class:`~snntorch_asnn.layers.StepBatchNorm` among the layers.
        num_steps: Number of steps T, for ``"step_statistics"`` and ``"step"``.

    Raises:
        ValueError: ``norm_over_time`` is unknown, or ``num_steps`` is missing.

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
        """Return one layer, or a ``TimeFolded`` of several."""
        part: Any = super().__getitem__(index)
        if isinstance(part, TimeFolded) and isinstance(index, slice):
            part.norm_over_time = self.norm_over_time
        return part

    def forward(self, x: Tensor, step: int | None = None) -> Tensor:
        """Map ``[T, B, ...]`` to ``[T, B, ...]``; ``step`` is the first step of a part of a sequence."""
        if self.norm_over_time == "pooled":
            return fold_time(super().forward, x)
        step = self.only_step if step is None else step
        for layer in cast(nn.Sequential, self):
            x = fold_time_of(layer, x, self.norm_over_time, step)
        return x

    def extra_repr(self) -> str:
        """Show ``norm_over_time`` unless it is ``"pooled"``."""
        return "" if self.norm_over_time == "pooled" else f"norm_over_time={self.norm_over_time!r}"


def max_pool(halve: bool = True) -> nn.Module:
    """Build a max pooling of ``[T, B, C, H, W]`` that halves the image, or an identity.

    The window is 3×3 with stride 2, as in the published networks.
    """
    return TimeFolded(nn.MaxPool2d(3, stride=2, padding=1)) if halve else nn.Identity()
