"""Turning the adaptive neurons of a network back into snnTorch's."""

from __future__ import annotations

import warnings
from typing import TypeVar

from torch import nn

from snntorch_asnn.neurons.adaptive import AdaptiveNeuron
from snntorch_asnn.neurons.convert import snntorch_neuron, why_adaptive
from snntorch_asnn.neurons.references import references
from snntorch_asnn.neurons.replacing import logger, names_of_replaceable, replace_references
from snntorch_asnn.neurons.traversal import check_net

__all__ = ["freeze", "to_snntorch"]

Net = TypeVar("Net", bound=nn.Module)


def to_snntorch(net: Net) -> Net:
    """Replace adaptive neurons by snnTorch's own, where the learned values allow it.

    A neuron is replaced if its gain is 1, its other parameters do not change with time and its leaks lie in
    [0, 1], to which snnTorch clamps all leaks but a ``Lapicque``'s, and if it uses no option that snnTorch
    lacks (``sequence``, ``exact_reset``, another ``detach_reset``). Any other neuron is kept, and the reason
    is logged at level WARNING under ``snntorch_asnn.neurons.adapt``. The network is changed in place; its
    outputs stay the same to the bit. A Parameter that had ``requires_grad=False`` keeps it.

    Args:
        net: the network, or a single neuron.

    Returns:
        The network itself; for a single neuron, its replacement.

    Raises:
        TypeError: if ``net`` is not a module.

    Example::

        >>> import snntorch as snn
        >>> import snntorch_asnn as asnn
        >>> to_snntorch(asnn.adapt(snn.Leaky(0.9), num_steps=25))
        Leaky()
    """
    check_net(net)
    replacements: dict[nn.Module, nn.Module] = {}
    places = references(net)
    for module, names in names_of_replaceable(net, places).items():
        if not isinstance(module, AdaptiveNeuron):
            continue
        reason = why_adaptive(module)
        if reason is None:
            replacements[module] = snntorch_neuron(module)
        else:
            logger.warning("%s: %s kept, %s", ", ".join(names), type(module).__name__, reason)
    return replace_references(net, replacements, places)


def freeze(net: Net) -> Net:
    """Deprecated name of :func:`to_snntorch`."""
    warnings.warn(
        "snntorch_asnn.freeze is deprecated; use snntorch_asnn.to_snntorch",
        DeprecationWarning,
        stacklevel=2,
    )
    return to_snntorch(net)
