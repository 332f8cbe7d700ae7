"""The kernels as two operators of PyTorch, which autograd and ``torch.compile`` see through.

Whatever the memory format, they see ``[T, B, C, M]``: see ``layout.py``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from torch.library import custom_op, triton_op

from snntorch_asnn.ops._adaptive_leaky import autograd
from snntorch_asnn.ops._adaptive_leaky.layout import Folding, fold
from snntorch_asnn.ops._adaptive_leaky.rule import RuleOptions, options_of
from snntorch_asnn.ops._adaptive_leaky.triton.kernels import backward_kernel, forward_kernel
from snntorch_asnn.ops._adaptive_leaky.triton.tiles import (
    SEGMENT,
    alignment,
    backward_tile,
    forward_tile,
    geometry,
    repeats,
)
from snntorch_asnn.ops._triton.launch import Launch

__all__ = [
    "PTX",
    "Incoming",
    "backward",
    "backward_launch",
    "dense_samples",
    "folding_of",
    "forward",
    "forward_launch",
    "kept_membranes",
    "sums_by_coefficient",
    "varying",
]

_UNSAVED = 32  # a sequence of up to so many steps saves no membranes
_NAMES = ("BETA", "GAIN", "THRESHOLD", "PREVIOUS", "SCALE", "SHIFT")
_INTERPRETED = not isinstance(forward_kernel, triton.runtime.JITFunction)
if _INTERPRETED:

    def wrap_triton(kernel: Callable[..., Any], /) -> Any:
        """``kernel`` itself: torch wraps interpreted ones only since 2.13."""
        return kernel
else:
    from torch.library import wrap_triton

PTX = torch.version.hip is None and not _INTERPRETED


def _padded(size: int, block: int) -> int:
    return -(-size // block) * block


def folding_of(x: Tensor, feature_shape: Sequence[int]) -> Folding:
    """The folding of ``x``; with one set of coefficients, a batch only of what is not dense in memory."""
    folding = fold(x, tuple(feature_shape))
    if folding.folded[1] != 1:
        return folding
    dense = 1
    for d in reversed(folding.order):
        if x.shape[d + 1] != 1 and x.stride(d + 1) != dense:
            break
        dense *= x.shape[d + 1]
    total = math.prod(folding.folded)
    return dataclasses.replace(folding, folded=(total // dense if total else 0, 1, dense))


def dense_samples(folded: Tensor) -> Tensor:
    """``[T, B, C, M]`` whose last two dimensions lie densely: a copy only where they do not."""
    _, _, channels, inner = folded.shape
    dense = (inner == 1 or folded.stride(3) == 1) and (channels == 1 or folded.stride(2) == inner)
    return folded if dense else folded.contiguous()


def _table(folding: Folding, coefficients: Sequence[Tensor]) -> Tensor:
    """The coefficients ``[T, 5 or 6, C]``."""
    return torch.stack([folding.parameter(c).squeeze(2) for c in coefficients], dim=1)


def _interval(num_steps: int) -> int:
    """Steps from one saved membrane to the next: about the root of a long sequence's length."""
    if num_steps <= _UNSAVED:
        return _UNSAVED
    return max(16, _padded(math.isqrt(num_steps - 1) + 1, SEGMENT))


def varying(coefficients: Sequence[Tensor]) -> int:
    """A bit for each coefficient that is not the same for all neurons of a step, at least by its strides."""
    bits = 0
    for i, coefficient in enumerate(coefficients):
        bits |= (coefficient.numel() != coefficient.shape[0] and any(coefficient.stride()[1:])) << i
    return bits


def kept_membranes(num_steps: int, needs_grad: bool) -> int:
    """How many membranes a forward pass saves for its backward pass."""
    return (num_steps - 1) // _interval(num_steps) if needs_grad else 0


