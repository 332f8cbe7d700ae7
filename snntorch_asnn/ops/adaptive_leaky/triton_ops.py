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

from snntorch_asnn.ops.adaptive_leaky.layout import Folding, fold
from snntorch_asnn.ops.adaptive_leaky.triton_kernels import backward_kernel, forward_kernel

__all__ = ["SEGMENT", "backward", "forward"]

SEGMENT = 8
"""Most steps whose inputs and membranes the backward kernel keeps in registers at a time."""

_UNSAVED = 32  # a sequence of up to so many steps saves no membranes
_NAMES = ("BETA", "GAIN", "THRESHOLD", "PREVIOUS", "SCALE", "SHIFT")
_INTERPRETED = not isinstance(forward_kernel, triton.runtime.JITFunction)
if _INTERPRETED:

    def wrap_triton(kernel: Callable[..., Any], /) -> Any:
        """``kernel`` itself: torch wraps interpreted ones only since 2.13."""
        return kernel
else:
    from torch.library import wrap_triton

_PTX = torch.version.hip is None and not _INTERPRETED


class _Tile(NamedTuple):
    """What one program takes of ``[B, C, M]``, all powers of two, and how many programs that makes."""

    batch: int
    channels: int
    inner: int
    blocks: tuple[int, int, int]


