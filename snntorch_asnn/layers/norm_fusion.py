"""Fuse norms with the neurons after them, or fold norms into the layers before them."""

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
    """Make every :class:`NormLeaky` of a network run norm and neuron as one layer.

    The modules, the keys of the ``state_dict`` and, up to rounding, the results stay the same.
    :func:`unfuse_norm` undoes it. :func:`~snntorch_asnn.models.create_model` takes ``fused=True`` instead.

    Args:
        model: A model of the zoo, or any network with :class:`NormLeaky`.
        fused: Deprecated; call :func:`unfuse_norm` instead of passing False.

    Returns:
        The model itself, changed in place.

    Raises:
        TypeError: ``model`` is not a module.
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
    """Make every :class:`NormLeaky` of a network run norm and neuron one after the other.

    Args:
        model: A model of the zoo, or any network with :class:`NormLeaky`.

    Returns:
        The model itself, changed in place.

    Raises:
        TypeError: ``model`` is not a module.
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
            "model must contain NormLeaky layers, as the models of create_model do; "
            f"got {type(model).__name__} without one"
        )
    for pair in pairs:
        pair.fused = fused
    return model


def fold_norm(layer: nn.Module, norm_leaky: NormLeaky) -> tuple[nn.Module, nn.Module]:
    """Fold the norm of a :class:`NormLeaky` into the convolution or linear layer before it, for inference.

    Args:
        layer: Convolution or ``nn.Linear``, in evaluation mode.
        norm_leaky: Norm and neuron that follow ``layer``, in evaluation mode.

    Returns:
        A new layer that includes the norm, and the neuron to run on its output.

    Raises:
        TypeError: ``layer`` is not a convolution or ``nn.Linear``, or ``norm_leaky`` is not a
            :class:`NormLeaky`.
        ValueError: ``layer`` or ``norm_leaky`` is in training mode, the norm has no running averages or has
            its own averages for each step, the numbers of channels differ, or ``layer`` is a transposed
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
            "norm_leaky must use the same norm at every step, because layer has the same weights at every "
            f"step; got norm_over_time={norm_leaky.norm_over_time!r}"
        )
    channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    if norm.num_features != channels:
        raise ValueError(
            f"norm_leaky must have {channels} channels, like the output of layer; got {norm.num_features}"
        )
    if isinstance(layer, nn.Linear):
        return _with_norm(layer, norm), norm_leaky.neuron
    if layer.transposed and layer.groups > 1:
        # PyTorch's fuse_conv_bn_eval handles transposed convolutions of one group only.
        raise ValueError(
            f"layer must have groups=1, because it is a transposed convolution; got groups={layer.groups}"
        )
    return fusion.fuse_conv_bn_eval(layer, norm, layer.transposed), norm_leaky.neuron


def _with_norm(layer: nn.Linear, norm: BatchNorm) -> nn.Linear:
    """Copy a linear layer, whose weight may have trailing dimensions of size 1, and fold a norm into it."""
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
