r"""The adaptive recurrent leaky neuron: its spikes come back to it through a layer of weights.

.. math::

    u[t] = \beta[t]\, v[t-1] + g[t]\, x[t] + V(s[t-1])

followed by spikes and reset as in :func:`~snntorch_asnn.ops.adaptive_leaky`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from snntorch_asnn.ops._adaptive_leaky import reference
from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
from snntorch_asnn.ops._adaptive_leaky.engine import Impl, takes_steps
from snntorch_asnn.ops._adaptive_leaky.rule import Rule
from snntorch_asnn.ops._adaptive_leaky.triton import implementation as triton

__all__ = ["run_step", "step"]


def run_step(
    x: Tensor,
    feedback: Callable[[], Tensor],
    mem: Tensor,
    parameters: dict[str, Tensor],
    rule: Rule,
    feature_shape: tuple[int, ...],
    *,
    impl: Impl,
) -> tuple[Tensor, Tensor]:
    """:func:`step` with ``x`` of any dtype, on a GPU in one kernel.

    ``parameters`` are :func:`step`'s, which broadcast to ``feature_shape``.
    """
    is_covered = mem.dtype == torch.float32 and mem.shape == x.shape and triton.is_real(x)
    if not is_covered or not takes_steps(impl, x, rule):
        state = mem.dtype
        return step(x.to(state), lambda: feedback().to(state), mem, rule=rule, **parameters)
    fed = feedback()
    if fed.shape != x.shape or fed.dtype not in triton.dtypes:
        return step(x.to(mem.dtype), lambda: fed.to(mem.dtype), mem, rule=rule, **parameters)
    from snntorch_asnn.ops._adaptive_rleaky.triton import step as triton_recurrent

    row = Coefficients(**parameters).map(lambda c: c.expand(1, *feature_shape))
    return triton_recurrent.step(x, fed, mem, row, rule)


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
    :func:`~snntorch_asnn.ops._adaptive_leaky.reference.late_reset`'s.
    """

    def charge() -> Tensor:
        return beta * mem + gain * x + feedback()

    u = charge()
    if rule.exact_reset:
        return reference.exact_step(u, threshold, scale, rule)
    reset = reference.previous_spikes(mem, previous_threshold, rule)
    u = reference.late_reset(u, charge, reset, previous_threshold, rule)
    return reference.settle(u, reset, threshold, scale, rule)
