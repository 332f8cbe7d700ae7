"""Moments of a batch, and the gradient through them, in Triton kernels.

Forward, one kernel reads the input, and a second joins the parts, turns them into the norm's factor and
offset and moves the running averages. Backward, one kernel reads the input and the gradient and writes the
gradient in place. No sum depends on the order in which programs run.
"""

from __future__ import annotations

import contextlib
import functools
import math
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from snntorch_asnn.ops.adaptive_leaky.layout import Folding, dense_inside, fold
from snntorch_asnn.ops.batch_moments import NormState
from snntorch_asnn.ops.batch_moments_kernels import add_kernel, moments_kernel, partial_moments_kernel
from snntorch_asnn.ops.first_derivative import first_derivative_only

__all__ = ["add", "moments", "norm_affine"]

_UNROLL = 4  # tiles whose loads are in flight together
_LEAST = 4 * _UNROLL  # tiles of one program that sums
_PROGRAMS = 1024  # that sum, where there is enough to sum: some eight per multiprocessor of a large GPU
_WARPS = 4
_PARTS = 256  # partial moments that are joined at a time


class _Plan(NamedTuple):
    """How the kernels see a sequence ``[T, B, C, M]``, and how they divide it."""

    groups: int
    rows: int
    columns: int
    """``C``, or ``C * M`` where maps are small."""
    share: int
    """Columns that have one channel."""
    x_row: int
    x_group: int
    group_stride: int
    """Numbers from one group's coefficients to the next one's."""
    blocks: int
    tiles_m: int
    tiles: int
    each: int
    """Tiles of a program that sums."""
    chunks: int
    sizes: tuple[int, int, int]
    """``rows``, ``channels`` and ``inner`` as the kernels take them."""
    options: dict[str, Any]


