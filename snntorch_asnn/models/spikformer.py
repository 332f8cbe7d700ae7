"""Spikformer, the first spiking transformer."""

from __future__ import annotations

from functools import partial
from typing import Unpack

from torch import Tensor, nn

from snntorch_asnn._arguments import check_count, check_image_size, check_multiple
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

__all__ = ["Spikformer"]

CIFAR_POOLS = (False, False, True, True)
ALL_POOLS = (True, True, True, True)


class SpikformerSettings(ModelSettings, total=False):
    """Arguments of :class:`Spikformer`."""

    dim: int
    depth: int
    num_heads: int
    mlp_ratio: int
    pools: tuple[bool, bool, bool, bool]
    scale: float
    qkv_bias: bool
    kernel_dims: tuple[int, int]


class Spikformer(SpikingModel):
    r"""Convolutional stem, transformer blocks of spikes, linear head.

    The stem is four stages of 3×3 convolution, batch norm, neuron and, where ``pools`` says so, max pooling,
    at widths D/8, D/4, D/2, D; then ``x + SN(BN(conv(x)))`` for the position. A block is

    .. math:: x \leftarrow x + \mathrm{SSA}(x), \quad x \leftarrow x + \mathrm{MLP}(x)

    with :class:`~snntorch_asnn.layers.SpikingSelfAttention` and :class:`~snntorch_asnn.layers.SpikingMLP`,
    whose outputs are spikes, so that the stream is integer. The head sees the mean over tokens.

    Args:
        dim: D, channels of a token; divisible by 8 and ``num_heads``.
        depth: number of blocks.
        num_heads: number of heads.
        mlp_ratio: width of the MLP over ``dim``.
        pools: which of the four stages of the stem halve the image.
        scale: factor of the attention's product.
        qkv_bias: whether the query, key and value layers have a bias.
        kernel_dims: weight shapes of attention and MLP as in published checkpoints, see
            :class:`~snntorch_asnn.layers.Pointwise`.
        neuron: see :func:`~snntorch_asnn.models.create_model`.
        sharing: see :func:`~snntorch_asnn.models.create_model`.
        **settings: the other arguments of :func:`~snntorch_asnn.models.create_model`.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: an argument is out of range, or sizes do not divide each other.

    Source: Zhou et al., Spikformer: When Spiking Neural Network Meets Transformer, ICLR 2023.

    Example::

        >>> import torch
        >>> model = Spikformer(dim=32, depth=1, num_heads=2, num_classes=10, num_steps=4)
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
        pools: tuple[bool, bool, bool, bool] = CIFAR_POOLS,
        scale: float = 0.125,
        qkv_bias: bool = True,
        kernel_dims: tuple[int, int] = (0, 0),
        neuron: NeuronLike = "asnn",
        sharing: Sharing = "layer",
        **settings: Unpack[BaseSettings],
    ) -> None:
        super().__init__(**settings)
        check_count("depth", depth)
        check_count("mlp_ratio", mlp_ratio)
        check_multiple("dim", dim, 8)
        check_image_size(self.image_size, 2 ** sum(pools))
        spiking = partial(build_neuron, neuron, self.num_steps, sharing=sharing)
        self.patch_embed = _Stem(self.in_channels, dim, pools, spiking, self.analog_steps)
        in_attention, in_mlp = kernel_dims
        self.block = nn.ModuleList(
            Residual(
                attn=SpikingSelfAttention(
                    dim, num_heads, spiking, scale=scale, qkv_bias=qkv_bias, kernel_dims=in_attention
                ),
                mlp=SpikingMLP(dim, mlp_ratio * dim, spiking, kernel_dims=in_mlp),
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

        Weights of the first convolution go to both of its copies, where there are two. What the reference
        holds but never uses is dropped.
        """
        unused = ["pos_embed", "norm.weight", "norm.bias"]
        for index in range(len(self.block)):
            unused += [f"block.{index}.norm{i}.{suffix}" for i in (1, 2) for suffix in ("weight", "bias")]
        return same_keys(self, "patch_embed.") | dict.fromkeys(unused)


