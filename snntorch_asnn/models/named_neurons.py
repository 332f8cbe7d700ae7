"""Neurons of the model zoo, by name or from the user's own builder."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Literal

from torch import nn

from snntorch_asnn._arguments import check_choice, look_up
from snntorch_asnn.layers import OverTime
from snntorch_asnn.models.parametric_leaky import ParametricLeaky
from snntorch_asnn.neurons import AdaptiveLeaky
from snntorch_asnn.surrogate import Surrogate, atan, sigmoid

__all__ = ["NEURONS", "NeuronLike", "Sharing", "build_neuron"]

NeuronLike = str | Callable[..., nn.Module]


def _asnn(num_steps: int, threshold: float, feature_shape: tuple[int, ...]) -> AdaptiveLeaky:
    return AdaptiveLeaky.paper(num_steps, threshold=threshold, feature_shape=feature_shape, sequence=True)


def _tebn(num_steps: int, threshold: float, feature_shape: tuple[int, ...]) -> AdaptiveLeaky:
    """Gain per step, fixed leak: after a batch norm the same as a scale of the norm for every step."""
    return AdaptiveLeaky.paper(
        num_steps, threshold=threshold, feature_shape=feature_shape, learn_beta=False, sequence=True
    )


def _dalif(threshold: float, feature_shape: tuple[int, ...]) -> AdaptiveLeaky:
    """Leak and gain, each one value for all steps."""
    return AdaptiveLeaky.paper(
        1, threshold=threshold, feature_shape=feature_shape, on_overrun="hold", sequence=True
    )


def _plif(threshold: float, feature_shape: tuple[int, ...]) -> ParametricLeaky:
    return ParametricLeaky(threshold, feature_shape)


def _lif(num_steps: int, threshold: float) -> AdaptiveLeaky:
    """LIF with time constant 2 and decayed input, ``u = v + (x - v) / 2``."""
    return _fixed(num_steps, threshold, beta=0.5, gain=0.5, spike_grad=sigmoid(4.0, fires_at_threshold=True))


def _if(num_steps: int, threshold: float) -> AdaptiveLeaky:
    """IF, ``u = v + x``."""
    return _fixed(num_steps, threshold, beta=1.0, gain=1.0, spike_grad=atan(2.0, fires_at_threshold=True))


def _fixed(
    num_steps: int, threshold: float, *, beta: float, gain: float, spike_grad: Surrogate
) -> AdaptiveLeaky:
    """A neuron of the published networks: hard reset, cut out of the gradient, nothing learned.

    They fire at the threshold too, not only above it. Where the input is a multiple of an eighth, as in
    spiking attention, membranes meet the threshold exactly.
    """
    return AdaptiveLeaky(
        beta=beta,
        threshold=threshold,
        spike_grad=spike_grad,
        learn_beta=False,
        reset_mechanism="zero",
        reset_delay=False,
        num_steps=num_steps,
        gain=gain,
        learn_gain=False,
        beta_constraint="none",
        detach_reset=True,
        exact_reset=True,
        sequence=True,
    )


NEURONS: dict[str, Callable[..., nn.Module]] = {
    "asnn": _asnn,
    "lif": _lif,
    "if": _if,
    "tebn": _tebn,
    "dalif": _dalif,
    "plif": _plif,
}

Sharing = Literal["layer", "channel"]
"""What one set of a neuron's parameters is for."""


def build_neuron(
    neuron: NeuronLike,
    num_steps: int,
    *,
    channel_shape: tuple[int, ...],
    threshold: float = 1.0,
    sharing: Sharing = "layer",
) -> OverTime:
    """Build one layer's neuron, ready to be run over a whole sequence.

    Args:
        neuron: A name that :func:`create_model` takes, or a callable that builds a module. It is given, by
            keyword, those of the other arguments that it has no default for.
        num_steps: Number of steps T.
        channel_shape: Shape of a parameter with one value per channel, ``(C, 1, 1)`` after a
            convolution and ``(C,)`` after a linear layer.
        threshold: Firing threshold at this place of the network.
        sharing: Whether the neuron's parameters are one for the layer or one for each channel; a
            callable sees it as ``feature_shape``, ``()`` or ``channel_shape``.

    Raises:
        TypeError: ``neuron`` is neither, wants an argument that there is none of, or builds no
            module.
        ValueError: The name is unknown, or the module leaves its state to the caller.

    Example::

        >>> import torch
        >>> spike = build_neuron("plif", 4, channel_shape=(8, 1, 1))
        >>> spike(torch.rand(4, 2, 8, 16, 16)).shape
        torch.Size([4, 2, 8, 16, 16])
    """
    check_choice("sharing", sharing, Sharing)
    if isinstance(neuron, str):
        neuron = look_up("neuron", neuron, NEURONS, other="a callable")
    if isinstance(neuron, nn.Module) or not callable(neuron):
        raise TypeError(
            "neuron must be a name or a callable that builds one (every layer needs its own);"
            f" got {type(neuron).__name__}"
        )
    place = {
        "num_steps": num_steps,
        "channel_shape": channel_shape,
        "threshold": threshold,
        "feature_shape": channel_shape if sharing == "channel" else (),
    }
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
