"""Spiking residual networks."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Literal, Unpack

from torch import Tensor, nn

from snntorch_asnn._arguments import check_choice, check_count
from snntorch_asnn.layers import TimeFolded, fold_time, set_norm_over_time, sew_add, sew_and, sew_iand
from snntorch_asnn.layers.maps import ConvLayers
from snntorch_asnn.layers.norm_leaky import folded_spikes
from snntorch_asnn.layers.tokens import NeuronBuilder
from snntorch_asnn.models.base import Place, SpikingModel
from snntorch_asnn.models.initialisation import init_convolutions
from snntorch_asnn.models.neurons import NeuronLike, Sharing, build_neuron
from snntorch_asnn.models.reference_keys import same_keys
from snntorch_asnn.models.registry import register_model
from snntorch_asnn.models.settings import BaseSettings, ModelSettings

__all__ = ["SpikingResNet"]

Shortcut = Literal["vanilla", "sew_add", "sew_and", "sew_iand", "ms"]

_SEW: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sew_add": sew_add,
    "sew_and": sew_and,
    "sew_iand": sew_iand,
}


class SpikingResNetSettings(ModelSettings, total=False):
    """Arguments of :class:`SpikingResNet`."""

    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    bottleneck: bool
    stem_width: int
    small_images: bool
    hidden: int | None
    shortcut: Shortcut


class SpikingResNet(ConvLayers, SpikingModel):
    r"""Residual network of spiking neurons, in PyTorch's layout and key names.

    With :math:`F` the block's convolutions, each with batch norm and with neurons in between, and the
    shortcut :math:`S` (the input, or a 1×1 convolution with batch norm of it, where the shape changes):

    .. math::

        \text{"vanilla"} \quad & y = \mathrm{SN}(F(x) + S(x)) \\
        \text{"sew\_add"} \quad & y = \mathrm{SN}(F(x)) + S(x) \\
        \text{"sew\_and"} \quad & y = \mathrm{SN}(F(x)) \cdot S(x) \\
        \text{"sew\_iand"} \quad & y = (1 - \mathrm{SN}(F(x))) \cdot S(x) \\
        \text{"ms"} \quad & y = F(\mathrm{SN}(x)) + S(x)

    In the three SEW blocks a convolution in the shortcut is followed by a neuron. With ``"ms"`` the stream
    between the blocks is membranes, and one more neuron comes before the global pooling; its published code
    has a first block of stride 2 where PyTorch's layout pools.

    Args:
        blocks: number of blocks in each stage.
        widths: channels of each stage, before the factor 4 of a bottleneck.
        bottleneck: whether a block is 1×1, 3×3, 1×1 convolutions instead of two 3×3.
        stem_width: channels after the first layer.
        small_images: whether the first layer is a 3×3 convolution, as for CIFAR, instead of a 7×7 of
            stride 2 with pooling after it.
        hidden: width of a spiking linear layer before the last one; None for none.
        shortcut: see above.
        neuron: see :func:`~snntorch_asnn.models.create_model`.
        sharing: see :func:`~snntorch_asnn.models.create_model`.
        **settings: the other arguments of :func:`~snntorch_asnn.models.create_model`.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: an argument is out of range.

    Source: Fang et al., Deep Residual Learning in Spiking Neural Networks, NeurIPS 2021 (SEW); Hu et al.,
    Advancing Spiking Neural Networks Toward Deep Residual Learning, TNNLS 2024 (MS); Zheng et al., Going
    Deeper With Directly-Trained Larger Spiking Neural Networks, AAAI 2021 (ResNet-19).

    Example::

        >>> import torch
        >>> model = SpikingResNet(
        ...     blocks=(1, 1), widths=(8, 16), stem_width=8, small_images=True, shortcut="sew_add",
        ...     num_classes=10, num_steps=4,
        ... )
        >>> model(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        *,
        blocks: tuple[int, ...],
        widths: tuple[int, ...] = (64, 128, 256, 512),
        bottleneck: bool = False,
        stem_width: int = 64,
        small_images: bool = False,
        hidden: int | None = None,
        shortcut: Shortcut = "vanilla",
        neuron: NeuronLike = "asnn",
        sharing: Sharing = "layer",
        **settings: Unpack[BaseSettings],
    ) -> None:
        super().__init__(**settings)
        check_choice("shortcut", shortcut, Shortcut)
        if not blocks or len(blocks) != len(widths):
            raise ValueError(f"blocks and widths must be as long as each other; got {blocks} and {widths}")
        for name, counts in (("blocks", blocks), ("widths", widths), ("stem_width", (stem_width,))):
            for count in counts:
                check_count(name, count)
        spiking = partial(build_neuron, neuron, self.num_steps, sharing=sharing)
        kernel_size, stride = (3, 1) if small_images else (7, 2)
        self._add_first("conv1", "bn1", self.in_channels, stem_width, self.analog_steps, kernel_size, stride)
        membranes = shortcut == "ms"
        self.sn1 = None if membranes else spiking(channel_shape=(stem_width, 1, 1))
        self.maxpool = None if small_images else nn.MaxPool2d(3, stride=2, padding=1)
        self.stages = tuple(f"layer{index + 1}" for index in range(len(blocks)))
        features = self._add_stages(blocks, widths, stem_width, bottleneck, shortcut, spiking)
        self.sn_last = spiking(channel_shape=(features, 1, 1)) if membranes else None
        self.hidden: nn.Module | None = None
        if hidden is not None:
            check_count("hidden", hidden)
            self.hidden = nn.Sequential(nn.Linear(features, hidden), spiking(channel_shape=(hidden,)))
        self.head = nn.Linear(features if hidden is None else hidden, self.num_classes)
        init_convolutions(self)
        set_norm_over_time(self, self.norm_over_time)

    def _add_stages(
        self,
        blocks: tuple[int, ...],
        widths: tuple[int, ...],
        channels: int,
        bottleneck: bool,
        shortcut: Shortcut,
        spiking: NeuronBuilder,
    ) -> int:
        """Add ``layer1`` and so on, the first block of each but ``layer1`` with stride 2; return channels."""
        build = _bottleneck if bottleneck else _basic
        for name, count, width in zip(self.stages, blocks, widths, strict=True):
            stage: list[_Block] = []
            for index in range(count):
                stride = 2 if index == 0 and name != "layer1" else 1
                stage.append(build(channels, width, stride, shortcut, spiking))
                channels = stage[-1].out_channels
            self.add_module(name, nn.Sequential(*stage))
        return channels

    def step_features(self, planes: Tensor) -> Tensor:
        """Map encoded images, ``[T, B, C, H, W]``, to the features of each step, ``[T, B, F]``."""
        x = self._run_first(planes, self.sn1)
        x = x if self.maxpool is None else fold_time(self.maxpool, x)
        for name in self.stages:
            x = getattr(self, name)(x)
        x = x if self.sn_last is None else self.sn_last(x)
        x = x.mean((3, 4))
        return x if self.hidden is None else self.hidden(x)

    def earlier_keys(self) -> dict[str, str]:
        """Return the key of the head in files of version 0.0, and today's."""
        return {"fc.": "head."}

    def reference_keys(self) -> dict[str, Place]:
        """Return where each key of a published checkpoint goes.

        PyTorch's own residual networks and SpikingJelly's have this model's keys. The SEW code wraps every
        convolution of a block with its norm, and its checkpoints have that in their key names, in a form
        that depends on SpikingJelly's version.
        """
        places = {re.sub(r"^head\.", "fc.", key): place for key, place in same_keys(self, "").items()}
        wrapped = {
            _in_container(key, container): place
            for container in (".module", "")
            for key, place in places.items()
            if key.startswith("layer")
        }
        return places | wrapped


