"""Triton kernels of the small numbers around a norm that a neuron applies to its input.

One stands for some twenty operations on a few hundred coefficients, which take the host longer than the
neuron takes the device; the other for the way back through them.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["gradients_kernel", "table_kernel"]


@triton.jit
def _store(table, row: tl.constexpr, given, step, t, c, channels, at, inside):
    value = tl.load(given + t * step + c * at, inside, other=0)
    tl.store(table + row * channels + c, value, inside)


@triton.jit(do_not_specialize=["channels", "blocks", "per_step", *(f"step{i}" for i in range(6))])
def table_kernel(
    beta,
    gain,
    threshold,
    previous,
    scale,
    shift,
    factor,
    offset,
    table,
    channels,
    blocks,
    per_step,
    step0,
    step1,
    step2,
    step3,
    step4,
    step5,
    AT0: tl.constexpr,
    AT1: tl.constexpr,
    AT2: tl.constexpr,
    AT3: tl.constexpr,
    AT4: tl.constexpr,
    AT5: tl.constexpr,
    HAS_SHIFT: tl.constexpr,
    BC: tl.constexpr,
):
    """The table ``[T, 6, C]`` of a neuron whose input ``x`` is ``factor * x + offset`` to it.

    ``step0`` to ``step5`` are the strides of time of its own coefficients, ``AT0`` to ``AT5`` those of
    channels: 0 for one number for all. ``per_step`` is the stride of time of factor and offset.
    """
    t = tl.program_id(0) // blocks
    c = tl.program_id(0) % blocks * BC + tl.arange(0, BC)
    inside = c < channels
    row = table + t * 6 * channels
    _store(row, 0, beta, step0, t, c, channels, AT0, inside)
    _store(row, 2, threshold, step2, t, c, channels, AT2, inside)
    _store(row, 3, previous, step3, t, c, channels, AT3, inside)
    _store(row, 4, scale, step4, t, c, channels, AT4, inside)
    g = tl.load(gain + t * step1 + c * AT1, inside, other=0)
    tl.store(row + channels + c, g * tl.load(factor + t * per_step + c, inside, other=0), inside)
    total = g * tl.load(offset + t * per_step + c, inside, other=0)
    if HAS_SHIFT:
        total += tl.load(shift + t * step5 + c * AT5, inside, other=0)
    tl.store(row + 5 * channels + c, total, inside)


@triton.jit(do_not_specialize=["steps", "channels", "blocks", "per_step", "gain_step"])
def gradients_kernel(
    totals,
    gain,
    factor,
    offset,
    own,
    outer,
    steps,
    channels,
    blocks,
    per_step,
    gain_step,
    ROWS: tl.constexpr,
    GAIN: tl.constexpr,
    SHIFT: tl.constexpr,
    BC: tl.constexpr,
):
    """Gradients behind those of a table, ``totals`` ``[ROWS, T, C]``, if all channels share the coefficients.

    ``own`` ``[ROWS, T]`` are those of the coefficients, and ``outer`` those of factor and offset,
    ``[2, T, C]``, or ``[2, C]`` where ``per_step`` is 0. The first ``blocks`` programs take channels, the
    others a step each.
    """
    pid = tl.program_id(0)
    plane = steps * channels
    if pid < blocks:
        c = pid * BC + tl.arange(0, BC)
        inside = c < channels
        of_factor = tl.zeros([BC], tl.float32)
        of_offset = tl.zeros([BC], tl.float32)
        for t in range(0, steps):
            g = tl.load(gain + t * gain_step)
            at = t * channels + c
            product = g * tl.load(totals + GAIN * plane + at, inside, other=0)
            shifted = g * tl.load(totals + SHIFT * plane + at, inside, other=0)
            if per_step > 0:
                tl.store(outer + at, product, inside)
                tl.store(outer + plane + at, shifted, inside)
            else:
                of_factor += product
                of_offset += shifted
        if per_step == 0:
            tl.store(outer + c, of_factor, inside)
            tl.store(outer + channels + c, of_offset, inside)
    else:
        t = pid - blocks
        for row in tl.static_range(ROWS):
            if row != SHIFT:
                total = tl.zeros([BC], tl.float32)
                for first in range(0, channels, BC):
                    c = first + tl.arange(0, BC)
                    inside = c < channels
                    at = t * channels + c
                    value = tl.load(totals + row * plane + at, inside, other=0)
                    if row == GAIN:
                        value *= tl.load(factor + t * per_step + c, inside, other=0)
                        shifted = tl.load(totals + SHIFT * plane + at, inside, other=0)
                        value += shifted * tl.load(offset + t * per_step + c, inside, other=0)
                    total += value
                tl.store(own + row * steps + t, tl.sum(total, axis=0))
