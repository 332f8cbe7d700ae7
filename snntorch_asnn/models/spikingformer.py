"""Spikingformer: Spikformer with the neurons before the convolutions."""

from __future__ import annotations

from functools import partial
from typing import Unpack

from torch import Tensor, nn

from snntorch_asnn._arguments import check_count, check_divides, check_image_size, check_multiple
from snntorch_asnn.layers import (
    Residual,
    SpikingMLP,
    SpikingSelfAttention,
    fold_time,
    set_norm_over_time,
    to_tokens,
)
from snntorch_asnn.layers.hybrid_stem import AnalogSteps
from snntorch_asnn.layers.maps import ConvLayers
from snntorch_asnn.layers.tokens import NeuronBuilder
from snntorch_asnn.models.base import Place, SpikingModel
from snntorch_asnn.models.initialisation import init_linear
from snntorch_asnn.models.neurons import NeuronLike, Sharing, build_neuron
from snntorch_asnn.models.reference_keys import same_keys
from snntorch_asnn.models.registry import register_model
from snntorch_asnn.models.settings import BaseSettings, ModelSettings

__all__ = ["Spikingformer"]

Pools = tuple[bool, bool, bool, bool]

CIFAR_POOLS: Pools = (False, False, True, True)
ALL_POOLS: Pools = (True, True, True, True)


class SpikingformerSettings(ModelSettings, total=False):
    """Arguments of :class:`Spikingformer`."""

    dim: int
    depth: int
    num_heads: int
    mlp_ratio: int
    pools: Pools
    stem: str


