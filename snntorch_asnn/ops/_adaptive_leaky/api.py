r"""The public function: validate, choose an implementation, return."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients, spread
from snntorch_asnn.ops._adaptive_leaky.engine import Impl, run
from snntorch_asnn.ops._adaptive_leaky.rule import ResetMechanism, Rule, SpikeFunction
from snntorch_asnn.surrogate import atan

__all__ = ["adaptive_leaky", "check_input", "check_mem", "fits"]


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

        >>> x = torch.full((4, 1, 1), 0.6)
        >>> beta = torch.tensor([0.9, 0.9, 0.5, 0.5])
        >>> spk, mem = adaptive_leaky(x, beta, reset_delay=False, exact_reset=True)
        >>> spk.flatten().tolist()
        [0.0, 1.0, 0.0, 0.0]
        >>> mem.shape
        torch.Size([1, 1])
    """
    rule = Rule(
        atan() if spike_grad is None else spike_grad,
        reset_mechanism,
        reset_delay,
        exact_reset,
        detach_reset,
        inhibition,
        state_quant,
    )
    check_input("x", x)
    if x.ndim < 1 or x.shape[0] < 1:
        raise ValueError(f"x must be [T, B, ...] with at least one step; got shape {tuple(x.shape)}")
    state_dtype = check_mem(mem, x[0])
    values = {
        "beta": beta,
        "gain": gain,
        "threshold": threshold,
        "graded_spikes_factor": graded_spikes_factor,
    }
    tensors = {name: _per_step(name, value, x, state_dtype) for name, value in values.items()}
    feature_shape = torch.broadcast_shapes(*(t.shape[1:] for t in tensors.values()))
    beta, gain, threshold, scale = (spread(t, feature_shape, x.shape[0]) for t in tensors.values())
    previous = threshold
    if rule.reset_delay or not rule.exact_reset:
        previous = _delayed(threshold, previous_threshold, state_dtype)
    coefficients = Coefficients(beta, gain, threshold, previous, scale)
    return run(x, mem, coefficients, rule, output_mem=output_mem, impl=impl)


def check_input(name: str, x: Tensor) -> None:
    """Refuse what is not a floating point tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor; got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"{name} must be of a floating point dtype; got {x.dtype}")


def check_mem(mem: Tensor | None, x: Tensor, name: str = "mem") -> torch.dtype:
    """Refuse a state that does not belong to the input ``x`` of one step; return the state's dtype."""
    state_dtype = torch.promote_types(x.dtype, torch.float32)
    if mem is None:
        return state_dtype
    check_input(name, mem)
    if mem.shape != x.shape:
        raise ValueError(
            f"{name} must have the shape of one step's input, {tuple(x.shape)}; got {tuple(mem.shape)}"
        )
    if mem.dtype not in (x.dtype, state_dtype):
        raise TypeError(f"{name} must be {state_dtype} for an input of {x.dtype}; got {mem.dtype}")
    if mem.device != x.device:
        raise ValueError(f"{name} must be on the input's device, {x.device}; got {mem.device}")
    return state_dtype


def fits(feature_shape: Sequence[int], step_shape: Sequence[int]) -> bool:
    """Whether parameters of ``feature_shape`` broadcast against one step's input without enlarging it."""
    if len(feature_shape) > len(step_shape):
        return False
    last = step_shape[len(step_shape) - len(feature_shape) :]
    return all(f in (1, s) for f, s in zip(feature_shape, last, strict=True))


def _per_step(name: str, value: float | Tensor, x: Tensor, state_dtype: torch.dtype) -> Tensor:
    """``value`` as ``[T, *its features]``, or ``[1]`` where it is one number for all steps."""
    if not isinstance(value, Tensor) and type(value) in (int, float):
        tensor = torch.full((), value, device=x.device)  # a copy from the host would wait for the device
    else:
        tensor = torch.as_tensor(value, device=None if isinstance(value, Tensor) else x.device)
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name} must be a real number or tensor; got {tensor.dtype}")
    if tensor.ndim == 0:
        return tensor.to(device=x.device, dtype=state_dtype).reshape(1)
    if tensor.device != x.device:
        raise ValueError(f"{name} must be on the input's device, {x.device}; got {tensor.device}")
    if tensor.shape[0] != x.shape[0]:
        raise ValueError(
            f"{name} must be a number or have one entry per time step, {x.shape[0]}; "
            f"got shape {tuple(tensor.shape)}"
        )
    if not fits(tensor.shape[1:], x.shape[1:]):
        raise ValueError(
            f"{name} has the shape {tuple(tensor.shape[1:])} at each step, which does not broadcast "
            f"against an input of shape {tuple(x.shape[1:])}"
        )
    return tensor.to(state_dtype).resolve_neg()


def _delayed(threshold: Tensor, first: float | Tensor | None, state_dtype: torch.dtype) -> Tensor:
    """Threshold of the step before each step."""
    if first is None:
        start = threshold[:1]
    else:
        if not isinstance(first, Tensor) and type(first) in (int, float):
            start = torch.full((), first, device=threshold.device, dtype=state_dtype)
        else:
            start = torch.as_tensor(first, device=threshold.device).to(state_dtype)
        if not fits(start.shape, threshold.shape[1:]):
            raise ValueError(
                f"previous_threshold must be a number or have the shape of one step's threshold, "
                f"{tuple(threshold.shape[1:])}; got {tuple(start.shape)}"
            )
        start = start.expand(threshold.shape[1:]).unsqueeze(0)
    return torch.cat([start, threshold[:-1]])
