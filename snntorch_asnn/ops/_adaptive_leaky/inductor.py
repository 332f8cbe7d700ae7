"""The whole sequence as two fused loops made by ``torch.compile``: one forward, one backward.

The forward loop reads the input and writes the spikes. The backward loop reads the input once more,
recomputes the membranes and writes the gradients, so that autograd keeps nothing but the input. Sequences
are cut into chunks of :data:`CHUNK` steps, since a loop is unrolled and compile time grows with its length.
"""

from __future__ import annotations

import functools
import os
import shutil
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from snntorch_asnn.ops._adaptive_leaky.adjoint import Moment, advance, retreat
from snntorch_asnn.ops._adaptive_leaky.autograd import (
    Affine,
    Gradients,
    Options,
    by_coefficient,
    gradients,
    once,
    run_fused,
    save,
    through_affine,
)
from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
from snntorch_asnn.ops._adaptive_leaky.layout import Folding, fold
from snntorch_asnn.ops._adaptive_leaky.rule import Rule, rule_of

__all__ = ["CHUNK", "covers", "dtypes", "in_graph", "missing", "name", "sequence"]

name = "compile"
dtypes = None

CHUNK = 16
"""Most time steps in one compiled loop. A longer sequence keeps the membrane at every chunk's start."""


def covers(x: Tensor) -> bool:
    """Whether loops can be made for such tensors: for all."""
    return True


@functools.cache
def missing(device_type: str) -> str | None:
    """What ``torch.compile`` lacks on this machine for a kind of device, or None if it can run."""
    if os.environ.get("TORCH_COMPILE_DISABLE") == "1":
        return "torch.compile, which TORCH_COMPILE_DISABLE=1 turns off"
    if device_type == "cuda":
        from torch.utils._triton import has_triton

        return None if has_triton() else "triton, which torch.compile needs on a GPU"
    candidates = (os.environ.get("CXX"), "g++", "clang++", "cl")
    if any(name and shutil.which(name) for name in candidates):
        return None
    return "a C++ compiler (g++, clang++ or cl on the PATH, or CXX set), which torch.compile needs"


