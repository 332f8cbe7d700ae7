"""The whole sequence in one C++ kernel on a CPU: one call forward, one backward, for any number of steps.

Autograd keeps nothing but the input: the backward kernel recomputes the membranes of a tile while it stays
in the cache. The arithmetic is that of :mod:`.adjoint`; see ``adaptive_leaky.cpp``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from snntorch_asnn.ops._adaptive_leaky.affine import back_through_affine
from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients, summed_to
from snntorch_asnn.ops._adaptive_leaky.cpp import kernels as cpp_kernels
from snntorch_asnn.ops._adaptive_leaky.cpp.kernels import Incoming, View, missing, rule_macros
from snntorch_asnn.ops._adaptive_leaky.layout import fold
from snntorch_asnn.ops._adaptive_leaky.rule import Rule
from snntorch_asnn.ops._cpp.build import INPUTS
from snntorch_asnn.surrogate import Surrogate

__all__ = ["covers", "lack", "missing", "sequence"]

_GAIN, _SHIFT = Coefficients._fields.index("gain"), Coefficients._fields.index("shift")


def covers(x: Tensor) -> bool:
    """Whether there is a kernel for tensors such as ``x``."""
    return x.device.type == "cpu" and x.dtype in INPUTS


def lack(
    x: Tensor,
    mem: Tensor | None,
    coefficients: Coefficients,
    rule: Rule,
    affine: tuple[Tensor, Tensor] | None = None,
) -> str | None:
    """Why the kernels for these arguments cannot be built, or None if they are.

    The backward kernel is built with the forward one where there will be a backward pass, which then cannot
    fail for the lack of it.
    """
    given = (*coefficients, *(affine or (None, None)))
    needs = [c is not None and c.requires_grad for c in given]
    learns = torch.is_grad_enabled() and any((x.requires_grad, mem is not None and mem.requires_grad, *needs))
    wanted = _wanted(needs, has_affine=affine is not None) if learns else None
    has_shift = coefficients.shift is not None or affine is not None
    return cpp_kernels.lack(x.dtype, coefficients.beta.dtype, rule_macros(rule), has_shift, wanted)


def _wanted(needs: Sequence[bool], *, has_affine: bool) -> int:
    """A bit for each of :class:`Coefficients` whose gradient is needed.

    Args:
        needs: whether the gradient of each coefficient is, and of the factor and the offset of ``affine``.
        has_affine: whether these are given.
    """
    wants = list(needs[: len(Coefficients._fields)])
    if has_affine:
        of_factor, of_offset = needs[len(wants) :]
        wants[_GAIN] |= of_factor
        wants[_SHIFT] |= wants[_GAIN] or of_offset
    return sum(1 << i for i, want in enumerate(wants) if want)


def sequence(
    x: Tensor,
    mem: Tensor | None,
    coefficients: Coefficients,
    rule: Rule,
    *,
    output_mem: bool,
    affine: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """As :func:`..reference.sequence`, for a rule that is fusable and an ``x`` that is covered.

    With ``affine`` it is that of ``coefficients.after(*affine)``.
    """
    surrogate = rule.spike_grad
    assert isinstance(surrogate, Surrogate)
    constants = (rule_macros(rule), surrogate.shape, output_mem)
    # A fake tensor, or any other that stands for one, has no memory that a kernel could be given.
    if type(x) in (Tensor, torch.nn.Parameter):
        spikes, mem_out = _Sequence.apply(x, mem, *coefficients, *(affine or (None, None)), *constants)
        return spikes, mem_out
    coefficients = coefficients if affine is None else coefficients.after(*affine)
    folding = fold(x, coefficients.feature_shape)
    state = None if mem is None else folding.state(mem)
    folded = folding.sequence(x), state, *folding.coefficients(coefficients)
    spikes, mem_out = _forward_op(*folded, *constants)
    unfold = folding.unfold if output_mem else folding.unfold_state
    return folding.unfold(spikes), unfold(mem_out)


class _Sequence(torch.autograd.Function):
    """Without the operators' dispatch, which takes longer than a small layer's kernel.

    So would autograd, if it took a step for each time that a coefficient is shaped or multiplied.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        x, mem, *given, ctx.rule, ctx.surrogate_shape, ctx.output_mem = inputs
        own, factor, offset = Coefficients(*given[:6]), *given[6:]
        ctx.features = own.feature_shape if factor is None else own.features_after(factor)
        whole = own if factor is None else own.multiplied(factor, offset)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, mem, *own, factor, offset)
        view = View.of(x.shape, x.stride(), ctx.features)
        spikes = view.empty_sequence(x, x.dtype)
        empty = view.empty_sequence if ctx.output_mem else view.empty_state
        mem_out = empty(x, own.beta.dtype)
        last, trace = (None, mem_out) if ctx.output_mem else (mem_out, None)
        cpp_kernels.forward(view, x, mem, whole, ctx.rule, spikes, last, trace)
        return spikes, mem_out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("impl='cpp' has no second derivative; use impl='reference'")
        x, mem, *given, factor, offset = ctx.saved_tensors
        own = Coefficients(*given)
        whole = own if factor is None else own.multiplied(factor, offset)
        wanted = _wanted(ctx.needs_input_grad[2:10], has_affine=factor is not None)
        view = View.of(x.shape, x.stride(), ctx.features)
        grad_x = view.empty_sequence(x, x.dtype)
        grad_start = None if mem is None else view.empty_state(x, own.beta.dtype)
        grad_spikes, grad_mem = grad_outputs
        incoming = _incoming(grad_spikes, grad_mem, ctx.output_mem)
        constants = ctx.rule, ctx.surrogate_shape, incoming, wanted
        grads = cpp_kernels.backward(view, x, mem, whole, *constants, grad_x, grad_start)
        remaining = iter(grads.unbind(0))
        of: list[Tensor | None] = [
            next(remaining) if wanted >> i & 1 else None for i in range(len(Coefficients._fields))
        ]
        if factor is None:
            return grad_x, grad_start, *_each(view.coefficient_gradient, of, own), *(None,) * 5
        full = torch.Size((view.steps, *view.folding.feature_shape))
        of = [None if grad is None else view.coefficient_gradient(grad, full) for grad in of]
        of[_GAIN], *of_affine = back_through_affine(of[_GAIN], of[_SHIFT], own.gain, factor, offset)
        return grad_x, grad_start, *_each(summed_to, of, own), *of_affine, *(None,) * 3


