"""A place in snnTorch's list of all neurons that does not keep the neuron alive.

``snn.Leaky.reset_hidden`` and ``snntorch.utils.reset`` walk :attr:`snntorch.SpikingNeuron.instances`, a list
of strong references that grows for as long as the process lives. This package's neurons stand in it as weak
proxies, which snnTorch's loops cannot tell from the neuron.
"""

from __future__ import annotations

import weakref
from typing import Any

from snntorch import SpikingNeuron

__all__ = ["register", "unregister"]


class _Vacant:
    """Entry of a dead neuron. snnTorch's reset may free a neuron and then assign its states to the entry."""


def register(neuron: SpikingNeuron) -> None:
    """Put ``neuron`` into snnTorch's registry weakly, in place of any strong reference to it there."""
    unregister(neuron)
    SpikingNeuron.instances.append(weakref.proxy(neuron, _vacate))


def unregister(neuron: SpikingNeuron) -> None:
    """Take a strong reference to ``neuron`` out of snnTorch's registry, and entries of dead neurons."""
    kept = [
        entry for entry in SpikingNeuron.instances if not isinstance(entry, _Vacant) and entry is not neuron
    ]
    SpikingNeuron.instances[:] = kept


def _vacate(proxy: Any) -> None:
    # This may run while snnTorch walks the list by index, so the list keeps its length.
    for index, entry in enumerate(SpikingNeuron.instances):
        if entry is proxy:
            SpikingNeuron.instances[index] = _Vacant()
