"""Spikformer, the first spiking transformer."""

from __future__ import annotations

from functools import partial
from typing import Unpack

from torch import Tensor, nn

from snntorch_asnn._arguments import check_count, check_image_size, check_multiple
from snntorch_asnn.layers import (
    AnalogSteps,
    ConvSpike,
    Residual,
    SpikingMLP,
    SpikingSelfAttention,
    first_conv_spike,
    max_pool,
    set_norm_over_time,
    to_tokens,
)
from snntorch_asnn.layers.conv_spike import NeuronBuilder
from snntorch_asnn.models.base import TargetKeys
from snntorch_asnn.models.initialisation import init_linear
from snntorch_asnn.models.model_settings import BaseSettings, ModelSettings
from snntorch_asnn.models.named_neurons import NeuronLike, Sharing, build_neuron
from snntorch_asnn.models.reference_keys import (
    Published,
    PublishedModel,
    attention_names,
    mlp_names,
    published,
)
from snntorch_asnn.models.registry import register_model

__all__ = ["Spikformer"]

Pools = tuple[bool, bool, bool, bool]

CIFAR_POOLS: Pools = (False, False, True, True)
ALL_POOLS: Pools = (True, True, True, True)


class SpikformerSettings(ModelSettings, total=False):
    """Arguments of :class:`Spikformer`."""

    dim: int
    depth: int
    num_heads: int
    mlp_ratio: int
    pools: Pools
    scale: float
    qkv_bias: bool
    small_weights: bool


