"""Parameters indexed by time, and the time step that indexes them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snntorch_asnn._arguments import check_count
from snntorch_asnn._torch import assert_without_waiting, is_exporting
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
        if isinstance(position, int) and position + steps <= self._num_steps:
            return slice(position, position + steps)
        rows = position + torch.arange(steps, device=self._device)
        if self.on_overrun == "raise":
            if isinstance(position, int):
                last = position + steps - 1
                raise ValueError(f"{self._overrun_message()}; this call asks for step {last}")
            assert_without_waiting((rows[-1] < self._num_steps).all(), self._overrun_message())
        return self._wrapped(rows)

    def _wrapped(self, rows: Tensor) -> Tensor:
        return rows % self._num_steps if self.on_overrun == "cycle" else rows.clamp(max=self._num_steps - 1)

    def _overrun_message(self) -> str:
        return (
            f"num_steps={self._num_steps}: the neuron has parameters for steps 0 to {self._num_steps - 1}; "
            "start a new sequence with snntorch_asnn.reset(net), or choose on_overrun='hold' or 'cycle'"
        )

    def _values(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """The time parameters by name, in ``dtype``."""
        values = {}
        for name in self.time_parameters:
            value: Tensor | None = None
            if not torch.compiler.is_compiling():
                # Read past __getattr__, which takes a while; parametrized and pruned values are attributes.
                value = self._parameters.get(name)
                value = self._buffers.get(name) if value is None else value
            value = getattr(self, name) if value is None else value
            values[name] = value if value.dtype == dtype else value.to(dtype)
        return values

    def _at_step(self, values: dict[str, Tensor], rows: slice | Tensor) -> dict[str, Tensor]:
        """The values of time parameters at one step, each ``feature_shape`` or one number."""
        if isinstance(rows, slice):
            return {name: value if value.ndim == 0 else value[rows.start] for name, value in values.items()}
        return {
            name: value if value.ndim == 0 else value.index_select(0, rows).squeeze(0)
            for name, value in values.items()
        }

    def _at_steps(self, values: dict[str, Tensor], rows: slice | Tensor, steps: int) -> dict[str, Tensor]:
        """The values of time parameters at several steps, each ``[steps, *feature_shape]``."""
        shape = (steps, *self.feature_shape)
        # Inductor, compiling an exported graph, cannot take a step from an expanded number.
        ones = None if not is_exporting() else next(iter(values.values())).new_ones(shape)
        found = {}
        for name, value in values.items():
            if value.ndim == 0:
                found[name] = value.expand(shape) if ones is None else value * ones
            elif isinstance(rows, slice):
                found[name] = value if steps == value.shape[0] else value[rows]
            else:
                found[name] = value.index_select(0, rows)
        return found

    def _row_before(self, value: Tensor, position: StepIndex) -> Tensor:
        """``value`` ``[T, *feature_shape]`` at the step before ``position``; at the first step, its own."""
        before = position - 1
        if self.on_overrun == "cycle":
            before = before % self._num_steps
        elif isinstance(before, Tensor):
            before = before.clamp(min=0)
        else:
            before = max(before, 0)
        rows = self._indices(before, 1)
        return value[rows.start] if isinstance(rows, slice) else value.index_select(0, rows).squeeze(0)
