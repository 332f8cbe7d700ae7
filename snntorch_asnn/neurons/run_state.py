"""States and time step of a neuron between two calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snntorch_asnn._torch import backward_pass, is_exporting, is_functorch_wrapped_tensor

__all__ = ["RunState", "State", "StepIndex"]

State = tuple[Tensor, ...]
"""A neuron's state tensors, in the order of its ``states``."""

StepIndex = int | Tensor
"""A time step: a number in eager mode; in a graph a 1-element tensor, so that it fits all steps."""


class RunState:
    """Run-time data of a neuron, hidden from ``state_dict()``, ``buffers()``, averages and process groups.

    A neuron replaces it as a whole and never changes it, so that a copy of the neuron may share it and
    :mod:`torch.export` can restore the state from before the export. A copied or pickled state is detached.

    Args:
        tensors: the state tensors.
        step: the time step that the next call computes.
        begun: whether a step has been computed since the sequence was started.
        follows: whether an earlier sequence was run, whose membranes the caller may still hold.
    """

    def __init__(
        self, tensors: State, step: StepIndex = 0, *, begun: bool = False, follows: bool = False
    ) -> None:
        self.tensors = tensors
        self.step = step
        self.begun = begun
        self.follows = follows
        self.made_in_export = is_exporting()
        self.made_in_backward = backward_pass()

    @classmethod
    def empty(cls, count: int) -> RunState:
        """The start of the first sequence, before any input has given the ``count`` states a shape."""
        return cls(tuple(torch.zeros(0) for _ in range(count)))

    def at_start(self, tensors: State) -> RunState:
        """The start of the next sequence."""
        follows = not torch.compiler.is_compiling() and (self.begun or self.follows)
        return RunState(tensors, follows=follows)

    def zeroed(self) -> RunState:
        """The start of the next sequence with zeros."""
        return self.at_start(tuple(map(_zeros_like, self.tensors)))

    def applied(self, function: Callable[[Tensor], Tensor]) -> RunState:
        """The state after ``nn.Module._apply``, which moves it to another device or dtype."""
        tensors = tuple(map(function, self.tensors))
        if any(old.is_meta and not new.is_meta for old, new in zip(self.tensors, tensors, strict=True)):
            return RunState.empty(len(tensors))  # the new memory has no values yet
        step = function(self.step) if isinstance(self.step, Tensor) else self.step
        return RunState(tensors, step, begun=self.begun, follows=self.follows)

    def of_samples(self, rows: Tensor) -> RunState:
        """The states of some samples of the batch, a mask or indices."""
        tensors = tuple(state[rows] if state.numel() else state for state in self.tensors)
        return RunState(tensors, self.step, begun=self.begun, follows=self.follows)

    def __getstate__(self) -> dict[str, Any]:
        """The data to pickle or copy: cut from the graph, in memory of their own."""
        step = self.step.clone() if isinstance(self.step, Tensor) else self.step
        return self.__dict__ | {
            "tensors": tuple(map(_detached, self.tensors)),
            "step": step,
            "made_in_backward": -1,
        }


def _zeros_like(state: Tensor) -> Tensor:
    # An exported graph would store the old state as a constant, because it needs the shape.
    forget = is_exporting() or _is_dead(state)
    return torch.zeros(0) if forget else torch.zeros_like(state)


def _detached(state: Tensor) -> Tensor:
    return torch.zeros(0) if _is_dead(state) else state.detach().clone()


def _is_dead(state: Tensor) -> bool:
    """Whether the state is left from a torch.func transform that has ended; such a tensor has no shape."""
    return not torch.compiler.is_compiling() and is_functorch_wrapped_tensor(state)
