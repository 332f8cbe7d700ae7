"""Norms fused with the neurons behind them, and norms folded into the layers before them."""

from __future__ import annotations

import copy
import warnings
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import fusion

from snntorch_asnn._torch import ConvBase
from snntorch_asnn.layers.norm_leaky import BatchNorm, NormLeaky, affine_of
from snntorch_asnn.layers.norm_over_time import num_steps_of

__all__ = ["fold_norm", "fuse_norm", "unfuse_norm"]


def fuse_norm(model: nn.Module, fused: bool = True) -> nn.Module:
    """Let every :class:`NormLeaky` of a network run norm and neuron as one layer.

    Only the order of computation changes: modules, keys of the ``state_dict`` and, up to rounding, results
    stay as they are. :func:`unfuse_norm` undoes it. Models of :func:`~snntorch_asnn.models.create_model` take
    ``fused=True`` instead.

    Args:
        model: A model of the zoo, or any network with :class:`NormLeaky`.
        fused: Deprecated; call :func:`unfuse_norm` instead of passing False.

    Returns:
        The model itself, changed in place.

    Raises:
        TypeError: ``model`` is no module.
        ValueError: ``model`` has no :class:`NormLeaky`.

    Example::

        >>> import snntorch_asnn as asnn
        >>> model = asnn.models.create_model("spikformer_tiny", num_classes=10, num_steps=4)
        >>> model = asnn.layers.fuse_norm(model)
    """
    if not fused:
        warnings.warn("fused=False is deprecated; call unfuse_norm(model)", DeprecationWarning, stacklevel=2)
    return _set_fused(model, fused)


def unfuse_norm(model: nn.Module) -> nn.Module:
    """Let every :class:`NormLeaky` of a network run norm and neuron one after the other.

    Args:
        model: A model of the zoo, or any network with :class:`NormLeaky`.

    Returns:
        The model itself, changed in place.

    Raises:
        TypeError: ``model`` is no module.
        ValueError: ``model`` has no :class:`NormLeaky`.

    Example::

        >>> import snntorch_asnn as asnn
        >>> settings = {"num_classes": 10, "num_steps": 4, "fused": True}
        >>> model = asnn.layers.unfuse_norm(asnn.models.create_model("spikformer_tiny", **settings))
    """
    return _set_fused(model, False)


def _set_fused(model: nn.Module, fused: bool) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}")
    pairs = [module for module in model.modules() if isinstance(module, NormLeaky)]
    if not pairs:
        raise ValueError(
            "model must hold layers of the zoo, or NormLeaky in the place of each norm and neuron; "
            f"{type(model).__name__} holds none"
        )
    for pair in pairs:
        pair.fused = fused
    return model


def fold_norm(layer: nn.Module, norm_leaky: NormLeaky) -> tuple[nn.Module, nn.Module]:
    """Fold the norm of a :class:`NormLeaky` into the convolution or linear layer before it, for inference.

    Args:
        layer: A convolution or ``nn.Linear``, in evaluation mode.
        norm_leaky: What follows it, in evaluation mode.

    Returns:
        A new layer with the norm inside, and the neuron, to be run on its output.

    Raises:
        TypeError: ``layer`` is neither, or ``norm_leaky`` no :class:`NormLeaky`.
        ValueError: One of them is in training mode, the norm has no running averages, has averages of each
            step or another number of channels than ``layer`` puts out, or ``layer`` is a transposed
            convolution with groups.

    Example::

        >>> import torch
        >>> import snntorch_asnn as asnn
        >>> conv = torch.nn.Conv2d(3, 8, 3).eval()
        >>> after = NormLeaky(8, asnn.AdaptiveLeaky(0.9, num_steps=4, sequence=True)).eval()
        >>> conv, neuron = fold_norm(conv, after)
    """
    if not isinstance(norm_leaky, NormLeaky):
        raise TypeError(f"norm_leaky must be a NormLeaky; got {type(norm_leaky).__name__}")
    norm = norm_leaky.norm
    if not isinstance(layer, ConvBase | nn.Linear):
        raise TypeError(f"layer must be a convolution or nn.Linear; got {type(layer).__name__}")
    if layer.training or norm.training:
        raise ValueError("layer and norm_leaky must be in evaluation mode; call eval() first")
    if norm.running_mean is None:
        raise ValueError("norm_leaky must have running averages; got track_running_stats=False")
    if num_steps_of(norm) is not None:
        raise ValueError(
            "norm_leaky must have one norm for all steps, which weights for all steps can hold; got "
            f"norm_over_time={norm_leaky.norm_over_time!r}"
        )
    channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    if norm.num_features != channels:
        raise ValueError(
            f"norm_leaky must have the {channels} channels that layer puts out; got {norm.num_features}"
        )
    if isinstance(layer, nn.Linear):
        return _with_norm(layer, norm), norm_leaky.neuron
    if layer.transposed and layer.groups > 1:
        # PyTorch lays out the weights of one group only as those of a transposed convolution.
        raise ValueError(f"layer must have groups=1 as a transposed convolution; got groups={layer.groups}")
    return fusion.fuse_conv_bn_eval(layer, norm, layer.transposed), norm_leaky.neuron


def _with_norm(layer: nn.Linear, norm: BatchNorm) -> nn.Linear:
    """A copy of a linear layer, whose weight may end in dimensions of 1, with a norm's arithmetic in it."""
    folded = copy.deepcopy(layer)
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    with torch.no_grad():
        factor, offset, _ = affine_of(mean, variance, norm.weight, norm.bias, norm.eps)
        weight = layer.weight * factor.view(-1, *(1,) * (layer.weight.ndim - 1))
        own = cast(Tensor | None, layer.bias)
        bias = offset if own is None else torch.addcmul(offset, own, factor)
    folded.weight = nn.Parameter(weight.to(layer.weight.dtype), layer.weight.requires_grad)
    folded.bias = nn.Parameter(bias.to(layer.weight.dtype), layer.weight.requires_grad)
    return folded
