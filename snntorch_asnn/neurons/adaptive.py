"""What every adaptive neuron shares: parameters indexed by time, and the time step as part of its state."""

from __future__ import annotations

from typing import Any, Self

import torch
from snntorch import SpikingNeuron
from torch import Tensor, nn

from snntorch_asnn.neurons.arguments import check_count
from snntorch_asnn.neurons.checkpoint import adopt_snntorch_state
from snntorch_asnn.neurons.registry import register
from snntorch_asnn.neurons.time_parameters import Overrun, resample

__all__ = ["AdaptiveNeuron", "StepIndex"]

StepIndex = int | Tensor
"""A time step: a number in eager mode, a 1-element tensor in a compiled graph, which must not know it."""


class AdaptiveNeuron(SpikingNeuron):
    """Base of neurons whose parameters are ``[T, *feature_shape]``.

    It keeps the current time step beside the membrane: as a number, or, once a compiled graph has advanced
    it, as a 1-element tensor, so that no graph is compiled anew for every step.
    """

    time_parameters: tuple[str, ...] = ()
    """Names of the parameters and buffers that may be indexed by time."""

    num_steps: int
    feature_shape: tuple[int, ...]
    on_overrun: Overrun
    _step: Tensor | None
    _count: int

    def _init_time(self, num_steps: int, feature_shape: tuple[int, ...], on_overrun: Overrun) -> None:
        self.num_steps = num_steps
        self.feature_shape = feature_shape
        self.on_overrun = on_overrun
        self._count = 0
        self.register_buffer("_step", None, persistent=False)
        register(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        register(self)

    def _hold(self, name: str, value: Tensor, learn: bool) -> None:
        """Keep ``value`` as a parameter or buffer called ``name``, in place of snnTorch's own."""
        if hasattr(self, name):
            delattr(self, name)
        if learn:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        errors = args[-1]
        errors.extend(adopt_snntorch_state(self, state_dict, prefix))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        # The mechanism is part of the checkpoint; snnTorch loads its number and goes on with the old one.
        self.reset_mechanism = list(SpikingNeuron.reset_dict)[int(self.reset_mechanism_val)]

    def _row(self, name: str, rows: slice | Tensor) -> Tensor:
        """The value of a time parameter at one step."""
        value: Tensor = getattr(self, name)
        if value.ndim == 0:
            return value
        if isinstance(rows, slice):
            return value[rows.start]
        return value.index_select(0, rows).squeeze(0)

    def _rows(self, name: str, rows: slice | Tensor, steps: int) -> Tensor:
        """The values of a time parameter at several steps, ``[steps, *feature_shape]``."""
        value: Tensor = getattr(self, name)
        if value.ndim == 0:
            return value.expand(steps, *self.feature_shape)
        return value[rows] if isinstance(rows, slice) else value.index_select(0, rows)

    @property
    def step(self) -> int:
        """The time step that the next call computes."""
        return self._count if self._step is None else int(self._step)

    def _restart(self) -> None:
        self._step = None
        self._count = 0

    def _position(self, step: int | None) -> StepIndex:
        """The time step of this call: as the caller says, or the one after the last call's."""
        if step is not None:
            return step
        if torch.compiler.is_compiling():
            return self._as_tensor(self._count) if self._step is None else self._step
        return self.step

    def _as_tensor(self, step: int) -> Tensor:
        return torch.full((1,), step, device=self.reset_mechanism_val.device)

    def _advance(self, position: StepIndex, steps: int) -> None:
        after = position + steps
        if self.on_overrun == "cycle":
            after = after % self.num_steps
        if isinstance(after, Tensor):
            self._step = after.clamp(max=self.num_steps)
        elif torch.compiler.is_compiling():
            self._step = self._as_tensor(after)
        else:
            self._step, self._count = None, min(after, self.num_steps)

    def _indices(self, position: StepIndex, steps: int) -> slice | Tensor:
        """Rows of the time parameters for ``steps`` steps from ``position`` on.

        Raises:
            ValueError: if they end after ``num_steps`` and ``on_overrun`` is ``"raise"``. A compiled graph
                raises RuntimeError, since it learns the step only while it runs.
        """
        if isinstance(position, int) and position + steps <= self.num_steps:
            return slice(position, position + steps)
        rows = position + torch.arange(steps, device=self.reset_mechanism_val.device)
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

    def resize_steps(self, num_steps: int) -> Self:
        """Resample the time parameters, so that a neuron trained at T steps runs at another number.

        They are interpolated linearly in time; the first and the last step keep their values. Parameters
        become new objects, so build the optimizer afterwards. A new sequence starts.

        Args:
            num_steps: the new T.

        Returns:
            The neuron itself.

        Raises:
            ValueError, TypeError: if ``num_steps`` is not a positive integer.

        Example::

            >>> import snntorch_asnn as asnn
            >>> lif = asnn.AdaptiveLeaky(torch.tensor([0.5, 0.9]), num_steps=2, feature_shape=())
            >>> lif.resize_steps(3).beta.data
            tensor([0.5000, 0.7000, 0.9000])
        """
        check_count("num_steps", num_steps)
        for name in self.time_parameters:
            value = getattr(self, name)
            if value.ndim == 0:
                continue
            resampled = resample(value, num_steps)
            if isinstance(value, nn.Parameter):
                setattr(self, name, nn.Parameter(resampled, requires_grad=value.requires_grad))
            else:
                setattr(self, name, resampled)
        self.num_steps = num_steps
        self._restart()
        return self
