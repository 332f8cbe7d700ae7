"""Moments of a batch, and the gradient through them, in Triton kernels.

Forward, one kernel reads the input, and a second joins the parts, turns them into the norm's factor and
offset and moves the running averages. Backward, one kernel reads the input and the gradient and writes the
gradient in place. No sum depends on the order in which programs run.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Size, Tensor

from snntorch_asnn._torch import storage_of
from snntorch_asnn.ops._adaptive_leaky.layout import Folding, dense_inside, fold, is_dense_inside
from snntorch_asnn.ops._batch_moments.norm_state import NormState
from snntorch_asnn.ops._batch_moments.triton.kernels import add_kernel, moments_kernel, partial_moments_kernel
from snntorch_asnn.ops._first_derivative import first_derivative_only
from snntorch_asnn.ops._triton.launch import Launch, Prepared

__all__ = ["add", "moments", "norm_affine"]

_UNROLL = 4  # tiles whose loads are in flight together
_LEAST = 4 * _UNROLL  # tiles of one program that sums
_PROGRAMS = 1024  # that sum, where there is enough to sum: some eight per multiprocessor of a large GPU
_WARPS = 4
_PARTS = 256  # partial moments that are joined at a time


@dataclass(frozen=True, eq=False)
class _Plan:
    """How the kernels see a sequence ``[T, B, C, M]``, and how they divide it."""

    groups: int
    rows: int
    columns: int
    """``C``, or ``C * M`` where maps are small."""
    share: int
    """Columns that have one channel."""
    channels: int
    strides: tuple[int, int]
    """Strides of rows and groups, divided by the alignment."""
    each_step: bool
    blocks: int
    tiles_m: int
    tiles: int
    each: int
    """Tiles of a program that sums."""
    chunks: int
    sizes: tuple[int, int, int]
    """Rows, channels and inner elements as the kernels take them."""
    constants: dict[str, Any]

    @staticmethod
    @functools.lru_cache(maxsize=4096)
    def of(shape: Size, stride: tuple[int, ...], itemsize: int, each_step: bool) -> _Plan:
        steps, batch, channels, inner = shape
        groups, rows, x_row, x_group = _rows(shape, stride, each_step)
        vector = 16 // itemsize
        wide = _fits(inner, 4 * 32 * vector, 128 // itemsize) > 0 or (
            inner * itemsize >= 128 and (steps * batch < 64 or channels * inner % vector != 0)
        )
        columns, share = (channels, 1) if wide else (channels * inner, inner)
        inner = inner if wide else 1
        dense = inner if wide else columns
        alignment = math.gcd(16, dense, x_row, x_group)
        br, bc, bm = _tile(rows, columns, inner, 32 * vector)
        blocks, tiles_m = triton.cdiv(columns, bc), triton.cdiv(inner, bm)
        tiles = triton.cdiv(rows, br) * tiles_m
        each = max(_LEAST, triton.cdiv(tiles, max(1, _PROGRAMS // (blocks * groups))))
        each = triton.cdiv(each, _UNROLL) * _UNROLL
        sizes = (rows, columns, inner // alignment) if wide else (rows, columns // alignment, 1)
        constants = {
            "ALIGNMENT": alignment,
            "BR": br,
            "BC": bc,
            "BM": bm,
            "WIDE": wide,
            "EVEN": rows % br == columns % bc == inner % bm == tiles % _UNROLL == 0,
            "UNROLL": _UNROLL,
            "num_warps": max(1, min(_WARPS, br * bc * bm // (32 * vector))),
        }
        return _Plan(
            groups,
            rows,
            columns,
            share,
            channels,
            (x_row // alignment, x_group // alignment),
            each_step,
            blocks,
            tiles_m,
            tiles,
            each,
            triton.cdiv(tiles, each),
            sizes,
            constants,
        )


def _rows(shape: Size, stride: tuple[int, ...], each_step: bool) -> tuple[int, int, int, int]:
    """Groups, their rows, and the strides of rows and groups."""
    steps, batch, *_ = shape
    if each_step or (steps > 1 and batch > 1 and stride[0] != batch * stride[1]):
        return steps, batch, stride[1], stride[0]
    return 1, steps * batch, stride[0] if batch == 1 else stride[1], 0


def _tile(rows: int, columns: int, inner: int, warp: int) -> tuple[int, int, int]:
    """Rows, columns and inner elements of a tile: ``warp`` elements for every warp, if there are as many."""
    most = _WARPS * warp
    bm = _fits(inner, most, 32) or min(triton.next_power_of_2(inner), most)
    fewest = max(1, warp // bm)
    bc = _fits(columns, fewest, warp // 4) or min(triton.next_power_of_2(columns), fewest)
    return min(triton.next_power_of_2(rows), most // (bc * bm)), bc, bm


def _fits(size: int, most: int, least: int) -> int:
    """The largest power of two from ``least`` to ``most`` that divides ``size``, or else 0."""
    power = math.gcd(size, most)
    return power if power >= least else 0


@functools.lru_cache(maxsize=4096)
def _summing(plan: _Plan, _: torch.dtype) -> Prepared:
    """The kernel that takes partial moments of a sequence of a dtype."""
    size = plan.groups * plan.chunks * plan.columns
    division = plan.blocks, plan.chunks, plan.tiles_m, plan.tiles, plan.each
    numbers = (size, *plan.sizes, *division, *plan.strides)
    grid = (plan.groups * plan.chunks * plan.blocks,)
    return Prepared(partial_moments_kernel, Launch(grid, numbers, plan.constants))


@functools.lru_cache(maxsize=4096)
def _joining(
    plan: _Plan,
    numbers: tuple[float, float, float],
    weight: torch.dtype | None,
    bias: torch.dtype | None,
    running: torch.dtype | None,
    cumulative: bool,
    affine: bool,
) -> Prepared:
    """The kernel that joins them; ``numbers`` are elements of a channel, momentum and epsilon."""
    groups = plan.groups if plan.each_step else 1
    parts = plan.chunks * plan.share * (plan.groups // groups)
    bp = min(_PARTS, triton.next_power_of_2(parts))
    bc = min(triton.next_power_of_2(plan.channels), max(4, _PARTS // bp))
    blocks = triton.cdiv(plan.channels, bc)
    size = plan.groups * plan.chunks * plan.columns
    strides = plan.columns, plan.chunks * plan.columns, plan.channels
    constants = {
        "BP": bp,
        "BC": bc,
        "AFFINE": affine,
        "HAS_WEIGHT": weight is not None,
        "HAS_BIAS": bias is not None,
        "RUNNING": running is not None,
        "CUMULATIVE": cumulative,
        "num_warps": _WARPS if bp * bc >= 512 else 1,
    }
    plane = groups * plan.channels
    whole = (size, parts, *strides, plan.share, blocks, plane, *numbers)
    return Prepared(moments_kernel, Launch((blocks * groups,), whole, constants))


@functools.lru_cache(maxsize=4096)
def _adding(
    plan: _Plan,
    _: torch.dtype,
    inverse: float | None,
    weight: torch.dtype | None = None,
    bias: torch.dtype | None = None,
) -> Prepared:
    """The backward kernel: a norm's, with one by the elements of a channel, or a plain sum without."""
    chunks = triton.cdiv(plan.tiles, _UNROLL)
    division = plan.blocks, chunks, plan.tiles_m, plan.tiles
    group_stride = plan.channels if plan.each_step else 0
    plane = plan.channels * (plan.groups if plan.each_step else 1)
    numbers = (*plan.sizes, *division, group_stride, plan.share, plane, inverse or 0.0, *plan.strides)
    constants = plan.constants | {
        "NORM": inverse is not None,
        "HAS_WEIGHT": weight is not None,
        "HAS_BIAS": bias is not None,
    }
    return Prepared(add_kernel, Launch((plan.groups * chunks * plan.blocks,), numbers, constants))


