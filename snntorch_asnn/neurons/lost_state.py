"""Errors where the state between calls would be lost, or would be that of another time step."""

from __future__ import annotations

import torch
from torch import Tensor

from snntorch_asnn._torch import backward_pass
from snntorch_asnn.neurons.run_state import RunState

__all__ = ["check_export", "check_recomputation", "checked_step", "note_start", "started_step"]

_RECOMPUTED = (
    "init_hidden: activation checkpointing computes this step again in the backward pass, when the "
    "neuron holds the state of a later step, so gradients would be wrong; pass the state and step= "
    "by hand, use sequence=True without init_hidden, or start the sequence inside the checkpointed "
    "function"
)


def check_export(*, init_hidden: bool, knows_step: bool) -> None:
    """Refuse to export a call that depends on earlier calls, as a graph keeps nothing between calls.

    Raises:
        RuntimeError: if the call depends on earlier calls.
    """
    if init_hidden:
        raise RuntimeError(
            "init_hidden=True: an exported graph would lose the state between calls; start the sequence "
            "inside the exported forward (snntorch_asnn.reset(self), then every step), or use "
            "sequence=True without init_hidden"
        )
    if not knows_step:
        raise RuntimeError(
            "step: an exported graph would compute the same time step at every call; pass step=, start "
            "the sequence inside the exported forward with reset_mem(), or use sequence=True"
        )


def check_recomputation(state: RunState) -> None:
    """Refuse to compute a step again in a backward pass, from a state that is no longer the step's own.

    Raises:
        RuntimeError: if a backward pass is running and the sequence of ``state`` did not start in it.
    """
    if backward_pass() not in (-1, state.made_in_backward):
        raise RuntimeError(_RECOMPUTED)


class _Started:
    """Start of the last sequence of any neuron."""

    in_backward = -1
    """The number of the backward pass in which it started; -1 outside of a backward pass."""


def note_start() -> None:
    """Note that a sequence starts now."""
    _Started.in_backward = backward_pass()


def checked_step(step: Tensor) -> Tensor:
    """``step``, with :func:`check_recomputation` at every call of the graph.

    A graph does not know the neuron of the state that it gets, so it raises unless some sequence has started
    in the running backward pass.
    """
    return torch.ops.snntorch_asnn.checked_step(step)  # type: ignore[no-any-return]


def started_step(step: Tensor) -> Tensor:
    """``step``, with :func:`note_start` at every call of the graph."""
    return torch.ops.snntorch_asnn.started_step(step)  # type: ignore[no-any-return]


def _checked_step(step: Tensor) -> Tensor:
    if backward_pass() not in (-1, _Started.in_backward):
        raise RuntimeError(_RECOMPUTED)
    return step.clone()


def _started_step(step: Tensor) -> Tensor:
    note_start()
    return step.clone()


_OPERATORS = torch.library.Library("snntorch_asnn", "FRAGMENT")
for _function in (_checked_step, _started_step):
    _name = _function.__name__.removeprefix("_")
    # With this tag no compiler moves the operator into the graph of the backward pass.
    _OPERATORS.define(f"{_name}(Tensor step) -> Tensor", tags=(torch.Tag.nondeterministic_seeded,))
    _OPERATORS.impl(_name, _function, "CompositeExplicitAutograd")
    torch.library.register_fake(f"snntorch_asnn::{_name}", torch.empty_like, lib=_OPERATORS)