def _each(
    shaped: Callable[[Tensor, torch.Size], Tensor], grads: list[Tensor | None], own: Coefficients
) -> Iterator[Tensor | None]:
    """Every gradient in the shape of its coefficient."""
    pairs = zip(grads, own, strict=True)
    return (None if grad is None or c is None else shaped(grad, c.shape) for grad, c in pairs)


def _incoming(grad_spikes: Tensor | None, grad_mem: Tensor | None, output_mem: bool) -> Incoming:
    grad_spikes, grad_mem = (g if g is None else g.resolve_neg() for g in (grad_spikes, grad_mem))
    return Incoming(grad_spikes, None, grad_mem) if output_mem else Incoming(grad_spikes, grad_mem, None)


def _forward(
    x: Tensor,
    mem: Tensor | None,
    beta: Tensor,
    gain: Tensor,
    threshold: Tensor,
    previous_threshold: Tensor,
    scale: Tensor,
    shift: Tensor | None,
    rule: str,
    surrogate_shape: float,
    output_mem: bool,
) -> tuple[Tensor, Tensor]:
    """Spikes ``[T, B, C, M]`` and the membrane after the last step or every step, on folded tensors."""
    spikes, mem_out = _empty_outputs(x, beta, output_mem)
    coefficients = Coefficients(beta, gain, threshold, previous_threshold, scale, shift)
    last, trace = (None, mem_out) if output_mem else (mem_out, None)
    view = View.of_folded(x.shape, x.stride())
    cpp_kernels.forward(view, x, mem, coefficients, rule, spikes, last, trace)
    return spikes, mem_out