def _partials(x: Tensor, plan: _Plan) -> Tensor:
    """Count, two parts of the mean, and squares of every chunk: ``[4, groups * chunks, columns]``."""
    partials = x.new_empty((4, plan.groups * plan.chunks, plan.columns), dtype=torch.float32)
    _summing(plan, x.dtype)(x, partials)
    return partials


def moments(x: Tensor, each_step: bool = False) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel of ``[T, B, C, M]``, ``[C]`` or, of every step, ``[T, C]``."""
    x = dense_inside(x)
    plan = _Plan.of(x.shape, x.stride(), x.element_size(), each_step)
    out = x.new_empty((2, x.shape[0] if each_step else 1, x.shape[2]), dtype=torch.float32)
    join = _joining(plan, (2.0, 0.0, 0.0), None, None, None, cumulative=False, affine=False)
    join(_partials(x, plan), *(out,) * 6)
    mean, variance = out if each_step else out.squeeze(1)
    return mean, variance


def add(grad: Tensor, x: Tensor, mean: Tensor, offset: Tensor, factor: Tensor) -> None:
    """Add ``offset + factor * (x - mean)``, ``[C]`` or ``[T, C]`` each, to a contiguous ``[T, B, C, M]``."""
    x = dense_inside(x)
    plan = _Plan.of(x.shape, x.stride(), x.element_size(), mean.ndim == 2)
    mean, offset, factor = (p.to(torch.float32).contiguous() for p in (mean, offset, factor))
    _adding(plan, x.dtype, None)(grad, x, mean, offset, factor, mean, mean)


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
        one step of it, or with ``each_step`` have a dimension of steps in front: ``[T, C, ...]``.
    """
    return _NormAffine.apply(x.resolve_neg(), channel_dim, each_step, norm, norm.weight, norm.bias)  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class _View:
    """How the kernels see the sequences of one shape and memory format."""

    folding: Folding
    is_direct: bool
    """Whether they read a sequence where it lies; elsewhere they get a copy."""
    plan: _Plan
    elements: int
    """Elements of one channel: in all steps, or in one if each step has statistics of its own."""
    result_strides: tuple[int, ...]
    parameters: tuple[int, ...]
    """Shape of factor and offset."""

    @staticmethod
    @functools.lru_cache(maxsize=4096)
    def of(
        shape: Size, stride: tuple[int, ...], dtype: torch.dtype, channel_dim: int, each_step: bool
    ) -> _View:
        like = torch.empty_strided(shape, stride, device="meta", dtype=dtype)
        steps, parameters = shape[0], (shape[channel_dim], *(1,) * (len(shape) - channel_dim - 1))
        folding = fold(like, parameters)
        folded = folding.sequence(like)
        seen = dense_inside(folded)
        elements = like.numel() // shape[channel_dim] // (steps if each_step else 1)
        return _View(
            folding,
            is_dense_inside(folded) and storage_of(folded) == storage_of(like),
            _Plan.of(seen.shape, seen.stride(), like.element_size(), each_step),
            elements,
            folding.unfold(torch.empty(folded.shape, device="meta")).stride(),
            (steps, *parameters) if each_step else parameters,
        )

    def sequence(self, x: Tensor) -> Tensor:
        """``x`` as the kernels read it."""
        return x if self.is_direct else dense_inside(self.folding.sequence(x))

    def own(self, grad: Tensor) -> Tensor:
        """A gradient that is dense in the order of memory of the results."""
        if grad.stride() == self.result_strides:
            return grad
        return self.folding.unfold(self.folding.sequence(grad).contiguous())


