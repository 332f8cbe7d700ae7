"""Refusals where a neuron's state between calls would be lost, or be that of another time."""

from __future__ import annotations

from snntorch_asnn.neurons.run_state import RunState, running_backward

__all__ = ["check_export", "check_recomputation"]


def check_export(*, init_hidden: bool, knows_step: bool) -> None:
    """Refuse to export what depends on earlier calls, since an exported graph keeps nothing between calls.

    Raises:
        RuntimeError: if it does.
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
    """Refuse to compute once more, in a backward pass, from a state that has moved on since.

    Raises:
        RuntimeError: if a backward pass is running and the sequence of ``state`` did not start in it.
    """
    if running_backward() not in (-1, state.made_in_backward):
        raise RuntimeError(
            "init_hidden: activation checkpointing computes this step again in the backward pass, when the "
            "neuron's state is that of a later step, so gradients would be wrong; pass the state and step= "
            "by hand, use sequence=True without init_hidden, or start the sequence inside the checkpointed "
            "function"
        )
