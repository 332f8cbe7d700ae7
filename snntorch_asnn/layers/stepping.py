"""Run a network of layers over time step by step."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any, Self, SupportsIndex

from snntorch import SpikingNeuron
from torch import Tensor, nn

from snntorch_asnn.neurons.adaptive import AdaptiveNeuron

__all__ = ["StepAware", "Stepping", "keep_rows", "private_copy"]


class _Running(threading.local):
    """The :class:`Stepping` that runs on this thread; None while networks run whole sequences."""

    def __init__(self) -> None:
        self.stepping: Stepping | None = None


_RUNNING = _Running()


class _Slot:
    """State of one layer, in an object because Dynamo does not track changes of every dictionary."""

    def __init__(self, kept: Any) -> None:
        self.kept = kept


class Stepping:
    """Run a network, whose layers take sequences, one step at a time.

    The states of the layers between steps are stored here, not in the network, and end with the ``with``
    block. Several steppings of one network are independent of each other, on one thread or many. The network
    may also run whole sequences in between.

    Args:
        network: Network of layers from :mod:`snntorch_asnn.layers` and of modules without state.

    Attributes:
        step: Index of the next step, or of the current step while it runs.

    Raises:
        ValueError: A layer cannot run step by step. The message names it.

    Example::

        >>> import snntorch as snn, torch
        >>> from snntorch_asnn.layers import OverTime
        >>> network = OverTime(snn.Leaky(beta=0.9, init_hidden=True))
        >>> with Stepping(network) as stepping:
        ...     [stepping.run(network, torch.full((1, 1, 1), 0.6)).item() for _ in range(4)]
        [0.0, 1.0, 0.0, 1.0]
    """

    def __init__(self, network: nn.Module) -> None:
        self.step = 0
        self._ended: str | None = None
        self._kept: dict[int, _Slot] = {}
        for name, layer in network.named_modules():
            if isinstance(layer, StepAware):
                self._kept[id(layer)] = _Slot(layer.before_first_step(name))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._ended = "the with block of this Stepping has ended"
        self._kept = {}

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        raise TypeError("a Stepping cannot be copied or pickled, because its states belong to one network")

    def check_open(self) -> None:
        """Raise an error if no further step can run.

        Raises:
            RuntimeError: The ``with`` block has ended, or an earlier step failed.
        """
        if self._ended is not None:
            raise RuntimeError(f"{self._ended}; start a new one")

    def run(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Run the next step.

        Args:
            function: The network, or a part of it.
            x: Input of the step, ``[1, B, ...]``.

        Raises:
            RuntimeError: The ``with`` block has ended, or an earlier step failed.
        """
        self.check_open()
        self._ended = "a step of this Stepping failed after some layers had run"
        before = _RUNNING.stepping
        _RUNNING.stepping = self
        try:
            out = function(x)
        finally:
            _RUNNING.stepping = before
        self.step += 1
        self._ended = None
        return out

    def keep(self, rows: Tensor) -> None:
        """Continue with some samples of the batch only.

        Args:
            rows: Samples to keep, as a mask ``[B]`` or indices.
        """
        for slot in self._kept.values():
            slot.kept = keep_rows(slot.kept, rows)

    def knows(self, layer: StepAware) -> bool:
        """Whether a layer belongs to the network."""
        return id(layer) in self._kept

    def kept(self, layer: StepAware) -> Any:
        """Return the stored state of a layer."""
        return self._kept[id(layer)].kept

    def store(self, layer: StepAware, kept: Any) -> None:
        """Store a layer's state until its next step."""
        self._kept[id(layer)].kept = kept


class StepAware:
    """Base of layers that depend on the step or keep a state between steps."""

    @property
    def stepped_by(self) -> Stepping | None:
        """The :class:`Stepping` that runs the layer's network; None while it runs whole sequences."""
        now = _RUNNING.stepping
        return now if now is not None and now.knows(self) else None

    @property
    def only_step(self) -> int | None:
        """Index of the step that the input holds; None if the input is a whole sequence."""
        now = self.stepped_by
        return None if now is None else now.step

    def before_first_step(self, name: str) -> Any:
        """Return the layer's state before the first step.

        Args:
            name: Name of the layer in its network, for error messages.

        Raises:
            ValueError: The layer cannot run step by step.
        """
        return None


def private_copy(module: nn.Module) -> nn.Module:
    """Copy a module so that it has its own, fresh states but shares parameters and buffers."""
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    private = copy.deepcopy(module, shared)
    for neuron in private.modules():
        if isinstance(neuron, SpikingNeuron):
            neuron.reset_mem()
    return private


def keep_rows(kept: Any, rows: Tensor) -> Any:
    """Select samples of a stored state: a tensor ``[B, ...]``, a tuple of tensors, or a module."""
    if isinstance(kept, Tensor):
        return kept[rows]
    if isinstance(kept, tuple):
        return tuple(keep_rows(entry, rows) for entry in kept)
    if isinstance(kept, nn.Module):
        for neuron in kept.modules():
            if isinstance(neuron, SpikingNeuron):
                _keep_rows_of(neuron, rows)
    return kept


def _keep_rows_of(neuron: SpikingNeuron, rows: Tensor) -> None:
    if isinstance(neuron, AdaptiveNeuron):
        neuron.keep_samples(rows)
        return
    for name in neuron._non_persistent_buffers_set:
        state = getattr(neuron, name)
        if state.ndim > 0 and len(state) == len(rows):
            neuron._buffers[name] = state[rows]
