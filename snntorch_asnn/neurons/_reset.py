"""Starting a new sequence in the neurons of one network."""

from __future__ import annotations

from torch import nn

__all__ = ["reset"]


def reset(net: nn.Module) -> None:
    """Start a new sequence in every spiking neuron of ``net``, and of no other network.

    Membranes are set to zero and cut from the gradient; the next step is the first. Every module with a
    ``reset_mem`` method counts as a neuron, snnTorch's own neurons included, at any depth and inside
    ``torch.compile``, ``DataParallel`` and ``DistributedDataParallel`` wrappers.

    :func:`snntorch.utils.reset` looks only at a network's direct children and then resets every neuron
    of their classes in the process; both may be used with this package's neurons.

    Args:
        net: the network.

    Raises:
        TypeError: if ``net`` is not a module.

    Example::

        >>> import torch
        >>> import snntorch_asnn as asnn
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(3, 2), asnn.AdaptiveLeaky(0.9, init_hidden=True, num_steps=1)
        ... )
        >>> for images in torch.rand(5, 8, 3):
        ...     asnn.reset(net)
        ...     spikes = net(images)
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module; got {type(net).__name__}")
    # The list comes first: Dynamo cannot walk modules that a reset has changed in the same graph.
    for module in list(net.modules()):
        restart = getattr(module, "reset_mem", None)
        if callable(restart):
            restart()