class _NormAffine(torch.autograd.Function):
    """Saves the input, which the neuron behind it saves too, and four numbers per channel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, channel_dim: int, each_step: bool, norm: NormState, *_: Any) -> Any:
        view = _View.of(x.shape, x.stride(), x.dtype, channel_dim, each_step)
        plan, (weight, bias, running, tracked, momentum, eps) = view.plan, norm
        out = x.new_empty((4, plan.groups if each_step else 1, plan.channels), dtype=torch.float32)
        ctx.dtypes = [None if p is None else p.dtype for p in (weight, bias)]
        join = _joining(
            plan,
            (float(view.elements), float(momentum), eps),
            *ctx.dtypes,
            None if running is None else running[0].dtype,
            cumulative=tracked is not None,
            affine=True,
        )
        optional = (weight, bias, *(running or (None, None)), tracked)
        join(_partials(view.sequence(x), plan), out, *(out if t is None else t for t in optional))
        ctx.view = view
        ctx.save_for_backward(x, out)
        planes = out.view(4, *view.parameters).unbind()
        return x, planes[2], planes[3]

    @staticmethod
    @first_derivative_only("a fused NormLeaky", "snntorch_asnn.layers.unfuse_norm(model)")
    def backward(ctx: Any, grad_x: Tensor, grad_factor: Tensor, grad_offset: Tensor) -> Any:
        x, out = ctx.saved_tensors
        view: _View = ctx.view
        grad = view.own(grad_x.resolve_neg())
        found = [None if d is None else torch.empty_like(out[0], dtype=d) for d in ctx.dtypes]
        add = _adding(view.plan, x.dtype, 1 / view.elements, *ctx.dtypes)
        sums = grad_factor.contiguous(), grad_offset.contiguous()
        add(grad, view.sequence(x), out, *sums, *(out if g is None else g for g in found))
        totals = (g if g is None else g.sum(0) if view.plan.each_step else g.squeeze(0) for g in found)
        return grad, None, None, None, *totals
