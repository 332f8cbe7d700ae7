r"""The adaptive synaptic neuron: a leaky neuron behind a synapse whose current decays, too.

.. math::

    i[t] &= \alpha[t]\, i[t-1] + g[t]\, x[t] \\
    u[t] &= \beta[t]\, v[t-1] + i[t]

followed by spikes and reset as in :func:`~snntorch_asnn.ops.adaptive_leaky`. The current knows nothing of the
membrane, so a sequence is two runs of the fused leaky op: one without a reset, one with.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from snntorch_asnn.ops._adaptive_leaky import reference
from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
from snntorch_asnn.ops._adaptive_leaky.engine import Impl, run
from snntorch_asnn.ops._adaptive_leaky.rule import Rule

__all__ = ["is_two_runs", "run_step", "sequence", "step"]


def is_two_runs(rule: Rule) -> bool:
    """Whether a sequence is one run of the leaky op for the current and one for the membrane."""
    return rule.state_quant is None and (rule.exact_reset or rule.reset_mechanism != "zero")


def step(
    x: Tensor,
    syn: Tensor,
    mem: Tensor,
    *,
    alpha: Tensor,
    beta: Tensor,
    gain: Tensor,
    threshold: Tensor,
    previous_threshold: Tensor,
    scale: Tensor,
    rule: Rule,
) -> tuple[Tensor, Tensor, Tensor]:
    """One time step in the order of operations of :class:`snntorch.Synaptic`: spikes, current, membrane.

    A reset to zero is :func:`~snntorch_asnn.ops._adaptive_leaky.reference.late_reset`'s.
    """
    current = gain * x
    before = syn

    def charge() -> tuple[Tensor, Tensor]:
        charged = alpha * before + current
        return charged, beta * mem + charged

    syn, u = charge()
    if rule.exact_reset:
        spikes, mem = reference.exact_step(u, threshold, scale, rule)
    else:
        reset = reference.previous_spikes(mem, previous_threshold, rule)
        u = reference.late_reset(u, lambda: charge()[1], reset, previous_threshold, rule)
        spikes, mem = reference.settle(u, reset, threshold, scale, rule)
    return spikes, syn if rule.state_quant is None else rule.state_quant(syn), mem


def sequence(
    x: Tensor,
    syn: Tensor | None,
    mem: Tensor | None,
    *,
    alpha: Tensor,
    beta: Tensor,
    gain: Tensor,
    threshold: Tensor,
    previous_threshold: Tensor,
    scale: Tensor,
    rule: Rule,
    output_states: bool,
    impl: Impl,
) -> tuple[Tensor, Tensor, Tensor]:
    """All steps of ``x`` ``[T, B, ...]`` on the fused leaky op; parameters are ``[T, ...]``.

    Current and membrane are those after the last step, or with ``output_states`` after every one. Only
    for rules without a quantiser and, unless the reset is exact, without a reset to zero.
    """
    ones = torch.ones_like(gain)
    synapse = Coefficients(alpha, gain, ones, ones, ones)
    _, currents = run(x, syn, synapse, _without_reset(rule), output_mem=True, keep_spikes=False, impl=impl)
    membrane = Coefficients(beta, ones, threshold, previous_threshold, scale)
    spikes, mem = run(currents, mem, membrane, rule, output_mem=output_states, impl=impl)
    return spikes.to(x.dtype), currents if output_states else currents[-1], mem


def run_step(
    x: Tensor,
    syn: Tensor,
    mem: Tensor,
    parameters: dict[str, Tensor],
    rule: Rule,
    feature_shape: tuple[int, ...],
    *,
    impl: Impl,
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`step` as two sequences of one step, for the rules of :func:`sequence`.

    ``parameters`` are :func:`step`'s, which broadcast to ``feature_shape``. Spikes have the dtype of ``mem``.
    """
    rows = {name: value.expand(1, *feature_shape) for name, value in parameters.items()}
    ones = torch.ones_like(rows["gain"])
    synapse = Coefficients(rows.pop("alpha"), rows.pop("gain"), ones, ones, ones)
    _, syn = run(x[None], syn, synapse, _without_reset(rule), output_mem=False, keep_spikes=False, impl=impl)
    spikes, mem = run(syn[None], mem, Coefficients(gain=ones, **rows), rule, output_mem=False, impl=impl)
    return spikes[0], syn, mem


def _without_reset(rule: Rule) -> Rule:
    """The rule of the current, which is never reset."""
    # Dynamo does not trace cached properties.
    if torch.compiler.is_compiling():
        return replace(rule, reset_mechanism="none", exact_reset=False)
    return rule.without_reset
