"""Spikingformer: Spikformer with the neurons before the convolutions."""

from __future__ import annotations

from functools import partial
from typing import Unpack

from torch import Tensor, nn

from snntorch_asnn._arguments import check_count, check_divides, check_image_size, check_multiple
from snntorch_asnn.layers import (
    ConvNorm,
    ConvSpike,
    Residual,
    SpikingMLP,
    SpikingSelfAttention,
    first_conv_spike,
    max_pool,
    set_norm_over_time,
    to_tokens,
)
from snntorch_asnn.models.base import TargetKeys
from snntorch_asnn.models.initialisation import init_linear
from snntorch_asnn.models.model_settings import BaseSettings, ModelSettings
from snntorch_asnn.models.named_neurons import NeuronLike, Sharing, build_neuron
from snntorch_asnn.models.reference_keys import (
    Published,
    PublishedModel,
    attention_names,
    before_neuron,
    mlp_names,
    published,
)
from snntorch_asnn.models.registry import register_model

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


class Spikingformer(PublishedModel):
    r"""Spiking transformer whose residual stream carries membranes, so that every convolution sees spikes.

    The stem is a 3×3 convolution with batch norm, followed by four stages of neuron, max pooling (see
    ``pools``), convolution and batch norm. The widths are D/8, D/4, D/2, D and D. A block is

    .. math:: x \leftarrow x + \mathrm{SSA}(x), \quad x \leftarrow x + \mathrm{MLP}(x)

    with the ``spike_first`` forms of :class:`~snntorch_asnn.layers.SpikingSelfAttention` and
    :class:`~snntorch_asnn.layers.SpikingMLP`. The head sees the mean over tokens.

    Args:
        dim: Channels D of a token. It must be divisible by 8 and ``num_heads``.
        depth: Number of blocks.
        num_heads: Number of heads.
        mlp_ratio: Hidden width of the MLP divided by ``dim``.
        pools: Which of the four stages of the stem halve the image by max pooling.
        neuron: See :func:`~snntorch_asnn.models.create_model`.
        sharing: See :func:`~snntorch_asnn.models.create_model`.
        **settings: The other arguments of :func:`~snntorch_asnn.models.create_model`.

    Raises:
        TypeError: An argument has a wrong type.
        ValueError: An argument is out of range, or sizes do not divide each other.

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
        spiking = partial(build_neuron, neuron, self.num_steps, sharing=sharing)
        self.stem = nn.Sequential(
            first_conv_spike(self.in_channels, dim // 8, spiking, self.analog_steps),
            max_pool(pools[0]),
            ConvSpike(dim // 8, dim // 4, spiking),
            max_pool(pools[1]),
            ConvSpike(dim // 4, dim // 2, spiking),
            max_pool(pools[2]),
            ConvSpike(dim // 2, dim, spiking),
            max_pool(pools[3]),
            ConvNorm(dim, dim),
        )
        self.blocks = nn.Sequential(
            *(
                Residual(
                    attn=SpikingSelfAttention(dim, num_heads, spiking, spike_first=True, qkv_bias=False),
                    mlp=SpikingMLP(dim, mlp_ratio * dim, spiking, spike_first=True),
                )
                for _ in range(depth)
            )
        )
        self.head = nn.Linear(dim, self.num_classes)
        init_linear(self.head)
        set_norm_over_time(self, self.norm_over_time)

    def step_features(self, planes: Tensor) -> Tensor:
        """Map encoded images ``[T, B, C, H, W]`` to the features of each step ``[T, B, D]``."""
        tokens = self.blocks(to_tokens(self.stem(planes)))
        return tokens.mean(2)  # type: ignore[no-any-return]

    def reference_keys(self) -> dict[str, TargetKeys]:
        """Return the keys that receive each tensor of the reference code's checkpoint.

        The reference never uses the two layer norms in its blocks, so they are dropped.
        """
        unused = [
            f"block.{index}.norm{i}.{suffix}"
            for index in range(len(self.blocks))
            for i in (1, 2)
            for suffix in ("weight", "bias")
        ]
        return super().reference_keys() | dict.fromkeys(unused)

    def _published_names(self) -> list[dict[str, Published]]:
        """Return the names in the code for CIFAR and in the code for ImageNet."""
        names = {"head": published("head")}
        for index in range(len(self.blocks)):
            own, theirs = f"blocks.{index}", f"block.{index}"
            names |= attention_names(f"{own}.attn", f"{theirs}.attn", spike_first=True)
            names |= mlp_names(f"{own}.mlp", f"{theirs}.mlp", "mlp", spike_first=True)
        cifar = ("block0", "block1", "block2", "block3", "block4")
        imagenet = ("proj", "proj1", "proj2", "proj3", "proj4")
        return [names | _stem(cifar), names | _stem(imagenet)]


def _stem(layers: tuple[str, ...]) -> dict[str, Published]:
    """Return the names of the stem's layers; every second module of the stem is a pooling."""
    pairs = enumerate(zip(layers, (*layers[1:], ""), strict=True))
    return {
        f"stem.{2 * index}": before_neuron(f"patch_embed.{layer}_*", f"patch_embed.{after}_lif")
        for index, (layer, after) in pairs
    }


def _imagenet(dim: int, settings: SpikingformerSettings) -> Spikingformer:
    filled: SpikingformerSettings = {
        "depth": 8,
        "dim": dim,
        "num_heads": 8,
        "pools": ALL_POOLS,
        "image_size": 224,
        **settings,
    }
    return Spikingformer(**filled)


@register_model
def spikingformer_tiny(**settings: Unpack[SpikingformerSettings]) -> Spikingformer:
    """Spikingformer with one block at width 64, for tests and tutorials."""
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
