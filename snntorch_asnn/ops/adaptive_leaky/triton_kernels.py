"""The Triton kernels of the adaptive leaky neuron, over a sequence folded to ``[T, B, C, M]``.

A program takes a tile of ``BB`` samples, ``BC`` columns and ``BM`` inner neurons through all time steps, so
that the membrane stays in registers. A column is a coefficient, whose neurons are the inner ones; or, with
``SHARE``, a neuron, and ``SHARE`` columns side by side have a coefficient. The number of steps is an argument
at run time: loops over it are unrolled a fixed number of steps at a time, and steps past the end are masked.
With ``WHOLE`` the unrolled steps are all.

The arithmetic is that of ``adjoint.py``, which derives it. Spikes agree with the reference to the bit: every
product is rounded before it is added, as there.

A ``table`` holds the coefficients ``[T, 5 or 6, C]``, in the order of ``Coefficients``.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["backward_kernel", "forward_kernel"]


@triton.jit
def _product(a, b, ROUNDED: tl.constexpr):
    """``a * b``, which the compiler must not contract with an addition into one rounding."""
    if ROUNDED:
        return tl.inline_asm_elementwise(
            "mul.rn.f32 $0, $1, $2;", "=f,f,f", [a, b], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return a * b


@triton.jit
def _reciprocal(a, APPROXIMATE: tl.constexpr):
    """``1 / a``, within one unit in the last place."""
    if APPROXIMATE:
        return tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [a], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return 1 / a


@triton.jit
def _fires(membrane, threshold, AT_THRESHOLD: tl.constexpr):
    if AT_THRESHOLD:
        return membrane >= threshold
    else:
        return membrane > threshold


@triton.jit
def _surrogate(above, grad, SURROGATE: tl.constexpr, shape, PTX: tl.constexpr):
    """``grad`` times the surrogate's derivative at ``above``, the membrane less the threshold."""
    if SURROGATE == "atan":
        return grad * _reciprocal(2 / shape + (4.934802200544679 * shape) * (above * above), PTX)
    elif SURROGATE == "fast_sigmoid":
        root = shape * tl.abs(above) + 1
        return grad * _reciprocal(root * root, PTX)
    elif SURROGATE == "sigmoid":
        s = _reciprocal(1 + tl.exp(-shape * tl.abs(above)), PTX)
        return grad * (shape * s * (1 - s))
    elif SURROGATE == "triangular":
        height = tl.maximum(shape - tl.abs(above), 0.0, tl.PropagateNan.ALL)
        return grad * (height / (shape * shape))
    else:
        tl.static_assert(SURROGATE == "straight_through")
        return grad


@triton.jit
def _coefficients(table, t, num_steps, channels, k, HAS_SHIFT: tl.constexpr):
    """Those of step ``t`` numbered ``k``; zeros past the end. What a rule does not use is never loaded."""
    channels = tl.cast(channels, tl.int64)
    at = table + tl.cast(t, tl.int64) * ((5 + HAS_SHIFT) * channels) + k
    mask = (k < channels) & (t < num_steps)
    beta = tl.load(at, mask, other=0)
    gain = tl.load(at + channels, mask, other=0)
    threshold = tl.load(at + 2 * channels, mask, other=0)
    previous = tl.load(at + 3 * channels, mask, other=0)
    scale = tl.load(at + 4 * channels, mask, other=0)
    shift = beta
    if HAS_SHIFT:
        shift = tl.load(at + 5 * channels, mask, other=0)
    return beta, gain, threshold, previous, scale, shift


@triton.jit
def _settle(u, fired, reset, threshold, MECHANISM: tl.constexpr, RESET: tl.constexpr):
    """The membrane after the reset of this step, and the spikes it answers less those answered before."""
    now = fired.to(tl.float32)
    if RESET == "immediate":
        now -= reset.to(tl.float32)
    if RESET == "delayed" or MECHANISM == "none":
        return u, now
    elif MECHANISM == "subtract":
        return u - now * threshold, now
    elif RESET == "exact":
        return u * (1 - now), now
    else:
        return u - now * u, now