class Spikingformer(SpikingModel):
    r"""Spiking transformer whose residual stream is membranes, so that every convolution sees spikes.

    The stem is a 3×3 convolution with batch norm, then four times neuron, max pooling where ``pools`` says
    so, convolution and batch norm, at widths D/8, D/4, D/2, D, D. A block is

    .. math:: x \leftarrow x + \mathrm{SSA}(x), \quad x \leftarrow x + \mathrm{MLP}(x)

    with the ``spike_first`` forms of :class:`~snntorch_asnn.layers.SpikingSelfAttention` and
    :class:`~snntorch_asnn.layers.SpikingMLP`. The head sees the mean over tokens.

    Args:
        dim: D, channels of a token; divisible by 8 and ``num_heads``.
        depth: number of blocks.
        num_heads: number of heads.
        mlp_ratio: width of the MLP over ``dim``.
        pools: which of the last four stages of the stem halve the image before they convolve.
        stem: what published checkpoints call the stem's layers: ``"block"`` for CIFAR, ``"proj"`` for
            ImageNet.
        neuron: see :func:`~snntorch_asnn.models.create_model`.
        sharing: see :func:`~snntorch_asnn.models.create_model`.
        **settings: the other arguments of :func:`~snntorch_asnn.models.create_model`.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: an argument is out of range, or sizes do not divide each other.

    Source: Zhou et al., Spikingformer: Spike-driven Residual Learning for Transformer-based Spiking Neural
    Network, arXiv 2304.11954.

    Example::

        >>> import torch
        >>> model = Spikingformer(dim=32, depth=1, num_heads=2, num_classes=10, num_steps=4)
        >>> model(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    init_classifier = staticmethod(init_linear)

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: int = 4,
        pools: Pools = CIFAR_POOLS,
        stem: str = "block",
        neuron: NeuronLike = "asnn",
        sharing: Sharing = "layer",
        **settings: Unpack[BaseSettings],
    ) -> None:
        super().__init__(**settings)
        check_count("depth", depth)
        check_count("mlp_ratio", mlp_ratio)
        check_divides("num_heads", num_heads, "dim", dim)
        check_multiple("dim", dim, 8)
        check_image_size(self.image_size, 2 ** sum(pools))
        if stem not in ("block", "proj"):
            raise ValueError(f"stem must be one of 'block', 'proj'; got {stem!r}")
        spiking = partial(build_neuron, neuron, self.num_steps, sharing=sharing)
        names = ["block0" if stem == "block" else "proj", *(f"{stem}{index}" for index in range(1, 5))]
        self.patch_embed = _Stem(self.in_channels, dim, names, pools, spiking, self.analog_steps)
        self.block = nn.ModuleList(
            Residual(
                attn=SpikingSelfAttention(
                    dim, num_heads, spiking, spike_first=True, qkv_bias=False, kernel_dims=1
                ),
                mlp=SpikingMLP(
                    dim, mlp_ratio * dim, spiking, spike_first=True, names=("mlp1", "mlp2"), kernel_dims=2
                ),
            )
            for _ in range(depth)
        )
        self.head = nn.Linear(dim, self.num_classes)
        init_linear(self)
        set_norm_over_time(self, self.norm_over_time)

    def step_features(self, planes: Tensor) -> Tensor:
        """Map encoded images, ``[T, B, C, H, W]``, to the features of each step, ``[T, B, F]``."""
        x = to_tokens(self.patch_embed(planes))
        for block in self.block:
            x = block(x)
        return x.mean(2)

    def reference_keys(self) -> dict[str, Place]:
        """Return where each key of the reference code's checkpoint goes: to the same key.

        Its two layer norms in every block are never used, and dropped.
        """
        unused = [
            f"block.{index}.norm{i}.{suffix}"
            for index in range(len(self.block))
            for i in (1, 2)
            for suffix in ("weight", "bias")
        ]
        return same_keys(self, "patch_embed.") | dict.fromkeys(unused)


class _Stem(ConvLayers):
    def __init__(
        self,
        in_channels: int,
        dim: int,
        names: list[str],
        pools: Pools,
        spiking: NeuronBuilder,
        analog: AnalogSteps,
    ) -> None:
        super().__init__()
        first, *self.names = names
        self.pools = pools
        before = dim // 8
        self._add_first(f"{first}_conv", f"{first}_bn", in_channels, before, analog)
        for name, after in zip(self.names, (dim // 4, dim // 2, dim, dim), strict=True):
            self.add_module(f"{name}_lif", spiking(channel_shape=(before, 1, 1)))
            self._add(f"{name}_conv", f"{name}_bn", before, after)
            before = after
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)

    def forward(self, planes: Tensor) -> Tensor:
        first, *later = (getattr(self, f"{name}_lif") for name in self.names)
        x = self._run_first(planes, first)
        for name, pooled, neuron in zip(self.names, self.pools, (*later, None), strict=True):
            x = fold_time(self.pool, x) if pooled else x
            x = self._run(f"{name}_conv", f"{name}_bn", x, neuron)
        return x


def _imagenet(dim: int, settings: SpikingformerSettings) -> Spikingformer:
    filled: SpikingformerSettings = {
        "depth": 8,
        "dim": dim,
        "num_heads": 8,
        "pools": ALL_POOLS,
        "stem": "proj",
        "image_size": 224,
        **settings,
    }
    return Spikingformer(**filled)


@register_model
def spikingformer_tiny(**settings: Unpack[SpikingformerSettings]) -> Spikingformer:
    """Spikingformer of one block at width 64, for tests and tutorials."""
    filled: SpikingformerSettings = {"depth": 1, "dim": 64, "num_heads": 2, **settings}
    return Spikingformer(**filled)


@register_model
def spikingformer_4_256(**settings: Unpack[SpikingformerSettings]) -> Spikingformer:
    """Spikingformer for CIFAR, 4 blocks at width 256."""
    filled: SpikingformerSettings = {"depth": 4, "dim": 256, "num_heads": 8, **settings}
    return Spikingformer(**filled)


@register_model
def spikingformer_2_384(**settings: Unpack[SpikingformerSettings]) -> Spikingformer:
    """Spikingformer for CIFAR, 2 blocks at width 384."""
    filled: SpikingformerSettings = {"depth": 2, "dim": 384, "num_heads": 12, **settings}
    return Spikingformer(**filled)


@register_model
def spikingformer_4_384(**settings: Unpack[SpikingformerSettings]) -> Spikingformer:
    """Spikingformer for CIFAR, 4 blocks at width 384."""
    filled: SpikingformerSettings = {"depth": 4, "dim": 384, "num_heads": 12, **settings}
    return Spikingformer(**filled)


@register_model
def spikingformer_8_384(**settings: Unpack[SpikingformerSettings]) -> Spikingformer:
    """Spikingformer for ImageNet, 8 blocks at width 384."""
    return _imagenet(384, settings)


@register_model
def spikingformer_8_512(**settings: Unpack[SpikingformerSettings]) -> Spikingformer:
    """Spikingformer for ImageNet, 8 blocks at width 512."""
    return _imagenet(512, settings)


@register_model
def spikingformer_8_768(**settings: Unpack[SpikingformerSettings]) -> Spikingformer:
    """Spikingformer for ImageNet, 8 blocks at width 768."""
    return _imagenet(768, settings)
