"""Measure firing rates at the outputs of neurons."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from snntorch import SpikingNeuron
from torch import Tensor, nn

from snntorch_asnn.layers.over_time import OverTime, snntorch_neurons, spikes_of, takes_sequence


class FiringRates:
    """Mean number of spikes per neuron, for every layer of spiking neurons and every time step.

    The forward passes inside :func:`record_firing_rates` fill it.
    """

    def __init__(self, num_steps: int) -> None:
        self.num_steps = num_steps
        self._steps: dict[str, list[tuple[Tensor, int]]] = {}

    def add(self, layer: str, spikes: Tensor, *, sequence: bool) -> None:
        """Record spikes ``[T, B, ...]`` if ``sequence``, otherwise spikes ``[B, ...]`` of one step."""
        steps = spikes.detach().flatten(1) if sequence else spikes.detach().reshape(1, -1)
        means = steps.mean(dim=1, dtype=torch.float32)
        self._steps.setdefault(layer, []).extend((mean, steps.shape[1]) for mean in means)

    def per_layer(self) -> dict[str, tuple[float, ...]]:
        """Return each layer's rate at each of the ``num_steps`` steps, over all neurons and images."""
        return {layer: self._rates_by_step(steps) for layer, steps in self._steps.items()}

    def _rates_by_step(self, steps: list[tuple[Tensor, int]]) -> tuple[float, ...]:
        sequences = len(steps) // self.num_steps
        whole = steps[: sequences * self.num_steps]
        if not whole:
            return (math.nan,) * self.num_steps
        rates = torch.stack([mean for mean, _ in whole]).view(sequences, -1).double()
        neurons = rates.new_tensor([count for _, count in whole]).view(sequences, -1)
        return tuple(((rates * neurons).sum(0) / neurons.sum(0)).tolist())

    def steps_taken(self) -> dict[str, int]:
        """Return the number of steps that each layer has run so far."""
        return {layer: len(steps) for layer, steps in self._steps.items()}

    def mean(self) -> float:
        """Return the unweighted mean rate over layers and steps; 0 if nothing was recorded."""
        rates = [rate for layer in self.per_layer().values() for rate in layer]
        return sum(rates) / len(rates) if rates else 0.0


@contextmanager
def record_firing_rates(model: nn.Module, num_steps: int) -> Iterator[FiringRates]:
    """Record the firing rates of every neuron in a model while the context is open.

    Args:
        model: Network of snnTorch neurons, or of any neurons in :class:`~snntorch_asnn.layers.OverTime`. A
            neuron that takes single steps must be called ``num_steps`` times per batch.
        num_steps: Number of time steps T.

    Example::

        >>> import snntorch as snn, torch
        >>> net = snn.Leaky(beta=0.9)
        >>> with record_firing_rates(net, num_steps=2) as rates:
        ...     spk, mem = net(torch.full((1, 3), 2.0))
        ...     spk, mem = net(torch.full((1, 3), 2.0), mem)
        >>> rates.per_layer()
        {'': (1.0, 1.0)}
    """
    rates = FiringRates(num_steps)

    def hook_for(layer: str, sequence: bool) -> Any:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            rates.add(layer, spikes_of(output), sequence=sequence)

        return hook

    handles = [
        module.register_forward_hook(hook_for(name, sequence)) for name, module, sequence in _neurons(model)
    ]
    try:
        yield rates
    finally:
        for handle in handles:
            handle.remove()


def _neurons(model: nn.Module) -> Iterator[tuple[str, nn.Module, bool]]:
    """Yield each neuron's name, the neuron, and whether it takes whole sequences."""
    for name, module in model.named_modules():
        if isinstance(module, SpikingNeuron):
            yield name, module, takes_sequence(module)
        elif isinstance(module, OverTime) and not snntorch_neurons(module):
            yield f"{name}.neuron".lstrip("."), module.neuron, True
