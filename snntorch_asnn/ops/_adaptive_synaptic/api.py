r"""The public function: validate, choose, return."""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import Tensor

from snntorch_asnn.ops._adaptive_leaky.engine import Impl, check_impl
from snntorch_asnn.ops._adaptive_leaky.rule import ResetMechanism, Rule, SpikeFunction
from snntorch_asnn.ops._adaptive_synaptic.sequence import is_two_runs, sequence, step
from snntorch_asnn.ops._arguments import parameters_of
from snntorch_asnn.ops._loop import loop
from snntorch_asnn.surrogate import atan

__all__ = ["adaptive_synaptic"]


def adaptive_synaptic(
    x: Tensor,
    alpha: float | Tensor,
    beta: float | Tensor,
    gain: float | Tensor = 1.0,
    threshold: float | Tensor = 1.0,
    syn: Tensor | None = None,
    mem: Tensor | None = None,
    *,
    previous_threshold: float | Tensor | None = None,
    graded_spikes_factor: float | Tensor = 1.0,
    spike_grad: SpikeFunction | None = None,
    reset_mechanism: ResetMechanism = "subtract",
    reset_delay: bool = True,
    exact_reset: bool = False,
    detach_reset: bool | None = None,
    inhibition: bool = False,
    state_quant: Callable[[Tensor], Tensor] | None = None,
    output_states: bool = False,
    impl: Impl = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Run adaptive synaptic neurons over a whole sequence.

    .. math::

        i[t] &= \alpha[t]\, i[t-1] + g[t]\, x[t] \\
        u[t] &= \beta[t]\, v[t-1] + i[t]

    with spikes and reset as in :func:`adaptive_leaky`. A reset to zero drops the current that arrives in the
    step of the reset, as in :class:`snntorch.Synaptic`, unless ``exact_reset``.

    Args:
        x: input ``[T, B, ...]``, floating point. bfloat16 and float16 keep float32 states.
        alpha: leak of the current per step, dimensionless: a number, or ``[T, *feature_shape]``, where
            ``feature_shape`` broadcasts against the last dimensions of ``x``.
        beta: leak of the membrane per step, dimensionless, of the same shapes.
        gain: input gain per step, dimensionless, of the same shapes.
        threshold: membrane at which a neuron fires, in units of ``x``, of the same shapes.
        syn: current before the first step ``[B, ...]``; None for zeros.
        mem: membrane before the first step ``[B, ...]``; None for zeros.
        previous_threshold, graded_spikes_factor, spike_grad: see :func:`adaptive_leaky`.
        reset_mechanism, reset_delay, exact_reset, detach_reset, inhibition: see :func:`adaptive_leaky`.
        state_quant: see :func:`adaptive_leaky`; quantises the current, too.
        output_states: return current and membrane after every step instead of after the last.
        impl: see :func:`adaptive_leaky`; current and membrane are one run of it each. ``"reference"`` is a
            loop over the steps, and so is ``"auto"`` with ``state_quant`` or snnTorch's reset to zero.

    Returns:
        Spikes ``[T, B, ...]`` in the dtype of ``x``; current and membrane, ``[B, ...]`` after the last step,
        or ``[T, B, ...]`` with ``output_states``, in float32 where ``x`` is of half precision.

    Raises:
        ValueError: if a shape does not fit, ``impl`` is unknown, cannot run here or does not cover the
            options, or options exclude each other.
        TypeError: if ``x``, ``syn`` or ``mem`` is not a floating point tensor.

    Source: Adaptive Spiking Neural Networks with Hybrid Coding, arXiv 2408.12407, for the parameters of each
    step; :class:`snntorch.Synaptic` for the neuron.

    Example::

        >>> import torch
        >>> x = torch.full((3, 1, 1), 0.4)
        >>> spk, syn, mem = adaptive_synaptic(x, 0.9, torch.tensor([0.8, 0.8, 0.5]))
        >>> spk.flatten().tolist()
        [0.0, 1.0, 0.0]
        >>> syn.shape, mem.shape
        (torch.Size([1, 1]), torch.Size([1, 1]))
    """
    options = reset_mechanism, reset_delay, exact_reset, detach_reset, inhibition, state_quant
    rule = Rule(atan() if spike_grad is None else spike_grad, *options)
    values = {"alpha": alpha, "beta": beta, "gain": gain, "threshold": threshold}
    given = values | {"graded_spikes_factor": graded_spikes_factor}
    parameters = parameters_of(x, {"syn": syn, "mem": mem}, given, rule, previous_threshold)
    if is_two_runs(rule):
        check_impl(impl)
    else:
        check_impl(impl, only_loop="state_quant or a reset to zero without exact_reset")
    if impl == "reference" or not is_two_runs(rule):
        one = functools.partial(_step, rule=rule)
        spikes, currents, mems = loop(one, x, (syn, mem), parameters, output_states=output_states)
        return spikes, currents, mems
    return sequence(x, syn, mem, rule=rule, output_states=output_states, impl=impl, **parameters)


def _step(x: Tensor, syn: Tensor, mem: Tensor, **options: Tensor | Rule) -> tuple[Tensor, Tensor, Tensor]:
    return step(x.to(mem.dtype), syn, mem, **options)  # type: ignore[arg-type]
