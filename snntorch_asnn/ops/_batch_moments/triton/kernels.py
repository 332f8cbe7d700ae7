"""Triton kernels of a batch norm whose output is never written: its moments, and its backward pass.

A sequence is seen as ``[groups, rows, channels, inner]``. A group is a step, where every step has moments of
its own or the steps lie apart in memory, or else the whole sequence; a row is a sample. A program takes tiles
of ``BR`` rows, ``BC`` channels and ``BM`` inner elements. Small maps are seen as rows of ``channels * inner``
columns, so that loads stay wide: then ``share`` columns belong to one channel, and ``WIDE`` is false.

Sizes along which memory is dense come divided by ``ALIGNMENT``, which tells the compiler the width of loads.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["add_kernel", "moments_kernel", "partial_moments_kernel"]

_SIZES = ["rows", "channels", "inner", "blocks", "chunks", "tiles_m", "tiles", "x_row", "x_group"]


@triton.jit
def _geometry(block, channels, inner, ALIGNMENT: tl.constexpr, BC: tl.constexpr, WIDE: tl.constexpr):
    """Channels of a block, how many there are, and how many elements each has in a row."""
    c = block * BC + tl.arange(0, BC)[None, :, None]
    if WIDE:
        return c, channels, inner * ALIGNMENT
    else:
        return c, channels * ALIGNMENT, 1


@triton.jit
def _place(tile, tiles_m, r, m, BR: tl.constexpr, BM: tl.constexpr, WIDE: tl.constexpr):
    """Rows of a tile, and elements inside of a channel. An unknown column would make loads narrow."""
    if WIDE:
        return tile // tiles_m * BR + r, tile % tiles_m * BM + m
    else:
        return tile * BR + r, m


@triton.jit
def _load(at, valid, EVEN: tl.constexpr):
    """With ``EVEN``, tiles cover the sequence exactly, so that nothing needs to be masked."""
    if EVEN:
        return tl.load(at)
    else:
        return tl.load(at, valid, other=0)


@triton.jit
def _tiles_of(stop, tiles_m, rows, shared, r, m, BR: tl.constexpr, BM: tl.constexpr):
    """In how many of the first ``stop`` tiles each lane has an element."""
    row_tiles = (rows - r + BR - 1) // BR
    whole, rest = stop // tiles_m, stop % tiles_m
    in_a_row = tiles_m - 1 + ((tiles_m - 1) * BM + m < shared).to(tl.int32)
    return tl.minimum(whole, row_tiles) * in_a_row + tl.where(whole < row_tiles, rest, 0)


@triton.jit
def _sum(values):
    """Sum over all but the channels, which stay in place."""
    return tl.sum(tl.sum(values, axis=2, keep_dims=True), axis=0, keep_dims=True)


@triton.jit(do_not_specialize=["size", "each", *_SIZES])
def partial_moments_kernel(
    x,
    partials,
    size,
    rows,
    channels,
    inner,
    blocks,
    chunks,
    tiles_m,
    tiles,
    each,
    x_row,
    x_group,
    ALIGNMENT: tl.constexpr,
    BR: tl.constexpr,
    BC: tl.constexpr,
    BM: tl.constexpr,
    WIDE: tl.constexpr,
    EVEN: tl.constexpr,
    UNROLL: tl.constexpr,
):
    """Count, mean and squared deviations of ``each`` tiles: ``partials`` ``[4, groups, chunks, columns]``.

    The mean comes as two numbers to be added, since rounding it would cost the variance digits. Every lane
    sums its deviations from an element of its own: where that is far from the mean, the variance is large.
    """
    pid = tl.program_id(0)
    block, chunk, group = pid % blocks, pid // blocks % chunks, pid // blocks // chunks
    c, columns, shared = _geometry(block, channels, inner, ALIGNMENT, BC, WIDE)
    r, m = tl.arange(0, BR)[:, None, None], tl.arange(0, BM)[None, None, :]
    at = x + group.to(tl.int64) * x_group * ALIGNMENT + c.to(tl.int64) * shared

    start = chunk * each
    stop = tl.minimum(start + each, tiles)
    row, inside = _place(start, tiles_m, r, m, BR, BM, WIDE)
    if not EVEN:
        row, inside = tl.minimum(row, rows - 1), tl.minimum(inside, shared - 1)
    own = at + (row.to(tl.int64) * x_row * ALIGNMENT + inside)
    pivot = _load(own, (row < rows) & (c < columns) & (inside < shared), EVEN).to(tl.float32)
    total = tl.zeros([BR, BC, BM], tl.float32)
    square = tl.zeros([BR, BC, BM], tl.float32)
    for first in range(start, stop, UNROLL):
        loaded = ()
        for i in tl.static_range(UNROLL):
            row, inside = _place(first + i, tiles_m, r, m, BR, BM, WIDE)
            own = at + (row.to(tl.int64) * x_row * ALIGNMENT + inside)
            loaded += (_load(own, (row < rows) & (c < columns) & (inside < shared), EVEN),)
        for i in tl.static_range(UNROLL):
            deviation = loaded[i].to(tl.float32) - pivot
            if not EVEN:
                row, inside = _place(first + i, tiles_m, r, m, BR, BM, WIDE)
                deviation = tl.where((row < rows) & (c < columns) & (inside < shared), deviation, 0.0)
            total += deviation
            square += deviation * deviation

    if EVEN:
        count = (stop - start).to(tl.float32)
        elements = count * (BR * BM)
    else:
        seen = _tiles_of(stop, tiles_m, rows, shared, r, m, BR, BM)
        seen -= _tiles_of(start, tiles_m, rows, shared, r, m, BR, BM)
        count = tl.where(c < columns, seen, 0).to(tl.float32)
        elements = _sum(count)
    share_of = 1 / tl.maximum(count, 1)
    reference = tl.max(tl.max(pivot, axis=2, keep_dims=True), axis=0, keep_dims=True)
    mean = tl.where(count > 0, pivot - reference + total * share_of, 0.0)
    centre = _sum(count * mean) / tl.maximum(elements, 1)
    apart = tl.where(count > 0, mean - centre, 0.0)
    squares = _sum(tl.maximum(square - total * total * share_of, 0) + count * (apart * apart))
    to = partials + (pid // blocks).to(tl.int64) * columns + c
    tl.store(to, elements + tl.zeros_like(centre), c < columns)
    tl.store(to + size, reference, c < columns)
    tl.store(to + 2 * size, centre, c < columns)
    tl.store(to + 3 * size, squares, c < columns)


@triton.jit
def _mean_at(partial, size, valid):
    """Mean of a partial sum, in float64."""
    reference = tl.load(partial + size, valid, other=0).to(tl.float64)
    return reference + tl.load(partial + 2 * size, valid, other=0).to(tl.float64)


@triton.jit(
    do_not_specialize=[
        *("size", "parts", "part_stride", "group_stride", "channels", "share", "blocks", "plane"),
        *("elements", "momentum", "eps"),
    ]
)
def moments_kernel(
    partials,
    moments,
    weight,
    bias,
    running_mean,
    running_variance,
    tracked,
    size,
    parts,
    part_stride,
    group_stride,
    channels,
    share,
    blocks,
    plane,
    elements,
    momentum,
    eps,
    BP: tl.constexpr,
    BC: tl.constexpr,
    AFFINE: tl.constexpr,
    HAS_WEIGHT: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    RUNNING: tl.constexpr,
    CUMULATIVE: tl.constexpr,
):
    """Joins partial moments, in float64 and always in one order.

    ``moments`` are mean and variance ``[2, groups, C]``, or with ``AFFINE`` mean, inverse standard deviation,
    and the norm's factor and offset ``[4, groups, C]``, ``plane`` numbers each. ``RUNNING`` moves the running
    averages.
    """
    c = tl.program_id(0) % blocks * BC + tl.arange(0, BC)[None, :]
    group = tl.program_id(0) // blocks
    p = tl.arange(0, BP)[:, None]
    at = partials + group.to(tl.int64) * group_stride + c * share
    count = tl.zeros([BP, BC], tl.float64)
    total = tl.zeros([BP, BC], tl.float64)
    for first in range(0, parts, BP):
        part = first + p
        valid = (part < parts) & (c < channels)
        one = at + ((part // share).to(tl.int64) * part_stride + part % share)
        n = tl.load(one, valid, other=0).to(tl.float64)
        count += n
        total += n * _mean_at(one, size, valid)
    elements_seen = tl.maximum(tl.sum(count, axis=0, keep_dims=True), 1)
    mean = tl.sum(total, axis=0, keep_dims=True) / elements_seen
    square = tl.zeros([BP, BC], tl.float64)
    for first in range(0, parts, BP):
        part = first + p
        valid = (part < parts) & (c < channels)
        one = at + ((part // share).to(tl.int64) * part_stride + part % share)
        n = tl.load(one, valid, other=0).to(tl.float64)
        apart = tl.where(valid, _mean_at(one, size, valid) - mean, 0)
        square += tl.load(one + 3 * size, valid, other=0).to(tl.float64) + n * (apart * apart)
    variance = tl.sum(square, axis=0, keep_dims=True) / elements_seen

    inside = c < channels
    to = moments + group * channels + c
    tl.store(to, mean.to(tl.float32), inside)
    if AFFINE:
        scale = 1 / tl.sqrt(variance + eps)
        factor = scale
        if HAS_WEIGHT:
            factor = scale * tl.load(weight + c, inside, other=0).to(tl.float64)
        offset = -mean * factor
        if HAS_BIAS:
            offset += tl.load(bias + c, inside, other=0).to(tl.float64)
        tl.store(to + plane, scale.to(tl.float32), inside)
        tl.store(to + 2 * plane, factor.to(tl.float32), inside)
        tl.store(to + 3 * plane, offset.to(tl.float32), inside)
    else:
        tl.store(to + plane, variance.to(tl.float32), inside)
    if RUNNING:
        new = momentum
        if CUMULATIVE:
            new = 1 / tl.load(tracked).to(tl.float32)
        at_mean, at_variance = running_mean + group * channels + c, running_variance + group * channels + c
        old = tl.load(at_mean, inside, other=0).to(tl.float32)
        tl.store(at_mean, old + new * (mean.to(tl.float32) - old), inside)
        old = tl.load(at_variance, inside, other=0).to(tl.float32)
        unbiased = (variance * (elements / (elements - 1))).to(tl.float32)
        tl.store(at_variance, old + new * (unbiased - old), inside)


@triton.jit(do_not_specialize=["group_stride", "share", "plane", "inverse", *_SIZES])
def add_kernel(
    grad,
    x,
    moments,
    first_sum,
    second_sum,
    grad_weight,
    grad_bias,
    rows,
    channels,
    inner,
    blocks,
    chunks,
    tiles_m,
    tiles,
    group_stride,
    share,
    plane,
    inverse,
    x_row,
    x_group,
    ALIGNMENT: tl.constexpr,
    BR: tl.constexpr,
    BC: tl.constexpr,
    BM: tl.constexpr,
    WIDE: tl.constexpr,
    EVEN: tl.constexpr,
    UNROLL: tl.constexpr,
    NORM: tl.constexpr,
    HAS_WEIGHT: tl.constexpr,
    HAS_BIAS: tl.constexpr,
):
    """Adds ``level + slope * (x - mean)`` to ``grad``, in place: what reaches the input through its moments.

    With ``NORM``, ``first_sum`` and ``second_sum`` are the gradients of the norm's factor and offset, from
    which level, slope and the gradients of weight and bias follow; else they are level and slope. ``inverse``
    is one by the number of elements; ``group_stride`` is 0 where all groups have the same coefficients.
    """
    pid = tl.program_id(0)
    block, chunk, group = pid % blocks, pid // blocks % chunks, pid // blocks // chunks
    c, columns, shared = _geometry(block, channels, inner, ALIGNMENT, BC, WIDE)
    r, m = tl.arange(0, BR)[:, None, None], tl.arange(0, BM)[None, None, :]
    column = c.to(tl.int64) * shared
    at_x = x + group.to(tl.int64) * x_group * ALIGNMENT + column
    width = tl.cast(columns, tl.int64) * shared
    at_grad = grad + group.to(tl.int64) * rows * width + column

    own = group * group_stride + c // share
    middle = tl.load(moments + own, c < columns, other=0)
    level = tl.load(first_sum + own, c < columns, other=0)
    slope = tl.load(second_sum + own, c < columns, other=0)
    if NORM:
        deviation = tl.load(moments + plane + own, c < columns, other=0)
        grad_offset = slope
        grad_factor = level - middle * grad_offset
        is_first = (c < columns) & (c % share == 0) & (chunk == 0) & ((group == 0) | (group_stride > 0))
        if HAS_WEIGHT:
            tl.store(grad_weight + own, grad_factor * deviation, is_first)
        if HAS_BIAS:
            tl.store(grad_bias + own, grad_offset, is_first)
        by_element = tl.load(moments + 2 * plane + own, c < columns, other=0) * -inverse
        level = by_element * grad_offset
        slope = by_element * grad_factor * (deviation * deviation)

    inputs, grads = (), ()
    for i in tl.static_range(UNROLL):
        row, inside = _place(chunk * UNROLL + i, tiles_m, r, m, BR, BM, WIDE)
        valid = (row < rows) & (c < columns) & (inside < shared)
        inputs += (_load(at_x + (row.to(tl.int64) * x_row * ALIGNMENT + inside), valid, EVEN),)
        grads += (_load(at_grad + (row.to(tl.int64) * width + inside), valid, EVEN),)
    for i in tl.static_range(UNROLL):
        row, inside = _place(chunk * UNROLL + i, tiles_m, r, m, BR, BM, WIDE)
        valid = (row < rows) & (c < columns) & (inside < shared)
        to = at_grad + (row.to(tl.int64) * width + inside)
        value = grads[i].to(tl.float32) + (level + slope * (inputs[i].to(tl.float32) - middle))
        if EVEN:
            tl.store(to, value)
        else:
            tl.store(to, value, valid)
