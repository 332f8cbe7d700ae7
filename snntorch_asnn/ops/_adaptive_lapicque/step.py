r"""The adaptive Lapicque neuron: a leaky neuron whose reset to zero drops the step's input, too.

.. math::

    u[t] = \beta[t]\, v[t-1] + g[t]\, x[t]

followed by spikes and reset as in :func:`~snntorch_asnn.ops.adaptive_leaky`.
"""

from __future__ import annotations

from torch import Tensor

from snntorch_asnn.ops._adaptive_leaky import reference
from snntorch_asnn.ops._adaptive_leaky.rule import Rule

__all__ = ["step"]


def step(
    x: Tensor,
    mem: Tensor,
    *,
    beta: Tensor,
    gain: Tensor,
    threshold: Tensor,
    previous_threshold: Tensor,
    scale: Tensor,
    rule: Rule,
) -> tuple[Tensor, Tensor]:
    """One time step in the order of operations of :class:`snntorch.Lapicque`: spikes and membrane."""

    def charge() -> Tensor:
        return gain * x + beta * mem

    reset = reference.previous_spikes(mem, previous_threshold, rule)
    u = reference.late_reset(charge(), charge, reset, previous_threshold, rule)
    return reference.settle(u, reset, threshold, scale, rule)
