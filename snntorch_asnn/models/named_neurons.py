"""Build the neurons of the model zoo, by name or by a user's callable."""

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
    """Learned gain per step and fixed leak; after a batch norm, this equals a norm scale per step."""
    return AdaptiveLeaky.paper(
        num_steps, threshold=threshold, feature_shape=feature_shape, learn_beta=False, sequence=True
    )


def _dalif(threshold: float, feature_shape: tuple[int, ...]) -> AdaptiveLeaky:
    """Learned leak and gain, shared by all steps."""
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
    """Neuron of the published networks: detached hard reset, nothing learned.

    It fires at the threshold, and not only above it. The difference matters in spiking attention, whose
    outputs are multiples of 1/8, so that membranes reach the threshold exactly.
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
"""Part of a network that shares one set of neuron parameters."""


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
        neuron: Name that :func:`create_model` accepts, or a callable that builds a module. A callable
            receives the other arguments as keywords, but only arguments for which it has no default.
        num_steps: Number of steps T.
        channel_shape: Shape of a parameter with one value per channel, ``(C, 1, 1)`` after a
            convolution and ``(C,)`` after a linear layer.
        threshold: Firing threshold of this layer.
        sharing: Whether the layer or each channel has its own parameters. A callable receives this as
            ``feature_shape``, which is ``()`` or ``channel_shape``.

    Raises:
        TypeError: ``neuron`` is not a name or a callable, requires an unknown argument, or does not build a
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
            "neuron must be a name or a callable that builds a new neuron for every layer; "
            f"got {type(neuron).__name__}"
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
            f"neuron must have a default for every argument other than {', '.join(place)}; "
            f"got no default for {unknown[0]!r}"
        )
    return OverTime(neuron(**{name: place[name] for name in wanted}))


def _required(build: Callable[..., nn.Module]) -> list[str]:
    variadic = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return [
        parameter.name
        for parameter in signature(build).parameters.values()
        if parameter.default is Parameter.empty and parameter.kind not in variadic
    ]