class Spikformer(PublishedModel):
    r"""Spiking transformer with a convolutional stem, spiking blocks and a linear head.

    The stem is four stages of 3×3 convolution, batch norm, neuron and max pooling (see ``pools``) at widths
    D/8, D/4, D/2 and D. The position embedding is ``x + SN(BN(conv(x)))``. A block is

    .. math:: x \leftarrow x + \mathrm{SSA}(x), \quad x \leftarrow x + \mathrm{MLP}(x)

    with :class:`~snntorch_asnn.layers.SpikingSelfAttention` and :class:`~snntorch_asnn.layers.SpikingMLP`,
    whose outputs are spikes, so the residual stream is integer. The head sees the mean over tokens.

    Args:
        dim: Channels D of a token. It must be divisible by 8 and ``num_heads``.
        depth: Number of blocks.
        num_heads: Number of heads.
        mlp_ratio: Hidden width of the MLP divided by ``dim``.
        pools: Which of the four stages of the stem halve the image.
        scale: Factor of the attention's product.
        qkv_bias: Whether the query, key and value layers have a bias.
        small_weights: Whether all linear layers are initialised from a normal with standard deviation 0.02,
            as in the published network for CIFAR. Otherwise only the head is, as in the other networks.
        neuron: See :func:`~snntorch_asnn.models.create_model`.
        sharing: See :func:`~snntorch_asnn.models.create_model`.
        **settings: The other arguments of :func:`~snntorch_asnn.models.create_model`.

    Raises:
        TypeError: An argument has a wrong type.
        ValueError: An argument is out of range, or sizes do not divide each other.

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
        pools: Pools = CIFAR_POOLS,
        scale: float = 0.125,
        qkv_bias: bool = True,
        small_weights: bool = True,
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
        self.stem = _Stem(self.in_channels, dim, pools, spiking, self.analog_steps)
        self.blocks = nn.Sequential(
            *(
                Residual(
                    attn=SpikingSelfAttention(dim, num_heads, spiking, scale=scale, qkv_bias=qkv_bias),
                    mlp=SpikingMLP(dim, mlp_ratio * dim, spiking),
                )
                for _ in range(depth)
            )
        )
        self.head = nn.Linear(dim, self.num_classes)
        init_linear(self if small_weights else self.head)
        set_norm_over_time(self, self.norm_over_time)

    def step_features(self, planes: Tensor) -> Tensor:
        """Map encoded images ``[T, B, C, H, W]`` to the features of each step ``[T, B, D]``."""
        tokens = self.blocks(to_tokens(self.stem(planes)))
        return tokens.mean(2)  # type: ignore[no-any-return]

    def reference_keys(self) -> dict[str, TargetKeys]:
        """Return the keys that receive each tensor of the reference code's checkpoint.

        Tensors that the reference never uses are dropped.
        """
        unused = ["pos_embed", "norm.weight", "norm.bias"]
        for index in range(len(self.blocks)):
            unused += [f"block.{index}.norm{i}.{suffix}" for i in (1, 2) for suffix in ("weight", "bias")]
        return super().reference_keys() | dict.fromkeys(unused)

    def _published_names(self) -> list[dict[str, Published]]:
        """Return the names in the code for CIFAR, which uses linear layers for tokens, and in the other."""
        return [self._names("linear"), self._names("conv")]

    def _names(self, kind: str) -> dict[str, Published]:
        names = {
            "stem.conv1": published("patch_embed.proj_*"),
            "stem.conv2": published("patch_embed.proj_*1"),
            "stem.conv3": published("patch_embed.proj_*2"),
            "stem.conv4": published("patch_embed.proj_*3"),
            "stem.position": published("patch_embed.rpe_*"),
            "head": published("head"),
        }
        for index in range(len(self.blocks)):
            own, theirs = f"blocks.{index}", f"block.{index}"
            names |= attention_names(f"{own}.attn", f"{theirs}.attn", kind=kind)
            names |= mlp_names(f"{own}.mlp", f"{theirs}.mlp", kind=kind)
        return names


class _Stem(nn.Module):
    def __init__(
        self, in_channels: int, dim: int, pools: Pools, spiking: NeuronBuilder, code: AnalogSteps
    ) -> None:
        super().__init__()
        self.conv1 = first_conv_spike(in_channels, dim // 8, spiking, code)
        self.pool1 = max_pool(pools[0])
        self.conv2 = ConvSpike(dim // 8, dim // 4, spiking)
        self.pool2 = max_pool(pools[1])
        self.conv3 = ConvSpike(dim // 4, dim // 2, spiking)
        self.pool3 = max_pool(pools[2])
        self.conv4 = ConvSpike(dim // 2, dim, spiking)
        self.pool4 = max_pool(pools[3])
        self.position = ConvSpike(dim, dim, spiking)

    def forward(self, planes: Tensor) -> Tensor:
        x = self.pool1(self.conv1(planes))
        x = self.pool2(self.conv2(x))
        x = self.pool3(self.conv3(x))
        x = self.pool4(self.conv4(x))
        out: Tensor = x + self.position(x)
        return out


def _imagenet(depth: int, dim: int, settings: SpikformerSettings) -> Spikformer:
    """Build a network with heads of 64 channels, like the 8-512 of the published code."""
    filled: SpikformerSettings = {
        "depth": depth,
        "dim": dim,
        "num_heads": dim // 64,
        "pools": ALL_POOLS,
        "qkv_bias": False,
        "small_weights": False,
        "image_size": 224,
        **settings,
    }
    return Spikformer(**filled)


def _event(depth: int, dim: int, num_heads: int, settings: SpikformerSettings) -> Spikformer:
    filled: SpikformerSettings = {
        "depth": depth,
        "dim": dim,
        "num_heads": num_heads,
        "pools": ALL_POOLS,
        "scale": 0.25,
        "qkv_bias": False,
        "small_weights": False,
        "encoding": "none",
        "in_channels": 2,
        "image_size": 128,
        **settings,
    }
    return Spikformer(**filled)


@register_model
def spikformer_tiny(**settings: Unpack[SpikformerSettings]) -> Spikformer:
    """Spikformer with one block at width 64, for tests and tutorials."""
    filled: SpikformerSettings = {"depth": 1, "dim": 64, "num_heads": 2, **settings}
    return Spikformer(**filled)


@register_model
def spikformer_2_256(**settings: Unpack[SpikformerSettings]) -> Spikformer:
    """Spikformer for CIFAR, 2 blocks at width 256."""
    filled: SpikformerSettings = {"depth": 2, "dim": 256, "num_heads": 8, **settings}
    return Spikformer(**filled)


@register_model
def spikformer_4_256(**settings: Unpack[SpikformerSettings]) -> Spikformer:
    """Spikformer for CIFAR, 4 blocks at width 256."""
    filled: SpikformerSettings = {"depth": 4, "dim": 256, "num_heads": 8, **settings}
    return Spikformer(**filled)


@register_model
def spikformer_2_384(**settings: Unpack[SpikformerSettings]) -> Spikformer:
    """Spikformer for CIFAR, 2 blocks at width 384."""
    filled: SpikformerSettings = {"depth": 2, "dim": 384, "num_heads": 12, **settings}
    return Spikformer(**filled)


@register_model
def spikformer_4_384(**settings: Unpack[SpikformerSettings]) -> Spikformer:
    """Spikformer for CIFAR, 4 blocks at width 384."""
    filled: SpikformerSettings = {"depth": 4, "dim": 384, "num_heads": 12, **settings}
    return Spikformer(**filled)


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


@register_model
def spikformer_dvs_tiny(**settings: Unpack[SpikformerSettings]) -> Spikformer:
    """Spikformer for event data, one block at width 64 and 32×32 pixels, for tests and tutorials."""
    return _event(1, 64, 4, {"image_size": 32, **settings})


@register_model
def spikformer_dvs_2_256(**settings: Unpack[SpikformerSettings]) -> Spikformer:
    """Spikformer for event data, 2 blocks at width 256; takes frames ``[T, B, 2, 128, 128]``."""
    return _event(2, 256, 16, settings)
