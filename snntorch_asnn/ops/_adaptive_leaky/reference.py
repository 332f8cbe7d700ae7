r"""The adaptive leaky neuron as its equation reads, one step at a time.

.. math::

    u[t] &= \beta[t]\, v[t-1] + g[t]\, x[t] \\
    s[t] &= H(u[t] - \theta[t]) \\
    v[t] &= u[t] - \theta[t]\, s[t] \quad \text{or} \quad u[t]\,(1 - s[t]) \quad \text{or} \quad u[t]

This is the exact, immediate reset. The two rules of snnTorch follow its order of operations, so that they
agree with :class:`snntorch.Leaky` to the bit. Every other implementation is tested against this file.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
from snntorch_asnn.ops._adaptive_leaky.rule import Rule

__all__ = [
    "covers",
    "dtypes",
    "exact_step",
    "in_graph",
    "late_reset",
    "missing",
    "name",
    "previous_spikes",
    "sequence",
    "settle",
    "step",
]

name = "reference"
dtypes = None
in_graph = None


def covers(x: Tensor) -> bool:
    """Whether it takes tensors such as ``x``: it takes all."""
    return True


def missing(device_type: str) -> str | None:
    """What it needs and this machine lacks: nothing."""
    return None


def step(
    x: Tensor,
    mem: Tensor,
    beta: Tensor,
    gain: Tensor,
    threshold: Tensor,
    previous_threshold: Tensor,
    scale: Tensor,
    rule: Rule,
) -> tuple[Tensor, Tensor]:
    """One time step: input current and membrane in, scaled spikes and membrane out.

    ``previous_threshold`` is that of the spike which a delayed reset answers. All tensors have the dtype
    of the state; the parameters broadcast against ``x``.
    """
    if rule.exact_reset:
        return exact_step(beta * mem + gain * x, threshold, scale, rule)
    reset = previous_spikes(mem, previous_threshold, rule)
    if rule.reset_mechanism == "zero":
        mem = (1 - reset) * mem
    mem = beta * mem + gain * x
    if rule.reset_mechanism == "subtract":
        mem = mem - reset * previous_threshold
    return settle(mem, reset, threshold, scale, rule)


def exact_step(mem: Tensor, threshold: Tensor, scale: Tensor, rule: Rule) -> tuple[Tensor, Tensor]:
    """Spikes of a membrane that leak and input have reached, and the membrane after their reset."""
    if rule.state_quant is not None:
        mem = rule.state_quant(mem)
    spikes = _fire(mem, threshold, torch.ones_like(scale), rule)
    reset = spikes.detach() if rule.cuts_current_reset else spikes
    if rule.reset_mechanism == "subtract":
        mem = mem - threshold * reset
    elif rule.reset_mechanism == "zero":
        mem = mem * (1 - reset)
    return spikes * scale, mem


def late_reset(
    u: Tensor, again: Callable[[], Tensor], reset: Tensor, threshold: Tensor, rule: Rule
) -> Tensor:
    """The reset of snnTorch's other neurons, which at ``"zero"`` drops the step's input with the membrane.

    ``u`` is the membrane that leak and input have reached and ``again`` computes it once more: snnTorch
    does, and gradients agree with it to the bit only if they add up in the same order.
    """
    if rule.reset_mechanism == "zero":
        return u - reset * again()
    return u - reset * threshold if rule.reset_mechanism == "subtract" else u


def settle(mem: Tensor, reset: Tensor, threshold: Tensor, scale: Tensor, rule: Rule) -> tuple[Tensor, Tensor]:
    """Scaled spikes of a membrane whose delayed ``reset`` has happened, and the membrane after this step."""
    if rule.state_quant is not None:
        mem = rule.state_quant(mem)
    spikes = _fire(mem, threshold, scale, rule)
    if not rule.reset_delay and rule.reset_mechanism != "none":
        fired = spikes / scale
        reset_now = (fired.detach() if rule.cuts_current_reset else fired) - reset
        mem = mem - reset_now * (threshold if rule.reset_mechanism == "subtract" else mem)
    return spikes, mem


def previous_spikes(mem: Tensor, threshold: Tensor, rule: Rule) -> Tensor:
    """Spikes that the membrane of the previous step stands for, to be reset in this one."""
    if rule.cuts_previous_reset:
        with torch.no_grad():
            return rule.spike_grad(mem - threshold).to(mem.dtype)
    return rule.spike_grad(mem - threshold).to(mem.dtype)


def _fire(mem: Tensor, threshold: Tensor, scale: Tensor, rule: Rule) -> Tensor:
    if rule.inhibition:
        above = mem - threshold
        winner = torch.zeros_like(mem).scatter(1, above.argmax(dim=1, keepdim=True), 1)
        return rule.spike_grad(above).to(mem.dtype) * winner
    if rule.state_quant is not None:
        mem = rule.state_quant(mem)
    return rule.spike_grad(mem - threshold).to(mem.dtype) * scale


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
    """All steps of ``x`` ``[T, B, ...]``; spikes come back in ``x``'s dtype.

    The second result is the membrane after the last step ``[B, ...]``, or after every step ``[T, B, ...]``.
    """
    coefficients = coefficients if affine is None else coefficients.after(*affine)
    state_dtype = coefficients.beta.dtype
    mem = torch.zeros_like(x[0], dtype=state_dtype) if mem is None else mem
    spikes: list[Tensor] = []
    membranes: list[Tensor] = []
    for t, x_t in enumerate(x.unbind(0)):
        now = coefficients.of_step(t)
        current, gain = now.current(x_t.to(state_dtype))
        spk, mem = step(current, mem, now.beta, gain, now.threshold, now.previous_threshold, now.scale, rule)
        spikes.append(spk.to(x.dtype))
        if output_mem:
            membranes.append(mem)
    return torch.stack(spikes), torch.stack(membranes) if output_mem else mem
