"""Weak entries in snnTorch's list of all neurons.

``snn.Leaky.reset_hidden`` and ``snntorch.utils.reset`` walk :attr:`snntorch.SpikingNeuron.instances`, a list
of strong references that grows for as long as the process lives. This package's neurons are listed by weak
proxies, which snnTorch's loops use like the neurons.
"""

from __future__ import annotations

import weakref
from typing import Any

from snntorch import SpikingNeuron

__all__ = ["register", "unregister"]


class _Vacant:
    """Entry of a freed neuron. snnTorch's reset may free a neuron and then assign states to its entry."""


def register(neuron: SpikingNeuron) -> None:
    """List ``neuron`` in snnTorch's registry by a weak reference, in place of a strong one."""
    unregister(neuron)
    SpikingNeuron.instances.append(weakref.proxy(neuron, _vacate))


def unregister(neuron: SpikingNeuron) -> None:
    """Remove strong references to ``neuron``, and entries of freed neurons, from snnTorch's registry."""
    kept = [
        entry for entry in SpikingNeuron.instances if not isinstance(entry, _Vacant) and entry is not neuron
    ]
    SpikingNeuron.instances[:] = kept


def _vacate(proxy: Any) -> None:
    # This may run while snnTorch walks the list by index, so the list keeps its length.
    for index, entry in enumerate(SpikingNeuron.instances):
        if entry is proxy:
            SpikingNeuron.instances[index] = _Vacant()
