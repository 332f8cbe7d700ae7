"""A network of layers over time, run on one step after the other."""

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
    """The stepping whose step runs on this thread; None where networks run whole sequences."""

    def __init__(self) -> None:
        self.stepping: Stepping | None = None


_RUNNING = _Running()


class _Slot:
    """What one layer has kept. Dynamo follows objects that change, and not every dictionary."""

    def __init__(self, kept: Any) -> None:
        self.kept = kept


class Stepping:
    """Runs a network, whose layers take sequences, on one step at a time.

    What the layers keep between the steps is held here, not in the network, and ends with the ``with`` block.
    Several steppings of one network do not see each other, on one thread or on many, nor do the whole
    sequences that the network runs in between.

    Args:
        network: Made of layers of :mod:`snntorch_asnn.layers`, and of modules that keep nothing.

    Attributes:
        step: Index of the next step; while one runs, its own.

    Raises:
        ValueError: A layer cannot run step by step; the message names it.

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
        self._ended = "the block of this stepping has ended"
        self._kept = {}

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        raise TypeError("a stepping cannot be copied or pickled: what it keeps is of one network's layers")

    def check_open(self) -> None:
        """Refuse to go on where that is not possible.

        Raises:
            RuntimeError: The block has ended, or an earlier step has failed half-way.
        """
        if self._ended is not None:
            raise RuntimeError(f"{self._ended}; begin a new one")

    def run(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Run the next step.

        Args:
            function: The network, or a part of it.
            x: Input of the step, ``[1, B, ...]``.

        Raises:
            RuntimeError: The block has ended, or an earlier step has failed half-way.
        """
        self.check_open()
        self._ended = "a step failed, after some layers had run it"
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
        """Go on with some samples of the batch only.

        Args:
            rows: Which of them, a mask ``[B]`` or indices.
        """
        for slot in self._kept.values():
            slot.kept = keep_rows(slot.kept, rows)

    def knows(self, layer: StepAware) -> bool:
        """Whether a layer is one of the network."""
        return id(layer) in self._kept

    def kept(self, layer: StepAware) -> Any:
        """What a layer of the network has kept."""
        return self._kept[id(layer)].kept

    def store(self, layer: StepAware, kept: Any) -> None:
        """Keep something for a layer until its next step, in place of what there was."""
        self._kept[id(layer)].kept = kept


class StepAware:
    """Base of layers that compute another thing at each step, or keep something from one to the next."""

    @property
    def stepped_by(self) -> Stepping | None:
        """What runs the layer's network step by step; None where it runs whole sequences."""
        now = _RUNNING.stepping
        return now if now is not None and now.knows(self) else None

    @property
    def only_step(self) -> int | None:
        """The one step that the input is of; None where it is a whole sequence."""
        now = self.stepped_by
        return None if now is None else now.step

    def before_first_step(self, name: str) -> Any:
        """Return what the layer keeps before the first step.

        Args:
            name: Of the layer in its network, for messages.

        Raises:
            ValueError: The layer cannot run step by step.
        """
        return None


def private_copy(module: nn.Module) -> nn.Module:
    """Copy modules, but not their parameters and buffers, for states of their own, which begin anew."""
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    private = copy.deepcopy(module, shared)
    for neuron in private.modules():
        if isinstance(neuron, SpikingNeuron):
            neuron.reset_mem()
    return private


def keep_rows(kept: Any, rows: Tensor) -> Any:
    """Some samples of what a layer has kept: tensors ``[B, ...]``, tuples of them, or neurons."""
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
