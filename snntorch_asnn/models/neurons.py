"""Neurons of the model zoo, by name or from the user's own builder."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, signature

from torch import nn

from snntorch_asnn import surrogate
from snntorch_asnn.layers import OverTime
from snntorch_asnn.neurons import AdaptiveLeaky

__all__ = ["NEURONS", "NeuronLike", "build_neuron"]

NeuronLike = str | Callable[..., nn.Module]


def _asnn(num_steps: int, threshold: float) -> AdaptiveLeaky:
    return AdaptiveLeaky.paper(num_steps, threshold=threshold, sequence=True)


def _lif(num_steps: int, threshold: float) -> AdaptiveLeaky:
    """LIF with time constant 2 and decayed input, ``u = v + (x - v) / 2``."""
    return AdaptiveLeaky(
        beta=0.5,
        threshold=threshold,
        spike_grad=surrogate.sigmoid(4.0),
        learn_beta=False,
        reset_mechanism="zero",
        reset_delay=False,
        num_steps=num_steps,
        gain=0.5,
        learn_gain=False,
        beta_constraint="none",
        detach_reset=True,
        exact_reset=True,
        sequence=True,
    )


NEURONS: dict[str, Callable[..., nn.Module]] = {"asnn": _asnn, "lif": _lif}


def build_neuron(
    neuron: NeuronLike,
    num_steps: int,
    *,
    channel_shape: tuple[int, ...],
    threshold: float = 1.0,
) -> OverTime:
    """Build one layer's neuron, ready to be run over a whole sequence.

    Args:
        neuron: a key of :data:`NEURONS`, or a callable that builds a module. It is given, by
            keyword, those of the other arguments that it has no default for.
        num_steps: T.
        channel_shape: shape of a parameter with one value per channel, ``(C, 1, 1)`` after a
            convolution and ``(C,)`` after a linear layer.
        threshold: firing threshold at this place of the network.

    Raises:
        TypeError: ``neuron`` is neither, wants an argument that there is none of, or builds no
            module.
        ValueError: the name is unknown, or the module leaves its state to the caller.
    """
    if isinstance(neuron, str):
        if neuron not in NEURONS:
            names = ", ".join(map(repr, NEURONS))
            raise ValueError(f"neuron must be one of {names}, or a callable; got {neuron!r}")
        neuron = NEURONS[neuron]
    if isinstance(neuron, nn.Module) or not callable(neuron):
        raise TypeError(
            "neuron must be a name or a callable that builds one (every layer needs its own);"
            f" got {type(neuron).__name__}"
        )
    place = {"num_steps": num_steps, "channel_shape": channel_shape, "threshold": threshold}
    wanted = _required(neuron)
    if unknown := [name for name in wanted if name not in place]:
        raise TypeError(
            f"neuron must have a default for every argument other than {', '.join(place)};"
            f" got none for {unknown[0]!r}"
        )
    return OverTime(neuron(**{name: place[name] for name in wanted}))


def _required(build: Callable[..., nn.Module]) -> list[str]:
    variadic = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return [
        parameter.name
        for parameter in signature(build).parameters.values()
        if parameter.default is Parameter.empty and parameter.kind not in variadic
    ]
