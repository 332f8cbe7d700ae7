"""Parameter groups for optimizers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from torch import Tensor, nn
from torch.nn.utils import parametrize

from snntorch_asnn._arguments import check_number
from snntorch_asnn._torch import ConvBase
from snntorch_asnn.neurons.traversal import check_net, parameters_behind

__all__ = ["optim_groups"]

_DECAYING = (
    ConvBase,
    nn.Linear,
    nn.Bilinear,
    nn.MultiheadAttention,
    nn.RNNBase,
    nn.RNNCellBase,
)
"""Layers whose weights decay."""


def optim_groups(
    net: nn.Module, lr: float, *, time_lr: float | None = None, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Sort the parameters of a network for an optimizer: decaying weights, other parameters, time parameters.

    Only the weights of convolutions and linear layers decay: parameters with two or more dimensions and
    ``weight`` in their name that belong to ``nn.Linear``, ``nn.Bilinear``, PyTorch's convolutions, attention
    and recurrent layers, or to their subclasses. Decay would pull leaks, gains, thresholds, norms and biases
    to zero, which changes a neuron instead of regularising it; embeddings, positions and the parameters of
    other modules do not decay either. A module lists its time parameters in ``time_parameters``, as this
    package's neurons and readouts do.

    If a weight is parametrized (:mod:`torch.nn.utils.parametrize`), its sources decay, such as both tensors
    of a ``weight_norm``, but parameters of the parametrization itself do not. If a time parameter is
    parametrized, both belong to its group. A shared parameter decays if it decays at one of its places.

    Args:
        net: the network. Parameters with ``requires_grad=False`` are left out.
        lr: learning rate of the weights.
        time_lr: learning rate of the time parameters; None for ``lr``.
        weight_decay: weight decay of the weights.

    Returns:
        Three groups: ``"weights"``; ``"time"`` without weight decay; and ``"others"`` without weight decay,
        with norms, biases, parameters that a neuron has once for all steps, and the rest. Empty groups are
        left out.

    Raises:
        TypeError: if ``net`` is not a module, or a rate or the decay not a number.
        ValueError: if a rate or the decay is negative or not finite, or no parameter is learned.

    Example::

        >>> import torch
        >>> import snntorch_asnn as asnn
        >>> net = nn.Sequential(nn.Linear(3, 2), asnn.AdaptiveLeaky(0.9, num_steps=4))
        >>> optimizer = torch.optim.AdamW(optim_groups(net, lr=1e-3, time_lr=1e-2, weight_decay=0.05))
        >>> [(group["name"], group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
        [('weights', 0.001, 0.05), ('others', 0.001, 0.0), ('time', 0.01, 0.0)]
    """
    check_net(net)
    time_lr = lr if time_lr is None else time_lr
    for name, value in (("lr", lr), ("time_lr", time_lr), ("weight_decay", weight_decay)):
        _check_rate(name, value)
    learned = [parameter for parameter in net.parameters() if parameter.requires_grad]
    if not learned:
        raise ValueError("net must have parameters with requires_grad=True; it has no such parameter")
    timed, decaying = _timed(net), _decaying(net)
    weights, others, time = [], [], []
    for parameter in learned:
        if id(parameter) in timed:
            time.append(parameter)
        elif id(parameter) in decaying:
            weights.append(parameter)
        else:
            others.append(parameter)
    groups: list[dict[str, Any]] = [
        {"name": "weights", "params": weights, "lr": lr, "weight_decay": weight_decay},
        {"name": "others", "params": others, "lr": lr, "weight_decay": 0.0},
        {"name": "time", "params": time, "lr": time_lr, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _check_rate(name: str, value: object) -> None:
    # PyTorch's optimizers also take a tensor as learning rate.
    number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    check_number(name, number)
    if not 0 <= cast(float, number) < float("inf"):
        raise ValueError(f"{name} must be a finite number, not negative; got {value!r}")


def _timed(net: nn.Module) -> set[int]:
    """Parameters that are indexed by time, or from which such a parameter is computed."""
    return {
        id(parameter)
        for module in net.modules()
        for name in getattr(module, "time_parameters", ())
        for parameter in parameters_behind(module, name)
    }


def _decaying(net: nn.Module) -> set[int]:
    """Weights of layers whose weights decay."""
    layers = [module for module in net.modules() if isinstance(module, _DECAYING)]
    return {id(weight) for layer in layers for weight in _weights(layer) if weight.ndim >= 2}


def _weights(layer: nn.Module) -> Iterator[nn.Parameter]:
    """Weights of a layer, and the sources of parametrized weights."""
    # Attention and recurrent layers have several weights; the older weight_norm has weight_g and weight_v.
    for name, parameter in layer.named_parameters(recurse=False):
        if "weight" in name:
            yield parameter
    if parametrize.is_parametrized(layer):
        for name, computed in cast(nn.ModuleDict, layer.parametrizations).items():
            if "weight" in name:
                yield from computed.parameters(recurse=False)
