"""One time step without autograd, and its adjoint: the arithmetic that fused implementations unroll.

The backward pass knows only the input and what the state was at the start, so :func:`advance` is run
again to recompute the membranes, and :func:`retreat` carries the gradient back through each step.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
from snntorch_asnn.ops._adaptive_leaky.rule import Rule
from snntorch_asnn.surrogate import Surrogate

__all__ = ["Gradients", "Moment", "advance", "retreat"]


class Moment(NamedTuple):
    """What one step computed: the state before it, the membrane that was compared, spikes, new state.

    The spikes are 0 or 1: what a spike is worth in the output is left to the caller.
    """

    before: Tensor
    reset: Tensor | None
    membrane: Tensor
    spikes: Tensor
    mem: Tensor


class Gradients(NamedTuple):
    """Gradients of one step's input current, state and coefficients, not yet reduced to their shapes."""

    current: Tensor
    mem: Tensor
    beta: Tensor
    threshold: Tensor
    previous_threshold: Tensor


def advance(
    x: Tensor, mem: Tensor, beta: Tensor, gain: Tensor, threshold: Tensor, previous: Tensor, rule: Rule
) -> Moment:
    """One step of the neuron, as :func:`..reference.step` with a scale of 1."""
    surrogate = _surrogate(rule)
    before, reset = mem, None
    if not rule.exact_reset and rule.reset_mechanism != "none":
        reset = surrogate.spikes(mem - previous)
    if reset is not None and rule.reset_mechanism == "zero":
        mem = (1 - reset) * mem
    u = beta * mem + gain * x
    if reset is not None and rule.reset_mechanism == "subtract":
        u = u - reset * previous
    spikes = surrogate.spikes(u - threshold)
    mem = u
    if not rule.reset_delay and rule.reset_mechanism != "none":
        now = spikes if reset is None else spikes - reset
        if rule.reset_mechanism == "subtract":
            mem = u - now * threshold
        else:
            mem = u * (1 - now) if rule.exact_reset else u - now * u
    return Moment(before, reset, u, spikes, mem)


def retreat(
    moment: Moment,
    grad_spikes: Tensor,
    grad_mem: Tensor,
    coefficients: Coefficients,
    rule: Rule,
) -> Gradients:
    """Gradients of one step from those of its spikes and of the state after it."""
    beta, threshold, previous = coefficients.beta, coefficients.threshold, coefficients.previous_threshold
    surrogate = _surrogate(rule)
    before, reset, u, spikes, _ = moment
    grad_u = grad_mem
    grad_reset = torch.zeros_like(u)
    grad_threshold = torch.zeros_like(u)
    if not rule.reset_delay and rule.reset_mechanism != "none":
        now = spikes if reset is None else spikes - reset
        if rule.reset_mechanism == "subtract":
            grad_now = -threshold * grad_mem
            grad_threshold = -now * grad_mem
        else:
            grad_now = -u * grad_mem
            grad_u = (1 - now) * grad_mem
        if not rule.cuts_current_reset:
            grad_spikes = grad_spikes + grad_now
        grad_reset = -grad_now
    grad_above = surrogate.backward(u - threshold, grad_spikes)
    grad_u = grad_u + grad_above
    grad_threshold = grad_threshold - grad_above
    kept = before
    grad_before = beta * grad_u
    grad_previous = torch.zeros_like(u)
    if reset is not None:
        if rule.reset_mechanism == "subtract":
            grad_reset = grad_reset - previous * grad_u
            grad_previous = -reset * grad_u
        else:
            grad_reset = grad_reset - beta * before * grad_u
            kept = (1 - reset) * before
            grad_before = (1 - reset) * grad_before
        if not rule.cuts_previous_reset:
            grad_crossing = surrogate.backward(before - previous, grad_reset)
            grad_before = grad_before + grad_crossing
            grad_previous = grad_previous - grad_crossing
    return Gradients(grad_u, grad_before, kept * grad_u, grad_threshold, grad_previous)


def _surrogate(rule: Rule) -> Surrogate:
    assert isinstance(rule.spike_grad, Surrogate)
    return rule.spike_grad
