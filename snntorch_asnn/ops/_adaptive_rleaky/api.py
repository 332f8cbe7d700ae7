r"""The public function: validate, loop, return."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from snntorch_asnn.ops._adaptive_leaky.engine import Impl, check_impl
from snntorch_asnn.ops._adaptive_leaky.rule import ResetMechanism, Rule, SpikeFunction
from snntorch_asnn.ops._adaptive_rleaky.step import run_step
from snntorch_asnn.ops._arguments import fits, parameters_of
from snntorch_asnn.ops._loop import loop
from snntorch_asnn.surrogate import atan

__all__ = ["adaptive_rleaky"]

Feedback = float | Tensor | Callable[[Tensor], Tensor]


def adaptive_rleaky(
    x: Tensor,
    beta: float | Tensor,
    gain: float | Tensor = 1.0,
    threshold: float | Tensor = 1.0,
    spk: Tensor | None = None,
    mem: Tensor | None = None,
    *,
    feedback: Feedback,
    previous_threshold: float | Tensor | None = None,
    graded_spikes_factor: float | Tensor = 1.0,
    spike_grad: SpikeFunction | None = None,
    reset_mechanism: ResetMechanism = "subtract",
    reset_delay: bool = True,
    exact_reset: bool = False,
    detach_reset: bool | None = None,
    inhibition: bool = False,
    state_quant: Callable[[Tensor], Tensor] | None = None,
    output_mem: bool = False,
    impl: Impl = "auto",
) -> tuple[Tensor, Tensor]:
    r"""Run adaptive recurrent leaky neurons over a whole sequence.

    .. math::

        u[t] = \beta[t]\, v[t-1] + g[t]\, x[t] + V(s[t-1])

    with spikes and reset as in :func:`adaptive_leaky`. A reset to zero drops the input that arrives in the
    step of the reset, as in :class:`snntorch.RLeaky`, unless ``exact_reset``. Every step waits for the spikes
    of the one before, so a sequence is a loop.

    Args:
        x: input current ``[T, B, ...]``, floating point. bfloat16 and float16 keep a float32 membrane.
        beta: leak per step, dimensionless: a number, or ``[T, *feature_shape]``, where ``feature_shape``
            broadcasts against the last dimensions of ``x``.
        gain: gain of the input, not of the feedback, per step, dimensionless, of the same shapes.
        threshold: membrane at which a neuron fires, in units of ``x``, of the same shapes.
        spk: spikes of the step before the first ``[B, ...]``; None for no spikes.
        mem: membrane before the first step ``[B, ...]``; None for zeros.
        feedback: :math:`V`: a function or module from spikes ``[B, ...]`` to a current ``[B, ...]``, or what
            spikes are multiplied by, a number or a tensor that broadcasts against one step's input.
        previous_threshold, graded_spikes_factor, spike_grad: see :func:`adaptive_leaky`.
        reset_mechanism, reset_delay, exact_reset, detach_reset, inhibition: see :func:`adaptive_leaky`.
        state_quant: see :func:`adaptive_leaky`.
        output_mem: return the membrane after every step instead of after the last.
        impl: ``"auto"`` or ``"reference"``. On a GPU, ``"auto"`` runs all but the feedback in one kernel a
            step.

    Returns:
        Spikes ``[T, B, ...]`` in the dtype of ``x``, and the membrane: ``[B, ...]`` after the last step, or
        ``[T, B, ...]`` with ``output_mem``, in float32 where ``x`` is of half precision.

    Raises:
        ValueError: if a shape does not fit, ``impl`` is another one, or options exclude each other.
        TypeError: if ``x``, ``spk`` or ``mem`` is not a floating point tensor, or ``feedback`` is neither a
            number, a tensor nor callable.

    Source: Adaptive Spiking Neural Networks with Hybrid Coding, arXiv 2408.12407, for the parameters of each
    step; :class:`snntorch.RLeaky` for the neuron.

    Example::

        >>> import torch
        >>> x = torch.full((3, 1, 1), 0.6)
        >>> spk, mem = adaptive_rleaky(x, torch.tensor([0.9, 0.9, 0.5]), feedback=0.5)
        >>> spk.flatten().tolist()
        [0.0, 1.0, 0.0]
        >>> mem
        tensor([[0.6700]])
    """
    options = reset_mechanism, reset_delay, exact_reset, detach_reset, inhibition, state_quant
    rule = Rule(atan() if spike_grad is None else spike_grad, *options)
    values = {"beta": beta, "gain": gain, "threshold": threshold}
    given = values | {"graded_spikes_factor": graded_spikes_factor}
    parameters = parameters_of(x, {"spk": spk, "mem": mem}, given, rule, previous_threshold)
    check_impl(impl, only_loop="recurrent neurons, whose steps wait for each other's spikes")
    feed = _feed(feedback, x)
    features = parameters["beta"].shape[1:]

    def one(x: Tensor, spk: Tensor, mem: Tensor, **now: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        spikes, mem = run_step(x, lambda: feed(spk.to(x.dtype)), mem, now, rule, features, impl=impl)
        return spikes, spikes.to(x.dtype), mem

    spikes, _, mems = loop(one, x, (spk, mem), parameters, output_states=output_mem)
    return spikes, mems


def _feed(feedback: Feedback, x: Tensor) -> Callable[[Tensor], Tensor]:
    """The feedback as a function of the spikes."""
    if isinstance(feedback, (int, float, Tensor)) and not isinstance(feedback, bool):
        weight, shape = feedback, tuple(torch.as_tensor(feedback).shape)
        if not fits(shape, x.shape[1:]):
            raise ValueError(
                f"feedback must broadcast against one step's input, {tuple(x.shape[1:])}; got shape {shape}"
            )
        return lambda spikes: spikes * weight
    if not callable(feedback):
        raise TypeError(f"feedback must be a number, a tensor or a function; got {feedback!r}")
    return feedback