@functools.lru_cache(maxsize=1024)
def _plan(shape: torch.Size, stride: tuple[int, ...], itemsize: int, each_step: bool) -> _Plan:
    steps, batch, channels, inner = shape
    groups, rows, x_group, x_row = steps, batch, stride[0], stride[1]
    if not each_step and 1 in (steps, batch):
        groups, rows, x_group, x_row = 1, steps * batch, 0, stride[1] if steps == 1 else stride[0]
    elif not each_step and stride[0] == batch * stride[1]:
        groups, rows, x_group = 1, steps * batch, 0
    vector = 16 // itemsize
    wide = inner * itemsize >= 128 and (
        inner % vector == 0 or channels * inner % vector != 0 or groups * rows < 64
    )
    columns, share = (channels, 1) if wide else (channels * inner, inner)
    dense = inner if wide else columns
    alignment = math.gcd(16, dense, x_row, x_group)
    br, bc, bm = _tile(rows, columns, inner if wide else 1, 32 * vector)
    blocks, tiles_m = triton.cdiv(columns, bc), triton.cdiv(inner if wide else 1, bm)
    tiles = triton.cdiv(rows, br) * tiles_m
    each = max(_LEAST, triton.cdiv(tiles, max(1, _PROGRAMS // (blocks * groups))))
    each = triton.cdiv(each, _UNROLL) * _UNROLL
    return _Plan(
        groups,
        rows,
        columns,
        share,
        x_row // alignment,
        x_group // alignment,
        channels if each_step else 0,
        blocks,
        tiles_m,
        tiles,
        each,
        triton.cdiv(tiles, each),
        (rows, columns if wide else columns // alignment, dense // alignment if wide else 1),
        {
            "ALIGNMENT": alignment,
            "BR": br,
            "BC": bc,
            "BM": bm,
            "WIDE": wide,
            "UNROLL": _UNROLL,
            "num_warps": max(1, min(_WARPS, br * bc * bm // (32 * vector))),
        },
    )


def _tile(rows: int, columns: int, inner: int, warp: int) -> tuple[int, int, int]:
    """Rows, columns and inner elements of a tile: ``warp`` elements for every warp, if there are as many."""
    most = min(triton.next_power_of_2(inner), _WARPS * warp)
    # A tile that sticks out wastes threads; one that is too narrow wastes bandwidth.
    widths = [w for w in (most, most // 2, most // 4) if w >= min(most, 32)]
    bm = next((w for w in widths if triton.cdiv(inner, w) * w <= 1.125 * inner), most)
    bc = min(triton.next_power_of_2(columns), max(1, warp // bm))
    return min(triton.next_power_of_2(rows), _WARPS * warp // (bc * bm)), bc, bm


def _partials(x: Tensor, plan: _Plan) -> Tensor:
    """Count, two parts of the mean, and squares of every chunk: ``[4, groups * chunks, columns]``."""
    partials = x.new_empty((4, plan.groups * plan.chunks, plan.columns), dtype=torch.float32)
    partial_moments_kernel[(plan.groups * plan.chunks * plan.blocks,)](
        x,
        partials,
        partials.stride(0),
        *plan.sizes,
        plan.blocks,
        plan.chunks,
        plan.tiles_m,
        plan.tiles,
        plan.each,
        plan.x_row,
        plan.x_group,
        **plan.options,
    )
    return partials


def _join(
    partials: Tensor,
    plan: _Plan,
    out: Tensor,
    *,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    running: tuple[Tensor, Tensor] | None = None,
    tracked: Tensor | None = None,
    elements: float = 2,
    momentum: float = 0,
    eps: float = 0,
) -> None:
    """Fill ``out`` with mean and variance, or with mean, inverse deviation, factor and offset."""
    planes, groups, channels = out.shape
    chunks = plan.chunks if plan.group_stride else plan.groups * plan.chunks
    parts = chunks * plan.share
    bp = min(_PARTS, triton.next_power_of_2(parts))
    bc = min(triton.next_power_of_2(channels), max(4, _PARTS // bp))
    moments_kernel[(triton.cdiv(channels, bc), groups)](
        partials,
        out,
        out if weight is None else weight,
        out if bias is None else bias,
        out if running is None else running[0],
        out if running is None else running[1],
        out if tracked is None else tracked,
        partials.stride(0),
        parts,
        plan.columns,
        plan.chunks * plan.columns,
        channels,
        plan.share,
        float(elements),
        momentum,
        eps,
        BP=bp,
        BC=bc,
        AFFINE=planes == 4,
        HAS_WEIGHT=weight is not None,
        HAS_BIAS=bias is not None,
        RUNNING=running is not None,
        CUMULATIVE=tracked is not None,
        num_warps=_WARPS if bp * bc >= 512 else 1,
    )


def moments(x: Tensor, each_step: bool = False) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel of ``[T, B, C, M]``, ``[C]`` or, of every step, ``[T, C]``."""
    x = dense_inside(x)
    plan = _plan(x.shape, x.stride(), x.element_size(), each_step)
    out = x.new_empty((2, x.shape[0] if each_step else 1, x.shape[2]), dtype=torch.float32)
    with _on(x):
        _join(_partials(x, plan), plan, out)
    mean, variance = out if each_step else out.squeeze(1)
    return mean, variance


def add(grad: Tensor, x: Tensor, mean: Tensor, offset: Tensor, factor: Tensor) -> None:
    """Add ``offset + factor * (x - mean)``, ``[C]`` or ``[T, C]`` each, to a contiguous ``[T, B, C, M]``."""
    parameters = [p.to(torch.float32).contiguous() for p in (mean, offset, factor)]
    x = dense_inside(x)
    plan = _plan(x.shape, x.stride(), x.element_size(), mean.ndim == 2)
    with _on(x):
        _add(grad, x, plan, parameters[0], *parameters)


def _add(
    grad: Tensor,
    x: Tensor,
    plan: _Plan,
    scale: Tensor,
    mean: Tensor,
    first: Tensor,
    second: Tensor,
    *,
    factor: Tensor | None = None,
    inverse: float = 0.0,
    grad_weight: Tensor | None = None,
    grad_bias: Tensor | None = None,
) -> None:
    chunks = triton.cdiv(plan.tiles, _UNROLL)
    add_kernel[(plan.groups * chunks * plan.blocks,)](
        grad,
        x,
        mean,
        scale,
        mean if factor is None else factor,
        first,
        second,
        mean if grad_weight is None else grad_weight,
        mean if grad_bias is None else grad_bias,
        *plan.sizes,
        plan.blocks,
        chunks,
        plan.tiles_m,
        plan.tiles,
        plan.group_stride,
        plan.share,
        inverse,
        plan.x_row,
        plan.x_group,
        NORM=factor is not None,
        HAS_WEIGHT=grad_weight is not None,
        HAS_BIAS=grad_bias is not None,
        **plan.options,
    )


def norm_affine(
    x: Tensor, channel_dim: int, norm: NormState, each_step: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """A batch norm in training as the factor and the offset that it amounts to, differentiable once.

    Args:
        x: ``[T, B, ...]``, float32 or a half precision, not empty.
        channel_dim: which of its dimensions the channels are, from 2 on.
        norm: parameters; its running averages move.
        each_step: whether every step has statistics of its own.

    Returns:
        ``x``, to be used in place of the one passed in; factor and offset in float32, which broadcast against
        one step of it, or with ``each_step`` against all of it but the batch: ``[T, C, ...]``.
    """
    return _NormAffine.apply(x.resolve_neg(), channel_dim, each_step, norm, norm.weight, norm.bias)  # type: ignore[no-any-return]


class _NormAffine(torch.autograd.Function):
    """Saves the input, which the neuron behind it saves too, and three numbers per channel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, channel_dim: int, each_step: bool, norm: NormState, *_: Any) -> Any:
        steps, channels, ones = x.shape[0], x.shape[channel_dim], (1,) * (x.ndim - channel_dim - 1)
        folding = fold(x, (channels, *ones))
        folded = dense_inside(folding.sequence(x))
        plan = _plan(folded.shape, folded.stride(), x.element_size(), each_step)
        elements = x.numel() // channels // (steps if each_step else 1)
        out = x.new_empty((4, steps if each_step else 1, channels), dtype=torch.float32)
        with _on(x):
            _join(
                _partials(folded, plan),
                plan,
                out,
                weight=norm.weight,
                bias=norm.bias,
                running=norm.running,
                tracked=norm.tracked,
                elements=elements,
                momentum=norm.momentum,
                eps=norm.eps,
            )
        ctx.folding, ctx.each_step, ctx.elements = folding, each_step, elements
        ctx.dtypes = [None if p is None else p.dtype for p in (norm.weight, norm.bias)]
        ctx.save_for_backward(x, out)
        shape = (steps, channels, *ones) if each_step else (channels, *ones)
        return x, out[2].view(shape), out[3].view(shape)

    @staticmethod
    @first_derivative_only("norm and neuron in one", "the one after the other")
    def backward(ctx: Any, grad_x: Tensor, grad_factor: Tensor, grad_offset: Tensor) -> Any:
        x, out = ctx.saved_tensors
        folding: Folding = ctx.folding
        grad = folding.sequence(grad_x.resolve_neg()).contiguous()
        folded = dense_inside(folding.sequence(x))
        plan = _plan(folded.shape, folded.stride(), x.element_size(), ctx.each_step)
        mean, scale, factor, _ = out
        found = [None if dtype is None else torch.empty_like(mean, dtype=dtype) for dtype in ctx.dtypes]
        with _on(x):
            _add(
                grad,
                folded,
                plan,
                scale,
                mean,
                grad_factor.contiguous(),
                grad_offset.contiguous(),
                factor=factor,
                inverse=1 / ctx.elements,
                grad_weight=found[0],
                grad_bias=found[1],
            )
        sums = (None if g is None else g.sum(0) if ctx.each_step else g.squeeze(0) for g in found)
        return folding.unfold(grad), None, None, None, *sums


def _on(x: Tensor) -> Any:
    """The device of ``x`` as the current one."""
    if not x.is_cuda or x.get_device() == torch.cuda.current_device():
        return contextlib.nullcontext()
    return torch.cuda.device(x.device)