def sequence(
    x: Tensor,
    mem: Tensor | None,
    coefficients: Coefficients,
    rule: Rule,
    *,
    output_mem: bool,
    keep_mem: bool = True,
    keep_spikes: bool = True,
    affine: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """See :class:`~.implementation.Implementation`; nothing is left out of the results."""
    options = Options(rule.key, output_mem, True, True, torch.is_grad_enabled())
    return run_fused(_Loops(), x, mem, coefficients, affine, options)


def in_graph(
    x: Tensor,
    mem: Tensor | None,
    coefficients: Sequence[Tensor],
    key: str,
    *,
    output_mem: bool,
    keep_mem: bool = True,
    keep_spikes: bool = True,
    needs_grad: bool = True,
) -> tuple[Tensor, Tensor]:
    """The loops for a surrounding compiler, which fuses them itself in whatever memory format.

    Only for functions that stay in the graph: Dynamo's own tracing of an autograd.Function loses its
    backward under torch.func.grad (see :func:`~snntorch_asnn._torch.leave_in_graph`).
    """
    spikes, mem_out, *_ = _InGraph.apply(key, output_mem, x, mem, *coefficients)
    return spikes, mem_out


class _Loops:
    """The loops compiled here and now, over ``[T, B, C, M]``; kept are the membranes at chunks' starts."""

    tells_worth = False

    def forward(
        self,
        x: Tensor,
        mem: Tensor | None,
        own: Coefficients,
        affine: Affine,
        options: Options,
        wants: tuple[bool, ...] | None,
    ) -> tuple[Tensor, Tensor, tuple[Tensor | None, ...], Any]:
        whole = own if affine is None else own.after(*affine)
        folding = fold(x, whole.feature_shape)
        folded = _folded(folding, x, mem, whole)
        spikes, mem_out, *starts = _forward_loops(*folded, options.key, options.output_mem, compile_here=True)
        unfold = folding.unfold if options.output_mem else folding.unfold_state
        return folding.unfold(spikes), unfold(mem_out), tuple(starts), (folding, options)

    def backward(
        self,
        x: Tensor,
        mem: Tensor | None,
        own: Coefficients,
        affine: Affine,
        kept: Sequence[Tensor | None],
        known: Any,
        incoming: tuple[Tensor | None, Tensor | None],
        wants: tuple[bool, ...],
    ) -> tuple[Tensor | None, Tensor | None, Gradients, Tensor | None, Tensor | None]:
        folding, options = known
        whole = own if affine is None else own.after(*affine)
        grad_spikes, grad_mem = incoming
        if grad_spikes is not None:
            grad_spikes = folding.sequence(grad_spikes)
        if grad_mem is not None:
            grad_mem = folding.sequence(grad_mem) if options.output_mem else folding.state(grad_mem)
        folded = _folded(folding, x, mem, whole)
        constants = options.key, options.output_mem, wants
        grad_x, grad_start, rows = _backward_loops(
            *folded, kept, grad_spikes, grad_mem, *constants, compile_here=True
        )
        features = whole.feature_shape
        rows = (folding.unfold_parameter_gradient(row.squeeze(-1), features) for row in rows)
        of = by_coefficient(rows, wants[2:])
        start = folding.unfold_state(grad_start) if wants[1] else None
        if affine is None:
            return folding.unfold(grad_x), start, of, None, None
        return folding.unfold(grad_x), start, *through_affine(of, own, affine)


def _folded(
    folding: Folding, x: Tensor, mem: Tensor | None, whole: Coefficients
) -> tuple[Tensor, Tensor | None, list[Tensor]]:
    state = None if mem is None else folding.state(mem)
    return folding.sequence(x), state, [folding.parameter(c) for c in whole.given]


class _InGraph(torch.autograd.Function):
    """The loops as operations of a graph, also under the transforms of :mod:`torch.func`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        key: str, output_mem: bool, x: Tensor, mem: Tensor | None, *coefficients: Tensor
    ) -> tuple[Tensor, ...]:
        return _forward_loops(x, mem, coefficients, key, output_mem, compile_here=False)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        key, output_mem, x, mem, *coefficients = inputs
        save(ctx, (x, mem, coefficients, key, output_mem), output)
        ctx.mark_non_differentiable(*output[2:])

    @staticmethod
    @once
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Any, ...]:
        _, _, needs_x, needs_mem, *needs = ctx.needs_input_grad
        backward = functools.partial(_backward_loops, compile_here=False)
        grad_x, grad_mem, of = gradients(backward, ctx, (needs_x, needs_mem, needs), *grad_outputs[:2])
        return None, None, grad_x, grad_mem, *of


def _forward_loops(
    x: Tensor,
    mem: Tensor | None,
    coefficients: Sequence[Tensor],
    key: str,
    output_mem: bool,
    *,
    compile_here: bool,
) -> tuple[Tensor, ...]:
    """Spikes, membrane, and the membrane at the start of each chunk but the first."""
    mem = _bare(mem)
    spikes: list[Tensor] = []
    membranes: list[Tensor] = []
    starts: list[Tensor] = []
    for chunk in _chunks(x.shape[0]):
        if spikes and mem is not None:
            starts.append(mem)
        arguments = (_part(x, chunk), mem, *(_part(c, chunk) for c in coefficients))
        variant = _variant(arguments) if compile_here else None
        spikes_chunk, mem_chunk = _loop(_forward, key, output_mem, variant)(*arguments)
        spikes.append(spikes_chunk)
        membranes.append(mem_chunk)
        mem = mem_chunk[-1] if output_mem else mem_chunk
    assert mem is not None
    return _joined(spikes), _joined(membranes) if output_mem else mem, *starts


def _backward_loops(
    x: Tensor,
    mem: Tensor | None,
    coefficients: Sequence[Tensor],
    starts: Sequence[Tensor | None],
    grad_spikes: Tensor | None,
    grad_mem: Tensor | None,
    key: str,
    output_mem: bool,
    wants: Sequence[bool],
    *,
    compile_here: bool,
) -> tuple[Tensor, Tensor, Iterable[Tensor]]:
    """Gradients of input and first membrane, and ``[T, *features]`` of each coefficient that is wanted."""
    _, wants_mem, *wanted = wants
    grad_last, grad_trace = (None, grad_mem) if output_mem else (grad_mem, None)
    by_chunk: list[list[Tensor]] = []
    for chunk, start in reversed(list(zip(_chunks(x.shape[0]), (mem, *starts), strict=True))):
        carries = chunk.start > 0 or wants_mem
        arguments = (
            _part(x, chunk),
            _bare(start),
            *(_part(c, chunk) for c in coefficients),
            _part(grad_spikes, chunk),
            _part(grad_trace, chunk),
            _bare(grad_last),
        )
        variant = _variant(arguments) if compile_here else None
        option = carries, tuple(wanted[: len(coefficients)])
        grad_last, *grads = _loop(_backward, key, option, variant)(*arguments)
        by_chunk.append(grads)
    grad_x, *grads = (_joined(list(pieces)) for pieces in zip(*reversed(by_chunk), strict=True))
    return grad_x, cast(Tensor, grad_last), grads


def _chunks(num_steps: int) -> Iterator[slice]:
    return (slice(at, min(at + CHUNK, num_steps)) for at in range(0, num_steps, CHUNK))


def _bare(tensor: Tensor | None) -> Tensor | None:
    """Return ``tensor`` without its history, so that Dynamo does not guard on it and recompile."""
    return None if tensor is None else tensor.detach()


def _part(tensor: Tensor | None, chunk: slice) -> Tensor | None:
    return None if tensor is None else tensor[chunk].detach()


def _joined(pieces: list[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def _advance_all(rule: Rule, x: Tensor, mem: Tensor | None, coefficients: Coefficients) -> list[Moment]:
    state_dtype = coefficients.beta.dtype
    mem = torch.zeros_like(x[0], dtype=state_dtype) if mem is None else mem
    moments: list[Moment] = []
    for t in range(x.shape[0]):
        now = coefficients.of_step(t)
        current, gain = now.current(x[t].to(state_dtype))
        moments.append(advance(current, mem, now.beta, gain, now.threshold, now.previous_threshold, rule))
        mem = moments[-1].mem
    return moments


def _forward(
    rule: Rule, output_mem: bool, x: Tensor, mem: Tensor | None, *coefficients: Tensor
) -> tuple[Tensor, Tensor]:
    known = Coefficients(*coefficients)
    moments = _advance_all(rule, x, mem, known)
    spikes = torch.stack([(m.spikes * s).to(x.dtype) for m, s in zip(moments, known.scale, strict=True)])
    return spikes, torch.stack([m.mem for m in moments]) if output_mem else moments[-1].mem


def _backward(
    rule: Rule, option: tuple[bool, tuple[bool, ...]], x: Tensor, mem: Tensor | None, *rest: Any
) -> tuple[Tensor | None, ...]:
    carries, wanted = option
    *given, grad_spikes, grad_trace, grad_mem = rest
    coefficients = Coefficients(*given)
    moments = _advance_all(rule, x, mem, coefficients)
    zeros = torch.zeros_like(moments[0].mem)
    grad_mem = zeros if grad_mem is None else grad_mem
    grads_x: list[Tensor] = []
    grads: list[list[Tensor]] = []
    for t in reversed(range(x.shape[0])):
        now = coefficients.of_step(t)
        if grad_trace is not None:
            grad_mem = grad_mem + grad_trace[t]
        ds = zeros if grad_spikes is None else grad_spikes[t].to(zeros.dtype)
        grad = retreat(moments[t], ds * now.scale, grad_mem, now, rule)
        grad_mem = grad.mem
        grads_x.append((now.gain * grad.current).to(x.dtype))
        grads.append(
            [
                gradient.sum_to_size(now.beta.shape)
                for gradient, want in zip(
                    (
                        grad.beta,
                        x[t] * grad.current,
                        grad.threshold,
                        grad.previous_threshold,
                        ds * moments[t].spikes,
                        grad.current,
                    ),
                    wanted,
                    strict=False,  # a shift may be left out
                )
                if want
            ]
        )
    rows = (torch.stack(steps[::-1]) for steps in zip(*grads, strict=True))
    return grad_mem if carries else None, torch.stack(grads_x[::-1]), *rows


Variant = tuple[Any, ...]


def _variant(tensors: Sequence[Tensor | None]) -> Variant:
    """What Dynamo compiles a loop anew for: steps, dtypes, devices, missing tensors, and sizes of 1."""
    x = tensors[0]
    assert x is not None
    kinds = (None if t is None else (t.dtype, t.device, *(size == 1 for size in t.shape)) for t in tensors)
    return len(x), *kinds


@functools.cache
def _loop(function: Callable[..., Any], key: str, option: Any, variant: Variant | None) -> Callable[..., Any]:
    """``function`` for one rule and option; compiled apart from every other variant, unless that is None."""
    rule = rule_of(key)

    def run(*args: Any) -> Any:
        return function(rule, option, *args)

    if variant is None:
        return run
    # Dynamo counts recompilations per code object and gives up after a few: one for each binding.
    name = f"{function.__name__}_{abs(hash((key, option, variant))):x}"
    code = run.__code__.replace(co_name=name)
    own = types.FunctionType(code, run.__globals__, code.co_name, closure=run.__closure__)
    return torch.compile(own, fullgraph=True, dynamic=True)
