"""Checks of what users pass to the ops, and parameters spread over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from snntorch_asnn.ops._adaptive_leaky.coefficients import spread
from snntorch_asnn.ops._adaptive_leaky.rule import Rule

__all__ = ["check_input", "check_mem", "fits", "parameters_of"]


def parameters_of(
    x: Tensor,
    states: Mapping[str, Tensor | None],
    values: Mapping[str, float | Tensor],
    rule: Rule,
    previous_threshold: float | Tensor | None,
) -> dict[str, Tensor]:
    """Parameters of every step as the ops name them, ``[T, *features]`` in the dtype of the state.

    Args:
        x: input ``[T, B, ...]``.
        states: the states before the first step, by the names under which the user passes them.
        values: the parameters, likewise, with ``threshold`` and ``graded_spikes_factor`` among them.
        rule: how neurons fire and reset.
        previous_threshold: threshold of the step before the first; None for that of the first.

    Raises:
        ValueError, TypeError: if an argument does not fit ``x``; the message names it.
    """
    check_input("x", x)
    if x.ndim < 1 or x.shape[0] < 1:
        raise ValueError(f"x must be [T, B, ...] with at least one step; got shape {tuple(x.shape)}")
    for name, state in states.items():
        check_mem(state, x[0], name)
    dtype = torch.promote_types(x.dtype, torch.float32)
    tensors = {name: _per_step(name, value, x, dtype) for name, value in values.items()}
    features = torch.broadcast_shapes(*(t.shape[1:] for t in tensors.values()))
    parameters = {name: spread(t, features, x.shape[0]) for name, t in tensors.items()}
    threshold = parameters["threshold"]
    previous = threshold if rule.exact_reset else _delayed(threshold, previous_threshold, dtype)
    scale = parameters.pop("graded_spikes_factor")
    return parameters | {"previous_threshold": previous, "scale": scale}


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
        # A copy from the host would wait for the device.
        tensor = torch.full((), value, device=x.device, dtype=state_dtype)
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
