r"""The public function: validate, choose an implementation, return."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
from snntorch_asnn.ops._adaptive_leaky.engine import Impl, run
from snntorch_asnn.ops._adaptive_leaky.rule import ResetMechanism, Rule, SpikeFunction
from snntorch_asnn.ops._arguments import parameters_of
from snntorch_asnn.surrogate import atan

__all__ = ["adaptive_leaky"]


def adaptive_leaky(
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
    reset_delay: bool = True,
    exact_reset: bool = False,
    detach_reset: bool | None = None,
    inhibition: bool = False,
    state_quant: Callable[[Tensor], Tensor] | None = None,
    output_mem: bool = False,
    impl: Impl = "auto",
) -> tuple[Tensor, Tensor]:
    r"""Run adaptive leaky neurons over a whole sequence.

    .. math::

        u[t] &= \beta[t]\, v[t-1] + g[t]\, x[t] \\
        s[t] &= H(u[t] - \theta[t]) \\
        v[t] &= u[t] - \theta[t]\, s[t] \quad (\text{exact reset by subtraction})

    With ``reset_delay=True`` the reset of a spike happens in the next step instead, as in
    :class:`snntorch.Leaky`, and ``v[t]`` is the membrane before it.

    Args:
        x: input current ``[T, B, ...]``, floating point. bfloat16 and float16 keep a float32 state.
        beta: leak per step, dimensionless: a number, or ``[T, *feature_shape]``, where ``feature_shape``
            broadcasts against the last dimensions of ``x``. Used as given, without a constraint.
        gain: input gain per step, dimensionless, of the same shapes.
        threshold: membrane at which a neuron fires, in units of ``x``, of the same shapes.
        mem: membrane before the first step ``[B, ...]``; None for zeros.
        previous_threshold: threshold of the step before the first, which a delayed reset of ``mem``
            answers: a number or ``feature_shape``. None takes that of the first step.
        graded_spikes_factor: what a spike is worth in the output, of the shapes of ``beta``.
        spike_grad: surrogate gradient, from :mod:`snntorch_asnn.surrogate` or :mod:`snntorch.surrogate`;
            None for the arc tangent, snnTorch's default.
        reset_mechanism, reset_delay, exact_reset, detach_reset, inhibition, state_quant: see
            :class:`~snntorch_asnn.AdaptiveLeaky`.
        output_mem: return the membrane after every step instead of after the last.
        impl: ``"reference"``, the plain loop; ``"cpp"`` and ``"triton"``, one kernel forward and one
            backward, on a CPU and on a GPU; ``"compile"``, loops fused by :func:`torch.compile`;
            ``"auto"``, the fastest one that runs here. All but the reference save nothing for the
            backward pass but the input. Spikes agree, gradients up to rounding.

    Returns:
        Spikes ``[T, B, ...]`` in the dtype of ``x``, and the membrane: ``[B, ...]`` after the last step, or
        ``[T, B, ...]`` with ``output_mem``, in float32 where ``x`` is of half precision.

    Raises:
        ValueError: if a shape does not fit, ``impl`` is unknown or cannot run here, or options exclude
            each other.
        TypeError: if ``x`` or ``mem`` is not a floating point tensor.

    Source: Adaptive Spiking Neural Networks with Hybrid Coding, arXiv 2408.12407.

    Example::

        >>> import torch
        >>> x = torch.full((4, 1, 1), 0.6)
        >>> beta = torch.tensor([0.9, 0.9, 0.5, 0.5])
        >>> spk, mem = adaptive_leaky(x, beta, reset_delay=False, exact_reset=True)
        >>> spk.flatten().tolist()
        [0.0, 1.0, 0.0, 0.0]
        >>> mem.shape
        torch.Size([1, 1])
    """
    options = reset_mechanism, reset_delay, exact_reset, detach_reset, inhibition, state_quant
    rule = Rule(atan() if spike_grad is None else spike_grad, *options)
    values = {"beta": beta, "gain": gain, "threshold": threshold}
    given = values | {"graded_spikes_factor": graded_spikes_factor}
    parameters = parameters_of(x, {"mem": mem}, given, rule, previous_threshold)
    return run(x, mem, Coefficients(**parameters), rule, output_mem=output_mem, impl=impl)
