"""Any spiking neuron, run over a whole sequence."""

from __future__ import annotations

from typing import Any

import torch
from snntorch import SpikingNeuron
from torch import Tensor, nn

from snntorch_asnn.layers.norm_over_time import has_hooks
from snntorch_asnn.neurons.leaky import AdaptiveLeaky

__all__ = ["OverTime", "snntorch_neurons", "spikes_of", "takes_sequence"]


class OverTime(nn.Module):
    """Run a neuron over a whole sequence, from its initial state, and leave no state behind.

    What takes whole sequences (:class:`~snntorch_asnn.AdaptiveLeaky` with ``sequence=True``, or any
    module that is not snnTorch's) is called once. A neuron of snnTorch that hides its state
    (``init_hidden=True``), alone or inside another module, is called once per step.

    Time comes first, ``[T, B, ...]``: transpose a batch-first ``[B, T, F]`` before the network. In
    ``nn.Sequential`` it passes on spikes alone, where a neuron would return its membrane, too.

    Args:
        neuron: the neuron. Of a tuple that it returns the first entry, the spikes, is kept.

    Raises:
        TypeError: ``neuron`` is not a module.
        ValueError: ``neuron`` is one of snnTorch's that leaves its state to the caller.

    Example::

        >>> import snntorch as snn, torch
        >>> neuron = OverTime(snn.Leaky(beta=0.9, init_hidden=True))
        >>> neuron(torch.full((4, 1, 1), 0.6)).flatten().tolist()
        [0.0, 1.0, 0.0, 1.0]
    """

    def __init__(self, neuron: nn.Module) -> None:
        super().__init__()
        if not isinstance(neuron, nn.Module):
            raise TypeError(f"neuron must be an nn.Module; got {type(neuron).__name__}")
        if isinstance(neuron, SpikingNeuron) and not (neuron.init_hidden or takes_sequence(neuron)):
            raise ValueError(
                "neuron must hide its state (init_hidden=True, or sequence=True where it has that);"
                f" got {type(neuron).__name__} with init_hidden=False"
            )
        self.neuron = neuron

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        """Map currents ``[T, B, ...]`` to spikes ``[T, B, ...]``.

        ``options`` go to a neuron that takes whole sequences.
        """
        stateful = [neuron for neuron in snntorch_neurons(self.neuron) if neuron.init_hidden]
        _reset(stateful)
        if all(takes_sequence(neuron) for neuron in stateful):
            if isinstance(self.neuron, AdaptiveLeaky) and not has_hooks(self.neuron):
                options["spikes_only"] = True  # hooks see the membrane, too
            spikes = spikes_of(self.neuron(x, **options))
        else:
            spikes = torch.stack([spikes_of(self.neuron(current)) for current in x.unbind(0)])
        # A membrane kept until the next call would hold on to this call's graph.
        _reset(stateful)
        return spikes


def _reset(neurons: list[SpikingNeuron]) -> None:
    for neuron in neurons:
        neuron.reset_mem()


def snntorch_neurons(module: nn.Module) -> list[SpikingNeuron]:
    """The neurons of snnTorch, or derived from them, in a module."""
    return [inner for inner in module.modules() if isinstance(inner, SpikingNeuron)]


def takes_sequence(neuron: nn.Module) -> bool:
    """Whether a neuron is called once for all steps."""
    return bool(getattr(neuron, "sequence", False))


def spikes_of(output: Any) -> Tensor:
    """The spikes in what a neuron returns: all of it, or the first of several."""
    return output[0] if isinstance(output, tuple) else output  # type: ignore[no-any-return]