class _Stem(ConvLayers):
    def __init__(
        self,
        in_channels: int,
        dim: int,
        pools: tuple[bool, bool, bool, bool],
        spiking: NeuronBuilder,
        analog: AnalogSteps,
    ) -> None:
        super().__init__()
        self.pools = pools
        before = in_channels
        for index, after in enumerate((dim // 8, dim // 4, dim // 2, dim)):
            suffix = str(index or "")
            names = f"proj_conv{suffix}", f"proj_bn{suffix}"
            if index:
                self._add(*names, before, after)
            else:
                self._add_first(*names, before, after, analog)
            self.add_module(f"proj_lif{suffix}", spiking(channel_shape=(after, 1, 1)))
            before = after
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self._add("rpe_conv", "rpe_bn", dim, dim)
        self.rpe_lif = spiking(channel_shape=(dim, 1, 1))

    def forward(self, planes: Tensor) -> Tensor:
        x = planes
        for index, pooled in enumerate(self.pools):
            suffix = str(index or "")
            names, neuron = (f"proj_conv{suffix}", f"proj_bn{suffix}"), getattr(self, f"proj_lif{suffix}")
            x = self._run(*names, x, neuron) if index else self._run_first(x, neuron)
            x = fold_time(self.pool, x) if pooled else x
        return x + self._run("rpe_conv", "rpe_bn", x, self.rpe_lif)


def _cifar(depth: int, dim: int, num_heads: int, settings: SpikformerSettings) -> Spikformer:
    filled: SpikformerSettings = {"depth": depth, "dim": dim, "num_heads": num_heads, **settings}
    return Spikformer(**filled)


def _imagenet(depth: int, dim: int, settings: SpikformerSettings) -> Spikformer:
    """Heads of 64 channels, as in the 8-512 of the published code."""
    filled: SpikformerSettings = {
        "depth": depth,
        "dim": dim,
        "num_heads": dim // 64,
        "pools": ALL_POOLS,
        "qkv_bias": False,
        "kernel_dims": (1, 2),
        "image_size": 224,
        **settings,
    }
    return Spikformer(**filled)


@register_model
def spikformer_tiny(**settings: Unpack[SpikformerSettings]) -> Spikformer:
    """Spikformer of one block at width 64, for tests and tutorials."""
    return _cifar(1, 64, 2, settings)


@register_model
def spikformer_2_256(**settings: Unpack[SpikformerSettings]) -> Spikformer:
    """Spikformer for CIFAR, 2 blocks at width 256."""
    return _cifar(2, 256, 8, settings)


@register_model
def spikformer_4_256(**settings: Unpack[SpikformerSettings]) -> Spikformer:
    """Spikformer for CIFAR, 4 blocks at width 256."""
    return _cifar(4, 256, 8, settings)


@register_model
def spikformer_2_384(**settings: Unpack[SpikformerSettings]) -> Spikformer:
    """Spikformer for CIFAR, 2 blocks at width 384."""
    return _cifar(2, 384, 12, settings)


@register_model
def spikformer_4_384(**settings: Unpack[SpikformerSettings]) -> Spikformer:
    """Spikformer for CIFAR, 4 blocks at width 384."""
    return _cifar(4, 384, 12, settings)


@register_model
def spikformer_8_384(**settings: Unpack[SpikformerSettings]) -> Spikformer:
    """Spikformer for ImageNet, 8 blocks at width 384."""
    return _imagenet(8, 384, settings)


@register_model
def spikformer_6_512(**settings: Unpack[SpikformerSettings]) -> Spikformer:
    """Spikformer for ImageNet, 6 blocks at width 512."""
    return _imagenet(6, 512, settings)


@register_model
def spikformer_8_512(**settings: Unpack[SpikformerSettings]) -> Spikformer:
    """Spikformer for ImageNet, 8 blocks at width 512."""
    return _imagenet(8, 512, settings)


@register_model
def spikformer_10_512(**settings: Unpack[SpikformerSettings]) -> Spikformer:
    """Spikformer for ImageNet, 10 blocks at width 512."""
    return _imagenet(10, 512, settings)


@register_model
def spikformer_8_768(**settings: Unpack[SpikformerSettings]) -> Spikformer:
    """Spikformer for ImageNet, 8 blocks at width 768."""
    return _imagenet(8, 768, settings)


def _event(depth: int, dim: int, num_heads: int, settings: SpikformerSettings) -> Spikformer:
    filled: SpikformerSettings = {
        "depth": depth,
        "dim": dim,
        "num_heads": num_heads,
        "pools": ALL_POOLS,
        "scale": 0.25,
        "qkv_bias": False,
        "kernel_dims": (1, 1),
        "encoding": "none",
        "in_channels": 2,
        "image_size": 128,
        **settings,
    }
    return Spikformer(**filled)


@register_model
def spikformer_dvs_tiny(**settings: Unpack[SpikformerSettings]) -> Spikformer:
    """Spikformer for event data of one block at width 64, 32×32 pixels, for tests and tutorials."""
    return _event(1, 64, 4, {"image_size": 32, **settings})


@register_model
def spikformer_dvs_2_256(**settings: Unpack[SpikformerSettings]) -> Spikformer:
    """Spikformer for event data, 2 blocks at width 256; takes frames ``[T, B, 2, 128, 128]``."""
    return _event(2, 256, 16, settings)
