"""The state that a neuron keeps between calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor

from snntorch_asnn._torch import is_batchedtensor, is_exporting, is_view, keep_out_of_graphs
from snntorch_asnn.neurons.lost_state import check_recomputation, checked_step, note_start, started_step
from snntorch_asnn.neurons.membrane_steps import MembraneSteps
from snntorch_asnn.neurons.run_state import RunState, State, StepIndex
from snntorch_asnn.neurons.time_indexed import TimeIndexed
from snntorch_asnn.ops._arguments import check_input, check_mem

__all__ = ["Stateful", "as_dtype", "state_property"]


def state_property(name: str, meaning: str) -> property:
    """A state tensor that snnTorch may assign to from outside, which starts a new sequence."""

    def read(self: Stateful) -> Tensor:
        return self._state.tensors[self.states.index(name)]

    def write(self: Stateful, value: Tensor) -> None:
        held = dict(zip(self.states, self._state.tensors, strict=True))
        self._start(self._state.at_start(tuple((held | {name: value}).values())))

    return property(read, write, doc=f"{meaning}; assign to it to start a new sequence.")


class Stateful(TimeIndexed):
    """A neuron that keeps a :class:`RunState`, and knows the time step of each membrane that it returned."""

    states: tuple[str, ...] = ("mem",)
    """Names of the state tensors, in the order in which ``forward`` takes them; the membrane is the last."""

    init_hidden: bool
    _membrane_steps: MembraneSteps

    def _init_mem(self) -> None:
        self._state = RunState.empty(len(self.states))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._state = self._state.applied(fn)
        return self

    def _replicate_for_data_parallel(self) -> Self:
        replica: Self = super()._replicate_for_data_parallel()  # type: ignore[no-untyped-call]
        replica._membrane_steps = MembraneSteps()
        replica._state = RunState.empty(len(self.states))
        return replica

    def _start_over(self) -> State:
        """Zero every state and go back to the first step."""
        self._start(self._state.zeroed())
        self._remember()
        return self._state.tensors

    def _start(self, state: RunState) -> None:
        """Start a new sequence from ``state``."""
        if not torch.compiler.is_compiling():
            if self._state.begun:
                self._remember()  # the caller may go on with this membrane later
            note_start()
        elif not is_exporting():
            state.step = started_step(self._as_tensor(0))
        self._state = state

    def keep_samples(self, rows: Tensor) -> None:
        """Go on with some samples of the batch only: keep these rows of the states, a mask or indices."""
        self._state = self._state.of_samples(rows)

    def _remember(self) -> None:
        if not (self.init_hidden or torch.compiler.is_compiling()):
            self._membrane_steps.remember(self._state.tensors[-1], self._state.step)

    def _keep(self, state: State, position: StepIndex, steps: int) -> None:
        """Keep the state after a call of ``steps`` steps whose first was ``position``."""
        if self.init_hidden and not torch.compiler.is_compiling() and any(map(is_batchedtensor, state)):
            raise RuntimeError(
                "init_hidden=True: under torch.func.vmap the state cannot be kept, as its mapped dimension "
                "ends with the call; pass mem by hand, or use sequence=True without init_hidden"
            )
        if self.init_hidden and not torch.compiler.is_compiling():
            # snnTorch detaches the state in place, which fails for a view, and its quantiser returns views.
            state = tuple(value.clone() if is_view(value) else value for value in state)
        self._state = RunState(state, self._step_after(position, steps), begun=True)

    def _begin(
        self, x: Tensor, given: tuple[Tensor | None, ...], step: int | None
    ) -> tuple[tuple[Tensor | None, ...], StepIndex]:
        """The state before a sequence whose state the caller keeps, and its first step."""
        for name, state in zip(self.states, given, strict=True):
            if state is None:
                continue
            check_mem(state, x[0], name)
            if step is None and x.shape[0] < self.num_steps:
                raise ValueError(
                    f"{name} is passed by hand with {x.shape[0]} steps of input, fewer than "
                    f"num_steps={self.num_steps}, so the time step of the first input is unknown; pass step="
                )
        if step is None or is_exporting():
            return given, step or 0
        return given, self._position(step)

    def _resume(
        self, x: Tensor, given: tuple[Tensor | None, ...], step: int | None
    ) -> tuple[State, StepIndex]:
        """The state before the input ``x`` of one step, and the step."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        state: list[Tensor] = []
        fresh = reads_held = False
        for name, held, passed in zip(self.states, self._state.tensors, given, strict=True):
            before = held if passed is None else passed
            check_input(name, before)
            own = before is held or before.shape == (0,)
            if own and before.shape != x.shape:
                before, fresh = torch.zeros_like(x, dtype=dtype), True
            elif own:
                reads_held = reads_held or passed is None
            else:
                check_mem(before, x, name)
            state.append(as_dtype(before, dtype))
        if fresh:
            return tuple(state), 0 if step is None else step
        mem = given[-1]
        if step is None and mem is not None and mem is not self._state.tensors[-1]:
            return tuple(state), self._locate(mem)
        position = self._position(step)
        if reads_held and not torch.compiler.is_compiling():
            check_recomputation(self._state)
        elif reads_held and isinstance(position, Tensor) and torch.is_grad_enabled() and not is_exporting():
            position = checked_step(position)
        return tuple(state), position

    def _locate(self, mem: Tensor) -> StepIndex:
        """The time step that follows a membrane which is passed by hand and is not the last call's.

        A membrane that this neuron did not return starts a new sequence after a reset.

        Raises:
            ValueError: in the middle of a sequence, if this neuron did not return the membrane.
        """
        state = self._state
        if not torch.compiler.is_compiling():
            position = self._membrane_steps.find(mem)
            if position is None and state.begun:
                raise ValueError(
                    "mem is not a tensor that this neuron has returned, nor a view of one, and the last call "
                    f"was step {self.step - 1}, so the time step of mem is unknown: pass step=, or start a "
                    "new sequence with reset_mem()"
                )
            return self._position(position)
        return self._look_up(mem) if state.begun or state.follows else self._position(None)

    @keep_out_of_graphs("a membrane's time step is found by its memory: pass step=")
    def _look_up(self, mem: Tensor) -> Tensor:
        """Do the work of :meth:`_locate` for compiled code, which cannot see a tensor's memory."""
        # A graph cannot remember the membrane that it returns.
        self._remember()
        position = self._membrane_steps.find(mem)
        if position is None and self._state.begun:
            raise ValueError(
                "mem is not the membrane of this neuron's last call, and compiled code may not know the time "
                "step of another membrane: pass step=, or start a new sequence with reset_mem()"
            )
        return self._as_tensor(self.step if position is None else position)


def as_dtype(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """``tensor.to(dtype)``, without the time that its dispatch takes if the dtype is the same."""
    return tensor if tensor.dtype == dtype else tensor.to(dtype)
