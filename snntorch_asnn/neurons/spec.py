"""The parts in which one class of adaptive neurons differs from another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from snntorch_asnn.neurons.run_state import State
from snntorch_asnn.ops._adaptive_leaky.rule import Rule

__all__ = ["NeuronSpec"]

Parameters = dict[str, Tensor]
"""A neuron's time parameters as the ops name them."""


def _always_fused(rule: Rule) -> None:
    """Every rule has a fused implementation."""


@dataclass(frozen=True)
class NeuronSpec:
    """Leaks, states and step function of one class of adaptive neurons.

    Args:
        leaks: names of the leaks, to which ``beta_constraint`` applies.
        states: names of the state tensors, in the order in which ``forward`` takes them; the membrane is the
            last.
        returned_states: names of the states that ``forward`` returns beside the spikes.
        step: computes one step from neuron, input, state, that step's parameters and the rule. It returns the
            spikes and the new state.
        sequence: computes all steps of ``[T, B, ...]`` from neuron, input, state, parameters ``[T, ...]`` and
            the rule. It returns the spikes of all steps, and the last state or, with ``output``, all states.
            None means a loop over ``step``.
        why_loop: the reason for which a rule has no fused implementation and runs as a loop, for the error
            message; None if it has one.
        defaults: defaults of shared options that differ in this class.
    """

    leaks: tuple[str, ...]
    states: tuple[str, ...]
    returned_states: tuple[str, ...]
    step: Callable[[Any, Tensor, State, Parameters, Rule], tuple[Tensor, State]]
    sequence: Callable[..., tuple[Tensor, State]] | None = None
    why_loop: Callable[[Rule], str | None] = _always_fused
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def time_parameters(self) -> tuple[str, ...]:
        """Names of the parameters and buffers that may be indexed by time."""
        return *self.leaks, "gain", "threshold", "graded_spikes_factor"
