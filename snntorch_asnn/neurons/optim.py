"""Parameter groups for optimizers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from torch import Tensor, nn
from torch.nn.utils import parametrize

from snntorch_asnn._arguments import check_number
from snntorch_asnn.neurons.traversal import check_net, parameters_behind

__all__ = ["optim_groups"]

_DECAYING = (
    nn.modules.conv._ConvNd,
    nn.Linear,
    nn.Bilinear,
    nn.MultiheadAttention,
    nn.RNNBase,
    nn.RNNCellBase,
)
"""Layers whose weights are those of linear maps."""


def optim_groups(
    net: nn.Module, lr: float, *, time_lr: float | None = None, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Sort the parameters of a network for an optimizer: what decays, what does not, what is indexed by time.

    Only the weights of convolutions and linear layers decay: the parameters of two or more dimensions with
    ``weight`` in their name, of ``nn.Linear``, ``nn.Bilinear``, PyTorch's convolutions, attention and
    recurrent layers, and of their subclasses. Pulling leaks, gains, thresholds, norms or biases to zero would
    change what a neuron is, not regularise it; embeddings, positions and what else other modules hold do not
    decay either. Time parameters are those that a module lists in ``time_parameters``: this package's neurons
    and readouts do.

    Of a parametrized weight (:mod:`torch.nn.utils.parametrize`) decays what it is computed from, as both
    tensors of a ``weight_norm``, but not what the parametrization itself learns; of a parametrized time
    parameter, both are in its group. A parameter that is shared decays if one of its places says so.

    Args:
        net: the network. Parameters with ``requires_grad=False`` are left out.
        lr: learning rate of the weights.
        time_lr: learning rate of the time parameters; None for ``lr``.
        weight_decay: weight decay of the weights.

    Returns:
        Three groups: ``"weights"``; ``"others"``, which is all that is in neither of the two, such as norms,
        biases and what neurons learn for all steps alike, without weight decay; and ``"time"``, without it
        too. One that would be empty is left out.

    Raises:
        TypeError: if ``net`` is not a module, or a rate or the decay not a number.
        ValueError: if a rate or the decay is negative or not finite, or nothing is learned.

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
        raise ValueError("net must have parameters with requires_grad; it has none")
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
    # PyTorch's optimizers take a learning rate that is a tensor, too.
    number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    check_number(name, number)
    if not 0 <= cast(float, number) < float("inf"):
        raise ValueError(f"{name} must be a finite number, not negative; got {value!r}")


def _timed(net: nn.Module) -> set[int]:
    """Parameters that are indexed by time, or that such values are computed from."""
    return {
        id(parameter)
        for module in net.modules()
        for name in getattr(module, "time_parameters", ())
        for parameter in parameters_behind(module, name)
    }


def _decaying(net: nn.Module) -> set[int]:
    """Weights of linear maps."""
    layers = [module for module in net.modules() if isinstance(module, _DECAYING)]
    return {id(weight) for layer in layers for weight in _weights(layer) if weight.ndim >= 2}


def _weights(layer: nn.Module) -> Iterator[nn.Parameter]:
    """Weights of a layer, with what a parametrized one is computed from."""
    # Attention and recurrent layers have several; the older weight_norm calls its two weight_g and weight_v.
    for name, parameter in layer.named_parameters(recurse=False):
        if "weight" in name:
            yield parameter
    if parametrize.is_parametrized(layer):
        for name, computed in cast(nn.ModuleDict, layer.parametrizations).items():
            if "weight" in name:
                yield from computed.parameters(recurse=False)
