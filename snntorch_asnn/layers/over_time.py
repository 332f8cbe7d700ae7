"""Any spiking neuron, run over a whole sequence."""

from __future__ import annotations

from typing import Any, cast

import torch
from snntorch import SpikingNeuron
from torch import Tensor, nn

from snntorch_asnn._torch import has_hooks
from snntorch_asnn.layers.stepping import StepAware, Stepping, private_copy
from snntorch_asnn.neurons.adaptive import AdaptiveNeuron
from snntorch_asnn.neurons.leaky import AdaptiveLeaky

__all__ = ["OverTime", "neurons_alone", "snntorch_neurons", "spikes_of", "takes_sequence"]


class OverTime(StepAware, nn.Module):
    """Run a neuron over a whole sequence, from its initial state, and leave no state behind.

    A module that takes whole sequences (:class:`~snntorch_asnn.AdaptiveLeaky` with ``sequence=True``, or any
    module that is not snnTorch's) is called once. A snnTorch neuron that hides its state
    (``init_hidden=True``), alone or inside another module, is called once per step.

    Time comes first, ``[T, B, ...]``; transpose a batch-first ``[B, T, F]`` before the network. The output
    is the spikes only, without the membrane, so the layer fits into ``nn.Sequential``.

    Args:
        neuron: Neuron to run. If it returns a tuple, the first entry, the spikes, is used.

    Raises:
        TypeError: ``neuron`` is not a module.
        ValueError: ``neuron`` is a snnTorch neuron that leaves its state to the caller.

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
                "neuron must hide its state (init_hidden=True) or take whole sequences (sequence=True); "
                f"got {type(neuron).__name__} with init_hidden=False"
            )
        self.neuron = neuron

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        """Map currents ``[T, B, ...]`` to spikes ``[T, B, ...]``.

        ``options`` go to a neuron that takes whole sequences.
        """
        if (stepping := self.stepped_by) is not None:
            return self._next_step(stepping, x, **options)
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

    def before_first_step(self, name: str) -> Any:
        """Return the neuron's initial state, or a private copy of a neuron that hides its state."""
        neuron = self.neuron
        if hasattr(neuron, "advance"):
            return None
        if isinstance(neuron, AdaptiveNeuron) and not neuron.init_hidden:
            return (None,) * len(neuron.states)
        if not snntorch_neurons(neuron):
            raise ValueError(
                f"layer {name!r} of the model cannot run step by step, because its neuron, "
                f"{type(neuron).__name__}, takes whole sequences only"
            )
        private = private_copy(neuron)
        for inner in snntorch_neurons(private):
            if inner.init_hidden:
                continue
            if not isinstance(inner, AdaptiveNeuron):
                raise ValueError(
                    f"layer {name!r} of the model must hide its state to run step by step; got "
                    f"{type(inner).__name__} with init_hidden=False"
                )
            inner.__dict__.update(init_hidden=True, output=True)  # It still returns its membrane.
        return private

    def _next_step(self, stepping: Stepping, x: Tensor, **options: Any) -> Tensor:
        """Run one step ``[1, B, ...]`` from the stored state."""
        kept = stepping.kept(self)
        if isinstance(kept, nn.Module):
            by_step = not all(map(takes_sequence, snntorch_neurons(kept)))
            spikes = spikes_of(kept(x[0] if by_step else x, **options))
            return spikes[None] if by_step else spikes
        if isinstance(self.neuron, AdaptiveNeuron):
            spikes, kept = _advance(self.neuron, x, kept, stepping.step, **options)
        else:
            spikes, kept = cast(Any, self.neuron).advance(x, kept)
        stepping.store(self, kept)
        return spikes


def _advance(
    neuron: AdaptiveNeuron, x: Tensor, state: tuple[Tensor | None, ...], step: int, **options: Any
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run a sequence neuron for one step; return its spikes ``[1, B, ...]`` and its new state."""
    spikes, *after = neuron(x, *state, step=step, **options)
    returned = dict(zip(neuron.returned_states, after, strict=True))
    last = {name: value[-1] if neuron.output else value for name, value in returned.items()}
    # Only a recurrent neuron has a state that it does not return: the spikes that it feeds back.
    return spikes, tuple(last.get(name, spikes[-1]) for name in neuron.states)


def _reset(neurons: list[SpikingNeuron]) -> None:
    for neuron in neurons:
        neuron.reset_mem()


def snntorch_neurons(module: nn.Module) -> list[SpikingNeuron]:
    """Return the neurons in a module that are snnTorch's or derived from snnTorch's."""
    return [inner for inner in module.modules() if isinstance(inner, SpikingNeuron)]


def neurons_alone(network: nn.Module) -> list[tuple[str, SpikingNeuron]]:
    """Return names and neurons as :func:`snntorch_neurons`, without neurons inside an :class:`OverTime`."""
    inside = {
        neuron
        for layer in network.modules()
        if isinstance(layer, OverTime)
        for neuron in snntorch_neurons(layer)
    }
    return [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, SpikingNeuron) and module not in inside
    ]


def takes_sequence(neuron: nn.Module) -> bool:
    """Whether a neuron is called once for all steps."""
    return bool(getattr(neuron, "sequence", False))


def spikes_of(output: Any) -> Tensor:
    """Return the spikes in a neuron's output: the output itself, or the first entry of a tuple."""
    return output[0] if isinstance(output, tuple) else output  # type: ignore[no-any-return]
