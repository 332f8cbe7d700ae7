"""Spiking residual networks."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Literal, Unpack

from torch import Tensor, nn

from snntorch_asnn._arguments import check_choice, check_count
from snntorch_asnn.layers import (
    ConvNorm,
    ConvSpike,
    first_conv_norm,
    first_conv_spike,
    max_pool,
    set_norm_over_time,
    sew_add,
    sew_and,
    sew_iand,
)
from snntorch_asnn.layers.conv_spike import NeuronBuilder
from snntorch_asnn.models.base import TargetKeys
from snntorch_asnn.models.initialisation import init_convolutions
from snntorch_asnn.models.model_settings import BaseSettings, ModelSettings
from snntorch_asnn.models.named_neurons import NeuronLike, Sharing, build_neuron
from snntorch_asnn.models.reference_keys import Published, PublishedModel, published
from snntorch_asnn.models.registry import register_model

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


class SpikingResNet(PublishedModel):
    r"""Spiking residual network with the layout of PyTorch's ResNet.

    :math:`F` is the block's convolutions with their batch norms and with neurons in between. :math:`S` is the
    shortcut: the input or, where the shape changes, a 1×1 convolution with batch norm.

    .. math::

        \text{"vanilla"} \quad & y = \mathrm{SN}(F(x) + S(x)) \\
        \text{"sew\_add"} \quad & y = \mathrm{SN}(F(x)) + S(x) \\
        \text{"sew\_and"} \quad & y = \mathrm{SN}(F(x)) \cdot S(x) \\
        \text{"sew\_iand"} \quad & y = (1 - \mathrm{SN}(F(x))) \cdot S(x) \\
        \text{"ms"} \quad & y = F(\mathrm{SN}(x)) + S(x)

    In the three SEW blocks, a neuron follows the convolution in the shortcut. With ``"ms"``, the stream
    between blocks carries membranes, and one more neuron precedes the global pooling. Where PyTorch's layout
    pools after the first layer, the published MS code has a first block with stride 2 instead.

    Args:
        blocks: Number of blocks in each stage.
        widths: Channels of each stage, before the factor 4 of a bottleneck.
        bottleneck: Whether a block is 1×1, 3×3, 1×1 convolutions instead of two 3×3.
        stem_width: Channels after the first layer.
        small_images: Whether the first layer is a 3×3 convolution, as for CIFAR. Otherwise it is a 7×7
            convolution with stride 2 and pooling, as for ImageNet.
        hidden: Width of a spiking linear layer before the last layer. None leaves this layer out.
        shortcut: Kind of block, see above.
        neuron: See :func:`~snntorch_asnn.models.create_model`.
        sharing: See :func:`~snntorch_asnn.models.create_model`.
        **settings: The other arguments of :func:`~snntorch_asnn.models.create_model`.

    Raises:
        TypeError: An argument has a wrong type.
        ValueError: An argument is out of range.

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
            raise ValueError(f"blocks and widths must have the same length; got {blocks} and {widths}")
        for name, counts in (("blocks", blocks), ("widths", widths), ("stem_width", (stem_width,))):
            for count in counts:
                check_count(name, count)
        self.depths, self.bottleneck, self.shortcut = blocks, bottleneck, shortcut
        spiking = partial(build_neuron, neuron, self.num_steps, sharing=sharing)
        kernel, stride = (3, 1) if small_images else (7, 2)
        first = self.in_channels, stem_width
        self.stem = (
            first_conv_norm(*first, self.analog_steps, kernel, stride)
            if shortcut == "ms"
            else first_conv_spike(*first, spiking, self.analog_steps, kernel, stride)
        )
        self.pool = max_pool(not small_images)
        self.stages, channels = nn.Sequential(), stem_width
        for index, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            stage = nn.Sequential()
            for number in range(count):
                stride = 2 if index > 0 and number == 0 else 1
                stage.append(_Block(channels, width, stride, bottleneck, shortcut, spiking))
                channels = 4 * width if bottleneck else width
            self.stages.append(stage)
        self.spike = spiking(channel_shape=(channels, 1, 1)) if shortcut == "ms" else nn.Identity()
        self.hidden: nn.Module = nn.Identity()
        if hidden is not None:
            check_count("hidden", hidden)
            self.hidden = nn.Sequential(nn.Linear(channels, hidden), spiking(channel_shape=(hidden,)))
        self.head = nn.Linear(channels if hidden is None else hidden, self.num_classes)
        init_convolutions(self)
        set_norm_over_time(self, self.norm_over_time)

    def step_features(self, planes: Tensor) -> Tensor:
        """Map encoded images ``[T, B, C, H, W]`` to the features of each step ``[T, B, F]``."""
        x = self.stages(self.pool(self.stem(planes)))
        features: Tensor = self.hidden(self.spike(x).mean((3, 4)))
        return features

    def reference_keys(self) -> dict[str, TargetKeys]:
        """Return the keys that receive each tensor of a published checkpoint.

        The names are the same as in PyTorch's and SpikingJelly's residual networks. The SEW code wraps each
        convolution of a block and its norm in a container, which adds to the key names. Its form depends on
        SpikingJelly's version.
        """
        targets = super().reference_keys()
        wrapped = {
            _in_container(key, container): place
            for container in (".module", "")
            for key, place in targets.items()
            if key.startswith("layer")
        }
        return targets | wrapped

    def _published_names(self) -> list[dict[str, Published]]:
        """Return the names in PyTorch's residual networks."""
        depth = 3 if self.bottleneck else 2
        names = {
            "stem": published("*1", neuron="sn"),
            "spike": published("sn_last"),
            "hidden": Published("hidden.0", "", "hidden.1"),
            "head": published("fc"),
        }
        for stage, count in enumerate(self.depths):
            for index in range(count):
                own, theirs = f"stages.{stage}.{index}", f"layer{stage + 1}.{index}"
                names[f"{own}.before"] = published(f"{theirs}.sn1")
                for n in range(1, depth + 1):
                    neuron = f"sn{n + 1}" if self.shortcut == "ms" else f"sn{n}"
                    layer = Published(f"{theirs}.conv{n}", f"{theirs}.bn{n}", f"{theirs}.{neuron}")
                    names[f"{own}.branch.{n - 1}"] = layer
                names[f"{own}.after"] = published(f"{theirs}.sn{depth}")
                names[f"{own}.downsample"] = Published(
                    f"{theirs}.downsample.0", f"{theirs}.downsample.1", f"{theirs}.sn_downsample"
                )
        return [names]


