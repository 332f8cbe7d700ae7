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
def _coefficient(
    table, row: tl.constexpr, t, num_steps, rows: tl.constexpr, channels, k, VARYING: tl.constexpr
):
    """One coefficient of step ``t``, numbered ``k``, or one of all columns; zero past the end."""
    at = table + (tl.cast(t, tl.int64) * rows + row) * channels
    if VARYING >> row & 1:
        return tl.load(at + k, (k < channels) & (t < num_steps), other=0)
    else:
        # As a scalar, for which Triton need not choose a layout: with many loads that takes seconds.
        return tl.full([1, 1, 1], tl.load(at, t < num_steps, other=0), tl.float32)


@triton.jit
def _coefficients(table, t, num_steps, channels, k, HAS_SHIFT: tl.constexpr, VARYING: tl.constexpr):
    """Those of step ``t`` numbered ``k``; zeros past the end. What a rule does not use is never loaded.

    The bits of ``VARYING`` say which are not the same for all columns.
    """
    channels = tl.cast(channels, tl.int64)
    rows: tl.constexpr = 5 + HAS_SHIFT
    beta = _coefficient(table, 0, t, num_steps, rows, channels, k, VARYING)
    gain = _coefficient(table, 1, t, num_steps, rows, channels, k, VARYING)
    threshold = _coefficient(table, 2, t, num_steps, rows, channels, k, VARYING)
    previous = _coefficient(table, 3, t, num_steps, rows, channels, k, VARYING)
    scale = _coefficient(table, 4, t, num_steps, rows, channels, k, VARYING)
    shift = beta
    if HAS_SHIFT:
        shift = _coefficient(table, 5, t, num_steps, rows, channels, k, VARYING)
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
def _kept(before, previous, MECHANISM: tl.constexpr, RESET: tl.constexpr, AT_THRESHOLD: tl.constexpr):
    """Whether the spike before resets a membrane, and what a reset to zero leaves of it."""
    reset = _fires(before, previous, AT_THRESHOLD)
    kept = before
    if RESET != "exact" and MECHANISM == "zero":
        # A product, since an infinite membrane times zero is NaN in the reference too.
        kept = (1 - reset.to(tl.float32)) * before
    return reset, kept


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
    reset, kept = _kept(before, previous, MECHANISM, RESET, AT_THRESHOLD)
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
    VARYING: tl.constexpr,
    STORE_SPIKES: tl.constexpr,
    OUTPUT_MEM: tl.constexpr,
    LAST_MEM: tl.constexpr,
    CHECKPOINTS: tl.constexpr,
    PTX: tl.constexpr,
):
    """Reads ``x`` once and writes what is asked for: the spikes, the membrane of every or of the last step.

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
                table, t, num_steps, channels, k, HAS_SHIFT, VARYING
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
            if STORE_SPIKES:
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
    VARYING: tl.constexpr,
    PTX: tl.constexpr,
):
    """``SEGMENT`` steps from ``first`` on: the membrane after them, every input, and every membrane.

    Membranes are those compared with the threshold, from which those before the next step follow; or, where
    a reset depends on the one before, those before each step.
    """
    inputs = ()
    for i in tl.static_range(SEGMENT):
        t = first + i
        inputs += (tl.load(at_x + tl.cast(t, tl.int64) * x_step, valid & (t < num_steps), other=0),)
    membranes = ()
    for i in tl.static_range(SEGMENT):
        beta, gain, threshold, previous, _, shift = _coefficients(
            table, first + i, num_steps, channels, k, HAS_SHIFT, VARYING
        )
        x = inputs[i].to(tl.float32)
        u, reset, _ = _integrate(
            x, v, beta, gain, shift, previous, MECHANISM, RESET, AT_THRESHOLD, HAS_SHIFT, PTX
        )
        membranes += (v if RESET == "immediate" else u,)
        v, _ = _settle(u, _fires(u, threshold, AT_THRESHOLD), reset, threshold, MECHANISM, RESET)
    return v, inputs, membranes


@triton.jit
def _retreat(
    before,
    reset,
    lost,
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
    """Gradients of one step's membrane, state, threshold and previous threshold: ``adjoint.retreat``.

    ``lost`` is what a delayed reset to zero takes away from the membrane.
    """
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
            grad_reset -= lost * grad_u
            grad_before = (1 - reset.to(tl.float32)) * grad_before
        if not CUTS_PREVIOUS:
            crossing = _surrogate(before - previous, grad_reset, SURROGATE, shape, PTX)
            grad_before += crossing
            grad_previous -= crossing
    return grad_u, grad_before, grad_threshold, grad_previous


@triton.jit
def _reduce(partials, grad, mask):
    """Store the sum of ``grad`` over the neurons of each column of this tile."""
    total = tl.sum(tl.sum(grad, axis=2, keep_dims=True), axis=0, keep_dims=True)
    tl.store(partials, total, mask)


@triton.jit
def _walk_back(
    at_x,
    at_ds,
    at_trace,
    at_grad_x,
    start,
    g,
    sums,
    table,
    partials,
    first,
    num_steps,
    channels,
    columns,
    c,
    k,
    step,
    x_step,
    ds_step,
    valid,
    shape,
    UNROLL: tl.constexpr,
    SEGMENT: tl.constexpr,
    REPEATS: tl.constexpr,
    SURROGATE: tl.constexpr,
    MECHANISM: tl.constexpr,
    RESET: tl.constexpr,
    AT_THRESHOLD: tl.constexpr,
    CUTS_PREVIOUS: tl.constexpr,
    CUTS_CURRENT: tl.constexpr,
    HAS_SHIFT: tl.constexpr,
    VARYING: tl.constexpr,
    HAS_GRAD_SPIKES: tl.constexpr,
    HAS_GRAD_TRACE: tl.constexpr,
    GRAD_X: tl.constexpr,
    ROWS: tl.constexpr,
    BETA: tl.constexpr,
    GAIN: tl.constexpr,
    THRESHOLD: tl.constexpr,
    PREVIOUS: tl.constexpr,
    SCALE: tl.constexpr,
    SHIFT: tl.constexpr,
    PTX: tl.constexpr,
):
    """The gradient of the membrane before ``SEGMENT`` steps from that after them, and the sums with theirs.

    ``sums`` are those of every step, last step first, and its rows.
    """
    _, inputs, membranes = _recompute(
        at_x,
        start,
        table,
        first,
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
        VARYING,
        PTX,
    )
    summed = ()
    earlier = _coefficients(table, first + SEGMENT - 1, num_steps, channels, k, HAS_SHIFT, VARYING)
    for group in tl.static_range(SEGMENT // UNROLL):
        spike_grads = ()
        for i in tl.static_range(UNROLL):
            t = first + (SEGMENT - 1 - group * UNROLL - i)
            if HAS_GRAD_SPIKES:
                at_t = at_ds + tl.cast(t, tl.int64) * ds_step
                spike_grads += (tl.load(at_t, valid & (t < num_steps), other=0),)
        for i in tl.static_range(UNROLL):
            t = first + (SEGMENT - 1 - group * UNROLL - i)
            live = t < num_steps
            to = tl.cast(t, tl.int64) * step
            beta, gain, threshold, previous, scale, shift = earlier
            x_t = inputs[SEGMENT - 1 - group * UNROLL - i].to(tl.float32)
            u = membranes[SEGMENT - 1 - group * UNROLL - i]
            before = start
            if group * UNROLL + i < SEGMENT - 1:
                earlier = _coefficients(table, t - 1, num_steps, channels, k, HAS_SHIFT, VARYING)
                if RESET != "immediate":
                    above = membranes[SEGMENT - 2 - group * UNROLL - i]
                    fired_before = _fires(above, earlier[2], AT_THRESHOLD)
                    before, _ = _settle(above, fired_before, fired_before, earlier[2], MECHANISM, RESET)
            if RESET == "immediate":
                before = u
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
            else:
                reset, kept = _kept(before, previous, MECHANISM, RESET, AT_THRESHOLD)
            fired = _fires(u, threshold, AT_THRESHOLD)
            grad_fired = tl.zeros_like(g)
            ds = tl.zeros_like(g)
            if HAS_GRAD_SPIKES:
                ds = spike_grads[i].to(tl.float32)
                grad_fired = scale * ds
            if HAS_GRAD_TRACE:
                g += tl.load(at_trace + to, valid & live, other=0)
            grad_u, grad_before, grad_threshold, grad_previous = _retreat(
                before,
                reset,
                beta * before,
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
                tl.store(at_grad_x + to, gain * grad_u, valid & live)
            rows = ()
            if BETA >= 0:
                rows += (kept * grad_u,)
            if GAIN >= 0:
                rows += (x_t * grad_u,)
            if THRESHOLD >= 0:
                rows += (grad_threshold,)
            if PREVIOUS >= 0:
                rows += (grad_previous,)
            if SCALE >= 0:
                rows += (tl.where(fired, ds, 0.0),)
            if SHIFT >= 0:
                rows += (grad_u,)
            for row in tl.static_range(ROWS):
                if REPEATS:
                    summed += (sums[(group * UNROLL + i) * ROWS + row] + rows[row],)
                else:
                    at_sum = partials + (tl.cast(t, tl.int64) * ROWS + row) * columns
                    _reduce(at_sum, rows[row], (c < columns) & live)
            g = tl.where(live, grad_before, g)
    return g, summed


@triton.jit(do_not_specialize=["num_steps", "interval", "repeats"])
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
    repeats,
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
    REPEATS: tl.constexpr,
    ALONG: tl.constexpr,
    SURROGATE: tl.constexpr,
    MECHANISM: tl.constexpr,
    RESET: tl.constexpr,
    AT_THRESHOLD: tl.constexpr,
    CUTS_PREVIOUS: tl.constexpr,
    CUTS_CURRENT: tl.constexpr,
    HAS_MEM: tl.constexpr,
    HAS_SHIFT: tl.constexpr,
    VARYING: tl.constexpr,
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

    With ``REPEATS``, for a sequence of one segment, a program does so with ``repeats`` tiles ``ALONG`` the
    batch or the inner neurons, and sums their gradients per thread before it sums them over threads.

    They stay in registers. A segment's start is recomputed too, from the last checkpoint before it:
    ``interval`` is a multiple of ``SEGMENT``, and that of ``UNROLL``.

    ``BETA`` to ``SHIFT`` are the rows of ``partials`` ``[programs, T, ROWS, columns]`` for the gradients
    of the coefficients, -1 where none is wanted.
    """
    pid = tl.program_id(0)
    block_b, block_c, block_m = pid // blocks_m // blocks_c, pid // blocks_m % blocks_c, pid % blocks_m
    x_step = tl.cast(x_step, tl.int64) * ALIGNMENT
    ds_step = tl.cast(ds_step, tl.int64) * ALIGNMENT
    # Compilers pass a number of Python as one of 64 bits, and all arithmetic with it would follow.
    shape = tl.cast(surrogate_shape, tl.float32)
    if WHOLE:
        num_steps = SEGMENT
    if not REPEATS:
        repeats = 1
    p = tl.cast(block_b, tl.int64) * blocks_m + block_m
    sums = ()
    if REPEATS:
        for slot in tl.static_range(SEGMENT * ROWS):  # noqa: B007
            sums += (tl.zeros([BB, BC, BM], tl.float32),)
    for repeat in range(0, repeats):
        # The tiles of one program follow each other among the samples, or where there is but one, inside it.
        b, c, m = _place(
            block_b * repeats + repeat if ALONG == "batch" else block_b,
            block_c,
            block_m * repeats + repeat if ALONG == "inner" else block_m,
            BB,
            BC,
            BM,
        )
        valid, k, sample, inside = _inside(b, c, m, batch, channels, inner, ALIGNMENT, SHARE)
        columns = sample if SHARE else tl.cast(channels, tl.int64)
        at_x = x + (b * (tl.cast(x_batch, tl.int64) * ALIGNMENT) + inside)
        at_ds = grad_spikes + (b * (tl.cast(ds_batch, tl.int64) * ALIGNMENT) + inside)
        at = b * sample + inside
        step = batch * sample
        at_sum = partials + p * num_steps * ROWS * columns + c
        g = tl.zeros([BB, BC, BM], tl.float32)
        if HAS_GRAD_LAST:
            g = tl.load(grad_mem_out + at, valid, other=0)
        segments = (num_steps + SEGMENT - 1) // SEGMENT
        for back in range(0, segments):
            segment = segments - 1 - back
            v = tl.zeros([BB, BC, BM], tl.float32)
            if WHOLE:
                if HAS_MEM:
                    v = tl.load(mem + at, valid, other=0)
            else:
                checkpoint = segment * SEGMENT // interval
                if HAS_MEM:
                    v = tl.load(mem + at, valid & (checkpoint == 0), other=0)
                if CHECKPOINTS:
                    saved = checkpoints + tl.cast(checkpoint - 1, tl.int64) * step + at
                    v += tl.load(saved, valid & (checkpoint > 0), other=0)
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
                        VARYING,
                        PTX,
                    )
            g, sums = _walk_back(
                at_x,
                at_ds,
                grad_mem_out + at,
                grad_x + at,
                v,
                g,
                sums,
                table,
                at_sum,
                segment * SEGMENT,
                num_steps,
                channels,
                columns,
                c,
                k,
                step,
                x_step,
                ds_step,
                valid,
                shape,
                UNROLL,
                SEGMENT,
                REPEATS,
                SURROGATE,
                MECHANISM,
                RESET,
                AT_THRESHOLD,
                CUTS_PREVIOUS,
                CUTS_CURRENT,
                HAS_SHIFT,
                VARYING,
                HAS_GRAD_SPIKES,
                HAS_GRAD_TRACE,
                GRAD_X,
                ROWS,
                BETA,
                GAIN,
                THRESHOLD,
                PREVIOUS,
                SCALE,
                SHIFT,
                PTX,
            )
        if GRAD_MEM:
            tl.store(grad_mem + at, g, valid)
    if REPEATS:
        _, c, _ = _place(0, block_c, 0, BB, BC, BM)
        columns = tl.cast(inner, tl.int64) * ALIGNMENT if SHARE else tl.cast(channels, tl.int64)
        for i in tl.static_range(SEGMENT * ROWS):
            t = SEGMENT - 1 - i // ROWS
            at_sum = partials + ((p * num_steps + t) * ROWS + i % ROWS) * columns + c
            _reduce(at_sum, sums[i], (c < columns) & (t < num_steps))