@triton.jit
def _integrate(
    x,
    before,
    beta,
    gain,
    shift,
    previous,
    MECHANISM: tl.constexpr,
    RESET: tl.constexpr,
    AT_THRESHOLD: tl.constexpr,
    HAS_SHIFT: tl.constexpr,
    PTX: tl.constexpr,
):
    """The membrane to compare with the threshold, and what the spike before reset of it."""
    reset = _fires(before, previous, AT_THRESHOLD)
    kept = before
    if RESET != "exact" and MECHANISM == "zero":
        # A product, since an infinite membrane times zero is NaN in the reference too.
        kept = (1 - reset.to(tl.float32)) * before
    current = _product(gain, x, PTX)
    if HAS_SHIFT:
        current += shift
    u = _product(beta, kept, PTX) + current
    if RESET != "exact" and MECHANISM == "subtract":
        u = tl.where(reset, u - previous, u)
    return u, reset, kept


@triton.jit
def _place(block_b, block_c, block_m, BB: tl.constexpr, BC: tl.constexpr, BM: tl.constexpr):
    """Samples, coefficients and neurons of a tile, in 64 bits: a step may have more than 2^31 of them."""
    b = tl.cast(block_b, tl.int64) * BB + tl.arange(0, BB)[:, None, None]
    c = tl.cast(block_c, tl.int64) * BC + tl.arange(0, BC)[None, :, None]
    m = tl.cast(block_m, tl.int64) * BM + tl.arange(0, BM)[None, None, :]
    return b, c, m


@triton.jit
def _inside(b, c, m, batch, channels, inner, ALIGNMENT: tl.constexpr, SHARE: tl.constexpr):
    """Which neurons of a tile there are, their coefficients' numbers, a sample's size and places within."""
    if SHARE:
        columns = tl.cast(inner, tl.int64) * ALIGNMENT
        return (b < batch) & (c < columns) & (m < 1), c // SHARE, columns, c + m
    else:
        shared = tl.cast(inner, tl.int64) * ALIGNMENT
        return (b < batch) & (c < channels) & (m < shared), c, channels * shared, c * shared + m


