"""Listing the neurons of a network: their time parameters, and leaks at the ends of their range."""

from __future__ import annotations

from typing import NamedTuple

import snntorch as snn
from torch import nn

from snntorch_asnn.neurons.adaptive import AdaptiveNeuron
from snntorch_asnn.neurons.convert import constrained
from snntorch_asnn.neurons.traversal import check_net, names_of, parameters_behind

__all__ = ["Description", "LeaksAtBounds", "describe", "leaks_at_bounds"]


class LeaksAtBounds(NamedTuple):
    """Number of learned leaks of a neuron at the ends of [0, 1] or beyond."""

    parameter: str
    low: int
    """Leaks of 0 and below, which remember nothing."""
    high: int
    """Leaks of 1 and above, which forget nothing."""
    total: int


class Description(NamedTuple):
    """One spiking neuron of a network."""

    names: tuple[str, ...]
    """Its names in the network; a shared neuron has several."""
    kind: str
    num_steps: int | None
    """T; None for a neuron without time parameters."""
    feature_shape: tuple[int, ...] | None
    learned: tuple[str, ...]
    """Names of the time parameters that are learned, or computed from a learned Parameter."""
    leaks_at_bounds: tuple[LeaksAtBounds, ...] = ()
    """Counts of learned leaks at 0 or 1; empty if there are no such leaks."""


def describe(net: nn.Module) -> list[Description]:
    """List the spiking neurons of a network, with their time parameters and which of them are learned.

    Args:
        net: the network, or a single neuron.

    Returns:
        One :class:`~snntorch_asnn.neurons.Description` for each neuron.

    Raises:
        TypeError: if ``net`` is not a module.

    Example::

        >>> import snntorch as snn
        >>> import snntorch_asnn as asnn
        >>> net = nn.Sequential(nn.Linear(3, 2), snn.Leaky(0.9), snn.Alpha(0.9, 0.8))
        >>> for neuron in describe(asnn.adapt(net, num_steps=25)):
        ...     print(neuron.names, neuron.kind, neuron.num_steps, neuron.learned)
        ('1',) AdaptiveLeaky 25 ('beta', 'gain')
        ('2',) Alpha None ()
    """
    check_net(net)
    return [
        _describe(neuron, tuple(names))
        for neuron, names in names_of(net).items()
        if isinstance(neuron, snn.SpikingNeuron)
    ]


def leaks_at_bounds(neuron: AdaptiveNeuron) -> tuple[LeaksAtBounds, ...]:
    """Count the learned leaks of a neuron that are at most 0 or at least 1.

    Parameters without such leaks have no entry.

    Example::

        >>> from snntorch_asnn import AdaptiveLeaky
        >>> leaks_at_bounds(AdaptiveLeaky(1.0, num_steps=4))
        (LeaksAtBounds(parameter='beta', low=0, high=4, total=4),)
    """
    found = []
    for name in neuron.leaks:
        if not any(parameter.requires_grad for parameter in parameters_behind(neuron, name)):
            continue
        leak = constrained(neuron, name)
        low, high = int((leak <= 0).sum()), int((leak >= 1).sum())
        if low or high:
            found.append(LeaksAtBounds(name, low, high, leak.numel()))
    return tuple(found)


def _describe(neuron: nn.Module, names: tuple[str, ...]) -> Description:
    if not isinstance(neuron, AdaptiveNeuron):
        return Description(names, type(neuron).__name__, None, None, ())
    learned = tuple(
        name
        for name in neuron.time_parameters
        if any(parameter.requires_grad for parameter in parameters_behind(neuron, name))
    )
    bounds = leaks_at_bounds(neuron)
    return Description(names, type(neuron).__name__, neuron.num_steps, neuron.feature_shape, learned, bounds)
