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
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from snntorch_asnn.ops._adaptive_leaky.adjoint import Moment, advance, retreat
from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
from snntorch_asnn.ops._adaptive_leaky.layout import fold
from snntorch_asnn.ops._adaptive_leaky.rule import ResetMechanism, Rule
from snntorch_asnn.ops._first_derivative import first_derivative_only
from snntorch_asnn.surrogate import Surrogate, of_constants

__all__ = ["CHUNK", "RuleKey", "missing", "rule_key", "rule_of", "sequence", "sequence_in_graph"]

CHUNK = 16
"""Most time steps in one compiled loop. A longer sequence keeps the membrane at every chunk's start."""

RuleKey = tuple[ResetMechanism, bool, bool, bool | None, str]


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
    x: Tensor, mem: Tensor | None, coefficients: Coefficients, rule: Rule, *, output_mem: bool
) -> tuple[Tensor, Tensor]:
    """As :func:`..reference.sequence`, for a rule that is fusable."""
    folding = fold(x, coefficients.feature_shape)
    spikes, mem_out, *_ = _Sequence.apply(
        folding.sequence(x),
        None if mem is None else folding.state(mem),
        *folding.coefficients(coefficients),
        rule_key(rule),
        output_mem,
        True,
    )
    unfold = folding.unfold if output_mem else folding.unfold_state
    return folding.unfold(spikes), unfold(mem_out)


def rule_key(rule: Rule) -> RuleKey:
    """A fusable rule as constants that a graph can hold."""
    surrogate = rule.spike_grad
    assert isinstance(surrogate, Surrogate)
    return (
        rule.reset_mechanism,
        rule.reset_delay,
        rule.exact_reset,
        rule.detach_reset,
        surrogate.constants,
    )


def rule_of(key: RuleKey) -> Rule:
    """The rule that :func:`rule_key` made constants of."""
    mechanism, delay, exact, detach, constants = key
    return Rule(of_constants(constants), mechanism, delay, exact, detach)


def sequence_in_graph(
    x: Tensor, mem: Tensor | None, coefficients: Coefficients, key: RuleKey, output_mem: bool
) -> tuple[Tensor, Tensor]:
    """:func:`sequence` for a surrounding compiler, which fuses the loops itself in whatever memory format.

    Only for functions that stay in the graph: Dynamo's own tracing of an autograd.Function loses its
    backward under torch.func.grad (see :func:`~snntorch_asnn.surrogate.leave_in_graph`).
    """
    spikes, mem_out, *_ = _Sequence.apply(x, mem, *coefficients, key, output_mem, False)
    return spikes, mem_out


class _Sequence(torch.autograd.Function):
    """Saves the input, the parameters and the membrane at the start of each chunk; nothing else."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,
        mem: Tensor | None,
        beta: Tensor,
        gain: Tensor,
        threshold: Tensor,
        previous_threshold: Tensor,
        scale: Tensor,
        shift: Tensor | None,
        key: RuleKey,
        output_mem: bool,
        compile_here: bool,
    ) -> tuple[Tensor, ...]:
        coefficients = (beta, gain, threshold, previous_threshold, scale, shift)
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

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, mem, *coefficients, ctx.key, ctx.output_mem, ctx.compile_here = inputs
        _, _, *starts = output
        ctx.mark_non_differentiable(*starts)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, mem, *coefficients, *starts)

    @staticmethod
    @first_derivative_only("impl='compile'", "impl='reference'")
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Any, ...]:
        grad_spikes, grad_mem, *_ = grad_outputs
        x, start, *rest = ctx.saved_tensors
        count = len(Coefficients._fields)
        coefficients, starts = rest[:count], [start, *rest[count:]]
        wanted = tuple(ctx.needs_input_grad[2 : 2 + count])
        grad_last, grad_trace = (None, grad_mem) if ctx.output_mem else (grad_mem, None)
        by_chunk: list[list[Tensor]] = []
        for chunk, start in reversed(list(zip(_chunks(x.shape[0]), starts, strict=True))):
            carries = chunk.start > 0 or ctx.needs_input_grad[1]
            arguments = (
                _part(x, chunk),
                _bare(start),
                *(_part(c, chunk) for c in coefficients),
                _part(grad_spikes, chunk),
                _part(grad_trace, chunk),
                _bare(grad_last),
            )
            variant = _variant(arguments) if ctx.compile_here else None
            grad_last, *grads = _loop(_backward, ctx.key, (carries, wanted), variant)(*arguments)
            by_chunk.append(grads)
        grad_x, *grads = (_joined(list(pieces)) for pieces in zip(*reversed(by_chunk), strict=True))
        remaining = iter(grads)
        return (
            grad_x,
            grad_last,
            *(next(remaining) if want else None for want in wanted),
            *(None, None, None),
        )


def _chunks(num_steps: int) -> Iterator[slice]:
    return (slice(at, min(at + CHUNK, num_steps)) for at in range(0, num_steps, CHUNK))


def _bare(tensor: Tensor | None) -> Tensor | None:
    """``tensor`` without its history and base, which Dynamo would otherwise guard and compile anew for."""
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
                    strict=True,
                )
                if want
            ]
        )
    by_coefficient = (torch.stack(steps[::-1]) for steps in zip(*grads, strict=True))
    return grad_mem if carries else None, torch.stack(grads_x[::-1]), *by_coefficient


Variant = tuple[Any, ...]


def _variant(tensors: Sequence[Tensor | None]) -> Variant:
    """What Dynamo compiles a loop anew for: steps, dtypes, devices, missing tensors, and sizes of 1."""
    x = tensors[0]
    assert x is not None
    kinds = (None if t is None else (t.dtype, t.device, *(size == 1 for size in t.shape)) for t in tensors)
    return len(x), *kinds


@functools.cache
def _loop(
    function: Callable[..., Any], key: RuleKey, option: Any, variant: Variant | None
) -> Callable[..., Any]:
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