@triton.jit(do_not_specialize=["num_steps", "interval"])
def forward_kernel(
    x,
    mem,
    table,
    spikes,
    mem_out,
    checkpoints,
    num_steps,
    interval,
    batch,
    channels,
    inner,
    blocks_c,
    blocks_m,
    x_step,
    x_batch,
    ALIGNMENT: tl.constexpr,
    SHARE: tl.constexpr,
    BB: tl.constexpr,
    BC: tl.constexpr,
    BM: tl.constexpr,
    UNROLL: tl.constexpr,
    WHOLE: tl.constexpr,
    MECHANISM: tl.constexpr,
    RESET: tl.constexpr,
    AT_THRESHOLD: tl.constexpr,
    HAS_MEM: tl.constexpr,
    HAS_SHIFT: tl.constexpr,
    OUTPUT_MEM: tl.constexpr,
    LAST_MEM: tl.constexpr,
    CHECKPOINTS: tl.constexpr,
    PTX: tl.constexpr,
):
    """Reads ``x`` once and writes the spikes, and the membrane of every or of the last step if asked for.

    With ``CHECKPOINTS`` that is also every ``interval`` steps, a multiple of ``UNROLL``.
    """
    pid = tl.program_id(0)
    b, c, m = _place(pid // blocks_m // blocks_c, pid // blocks_m % blocks_c, pid % blocks_m, BB, BC, BM)
    valid, k, sample, inside = _inside(b, c, m, batch, channels, inner, ALIGNMENT, SHARE)
    at_x = x + (b * (tl.cast(x_batch, tl.int64) * ALIGNMENT) + inside)
    x_step = tl.cast(x_step, tl.int64) * ALIGNMENT
    at = b * sample + inside
    step = batch * sample
    if WHOLE:
        num_steps = UNROLL

    v = tl.zeros([BB, BC, BM], tl.float32)
    if HAS_MEM:
        v = tl.load(mem + at, valid, other=0)
    for first in range(0, num_steps, UNROLL):
        if CHECKPOINTS:
            due = (first > 0) & (first % interval == 0)
            tl.store(checkpoints + (first // interval - 1).to(tl.int64) * step + at, v, valid & due)
        inputs = ()
        for i in tl.static_range(UNROLL):
            t = first + i
            inputs += (tl.load(at_x + tl.cast(t, tl.int64) * x_step, valid & (t < num_steps), other=0),)
        for i in tl.static_range(UNROLL):
            t = first + i
            live = t < num_steps
            beta, gain, threshold, previous, scale, shift = _coefficients(
                table, t, num_steps, channels, k, HAS_SHIFT
            )
            u, reset, _ = _integrate(
                inputs[i].to(tl.float32),
                v,
                beta,
                gain,
                shift,
                previous,
                MECHANISM,
                RESET,
                AT_THRESHOLD,
                HAS_SHIFT,
                PTX,
            )
            fired = _fires(u, threshold, AT_THRESHOLD)
            after, _ = _settle(u, fired, reset, threshold, MECHANISM, RESET)
            v = tl.where(live, after, v)
            to = tl.cast(t, tl.int64) * step + at
            tl.store(spikes + to, tl.where(fired, scale, 0.0), valid & live)
            if OUTPUT_MEM:
                tl.store(mem_out + to, v, valid & live)
    if LAST_MEM:
        tl.store(mem_out + at, v, valid)


@triton.jit
def _recompute(
    at_x,
    v,
    table,
    first,
    num_steps,
    channels,
    k,
    x_step,
    valid,
    SEGMENT: tl.constexpr,
    MECHANISM: tl.constexpr,
    RESET: tl.constexpr,
    AT_THRESHOLD: tl.constexpr,
    HAS_SHIFT: tl.constexpr,
    PTX: tl.constexpr,
):
    """``SEGMENT`` steps from ``first`` on: the membrane after them, and every input and membrane before."""
    inputs = ()
    for i in tl.static_range(SEGMENT):
        t = first + i
        inputs += (tl.load(at_x + tl.cast(t, tl.int64) * x_step, valid & (t < num_steps), other=0),)
    starts = ()
    for i in tl.static_range(SEGMENT):
        beta, gain, threshold, previous, _, shift = _coefficients(
            table, first + i, num_steps, channels, k, HAS_SHIFT
        )
        starts += (v,)
        x = inputs[i].to(tl.float32)
        u, reset, _ = _integrate(
            x, v, beta, gain, shift, previous, MECHANISM, RESET, AT_THRESHOLD, HAS_SHIFT, PTX
        )
        v, _ = _settle(u, _fires(u, threshold, AT_THRESHOLD), reset, threshold, MECHANISM, RESET)
    return v, inputs, starts


@triton.jit
def _retreat(
    before,
    reset,
    u,
    fired,
    grad_fired,
    g,
    beta,
    threshold,
    previous,
    shape,
    SURROGATE: tl.constexpr,
    MECHANISM: tl.constexpr,
    RESET: tl.constexpr,
    CUTS_PREVIOUS: tl.constexpr,
    CUTS_CURRENT: tl.constexpr,
    PTX: tl.constexpr,
):
    """Gradients of one step's current, state, threshold and previous threshold: ``adjoint.retreat``."""
    grad_u = g
    grad_threshold = tl.zeros_like(g)
    grad_reset = tl.zeros_like(g)
    if RESET != "delayed" and MECHANISM != "none":
        _, now = _settle(u, fired, reset, threshold, MECHANISM, RESET)
        if MECHANISM == "subtract":
            grad_now = -threshold * g
            grad_threshold = -now * g
        else:
            grad_now = -u * g
            grad_u = (1 - now) * g
        if not CUTS_CURRENT:
            grad_fired += grad_now
        grad_reset = -grad_now
    grad_above = _surrogate(u - threshold, grad_fired, SURROGATE, shape, PTX)
    grad_u += grad_above
    grad_threshold -= grad_above
    grad_before = beta * grad_u
    grad_previous = tl.zeros_like(g)
    if RESET != "exact" and MECHANISM != "none":
        if MECHANISM == "subtract":
            grad_reset -= previous * grad_u
            grad_previous = -reset.to(tl.float32) * grad_u
        else:
            grad_reset -= beta * before * grad_u
            grad_before = (1 - reset.to(tl.float32)) * grad_before
        if not CUTS_PREVIOUS:
            crossing = _surrogate(before - previous, grad_reset, SURROGATE, shape, PTX)
            grad_before += crossing
            grad_previous -= crossing
    return grad_u, grad_before, grad_threshold, grad_previous


@triton.jit
def _reduce(at_sum, grad, slot: tl.constexpr, columns, mask):
    """Store the sum of ``grad`` over the neurons of each column of this tile."""
    if slot >= 0:
        total = tl.sum(tl.sum(grad, axis=2, keep_dims=True), axis=0, keep_dims=True)
        tl.store(at_sum + slot * columns, total, mask)


@triton.jit(do_not_specialize=["num_steps", "interval"])
def backward_kernel(
    x,
    mem,
    table,
    checkpoints,
    grad_spikes,
    grad_mem_out,
    grad_x,
    grad_mem,
    partials,
    num_steps,
    interval,
    batch,
    channels,
    inner,
    blocks_c,
    blocks_m,
    x_step,
    x_batch,
    ds_step,
    ds_batch,
    surrogate_shape,
    ALIGNMENT: tl.constexpr,
    SHARE: tl.constexpr,
    BB: tl.constexpr,
    BC: tl.constexpr,
    BM: tl.constexpr,
    UNROLL: tl.constexpr,
    SEGMENT: tl.constexpr,
    WHOLE: tl.constexpr,
    SURROGATE: tl.constexpr,
    MECHANISM: tl.constexpr,
    RESET: tl.constexpr,
    AT_THRESHOLD: tl.constexpr,
    CUTS_PREVIOUS: tl.constexpr,
    CUTS_CURRENT: tl.constexpr,
    HAS_MEM: tl.constexpr,
    HAS_SHIFT: tl.constexpr,
    HAS_GRAD_SPIKES: tl.constexpr,
    HAS_GRAD_TRACE: tl.constexpr,
    HAS_GRAD_LAST: tl.constexpr,
    CHECKPOINTS: tl.constexpr,
    GRAD_X: tl.constexpr,
    GRAD_MEM: tl.constexpr,
    ROWS: tl.constexpr,
    BETA: tl.constexpr,
    GAIN: tl.constexpr,
    THRESHOLD: tl.constexpr,
    PREVIOUS: tl.constexpr,
    SCALE: tl.constexpr,
    SHIFT: tl.constexpr,
    PTX: tl.constexpr,
):
    """Recomputes the membranes of one segment of steps, walks it back, and goes on to the one before.

    They stay in registers. A segment's start is recomputed too, from the last checkpoint before it:
    ``interval`` is a multiple of ``SEGMENT``, and that of ``UNROLL``.

    ``BETA`` to ``SHIFT`` are the rows of ``partials`` ``[programs, T, ROWS, columns]`` for the gradients
    of the coefficients, -1 where none is wanted.
    """
    pid = tl.program_id(0)
    block_b, block_c, block_m = pid // blocks_m // blocks_c, pid // blocks_m % blocks_c, pid % blocks_m
    b, c, m = _place(block_b, block_c, block_m, BB, BC, BM)
    valid, k, sample, inside = _inside(b, c, m, batch, channels, inner, ALIGNMENT, SHARE)
    columns = sample if SHARE else tl.cast(channels, tl.int64)
    at_x = x + (b * (tl.cast(x_batch, tl.int64) * ALIGNMENT) + inside)
    at_ds = grad_spikes + (b * (tl.cast(ds_batch, tl.int64) * ALIGNMENT) + inside)
    at = b * sample + inside
    step = batch * sample
    x_step = tl.cast(x_step, tl.int64) * ALIGNMENT
    ds_step = tl.cast(ds_step, tl.int64) * ALIGNMENT
    if WHOLE:
        num_steps = SEGMENT
        interval = SEGMENT
    # Compilers pass a number of Python as one of 64 bits, and all arithmetic with it would follow.
    shape = tl.cast(surrogate_shape, tl.float32)
    p = block_b * blocks_m + block_m

    g = tl.zeros([BB, BC, BM], tl.float32)
    if HAS_GRAD_LAST:
        g = tl.load(grad_mem_out + at, valid, other=0)
    segments = (num_steps + SEGMENT - 1) // SEGMENT
    for back in range(0, segments):
        segment = segments - 1 - back
        v = tl.zeros([BB, BC, BM], tl.float32)
        checkpoint = segment * SEGMENT // interval
        if HAS_MEM:
            v = tl.load(mem + at, valid & (checkpoint == 0), other=0)
        if CHECKPOINTS:
            saved = checkpoints + (checkpoint - 1).to(tl.int64) * step + at
            v += tl.load(saved, valid & (checkpoint > 0), other=0)
        if not WHOLE:
            for passed in range(checkpoint * (interval // SEGMENT), segment):
                v, _, _ = _recompute(
                    at_x,
                    v,
                    table,
                    passed * SEGMENT,
                    num_steps,
                    channels,
                    k,
                    x_step,
                    valid,
                    SEGMENT,
                    MECHANISM,
                    RESET,
                    AT_THRESHOLD,
                    HAS_SHIFT,
                    PTX,
                )
        _, inputs, starts = _recompute(
            at_x,
            v,
            table,
            segment * SEGMENT,
            num_steps,
            channels,
            k,
            x_step,
            valid,
            SEGMENT,
            MECHANISM,
            RESET,
            AT_THRESHOLD,
            HAS_SHIFT,
            PTX,
        )
        for group in tl.static_range(SEGMENT // UNROLL):
            spike_grads = ()
            for i in tl.static_range(UNROLL):
                t = segment * SEGMENT + (SEGMENT - 1 - group * UNROLL - i)
                if HAS_GRAD_SPIKES:
                    at_t = at_ds + tl.cast(t, tl.int64) * ds_step
                    spike_grads += (tl.load(at_t, valid & (t < num_steps), other=0),)
            for i in tl.static_range(UNROLL):
                t = segment * SEGMENT + (SEGMENT - 1 - group * UNROLL - i)
                live = t < num_steps
                wanted = (c < columns) & live
                to = tl.cast(t, tl.int64) * step + at
                at_sum = partials + ((tl.cast(p, tl.int64) * num_steps + t) * ROWS * columns + c)
                beta, gain, threshold, previous, scale, shift = _coefficients(
                    table, t, num_steps, channels, k, HAS_SHIFT
                )
                x_t = inputs[SEGMENT - 1 - group * UNROLL - i].to(tl.float32)
                before = starts[SEGMENT - 1 - group * UNROLL - i]
                # Once more, since keeping it as well would take a third register per neuron and step.
                u, reset, kept = _integrate(
                    x_t,
                    before,
                    beta,
                    gain,
                    shift,
                    previous,
                    MECHANISM,
                    RESET,
                    AT_THRESHOLD,
                    HAS_SHIFT,
                    PTX,
                )
                fired = _fires(u, threshold, AT_THRESHOLD)
                grad_fired = tl.zeros_like(g)
                if HAS_GRAD_SPIKES:
                    ds = spike_grads[i].to(tl.float32)
                    grad_fired = scale * ds
                    _reduce(at_sum, tl.where(fired, ds, 0.0), SCALE, columns, wanted)
                if HAS_GRAD_TRACE:
                    g += tl.load(grad_mem_out + to, valid & live, other=0)
                grad_u, grad_before, grad_threshold, grad_previous = _retreat(
                    before,
                    reset,
                    u,
                    fired,
                    grad_fired,
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
                if GRAD_X:
                    tl.store(grad_x + to, gain * grad_u, valid & live)
                _reduce(at_sum, kept * grad_u, BETA, columns, wanted)
                _reduce(at_sum, x_t * grad_u, GAIN, columns, wanted)
                _reduce(at_sum, grad_threshold, THRESHOLD, columns, wanted)
                _reduce(at_sum, grad_previous, PREVIOUS, columns, wanted)
                _reduce(at_sum, grad_u, SHIFT, columns, wanted)
                g = tl.where(live, grad_before, g)
    if GRAD_MEM:
        tl.store(grad_mem + at, g, valid)