def _in_container(key: str, container: str) -> str:
    """``layer1.0.conv1.weight`` as the SEW code calls it, ``layer1.0.conv1.module.0.weight``."""
    key = re.sub(r"\.downsample\.(\d)\.", rf".downsample.0{container}.\1.", key)
    key = re.sub(r"\.conv(\d)\.", rf".conv\1{container}.0.", key)
    return re.sub(r"\.bn(\d)\.", rf".conv\1{container}.1.", key)


class _Block(ConvLayers):
    """Convolutions ``(in_channels, out_channels, kernel_size, stride)`` with a shortcut around them."""

    def __init__(
        self, layers: list[tuple[int, int, int, int]], shortcut: Shortcut, spiking: NeuronBuilder
    ) -> None:
        super().__init__()
        in_channels, self.out_channels = layers[0][0], layers[-1][1]
        self.shortcut = shortcut
        self.depth = len(layers)
        for index, (before, after, kernel_size, stride) in enumerate(layers, 1):
            self._add(f"conv{index}", f"bn{index}", before, after, kernel_size, stride)
            channels = before if shortcut == "ms" else after
            self.add_module(f"sn{index}", spiking(channel_shape=(channels, 1, 1)))
        stride = max(layer[3] for layer in layers)
        self.downsample: nn.Module | None = None
        self.sn_downsample: nn.Module | None = None
        if stride != 1 or in_channels != self.out_channels:
            conv = nn.Conv2d(in_channels, self.out_channels, 1, stride, bias=False)
            self.downsample = TimeFolded(conv, nn.BatchNorm2d(self.out_channels))
            if shortcut in _SEW:
                self.sn_downsample = spiking(channel_shape=(self.out_channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[T, B, C, H, W]`` to the block's output."""
        first, *others = (getattr(self, f"sn{index}") for index in range(1, self.depth + 1))
        if self.shortcut == "ms":
            return self._branch(first(x), [*others, None]) + self._identity(x)
        if self.shortcut == "vanilla":
            *between, last = first, *others
            spikes: Tensor = last(self._branch(x, [*between, None]) + self._identity(x))
            return spikes
        return _SEW[self.shortcut](self._branch(x, [first, *others]), self._identity(x))

    def _branch(self, x: Tensor, neurons: list[nn.Module | None]) -> Tensor:
        """The convolutions, each with its norm and the neuron behind it, if there is one."""
        for index, neuron in enumerate(neurons, 1):
            x = self._run(f"conv{index}", f"bn{index}", x, neuron)
        return x

    def _identity(self, x: Tensor) -> Tensor:
        if self.downsample is None:
            return x
        if self.sn_downsample is None:
            membranes: Tensor = self.downsample(x)
            return membranes
        return folded_spikes(self.downsample, self.sn_downsample, x, fused=self.fused)


def _basic(in_channels: int, width: int, stride: int, shortcut: Shortcut, spiking: NeuronBuilder) -> _Block:
    return _Block([(in_channels, width, 3, stride), (width, width, 3, 1)], shortcut, spiking)


def _bottleneck(
    in_channels: int, width: int, stride: int, shortcut: Shortcut, spiking: NeuronBuilder
) -> _Block:
    layers = [(in_channels, width, 1, 1), (width, width, 3, stride), (width, 4 * width, 1, 1)]
    return _Block(layers, shortcut, spiking)


def _imagenet(blocks: tuple[int, ...], bottleneck: bool, settings: SpikingResNetSettings) -> SpikingResNet:
    filled: SpikingResNetSettings = {
        "blocks": blocks,
        "bottleneck": bottleneck,
        "image_size": 224,
        **settings,
    }
    return SpikingResNet(**filled)


@register_model
def spiking_resnet_tiny(**settings: Unpack[SpikingResNetSettings]) -> SpikingResNet:
    """Spiking ResNet of three blocks at widths 16, 32 and 64, for tests and tutorials."""
    filled: SpikingResNetSettings = {
        "blocks": (1, 1, 1),
        "widths": (16, 32, 64),
        "stem_width": 16,
        "small_images": True,
        **settings,
    }
    return SpikingResNet(**filled)


@register_model
def spiking_resnet18_cifar(**settings: Unpack[SpikingResNetSettings]) -> SpikingResNet:
    """Spiking ResNet-18 for CIFAR: the first layer is a 3×3 convolution, and nothing is pooled after it."""
    filled: SpikingResNetSettings = {"blocks": (2, 2, 2, 2), "small_images": True, **settings}
    return SpikingResNet(**filled)


@register_model
def spiking_resnet19(**settings: Unpack[SpikingResNetSettings]) -> SpikingResNet:
    """Spiking ResNet-19 for CIFAR, the field's default: three stages and a spiking linear layer."""
    filled: SpikingResNetSettings = {
        "blocks": (3, 3, 2),
        "widths": (128, 256, 512),
        "small_images": True,
        "hidden": 256,
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
