"""Parameters indexed by time, and the time step that indexes them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snntorch_asnn._arguments import check_count
from snntorch_asnn._torch import is_exporting
from snntorch_asnn.neurons.run_state import RunState, StepIndex
from snntorch_asnn.neurons.time_parameters import Overrun

__all__ = ["TimeIndexed"]


class TimeIndexed(nn.Module):
    """A module with parameters ``[T, *feature_shape]`` that keeps the time step of its next call.

    The step is a number or, once a compiled graph has advanced it, a 1-element tensor, so that one graph
    serves all steps.
    """

    time_parameters: tuple[str, ...]
    """Names of the parameters and buffers ``[T, ...]``; one without dimensions is the same at every step."""

    feature_shape: tuple[int, ...]
    on_overrun: Overrun
    _state: RunState
    _num_steps: int

    @property
    def num_steps(self) -> int:
        """T, the number of steps that have parameters; ``resize_steps`` changes it."""
        return self._num_steps

    @num_steps.setter
    def num_steps(self, num_steps: int) -> None:
        check_count("num_steps", num_steps)
        for name in self.time_parameters:
            value = getattr(self, name, None)
            if value is not None and value.ndim > 0 and len(value) != num_steps:
                raise ValueError(
                    f"num_steps={num_steps}: {name} has values for {len(value)} steps; "
                    f"call resize_steps({num_steps}), which resamples it"
                )
        self._num_steps = num_steps

    @property
    def step(self) -> int:
        """The time step that the next call computes."""
        return int(self._state.step)

    def _position(self, step: int | None) -> StepIndex:
        """The time step of this call: the given one, or the one after the last call's."""
        if not torch.compiler.is_compiling():
            return self.step if step is None else step
        position = self._state.step if step is None else step
        return position if isinstance(position, Tensor) else self._as_tensor(position)

    def _as_tensor(self, step: int) -> Tensor:
        return torch.full((1,), step, device=self._device)

    @property
    def _device(self) -> torch.device:
        parameter: Tensor = getattr(self, self.time_parameters[0])
        return parameter.device

    def _step_after(self, position: StepIndex, steps: int) -> StepIndex:
        """The time step that follows a call of ``steps`` steps whose first was ``position``."""
        after = position + steps
        if self.on_overrun == "cycle":
            after = after % self.num_steps
        if isinstance(after, Tensor):
            return after.clamp(max=self.num_steps)
        return self._as_tensor(after) if torch.compiler.is_compiling() else min(after, self.num_steps)

    def _indices(self, position: StepIndex, steps: int) -> slice | Tensor:
        """Rows of the time parameters for ``steps`` steps from ``position`` on.

        Raises:
            ValueError: if they end after ``num_steps`` and ``on_overrun`` is ``"raise"``. A compiled graph
                raises RuntimeError, because the step is known only when it runs.
        """
        if isinstance(position, int) and position + steps <= self.num_steps:
            return slice(position, position + steps)
        rows = position + torch.arange(steps, device=self._device)
        if self.on_overrun == "raise":
            if isinstance(position, int):
                last = position + steps - 1
                raise ValueError(f"{self._overrun_message()}; this call asks for step {last}")
            torch._assert_async((rows[-1] < self.num_steps).all(), self._overrun_message())
        return self._wrapped(rows)

    def _wrapped(self, rows: Tensor) -> Tensor:
        return rows % self.num_steps if self.on_overrun == "cycle" else rows.clamp(max=self.num_steps - 1)

    def _overrun_message(self) -> str:
        return (
            f"num_steps={self.num_steps}: the neuron has parameters for steps 0 to {self.num_steps - 1}; "
            "start a new sequence with snntorch_asnn.reset(net), or choose on_overrun='hold' or 'cycle'"
        )

    def _row(self, value: Tensor, rows: slice | Tensor) -> Tensor:
        """The value of a time parameter at one step."""
        if value.ndim == 0:
            return value
        if isinstance(rows, slice):
            return value[rows.start]
        return value.index_select(0, rows).squeeze(0)

    def _rows(self, value: Tensor, rows: slice | Tensor, steps: int) -> Tensor:
        """The values of a time parameter at several steps, ``[steps, *feature_shape]``."""
        if value.ndim == 0 and is_exporting():
            # Inductor, compiling an exported graph, cannot take a step from an expanded number.
            return value * value.new_ones(steps, *self.feature_shape)
        if value.ndim == 0:
            return value.expand(steps, *self.feature_shape)
        if isinstance(rows, slice):
            return value if steps == value.shape[0] else value[rows]
        return value.index_select(0, rows)

    def _row_before(self, name: str, position: StepIndex) -> Tensor:
        """The value of a time parameter at the step before ``position``; at the first step, its own."""
        before = position - 1
        if self.on_overrun == "cycle":
            before = before % self.num_steps
        elif isinstance(before, Tensor):
            before = before.clamp(min=0)
        else:
            before = max(before, 0)
        return self._row(getattr(self, name), self._indices(before, 1))
