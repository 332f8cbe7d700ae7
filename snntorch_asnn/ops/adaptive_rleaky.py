r"""The adaptive recurrent leaky neuron: its spikes come back to it through a layer of weights.

.. math::

    u[t] = \beta[t]\, v[t-1] + g[t]\, x[t] + V(s[t-1])

followed by spikes and reset as in :mod:`snntorch_asnn.ops.adaptive_leaky`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from snntorch_asnn.ops.adaptive_leaky import reference
from snntorch_asnn.ops.adaptive_leaky.rule import Rule

__all__ = ["step"]


def step(
    x: Tensor,
    feedback: Callable[[], Tensor],
    mem: Tensor,
    *,
    beta: Tensor,
    gain: Tensor,
    threshold: Tensor,
    previous_threshold: Tensor,
    scale: Tensor,
    rule: Rule,
) -> tuple[Tensor, Tensor]:
    """One time step in the order of operations of :class:`snntorch.RLeaky`: spikes and membrane.

    ``feedback`` computes :math:`V(s[t-1])`. A reset to zero is
    :func:`~snntorch_asnn.ops.adaptive_leaky.reference.late_reset`'s.
    """

    def charge() -> Tensor:
        return beta * mem + gain * x + feedback()

    u = charge()
    if rule.exact_reset:
        return reference.exact_step(u, threshold, scale, rule)
    reset = reference.previous_spikes(mem, previous_threshold, rule)
    u = reference.late_reset(u, charge, reset, previous_threshold, rule)
    return reference.settle(u, reset, threshold, scale, rule)
