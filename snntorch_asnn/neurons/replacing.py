"""Replacing modules of a network, also where PyTorch does not see them."""

from __future__ import annotations

import logging
from typing import TypeVar, cast

from torch import nn

from snntorch_asnn.neurons.references import Reference
from snntorch_asnn.neurons.traversal import names_of

__all__ = ["logger", "names_of_replaceable", "replace", "replace_references"]

logger = logging.getLogger("snntorch_asnn.neurons.adapt")
"""The logger of :func:`~snntorch_asnn.adapt` and :func:`~snntorch_asnn.to_snntorch`; users set its level."""

Net = TypeVar("Net", bound=nn.Module)


def names_of_replaceable(net: nn.Module, places: list[Reference]) -> dict[nn.Module, list[str]]:
    """Like :func:`names_of`, and also the modules that can be replaced although PyTorch does not see them."""
    names = names_of(net)
    for place in places:
        if not place.registered and place.put is not None:
            names.setdefault(place.module, []).append(place.name)
    return names


def replace(net: Net, replacements: dict[nn.Module, nn.Module]) -> Net:
    """Put new modules into ``net``, in place. A module that was shared stays shared."""
    for parent in list(net.modules()):
        for name, child in parent._modules.items():
            if child in replacements:
                parent._modules[name] = replacements[child]
    return cast(Net, replacements.get(net, net))


def replace_references(net: Net, replacements: dict[nn.Module, nn.Module], places: list[Reference]) -> Net:
    """Like :func:`replace`, at every place that refers to a module; log each replacement."""
    for module, names in names_of_replaceable(net, places).items():
        if module in replacements:
            logger.info("%s: %s -> %s", ", ".join(names), type(module).__name__, replacements[module])
    for place in places:
        if place.module in replacements and place.put is not None:
            place.put(replacements[place.module])
    return cast(Net, replacements.get(net, net))
