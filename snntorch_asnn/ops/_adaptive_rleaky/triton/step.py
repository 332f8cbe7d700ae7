"""One step of the adaptive recurrent leaky neuron in one kernel forward and one backward, on a GPU."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor

from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
from snntorch_asnn.ops._adaptive_leaky.rule import Rule, RuleOptions, options_of
from snntorch_asnn.ops._adaptive_leaky.triton.eager import View, varying_in
from snntorch_asnn.ops._adaptive_leaky.triton.operators import PTX
from snntorch_asnn.ops._adaptive_leaky.triton.tiles import (
    Geometry,
    Tile,
    alignment,
    backward_tile,
    forward_tile,
    geometry,
)
from snntorch_asnn.ops._adaptive_rleaky.triton.kernels import (
    recurrent_backward_kernel,
    recurrent_forward_kernel,
)
from snntorch_asnn.ops._first_derivative import first_derivative_only
from snntorch_asnn.ops._spike_origin import Worth
from snntorch_asnn.ops._triton.launch import Launch, Prepared

__all__ = ["backward_launch", "forward_launch", "step"]

_SCALE = 3 + Coefficients._fields.index("scale")


def step(
    x: Tensor, feedback: Tensor, mem: Tensor, coefficients: Coefficients, rule: Rule
) -> tuple[Tensor, Tensor]:
    """Spikes in the dtype of ``x``, and the membrane after the step.

    Args:
        x: input ``[B, ...]``, float32 or a half precision.
        feedback: what is added to the charged membrane, of the same shape and any of these dtypes.
        mem: membrane before the step, of the same shape, float32.
        coefficients: ``[1, *features]`` each, without ``shift``.
        rule: one that is fusable.
    """
    spikes, after = _Step.apply(x, feedback, mem, *coefficients[:5], options_of(rule.key))
    return spikes, after


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        x, feedback, mem, *given, rule = inputs
        own = Coefficients(*given)
        x = x.resolve_neg()[None]
        view = View.of(x.shape, x.stride(), own.feature_shape)
        feedback, mem = view.state(feedback.resolve_neg()), view.state(mem.resolve_neg())
        table, varying = view.table(own.given), varying_in(view, own)
        spikes, after = view.empty_state(x.device, x.dtype), view.empty_state(x.device)
        launch = _forward_of(view, x.dtype, feedback.dtype, rule, varying)
        launch(view.sequence(x), feedback, mem, table, spikes, after)
        ctx.set_materialize_grads(False)
        ctx.view, ctx.rule, ctx.varying = view, rule, varying
        if not (any(own.scale.stride()) or ctx.needs_input_grad[_SCALE]):
            ctx.spike_worth = Worth(own.scale.detach(), x.dtype)
        ctx.save_for_backward(x, feedback, mem, table)
        return spikes, after

    @staticmethod
    @first_derivative_only("impl='auto', whose backward pass on a GPU is a kernel,", "impl='reference'")
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        x, feedback, mem, table = ctx.saved_tensors
        view: View = ctx.view
        wants = ctx.needs_input_grad[:8]
        grads = [None if grad is None else view.state(grad.resolve_neg()) for grad in grad_outputs]
        incoming = tuple(grad is not None for grad in grads)
        dtypes = x.dtype, feedback.dtype
        launch, partials = _backward_of(view, *dtypes, ctx.rule, ctx.varying, incoming, wants)
        grad_x = view.empty_state(x.device, x.dtype) if wants[0] else None
        grad_fed = view.empty_state(x.device, feedback.dtype) if wants[1] else None
        grad_mem = view.empty_state(x.device) if wants[2] else None
        sums = x.new_empty(partials, dtype=torch.float32) if any(wants[3:]) else None
        optional = *grads, grad_x, grad_fed, grad_mem, sums
        launch(view.sequence(x), feedback, mem, table, *(mem if t is None else t for t in optional))
        rows = iter(() if sums is None else view.gradients(view.totals(sums)))
        of = (next(rows) if want else None for want in wants[3:])
        return grad_x, grad_fed, grad_mem, *of, None


def _grid(
    sizes: Geometry, tile: Tile, channels: int, x_batch: int
) -> tuple[tuple[int], tuple[int, ...], Any]:
    """The programs, and the numbers and constants of both kernels that follow from the tile."""
    blocks, unit = tile.blocks(sizes), alignment(sizes.contiguous, x_batch)
    numbers = sizes.batch, channels, sizes.contiguous // unit, *blocks[1:], x_batch // unit
    constants = {
        "ALIGNMENT": unit,
        "SHARE": sizes.share,
        "BB": tile.batch,
        "BC": tile.columns,
        "BM": tile.inner,
        "PTX": PTX,
        "num_warps": tile.warps,
    }
    return (math.prod(blocks),), numbers, constants


def forward_launch(
    folded: tuple[int, int, int], x_batch: int, element_size: int, rule: RuleOptions, varying: int
) -> Launch:
    """How the forward kernel runs over ``[B, C, M]`` with the given stride of B."""
    sizes = geometry(folded, element_size)
    grid, numbers, constants = _grid(sizes, forward_tile(sizes, 1, element_size), folded[1], x_batch)
    constants |= {
        "MECHANISM": rule.mechanism,
        "RESET": rule.reset,
        "AT_THRESHOLD": rule.fires_at_threshold,
        "VARYING": varying,
    }
    return Launch(grid, numbers, constants)


def backward_launch(
    folded: tuple[int, int, int],
    x_batch: int,
    element_size: int,
    rule: RuleOptions,
    varying: int,
    incoming: tuple[bool, ...],
    wants: tuple[bool, ...],
) -> tuple[Launch, tuple[int, int, int, int]]:
    """How the backward kernel runs, and the shape ``[programs, 1, rows, columns]`` of its partial sums.

    ``incoming`` says whether there are gradients of the spikes and of the membrane; ``wants``, whether those
    of input, feedback, membrane and each coefficient are wanted.
    """
    rows = sum(wants[3:])
    sizes = geometry(folded, element_size)
    tile = backward_tile(sizes, 1, element_size, rows)
    grid, numbers, constants = _grid(sizes, tile, folded[1], x_batch)
    constants |= {
        "SURROGATE": rule.surrogate,
        "MECHANISM": rule.mechanism,
        "RESET": rule.reset,
        "AT_THRESHOLD": rule.fires_at_threshold,
        "CUTS_PREVIOUS": rule.cuts_previous_reset,
        "CUTS_CURRENT": rule.cuts_current_reset,
        "VARYING": varying,
        "HAS_GRAD_SPIKES": incoming[0],
        "HAS_GRAD_MEM": incoming[1],
        "GRAD_X": wants[0],
        "GRAD_FEEDBACK": wants[1],
        "GRAD_MEM": wants[2],
        "WANTED": sum(want << i for i, want in enumerate(wants[3:])),
        "ROWS": rows,
    }
    blocks = tile.blocks(sizes)
    partials = blocks[0] * blocks[2], 1, rows, sizes.columns
    return Launch(grid, (*numbers, rule.surrogate_shape), constants), partials


# A prepared launch is one for tensors of the same dtypes, so that the feedback's tells them apart.
@functools.lru_cache(maxsize=4096)
def _forward_of(
    view: View, dtype: torch.dtype, _feedback: torch.dtype, rule: RuleOptions, varying: int
) -> Prepared:
    how = forward_launch(view.folding.folded, view.strides[1], dtype.itemsize, rule, varying)
    return Prepared(recurrent_forward_kernel, how)


@functools.lru_cache(maxsize=4096)
def _backward_of(
    view: View, dtype: torch.dtype, _feedback: torch.dtype, *options: Any
) -> tuple[Prepared, tuple[int, int, int, int]]:
    how, partials = backward_launch(view.folding.folded, view.strides[1], dtype.itemsize, *options)
    return Prepared(recurrent_backward_kernel, how), partials
