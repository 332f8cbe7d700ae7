r"""The public function: validate, choose, return."""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import Tensor

from snntorch_asnn.ops._adaptive_lapicque.step import step
from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
from snntorch_asnn.ops._adaptive_leaky.engine import Impl, check_impl, run
from snntorch_asnn.ops._adaptive_leaky.rule import ResetMechanism, Rule, SpikeFunction
from snntorch_asnn.ops._arguments import parameters_of
from snntorch_asnn.ops._loop import loop
from snntorch_asnn.surrogate import atan

__all__ = ["adaptive_lapicque"]


def adaptive_lapicque(
    x: Tensor,
    beta: float | Tensor,
    gain: float | Tensor = 1.0,
    threshold: float | Tensor = 1.0,
    mem: Tensor | None = None,
    *,
    previous_threshold: float | Tensor | None = None,
    graded_spikes_factor: float | Tensor = 1.0,
    spike_grad: SpikeFunction | None = None,
    reset_mechanism: ResetMechanism = "subtract",
    detach_reset: bool | None = None,
    inhibition: bool = False,
    state_quant: Callable[[Tensor], Tensor] | None = None,
    output_mem: bool = False,
    impl: Impl = "auto",
) -> tuple[Tensor, Tensor]:
    r"""Run adaptive Lapicque neurons over a whole sequence.

    .. math::

        u[t] = \beta[t]\, v[t-1] + g[t]\, x[t]

    with spikes and the delayed reset of :func:`adaptive_leaky`. A reset to zero drops the input that arrives
    in the step of the reset, as in :class:`snntorch.Lapicque`. A circuit of resistance :math:`R` and
    capacitance :math:`C` has :math:`\beta = 1 - \Delta t / RC` and :math:`g = \Delta t / C`.

    Args:
        x: input current ``[T, B, ...]``, floating point. bfloat16 and float16 keep a float32 state.
        beta: leak per step, dimensionless: a number, or ``[T, *feature_shape]``, where ``feature_shape``
            broadcasts against the last dimensions of ``x``.
        gain: membrane per unit of input, of the same shapes.
        threshold: membrane at which a neuron fires, in units of the membrane, of the same shapes.
        mem: membrane before the first step ``[B, ...]``; None for zeros.
        previous_threshold, graded_spikes_factor, spike_grad: see :func:`adaptive_leaky`.
        reset_mechanism, detach_reset, inhibition, state_quant: see :func:`adaptive_leaky`.
        output_mem: return the membrane after every step instead of after the last.
        impl: see :func:`adaptive_leaky`; with ``reset_mechanism="zero"``, ``"auto"`` or ``"reference"``, a
            loop over the steps.

    Returns:
        Spikes ``[T, B, ...]`` in the dtype of ``x``, and the membrane: ``[B, ...]`` after the last step, or
        ``[T, B, ...]`` with ``output_mem``, in float32 where ``x`` is of half precision.

    Raises:
        ValueError: if a shape does not fit, or ``impl`` is unknown, cannot run here or does not cover the
            options.
        TypeError: if ``x`` or ``mem`` is not a floating point tensor.

    Source: Adaptive Spiking Neural Networks with Hybrid Coding, arXiv 2408.12407, for the parameters of each
    step; :class:`snntorch.Lapicque` for the neuron.

    Example::

        >>> import torch
        >>> resistance, capacitance, dt = 5, 2, 1.0
        >>> x = torch.full((3, 1, 1), 1.2)
        >>> spk, mem = adaptive_lapicque(x, 1 - dt / (resistance * capacitance), dt / capacitance)
        >>> spk.flatten().tolist()
        [0.0, 1.0, 0.0]
        >>> mem
        tensor([[0.6260]])
    """
    rule = Rule(
        atan() if spike_grad is None else spike_grad,
        reset_mechanism,
        detach_reset=detach_reset,
        inhibition=inhibition,
        state_quant=state_quant,
    )
    values = {"beta": beta, "gain": gain, "threshold": threshold}
    given = values | {"graded_spikes_factor": graded_spikes_factor}
    parameters = parameters_of(x, {"mem": mem}, given, rule, previous_threshold)
    drops_input = rule.reset_mechanism == "zero"
    check_impl(impl, only_loop="reset_mechanism='zero'" if drops_input else None)
    if impl == "reference" or drops_input:
        one = functools.partial(_step, rule=rule)
        spikes, mems = loop(one, x, (mem,), parameters, output_states=output_mem)
        return spikes, mems
    return run(x, mem, Coefficients(**parameters), rule, output_mem=output_mem, impl=impl)


def _step(x: Tensor, mem: Tensor, **options: Tensor | Rule) -> tuple[Tensor, Tensor]:
    return step(x.to(mem.dtype), mem, **options)  # type: ignore[arg-type]
