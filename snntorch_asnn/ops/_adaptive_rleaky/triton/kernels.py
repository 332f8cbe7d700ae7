"""The Triton kernels of ``step.py``, of parts of the leaky neuron's."""

from __future__ import annotations

import triton
import triton.language as tl

from snntorch_asnn.ops._adaptive_leaky.triton.kernels import (
    _coefficients,
    _fires,
    _inside,
    _place,
    _product,
    _reduce,
    _retreat,
    _settle,
)

__all__ = ["recurrent_backward_kernel", "recurrent_forward_kernel"]


@triton.jit
def _charge(
    x,
    fed,
    before,
    beta,
    gain,
    previous,
    MECHANISM: tl.constexpr,
    RESET: tl.constexpr,
    AT_THRESHOLD: tl.constexpr,
    PTX: tl.constexpr,
):
    """The membrane to compare with the threshold, that before a delayed reset, and whether there is one."""
    reset = _fires(before, previous, AT_THRESHOLD)
    charged = _product(beta, before, PTX) + _product(gain, x, PTX) + fed
    u = charged
    if RESET != "exact" and MECHANISM == "subtract":
        u = tl.where(reset, charged - previous, charged)
    elif RESET != "exact" and MECHANISM == "zero":
        # A product, since an infinite membrane becomes NaN in the reference too.
        u = charged - reset.to(tl.float32) * charged
    return u, charged, reset


@triton.jit
def recurrent_forward_kernel(
    x,
    feedback,
    mem,
    table,
    spikes,
    mem_out,
    batch,
    channels,
    inner,
    blocks_c,
    blocks_m,
    x_batch,
    ALIGNMENT: tl.constexpr,
    SHARE: tl.constexpr,
    BB: tl.constexpr,
    BC: tl.constexpr,
    BM: tl.constexpr,
    MECHANISM: tl.constexpr,
    RESET: tl.constexpr,
    AT_THRESHOLD: tl.constexpr,
    VARYING: tl.constexpr,
    PTX: tl.constexpr,
):
    """Spikes and membrane of one step."""
    pid = tl.program_id(0)
    b, c, m = _place(pid // blocks_m // blocks_c, pid // blocks_m % blocks_c, pid % blocks_m, BB, BC, BM)
    valid, k, sample, inside = _inside(b, c, m, batch, channels, inner, ALIGNMENT, SHARE)
    at = b * sample + inside
    x_t = tl.load(x + (b * (tl.cast(x_batch, tl.int64) * ALIGNMENT) + inside), valid, other=0).to(tl.float32)
    fed = tl.load(feedback + at, valid, other=0).to(tl.float32)
    before = tl.load(mem + at, valid, other=0)
    beta, gain, threshold, previous, scale, _ = _coefficients(table, 0, 1, channels, k, False, VARYING)
    u, _, reset = _charge(x_t, fed, before, beta, gain, previous, MECHANISM, RESET, AT_THRESHOLD, PTX)
    fired = _fires(u, threshold, AT_THRESHOLD)
    after, _ = _settle(u, fired, reset, threshold, MECHANISM, RESET)
    tl.store(spikes + at, tl.where(fired, scale, 0.0), valid)
    tl.store(mem_out + at, after, valid)


@triton.jit
def recurrent_backward_kernel(
    x,
    feedback,
    mem,
    table,
    grad_spikes,
    grad_mem_out,
    grad_x,
    grad_feedback,
    grad_mem,
    partials,
    batch,
    channels,
    inner,
    blocks_c,
    blocks_m,
    x_batch,
    surrogate_shape,
    ALIGNMENT: tl.constexpr,
    SHARE: tl.constexpr,
    BB: tl.constexpr,
    BC: tl.constexpr,
    BM: tl.constexpr,
    SURROGATE: tl.constexpr,
    MECHANISM: tl.constexpr,
    RESET: tl.constexpr,
    AT_THRESHOLD: tl.constexpr,
    CUTS_PREVIOUS: tl.constexpr,
    CUTS_CURRENT: tl.constexpr,
    VARYING: tl.constexpr,
    HAS_GRAD_SPIKES: tl.constexpr,
    HAS_GRAD_MEM: tl.constexpr,
    GRAD_X: tl.constexpr,
    GRAD_FEEDBACK: tl.constexpr,
    GRAD_MEM: tl.constexpr,
    WANTED: tl.constexpr,
    ROWS: tl.constexpr,
    PTX: tl.constexpr,
):
    """Recomputes the membrane and writes the gradients of all that came in.

    The bits of ``WANTED`` say which coefficients have a row of ``partials`` ``[programs, 1, ROWS, columns]``.
    """
    pid = tl.program_id(0)
    block_b, block_c, block_m = pid // blocks_m // blocks_c, pid // blocks_m % blocks_c, pid % blocks_m
    b, c, m = _place(block_b, block_c, block_m, BB, BC, BM)
    valid, k, sample, inside = _inside(b, c, m, batch, channels, inner, ALIGNMENT, SHARE)
    columns = sample if SHARE else tl.cast(channels, tl.int64)
    at = b * sample + inside
    shape = tl.cast(surrogate_shape, tl.float32)
    x_t = tl.load(x + (b * (tl.cast(x_batch, tl.int64) * ALIGNMENT) + inside), valid, other=0).to(tl.float32)
    fed = tl.load(feedback + at, valid, other=0).to(tl.float32)
    before = tl.load(mem + at, valid, other=0)
    beta, gain, threshold, previous, scale, _ = _coefficients(table, 0, 1, channels, k, False, VARYING)
    u, charged, reset = _charge(x_t, fed, before, beta, gain, previous, MECHANISM, RESET, AT_THRESHOLD, PTX)
    fired = _fires(u, threshold, AT_THRESHOLD)
    ds = tl.zeros([BB, BC, BM], tl.float32)
    g = tl.zeros([BB, BC, BM], tl.float32)
    if HAS_GRAD_SPIKES:
        ds = tl.load(grad_spikes + at, valid, other=0).to(tl.float32)
    if HAS_GRAD_MEM:
        g = tl.load(grad_mem_out + at, valid, other=0)
    grad_u, grad_before, grad_threshold, grad_previous = _retreat(
        before,
        reset,
        charged,
        u,
        fired,
        scale * ds,
        g,
        beta,
        threshold,
        previous,
        shape,
        SURROGATE,
        MECHANISM,
        RESET,
        CUTS_PREVIOUS,
        CUTS_CURRENT,
        PTX,
    )
    grad_charged = grad_u
    if RESET != "exact" and MECHANISM == "zero":
        grad_charged = (1 - reset.to(tl.float32)) * grad_u
    if GRAD_X:
        tl.store(grad_x + at, gain * grad_charged, valid)
    if GRAD_FEEDBACK:
        tl.store(grad_feedback + at, grad_charged, valid)
    if GRAD_MEM:
        tl.store(grad_mem + at, grad_before, valid)
    rows = ()
    if WANTED & 1:
        rows += (before * grad_charged,)
    if WANTED & 2:
        rows += (x_t * grad_charged,)
    if WANTED & 4:
        rows += (grad_threshold,)
    if WANTED & 8:
        rows += (grad_previous,)
    if WANTED & 16:
        rows += (tl.where(fired, ds, 0.0),)
    p = tl.cast(block_b, tl.int64) * blocks_m + block_m
    for row in tl.static_range(ROWS):
        _reduce(partials + (p * ROWS + row) * columns + c, rows[row], c < columns)
