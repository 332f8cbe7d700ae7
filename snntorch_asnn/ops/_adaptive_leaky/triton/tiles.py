"""What one program of the Triton kernels takes of ``[T, B, C, M]``.

A tile is chosen by all that stays the same from batch to batch, so that no batch size needs kernels or a
graph of its own: only the number of programs counts the samples.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

__all__ = ["SEGMENT", "Geometry", "Tile", "alignment", "backward_tile", "forward_tile", "geometry", "repeats"]

SEGMENT = 8
"""Steps by whose number those between two saved membranes are counted."""

_VECTOR = 16  # bytes of the widest load
_WARPS = 4
_HELD = 64  # registers of a thread for sums of gradients
_PROGRAMS = 1056  # two rounds of four programs for each multiprocessor of an H100
_CHANNELS = 1 << 31  # coefficients of one step are counted in 32 bits


class Geometry(NamedTuple):
    """The sizes ``[B, columns, inner]`` that the kernels see; ``share`` columns have one coefficient.

    Where ``M`` is too odd for wide loads, or 1, columns are the neurons of a sample: ``share`` of them lie
    side by side. Elsewhere they are the coefficients, ``inner`` neurons lie side by side, and it is 0.
    """

    batch: int
    columns: int
    inner: int
    share: int

    @property
    def contiguous(self) -> int:
        """Elements that lie side by side."""
        return self.columns if self.share else self.inner


class Tile(NamedTuple):
    """Samples, columns and inner neurons of one program, its warps, and the steps that it unrolls."""

    batch: int
    columns: int
    inner: int
    warps: int
    steps: int

    def blocks(self, sizes: Geometry) -> tuple[int, int, int]:
        """Programs along each size."""
        pairs = zip(sizes[:3], self[:3], strict=True)
        batch, columns, inner = ((size + taken - 1) // taken for size, taken in pairs)
        return batch, columns, inner


def geometry(folded: tuple[int, int, int], itemsize: int) -> Geometry:
    """How the kernels see ``[B, C, M]``."""
    batch, channels, inner = folded
    if _is_static(channels) and channels >= _CHANNELS:
        raise ValueError(f"impl='triton' takes less than 2^31 coefficients per step; got {channels}")
    if _is_static(inner) and inner * itemsize % _VECTOR and not _is_one(channels):
        columns = channels * inner
        if not _is_static(columns) or columns < _CHANNELS:
            return Geometry(batch, columns, 1, inner)
    return Geometry(batch, channels, inner, 0)


def alignment(*sizes: int) -> int:
    """The largest power of two up to 16 that is known to divide all ``sizes``, whatever the batch."""
    return next(a for a in (16, 8, 4, 2, 1) if all(_divides(a, size) for size in sizes))


def forward_tile(sizes: Geometry, num_steps: int, itemsize: int) -> Tile:
    """The tile of the forward kernel."""
    # A thread takes one wide load's worth of a sample, and where coefficients differ, of two samples.
    vector = _VECTOR // itemsize
    steps, elements = _power_of_two(num_steps, 4), _WARPS * 32 * vector
    if sizes.share:
        columns = _width(sizes.columns, 32 * vector)
        return Tile(_samples(sizes, 2 * elements // columns), columns, 1, _WARPS, steps)
    return _rows(sizes, elements, _WARPS, steps)


def backward_tile(sizes: Geometry, num_steps: int, itemsize: int, rows: int) -> Tile:
    """The tile of the backward kernel, which sums the gradients of ``rows`` coefficients over it."""
    # Sums take registers, of which wider loads leave too few.
    vector = 4 if rows or num_steps > 4 else _VECTOR // itemsize
    # Sixteen steps at a time, where they are all or half of all, spare the input from being read again; with
    # sums and coefficients of each column they would not fit in registers.
    longer = SEGMENT < num_steps <= 4 * SEGMENT and (not rows or _is_one(sizes.columns))
    steps = _power_of_two(num_steps, 2 * SEGMENT if longer else SEGMENT)
    in_threads = rows > 0 and _sums_in_threads(num_steps, steps, rows, vector)
    if sizes.share:
        # Where each step is summed over threads, many samples make the sums few.
        lanes = 8 if rows and not in_threads else 32
        if rows and num_steps > SEGMENT and sizes.share > 1:
            vector = 2  # every column may have a coefficient of its own, in registers of its own
        columns = _width(sizes.columns, lanes * vector)
        return Tile(_samples(sizes, _WARPS * 32 * vector // columns), columns, 1, _WARPS, steps)
    # Sums of each step within a warp need no shared memory.
    warps = 1 if rows and not in_threads else _WARPS
    return _rows(sizes, warps * 32 * vector, warps, steps)


def repeats(sizes: Geometry, tile: Tile, num_steps: int, rows: int) -> tuple[str, int]:
    """Along ``"batch"`` or ``"inner"``, how many tiles a program of the backward kernel takes one by one.

    It sums their gradients per thread first, if registers hold them, so that sums over threads are few.
    Programs stay as many as keep a GPU busy.
    """
    elements = tile.batch * tile.columns * tile.inner // (32 * tile.warps)
    if not rows or not _sums_in_threads(num_steps, tile.steps, rows, elements):
        return "", 1
    along = "inner" if _is_one(sizes.batch) else "batch"
    blocks = tile.blocks(sizes)
    most = blocks[0] if along == "batch" else blocks[2]
    if not all(map(_is_static, blocks)):
        return along, 4
    return along, max(1, min(16, most, math.prod(blocks) // _PROGRAMS))


def _sums_in_threads(num_steps: int, steps: int, rows: int, elements: int) -> bool:
    """Whether a thread's registers hold the sums of all steps, for so many elements."""
    return num_steps <= steps <= SEGMENT and steps * rows * elements <= _HELD


def _rows(sizes: Geometry, elements: int, warps: int, steps: int) -> Tile:
    """A tile of neurons that share coefficients, as contiguous as can be."""
    inner = _width(sizes.inner, elements)
    columns = _power_of_two(sizes.columns, elements // inner)
    return Tile(_samples(sizes, elements // (inner * columns)), columns, inner, warps, steps)


def _width(size: int, most: int) -> int:
    """Elements side by side in a tile that has room for ``most``."""
    widest = _power_of_two(size, most)
    # A tile that sticks out wastes threads; one that is too narrow wastes bandwidth.
    widths = [width for width in (widest, widest // 2, widest // 4) if width >= min(widest, 32)]
    return next((width for width in widths if _fits(size, width)), widest)


def _samples(sizes: Geometry, most: int) -> int:
    return _power_of_two(sizes.batch, most)


def _fits(size: int, block: int) -> bool:
    return not _is_static(size) or math.ceil(size / block) * block <= 1.125 * size


def _power_of_two(size: int, most: int) -> int:
    """The smallest power of two that covers ``size``, or else the largest up to ``most``."""
    power = 1
    while 2 * power <= most and (not _is_static(size) or power < size):
        power *= 2
    return power


def _is_one(size: int) -> bool:
    return _is_static(size) and size == 1


def _is_static(size: object) -> bool:
    """Whether a compiler knows ``size`` and does not want it kept open."""
    return isinstance(size, int)


def _divides(divisor: int, size: int | torch.SymInt) -> bool:
    if isinstance(size, int):
        return size % divisor == 0
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return statically_known_true(size % divisor == 0)
