"""A sequence as a loop over its steps, for neurons and rules that no kernel runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["loop"]


def loop(
    step: Callable[..., tuple[Tensor, ...]],
    x: Tensor,
    states: Sequence[Tensor | None],
    parameters: Mapping[str, Tensor],
    *,
    output_states: bool,
) -> tuple[Tensor, ...]:
    """Spikes of all steps in the dtype of ``x``, and every state after the last step or after each.

    Args:
        step: from one step's input, the states and its parameters by name to spikes and the new states.
        x: input ``[T, B, ...]``.
        states: states before the first step ``[B, ...]``; None for zeros.
        parameters: parameters ``[T, *features]``.
        output_states: return the states after every step.
    """
    dtype = parameters["beta"].dtype
    now = [torch.zeros_like(x[0], dtype=dtype) if s is None else s.to(dtype) for s in states]
    spikes: list[Tensor] = []
    trace: list[list[Tensor]] = []
    for x_t, *values in zip(x.unbind(0), *(p.unbind(0) for p in parameters.values()), strict=True):
        fired, *now = step(x_t, *now, **dict(zip(parameters, values, strict=True)))
        spikes.append(fired.to(x.dtype))
        trace.append(now)
    after = [torch.stack(steps) for steps in zip(*trace, strict=True)] if output_states else now
    return torch.stack(spikes), *after