def _outputs(
    x: Tensor, folding: Folding, output_mem: bool, keep_mem: bool, keep_spikes: bool, needs_grad: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, membrane and checkpoints, all folded and yet to be filled."""
    num_steps = x.shape[0]
    steps = (num_steps,) if output_mem else ()
    kept = kept_membranes(num_steps, needs_grad)
    spikes = x.new_empty((num_steps, *folding.folded) if keep_spikes else (0,))
    mem_out = x.new_empty((*steps, *folding.folded) if keep_mem else (0,), dtype=torch.float32)
    checkpoints = x.new_empty((kept, *folding.folded) if kept else (0,), dtype=torch.float32)
    return spikes, mem_out, checkpoints


def _unfolded(
    folding: Folding, spikes: Tensor, mem: Tensor, output_mem: bool, keep_mem: bool, keep_spikes: bool
) -> tuple[Tensor, Tensor]:
    """Spikes and membrane in the shape of the input; one that is dropped stays empty."""
    if keep_mem:
        mem = folding.unfold(mem) if output_mem else folding.unfold_state(mem)
    return folding.unfold(spikes) if keep_spikes else spikes, mem


def forward_launch(
    num_steps: int,
    folded: tuple[int, int, int],
    strides: Sequence[int],
    element_size: int,
    rule: RuleOptions,
    *,
    has_mem: bool,
    has_shift: bool,
    varying: int,
    output_mem: bool,
    keep_mem: bool,
    keep_spikes: bool,
    needs_grad: bool,
) -> Launch:
    """How the forward kernel runs over ``[T, B, C, M]`` with the given strides of T and B."""
    sizes = geometry(folded, element_size)
    tile = forward_tile(sizes, num_steps, element_size)
    blocks, unit = tile.blocks(sizes), alignment(sizes.contiguous, *strides)
    numbers = (
        num_steps,
        _interval(num_steps),
        sizes.batch,
        folded[1],
        sizes.contiguous // unit,
        *blocks[1:],
        *(stride // unit for stride in strides),
    )
    constants = {
        "ALIGNMENT": unit,
        "SHARE": sizes.share,
        "BB": tile.batch,
        "BC": tile.columns,
        "BM": tile.inner,
        "UNROLL": tile.steps,
        "WHOLE": tile.steps == num_steps,
        "MECHANISM": rule.mechanism,
        "RESET": rule.reset,
        "AT_THRESHOLD": rule.fires_at_threshold,
        "HAS_MEM": has_mem,
        "HAS_SHIFT": has_shift,
        "VARYING": varying,
        "STORE_SPIKES": keep_spikes,
        "OUTPUT_MEM": output_mem and keep_mem,
        "LAST_MEM": keep_mem and not output_mem,
        "CHECKPOINTS": kept_membranes(num_steps, needs_grad) > 0,
        "PTX": PTX,
        "num_warps": tile.warps,
    }
    return Launch((math.prod(blocks),), numbers, constants)


def _forward(
    x: Tensor,
    mem: Tensor | None,
    coefficients: Sequence[Tensor],
    key: str,
    output_mem: bool,
    keep_mem: bool,
    keep_spikes: bool,
    needs_grad: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    folding = folding_of(x, coefficients[0].shape[1:])
    spikes, mem_out, checkpoints = _outputs(x, folding, output_mem, keep_mem, keep_spikes, needs_grad)
    if x.numel():
        folded = dense_samples(folding.sequence(x))
        how = forward_launch(
            x.shape[0],
            folding.folded,
            folded.stride()[:2],
            x.element_size(),
            options_of(key),
            has_mem=mem is not None,
            has_shift=len(coefficients) > 5,
            varying=varying(coefficients),
            output_mem=output_mem,
            keep_mem=keep_mem,
            keep_spikes=keep_spikes,
            needs_grad=needs_grad,
        )
        with torch.cuda.device_of(x):
            wrap_triton(forward_kernel)[how.grid](
                folded,
                folded if mem is None else folding.state(mem).contiguous(),
                _table(folding, coefficients),
                spikes,
                mem_out,
                checkpoints,
                *how.numbers,
                **how.constants,
            )
    return *_unfolded(folding, spikes, mem_out, output_mem, keep_mem, keep_spikes), checkpoints


def sums_by_coefficient(sums: Tensor, folding: Folding) -> Tensor:
    """Partial sums ``[programs, T, rows, columns]`` as ``[programs, T, rows, C, columns of one]``."""
    return sums.reshape(*sums.shape[:3], folding.folded[1], sums.shape[3] // folding.folded[1])


class Incoming(NamedTuple):
    """Which gradients arrive in a backward pass, and the strides of T and B of the spikes'."""

    spikes: Sequence[int] | None
    last: bool
    trace: bool


def backward_launch(
    num_steps: int,
    folded: tuple[int, int, int],
    strides: Sequence[int],
    element_size: int,
    rule: RuleOptions,
    incoming: Incoming,
    wants: Sequence[bool],
    *,
    has_mem: bool,
    has_shift: bool,
    varying: int,
    has_checkpoints: bool,
) -> tuple[Launch, tuple[int, int, int, int]]:
    """How the backward kernel runs, and the shape ``[programs, T, rows, columns]`` of its partial sums.

    ``wants`` says for x, mem and each coefficient whether its gradient is wanted.
    """
    rows = sum(wants[2:])
    sizes = geometry(folded, element_size)
    tile = backward_tile(sizes, num_steps, element_size, rows)
    strides = (*strides, *(incoming.spikes or (0, 0)))
    blocks, unit = tile.blocks(sizes), alignment(sizes.contiguous, *strides)
    along, repeated = repeats(sizes, tile, num_steps, rows)
    if along == "batch":
        blocks = -(-blocks[0] // repeated), *blocks[1:]
    elif along == "inner":
        blocks = *blocks[:2], -(-blocks[2] // repeated)
    slots = {name: sum(wants[2 : 2 + i]) if wants[2 + i] else -1 for i, name in enumerate(_NAMES)}
    numbers = (
        num_steps,
        _interval(num_steps) if has_checkpoints else _padded(num_steps, tile.steps),
        repeated,
        sizes.batch,
        folded[1],
        sizes.contiguous // unit,
        *blocks[1:],
        *(stride // unit for stride in strides),
        rule.surrogate_shape,
    )
    constants = {
        "ALIGNMENT": unit,
        "SHARE": sizes.share,
        "BB": tile.batch,
        "BC": tile.columns,
        "BM": tile.inner,
        "UNROLL": min(tile.steps, 4),
        "SEGMENT": tile.steps,
        "WHOLE": tile.steps == num_steps,
        "REPEATS": along != "",
        "ALONG": along,
        "SURROGATE": rule.surrogate,
        "MECHANISM": rule.mechanism,
        "RESET": rule.reset,
        "AT_THRESHOLD": rule.fires_at_threshold,
        "CUTS_PREVIOUS": rule.cuts_previous_reset,
        "CUTS_CURRENT": rule.cuts_current_reset,
        "HAS_MEM": has_mem,
        "HAS_SHIFT": has_shift,
        "VARYING": varying,
        "HAS_GRAD_SPIKES": incoming.spikes is not None,
        "HAS_GRAD_TRACE": incoming.trace,
        "HAS_GRAD_LAST": incoming.last,
        "CHECKPOINTS": has_checkpoints,
        "GRAD_X": wants[0],
        "GRAD_MEM": wants[1],
        "ROWS": rows,
        **slots,
        "PTX": PTX,
        "num_warps": tile.warps,
    }
    programs: Any = blocks[0] * blocks[2]
    # One more, of zeros, so that a compiler that keeps the batch open need not ask whether there is but one.
    partials = programs if isinstance(programs, int) else programs + 1, num_steps, rows, sizes.columns
    return Launch((math.prod(blocks),), numbers, constants), partials


def _backward(
    x: Tensor,
    mem: Tensor | None,
    coefficients: Sequence[Tensor],
    kept: Sequence[Tensor],
    grad_spikes: Tensor | None,
    grad_mem_out: Tensor | None,
    key: str,
    output_mem: bool,
    wants: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``x``, of ``mem`` (each empty where not wanted), and ``[rows, *beta.shape]`` of the rest.

    ``wants`` says for x, mem and each coefficient whether its gradient is wanted; those have a row. ``kept``
    are the membranes that the forward pass has saved.
    """
    (checkpoints,), beta = kept, coefficients[0]
    folding = folding_of(x, beta.shape[1:])
    folded = dense_samples(folding.sequence(x))
    ds = None if grad_spikes is None else dense_samples(folding.sequence(grad_spikes))
    has_grad_mem = grad_mem_out is not None
    incoming = Incoming(
        None if ds is None else ds.stride()[:2], has_grad_mem and not output_mem, has_grad_mem and output_mem
    )
    how, partials = backward_launch(
        x.shape[0],
        folding.folded,
        folded.stride()[:2],
        x.element_size(),
        options_of(key),
        incoming,
        wants,
        has_mem=mem is not None,
        has_shift=len(coefficients) > 5,
        varying=varying(coefficients),
        has_checkpoints=checkpoints.numel() > 0,
    )
    grad_x = x.new_empty((x.shape[0], *folding.folded) if wants[0] else (0,))
    grad_mem = x.new_empty(folding.folded if wants[1] else (0,), dtype=torch.float32)
    programs: Any = partials[0]
    new = x.new_empty if isinstance(programs, int) else x.new_zeros
    sums = new(partials, dtype=torch.float32)
    if x.numel():
        if grad_mem_out is not None:
            folded_grad = folding.sequence(grad_mem_out) if output_mem else folding.state(grad_mem_out)
            grad_mem_out = folded_grad.contiguous()
        with torch.cuda.device_of(x):
            wrap_triton(backward_kernel)[how.grid](
                folded,
                folded if mem is None else folding.state(mem).contiguous(),
                _table(folding, coefficients),
                checkpoints,
                folded if ds is None else ds,
                folded if grad_mem_out is None else grad_mem_out,
                grad_x,
                grad_mem,
                sums,
                *how.numbers,
                **how.constants,
            )
    totals = sums_by_coefficient(sums, folding).sum((0, -1)).movedim(1, 0)
    grads = folding.unfold_parameter_gradient(totals, beta.shape[1:])
    return (
        folding.unfold(grad_x) if wants[0] else grad_x,
        folding.unfold_state(grad_mem) if wants[1] else grad_mem,
        grads,
    )


def _forward_shapes(
    x: Tensor,
    mem: Tensor | None,
    coefficients: Sequence[Tensor],
    key: str,
    output_mem: bool,
    keep_mem: bool,
    keep_spikes: bool,
    needs_grad: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    folding = folding_of(x, coefficients[0].shape[1:])
    spikes, mem_out, checkpoints = _outputs(x, folding, output_mem, keep_mem, keep_spikes, needs_grad)
    return *_unfolded(folding, spikes, mem_out, output_mem, keep_mem, keep_spikes), checkpoints


def _backward_shapes(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    x, beta, wants = arguments[0], arguments[2][0], arguments[-1]
    folding = folding_of(x, beta.shape[1:])
    grad_x, grad_mem = x.new_empty(0), x.new_empty(0, dtype=torch.float32)
    if wants[0]:
        grad_x = folding.unfold(x.new_empty((x.shape[0], *folding.folded)))
    if wants[1]:
        grad_mem = folding.unfold_state(x.new_empty(folding.folded, dtype=torch.float32))
    return grad_x, grad_mem, beta.new_empty((sum(wants[2:]), *beta.shape))


def _operator(name: str, function: Callable[..., Any], shapes: Callable[..., Any]) -> Any:
    """``function`` as an operator that compilers trace into, or leave alone if Triton interprets it."""
    if not _INTERPRETED:
        return triton_op(name, function, mutates_args=())
    operator = custom_op(name, function, mutates_args=())
    operator.register_fake(shapes)
    return operator


forward = _operator("snntorch_asnn::adaptive_leaky", _forward, _forward_shapes)
backward = _operator("snntorch_asnn::adaptive_leaky_backward", _backward, _backward_shapes)
autograd.register("snntorch_asnn::adaptive_leaky", backward)