def _backward(
    x: Tensor,
    mem: Tensor | None,
    beta: Tensor,
    gain: Tensor,
    threshold: Tensor,
    previous_threshold: Tensor,
    scale: Tensor,
    shift: Tensor | None,
    rule: str,
    surrogate_shape: float,
    grad_spikes: Tensor | None,
    grad_last: Tensor | None,
    grad_trace: Tensor | None,
    wanted: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the input, of the first membrane, and of the wanted coefficients ``[wanted, T, C, 1]``."""
    grad_x, grad_start, grads = _empty_gradients(x, mem, beta, wanted)
    coefficients = Coefficients(beta, gain, threshold, previous_threshold, scale, shift)
    view = View.of_folded(x.shape, x.stride())
    incoming = Incoming(grad_spikes, grad_last, grad_trace)
    start = None if mem is None else grad_start
    constants = rule, surrogate_shape, incoming, wanted
    found = cpp_kernels.backward(view, x, mem, coefficients, *constants, grad_x, start)
    for to, grad in zip(grads, found, strict=True):
        to.copy_(view.coefficient_gradient(grad, to.shape))
    return grad_x, grad_start, grads


# As operators that a compiler leaves whole. torch.library.custom_op would look for aliases at every call,
# which takes longer than a small layer's kernel.
_OPERATORS = torch.library.Library("snntorch_asnn", "FRAGMENT")


def _operator(name: str, function: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    """``function`` as an operator on a CPU, whose outputs ``fake`` tells a compiler the shapes of."""
    _OPERATORS.define(name + torch.library.infer_schema(function, mutates_args=()))
    _OPERATORS.impl(name, function, "CPU")
    torch.library.register_fake(f"snntorch_asnn::{name}", fake, lib=_OPERATORS)
    return getattr(torch.ops.snntorch_asnn, name).default


def _fake_outputs(x: Tensor, mem: Tensor | None, beta: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return _empty_outputs(x, beta, rest[-1])


def _fake_gradients(x: Tensor, mem: Tensor | None, beta: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _empty_gradients(x, mem, beta, rest[-1])


_forward_op = _operator("adaptive_leaky_cpu", _forward, _fake_outputs)
_backward_op = _operator("adaptive_leaky_cpu_backward", _backward, _fake_gradients)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.rule, ctx.surrogate_shape, ctx.output_mem = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors)


def _gradients(ctx: Any, grad_spikes: Tensor | None, grad_mem: Tensor | None) -> tuple[Tensor | None, ...]:
    x, mem, *coefficients = ctx.saved_tensors
    wants = ctx.needs_input_grad[2 : 2 + len(coefficients)]
    wanted = _wanted(wants, has_affine=False)
    grad_last, grad_trace = (None, grad_mem) if ctx.output_mem else (grad_mem, None)
    grad_x, grad_start, grads = _backward_op(
        x, mem, *coefficients, ctx.rule, ctx.surrogate_shape, grad_spikes, grad_last, grad_trace, wanted
    )
    remaining = iter(grads.unbind(0))
    of_coefficients = (next(remaining) if want else None for want in wants)
    return grad_x, None if mem is None else grad_start, *of_coefficients, None, None, None


torch.library.register_autograd(
    "snntorch_asnn::adaptive_leaky_cpu", _gradients, setup_context=_save, lib=_OPERATORS
)


def _empty_outputs(x: Tensor, beta: Tensor, output_mem: bool) -> tuple[Tensor, Tensor]:
    spikes = x.new_empty(x.shape)
    return spikes, x.new_empty(x.shape if output_mem else x.shape[1:], dtype=beta.dtype)


def _empty_gradients(
    x: Tensor, mem: Tensor | None, beta: Tensor, wanted: int
) -> tuple[Tensor, Tensor, Tensor]:
    start = beta.new_empty(0 if mem is None else mem.shape)
    return x.new_empty(x.shape), start, beta.new_empty((wanted.bit_count(), *beta.shape))