def _tile(sizes: Sequence[int], elements: int, reduces: bool) -> _Tile:
    """A tile of at most ``elements``, as contiguous as the sharing of coefficients allows.

    With ``reduces``, a tile covers several neurons of each coefficient, so that their sums are few.
    """
    batch, channels, inner = sizes
    most = _power_of_two(inner, elements)
    # A tile that sticks out wastes threads; one that is too narrow wastes bandwidth.
    widths = [w for w in (most, most // 2, most // 4) if w >= min(most, 32)]
    bm = next((w for w in widths if _padded(inner, w) <= 1.125 * inner), most)
    shared = max(elements // 32, 16 // bm, 1) if reduces else elements
    bc = _power_of_two(channels, min(elements // bm, shared))
    bb = _power_of_two(batch, elements // (bm * bc))
    bc = _power_of_two(channels, elements // (bm * bb))
    blocks = (triton.cdiv(batch, bb), triton.cdiv(channels, bc), triton.cdiv(inner, bm))
    return _Tile(bb, bc, bm, blocks)


def _power_of_two(size: int, most: int) -> int:
    """The smallest power of two that covers ``size``, or else the largest up to ``most``."""
    power = 1
    while 2 * power <= most and power < size:
        power *= 2
    return power


def _padded(size: int, block: int) -> int:
    return int(triton.cdiv(size, block) * block)


def _alignment(size: int) -> int:
    return next(a for a in (16, 8, 4, 2, 1) if size % a == 0)


def _folding(x: Tensor, feature_shape: Sequence[int]) -> Folding:
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


def _dense_samples(folded: Tensor) -> Tensor:
    """``[T, B, C, M]`` whose last two dimensions lie densely: a copy only where they do not."""
    _, _, channels, inner = folded.shape
    dense = (inner == 1 or folded.stride(3) == 1) and (channels == 1 or folded.stride(2) == inner)
    return folded if dense else folded.contiguous()


def _table(folding: Folding, coefficients: Sequence[Tensor | None]) -> Tensor:
    """The coefficients ``[T, 5 or 6, C]``."""
    return torch.stack([folding.parameter(c).squeeze(2) for c in coefficients if c is not None], dim=1)


def _interval(num_steps: int) -> int:
    """Steps from one saved membrane to the next: about the root of a long sequence's length."""
    if num_steps <= _UNSAVED:
        return _UNSAVED
    return max(16, _padded(math.isqrt(num_steps - 1) + 1, SEGMENT))


def _kept(num_steps: int, needs_grad: bool) -> int:
    return (num_steps - 1) // _interval(num_steps) if needs_grad else 0


def _outputs(
    x: Tensor, folding: Folding, output_mem: bool, needs_grad: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, membrane and checkpoints, all folded and yet to be filled."""
    num_steps = x.shape[0]
    steps = (num_steps,) if output_mem else ()
    kept = _kept(num_steps, needs_grad)
    spikes = x.new_empty((num_steps, *folding.folded))
    mem_out = x.new_empty((*steps, *folding.folded), dtype=torch.float32)
    checkpoints = x.new_empty((kept, *folding.folded) if kept else (0,), dtype=torch.float32)
    return spikes, mem_out, checkpoints


def _unfolded_mem(folding: Folding, mem: Tensor, output_mem: bool) -> Tensor:
    return folding.unfold(mem) if output_mem else folding.unfold_state(mem)


def _forward(
    x: Tensor,
    mem: Tensor | None,
    beta: Tensor,
    gain: Tensor,
    threshold: Tensor,
    previous_threshold: Tensor,
    scale: Tensor,
    shift: Tensor | None,
    reset_mechanism: str,
    reset: str,
    cuts_previous_reset: bool,
    cuts_current_reset: bool,
    surrogate: str,
    surrogate_shape: float,
    fires_at_threshold: bool,
    output_mem: bool,
    needs_grad: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    folding = _folding(x, beta.shape[1:])
    spikes, mem_out, checkpoints = _outputs(x, folding, output_mem, needs_grad)
    if x.numel():
        num_steps = x.shape[0]
        batch, channels, inner = folding.folded
        folded = _dense_samples(folding.sequence(x))
        warps = 4 if x.numel() // num_steps >= 1 << 19 else 1
        tile = _tile(folding.folded, warps * 32 * (16 // x.element_size()), reduces=False)
        alignment = _alignment(inner)
        with torch.cuda.device_of(x):
            wrap_triton(forward_kernel)[(math.prod(tile.blocks),)](
                folded,
                folded if mem is None else folding.state(mem).contiguous(),
                _table(folding, (beta, gain, threshold, previous_threshold, scale, shift)),
                spikes,
                mem_out,
                checkpoints,
                num_steps,
                _interval(num_steps),
                batch,
                channels,
                inner // alignment,
                tile.blocks[1],
                tile.blocks[2],
                folded.stride(0),
                folded.stride(1),
                ALIGNMENT=alignment,
                BB=tile.batch,
                BC=tile.channels,
                BM=tile.inner,
                UNROLL=_power_of_two(num_steps, 4),
                MECHANISM=reset_mechanism,
                RESET=reset,
                AT_THRESHOLD=fires_at_threshold,
                HAS_MEM=mem is not None,
                HAS_SHIFT=shift is not None,
                OUTPUT_MEM=output_mem,
                CHECKPOINTS=_kept(num_steps, needs_grad) > 0,
                PTX=_PTX,
                num_warps=warps,
            )
    return folding.unfold(spikes), _unfolded_mem(folding, mem_out, output_mem), checkpoints


def _backward(
    x: Tensor,
    mem: Tensor | None,
    beta: Tensor,
    gain: Tensor,
    threshold: Tensor,
    previous_threshold: Tensor,
    scale: Tensor,
    shift: Tensor | None,
    checkpoints: Tensor,
    grad_spikes: Tensor | None,
    grad_mem_out: Tensor | None,
    reset_mechanism: str,
    reset: str,
    cuts_previous_reset: bool,
    cuts_current_reset: bool,
    surrogate: str,
    surrogate_shape: float,
    fires_at_threshold: bool,
    output_mem: bool,
    wants: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``x``, of ``mem`` (each empty where not wanted), and ``[rows, *beta.shape]`` of the rest.

    ``wants`` says for x, mem and each coefficient whether its gradient is wanted; those have a row.
    """
    folding = _folding(x, beta.shape[1:])
    num_steps, (batch, channels, inner) = x.shape[0], folding.folded
    rows = sum(wants[2:])
    elements = 32 * (16 // x.element_size() if rows <= 2 or num_steps <= 4 else 4)
    warps = 1 if rows else 4
    tile = _tile(folding.folded, warps * elements, reduces=rows > 0)
    grad_x = x.new_empty((num_steps, *folding.folded) if wants[0] else (0,))
    grad_mem = x.new_empty(folding.folded if wants[1] else (0,), dtype=torch.float32)
    sums = x.new_empty((tile.blocks[0] * tile.blocks[2], num_steps, rows, channels), dtype=torch.float32)
    if x.numel():
        folded = _dense_samples(folding.sequence(x))
        ds = None if grad_spikes is None else _dense_samples(folding.sequence(grad_spikes))
        if grad_mem_out is not None:
            folded_grad = folding.sequence(grad_mem_out) if output_mem else folding.state(grad_mem_out)
            grad_mem_out = folded_grad.contiguous()
        alignment = _alignment(inner)
        segment = _power_of_two(num_steps, SEGMENT)
        slots = {name: sum(wants[2 : 2 + i]) if wants[2 + i] else -1 for i, name in enumerate(_NAMES)}
        with torch.cuda.device_of(x):
            wrap_triton(backward_kernel)[(math.prod(tile.blocks),)](
                folded,
                folded if mem is None else folding.state(mem).contiguous(),
                _table(folding, (beta, gain, threshold, previous_threshold, scale, shift)),
                checkpoints,
                folded if ds is None else ds,
                folded if grad_mem_out is None else grad_mem_out,
                grad_x,
                grad_mem,
                sums,
                num_steps,
                _interval(num_steps) if checkpoints.numel() else _padded(num_steps, SEGMENT),
                batch,
                channels,
                inner // alignment,
                tile.blocks[1],
                tile.blocks[2],
                folded.stride(0),
                folded.stride(1),
                0 if ds is None else ds.stride(0),
                0 if ds is None else ds.stride(1),
                surrogate_shape,
                ALIGNMENT=alignment,
                BB=tile.batch,
                BC=tile.channels,
                BM=tile.inner,
                UNROLL=min(segment, 4),
                SEGMENT=segment,
                SURROGATE=surrogate,
                MECHANISM=reset_mechanism,
                RESET=reset,
                AT_THRESHOLD=fires_at_threshold,
                CUTS_PREVIOUS=cuts_previous_reset,
                CUTS_CURRENT=cuts_current_reset,
                HAS_MEM=mem is not None,
                HAS_SHIFT=shift is not None,
                HAS_GRAD_SPIKES=ds is not None,
                HAS_GRAD_TRACE=grad_mem_out is not None and output_mem,
                HAS_GRAD_LAST=grad_mem_out is not None and not output_mem,
                CHECKPOINTS=checkpoints.numel() > 0,
                GRAD_X=wants[0],
                GRAD_MEM=wants[1],
                ROWS=rows,
                PTX=_PTX,
                num_warps=warps,
                **slots,
            )
    grads = folding.unfold_parameter_gradient(sums.sum(0).movedim(1, 0), beta.shape[1:])
    return (
        folding.unfold(grad_x) if wants[0] else grad_x,
        folding.unfold_state(grad_mem) if wants[1] else grad_mem,
        grads,
    )


def _forward_shapes(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    x, beta, output_mem, needs_grad = arguments[0], arguments[2], *arguments[-2:]
    folding = _folding(x, beta.shape[1:])
    spikes, mem_out, checkpoints = _outputs(x, folding, output_mem, needs_grad)
    return folding.unfold(spikes), _unfolded_mem(folding, mem_out, output_mem), checkpoints


def _backward_shapes(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    x, beta, wants = arguments[0], arguments[2], arguments[-1]
    folding = _folding(x, beta.shape[1:])
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

_TENSORS = 8  # x, mem and the coefficients


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *_, checkpoints = output
    ctx.options = inputs[_TENSORS:-1]
    ctx.save_for_backward(*inputs[:_TENSORS], checkpoints)
    ctx.set_materialize_grads(False)


def _differentiate(
    ctx: Any, grad_spikes: Tensor | None, grad_mem_out: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    wants = ctx.needs_input_grad[:_TENSORS]
    grad_spikes, grad_mem_out = (g if g is None else g.resolve_neg() for g in (grad_spikes, grad_mem_out))
    grad_x, grad_mem, rows = backward(
        *ctx.saved_tensors, grad_spikes, grad_mem_out, *ctx.options, list(wants)
    )
    remaining = iter(rows.unbind(0))
    return (
        grad_x if wants[0] else None,
        grad_mem if wants[1] else None,
        *(next(remaining) if want else None for want in wants[2:]),
        *(None for _ in (*ctx.options, "needs_grad")),
    )


forward.register_autograd(_differentiate, setup_context=_setup_context)