def _in_container(key: str, container: str) -> str:
    """Turn ``layer1.0.conv1.weight`` into the SEW code's name, ``layer1.0.conv1.module.0.weight``."""
    key = re.sub(r"\.downsample\.(\d)\.", rf".downsample.0{container}.\1.", key)
    key = re.sub(r"\.conv(\d)\.", rf".conv\1{container}.0.", key)
    return re.sub(r"\.bn(\d)\.", rf".conv\1{container}.1.", key)


class _Block(nn.Module):
    r"""Convolutions :math:`F` with a shortcut :math:`S` around them, see :class:`SpikingResNet`."""

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        bottleneck: bool,
        shortcut: Shortcut,
        spiking: NeuronBuilder,
    ) -> None:
        super().__init__()
        out = 4 * width if bottleneck else width
        conv_spike = partial(ConvSpike, spiking=spiking)
        last = conv_spike if shortcut in _SEW else ConvNorm
        if bottleneck:
            self.branch = nn.Sequential(
                conv_spike(in_channels, width, kernel_size=1),
                conv_spike(width, width, stride=stride),
                last(width, out, kernel_size=1),
            )
        else:
            self.branch = nn.Sequential(conv_spike(in_channels, width, stride=stride), last(width, out))
        reshapes = stride != 1 or in_channels != out
        self.downsample = last(in_channels, out, kernel_size=1, stride=stride) if reshapes else nn.Identity()
        self.before = spiking(channel_shape=(in_channels, 1, 1)) if shortcut == "ms" else nn.Identity()
        self.after = spiking(channel_shape=(out, 1, 1)) if shortcut == "vanilla" else nn.Identity()
        self.add = _SEW.get(shortcut, sew_add)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[T, B, C, H, W]`` to the block's output."""
        out: Tensor = self.after(self.add(self.branch(self.before(x)), self.downsample(x)))
        return out


@register_model
def spiking_resnet_tiny(**settings: Unpack[SpikingResNetSettings]) -> SpikingResNet:
    """Spiking ResNet with three blocks at widths 16, 32 and 64, for tests and tutorials."""
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
    """Spiking ResNet-18 for CIFAR, with a 3×3 convolution as first layer and no pooling after it."""
    filled: SpikingResNetSettings = {"blocks": (2, 2, 2, 2), "small_images": True, **settings}
    return SpikingResNet(**filled)


@register_model
def spiking_resnet19(**settings: Unpack[SpikingResNetSettings]) -> SpikingResNet:
    """Spiking ResNet-19 for CIFAR, the field's usual network: three stages and a spiking linear layer."""
    filled: SpikingResNetSettings = {
        "blocks": (3, 3, 2),
        "widths": (128, 256, 512),
        "small_images": True,
        "hidden": 256,
        **settings,
    }
    return SpikingResNet(**filled)
