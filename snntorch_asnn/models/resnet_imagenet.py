"""Spiking residual networks for ImageNet, one for each depth and shortcut."""

from __future__ import annotations

from typing import Unpack

from snntorch_asnn.models.registry import register_model
from snntorch_asnn.models.resnet import SpikingResNet, SpikingResNetSettings


def _imagenet(blocks: tuple[int, ...], bottleneck: bool, settings: SpikingResNetSettings) -> SpikingResNet:
    filled: SpikingResNetSettings = {
        "blocks": blocks,
        "bottleneck": bottleneck,
        "image_size": 224,
        **settings,
    }
    return SpikingResNet(**filled)


@register_model
def spiking_resnet18(**settings: Unpack[SpikingResNetSettings]) -> SpikingResNet:
    """Spiking ResNet-18 for ImageNet."""
    return _imagenet((2, 2, 2, 2), False, settings)


@register_model
def spiking_resnet34(**settings: Unpack[SpikingResNetSettings]) -> SpikingResNet:
    """Spiking ResNet-34 for ImageNet."""
    return _imagenet((3, 4, 6, 3), False, settings)


@register_model
def spiking_resnet50(**settings: Unpack[SpikingResNetSettings]) -> SpikingResNet:
    """Spiking ResNet-50 for ImageNet."""
    return _imagenet((3, 4, 6, 3), True, settings)


@register_model
def spiking_resnet101(**settings: Unpack[SpikingResNetSettings]) -> SpikingResNet:
    """Spiking ResNet-101 for ImageNet."""
    return _imagenet((3, 4, 23, 3), True, settings)


@register_model
def spiking_resnet152(**settings: Unpack[SpikingResNetSettings]) -> SpikingResNet:
    """Spiking ResNet-152 for ImageNet."""
    return _imagenet((3, 8, 36, 3), True, settings)


@register_model
def sew_resnet18(**settings: Unpack[SpikingResNetSettings]) -> SpikingResNet:
    """SEW-ResNet-18 for ImageNet, with added spikes."""
    filled: SpikingResNetSettings = {"shortcut": "sew_add", **settings}
    return spiking_resnet18(**filled)


@register_model
def sew_resnet34(**settings: Unpack[SpikingResNetSettings]) -> SpikingResNet:
    """SEW-ResNet-34 for ImageNet, with added spikes."""
    filled: SpikingResNetSettings = {"shortcut": "sew_add", **settings}
    return spiking_resnet34(**filled)


@register_model
def sew_resnet50(**settings: Unpack[SpikingResNetSettings]) -> SpikingResNet:
    """SEW-ResNet-50 for ImageNet, with added spikes."""
    filled: SpikingResNetSettings = {"shortcut": "sew_add", **settings}
    return spiking_resnet50(**filled)


@register_model
def sew_resnet101(**settings: Unpack[SpikingResNetSettings]) -> SpikingResNet:
    """SEW-ResNet-101 for ImageNet, with added spikes."""
    filled: SpikingResNetSettings = {"shortcut": "sew_add", **settings}
    return spiking_resnet101(**filled)


@register_model
def sew_resnet152(**settings: Unpack[SpikingResNetSettings]) -> SpikingResNet:
    """SEW-ResNet-152 for ImageNet, with added spikes."""
    filled: SpikingResNetSettings = {"shortcut": "sew_add", **settings}
    return spiking_resnet152(**filled)


@register_model
def ms_resnet18(**settings: Unpack[SpikingResNetSettings]) -> SpikingResNet:
    """MS-ResNet-18 for ImageNet, with membrane shortcuts."""
    filled: SpikingResNetSettings = {"shortcut": "ms", **settings}
    return spiking_resnet18(**filled)


@register_model
def ms_resnet34(**settings: Unpack[SpikingResNetSettings]) -> SpikingResNet:
    """MS-ResNet-34 for ImageNet, with membrane shortcuts."""
    filled: SpikingResNetSettings = {"shortcut": "ms", **settings}
    return spiking_resnet34(**filled)


@register_model
def ms_resnet50(**settings: Unpack[SpikingResNetSettings]) -> SpikingResNet:
    """MS-ResNet-50 for ImageNet, with membrane shortcuts."""
    filled: SpikingResNetSettings = {"shortcut": "ms", **settings}
    return spiking_resnet50(**filled)


@register_model
def ms_resnet101(**settings: Unpack[SpikingResNetSettings]) -> SpikingResNet:
    """MS-ResNet-101 for ImageNet, with membrane shortcuts."""
    filled: SpikingResNetSettings = {"shortcut": "ms", **settings}
    return spiking_resnet101(**filled)


@register_model
def ms_resnet152(**settings: Unpack[SpikingResNetSettings]) -> SpikingResNet:
    """MS-ResNet-152 for ImageNet, with membrane shortcuts."""
    filled: SpikingResNetSettings = {"shortcut": "ms", **settings}
    return spiking_resnet152(**filled)
