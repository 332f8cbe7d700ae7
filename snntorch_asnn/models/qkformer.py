"""QKFormer, a hierarchical spiking transformer with query-key attention."""

from __future__ import annotations

from functools import partial
from typing import Unpack

from torch import Tensor, nn

from snntorch_asnn._arguments import check_count, check_divides, check_image_size, check_multiple
from snntorch_asnn.layers import (
    AnalogSteps,
    ConvNorm,
    ConvSpike,
    Residual,
    SpikingMLP,
    SpikingSelfAttention,
    TokenQKAttention,
    first_conv_norm,
    first_conv_spike,
    max_pool,
    on_tokens,
    set_norm_over_time,
    to_tokens,
)
from snntorch_asnn.layers.conv_spike import NeuronBuilder
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

__all__ = ["QKFormer"]


class QKFormerSettings(ModelSettings, total=False):
    """Arguments of :class:`QKFormer`."""

    dim: int
    depths: tuple[int, int, int]
    num_heads: int
    mlp_ratio: int
    small_images: bool


class QKFormer(PublishedModel):
    r"""Hierarchical spiking transformer: three stages at widths D/4, D/2 and D.

    Every stage begins with a patch embedding: convolutions, and a 1×1 convolution as shortcut. Both end in
    spikes, which are added. The first two stages mix tokens by
    :class:`~snntorch_asnn.layers.TokenQKAttention`, the third by
    :class:`~snntorch_asnn.layers.SpikingSelfAttention`. Every block ends with a
    :class:`~snntorch_asnn.layers.SpikingMLP`. Attention and MLP add spikes to the residual stream. The head
    sees the mean over tokens.

    Args:
        dim: Channels D of a token in the last stage. It must be divisible by 8, and D/4 by ``num_heads``.
        depths: Number of blocks in each stage.
        num_heads: Number of heads, the same in all stages.
        mlp_ratio: Hidden width of an MLP divided by the stage's width.
        small_images: Whether the first stage keeps the size of the image, as for CIFAR. Otherwise it divides
            the size by 4, as for ImageNet, and the other stages pool earlier.
        neuron: See :func:`~snntorch_asnn.models.create_model`.
        sharing: See :func:`~snntorch_asnn.models.create_model`.
        **settings: The other arguments of :func:`~snntorch_asnn.models.create_model`.

    Raises:
        TypeError: An argument has a wrong type.
        ValueError: An argument is out of range, or sizes do not divide each other.

    Source: Zhou et al., QKFormer: Hierarchical Spiking Transformer using Q-K Attention, NeurIPS 2024.

    Example::

        >>> import torch
        >>> model = QKFormer(dim=32, depths=(1, 1, 1), num_heads=2, num_classes=10, num_steps=4)
        >>> model(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    init_classifier = staticmethod(init_linear)

    def __init__(
        self,
        *,
        dim: int,
        depths: tuple[int, int, int],
        num_heads: int,
        mlp_ratio: int = 4,
        small_images: bool = True,
        neuron: NeuronLike = "asnn",
        sharing: Sharing = "layer",
        **settings: Unpack[BaseSettings],
    ) -> None:
        super().__init__(**settings)
        if len(depths) != 3:
            raise ValueError(f"depths must be three numbers; got {depths!r}")
        for depth in depths:
            check_count("depths", depth)
        check_count("mlp_ratio", mlp_ratio)
        check_multiple("dim", dim, 8)
        check_divides("num_heads", num_heads, "dim / 4", dim // 4)
        check_image_size(self.image_size, 4 if small_images else 16)
        spiking = partial(build_neuron, neuron, self.num_steps, sharing=sharing)
        stem = _CifarStem if small_images else _ImageNetStem
        self.embed1 = stem(self.in_channels, dim // 4, spiking, self.analog_steps)
        self.stage1 = _qk_blocks(depths[0], dim // 4, num_heads, mlp_ratio, spiking)
        self.embed2 = _PatchEmbedding(dim // 2, small_images, spiking)
        self.stage2 = _qk_blocks(depths[1], dim // 2, num_heads, mlp_ratio, spiking)
        self.embed3 = _PatchEmbedding(dim, small_images, spiking)
        self.stage3 = nn.Sequential(
            *(
                Residual(
                    attn=SpikingSelfAttention(dim, num_heads, spiking, qkv_bias=False),
                    mlp=SpikingMLP(dim, mlp_ratio * dim, spiking),
                )
                for _ in range(depths[2])
            )
        )
        self.head = nn.Linear(dim, self.num_classes)
        init_linear(self.head)
        set_norm_over_time(self, self.norm_over_time)

    def step_features(self, planes: Tensor) -> Tensor:
        """Map encoded images ``[T, B, C, H, W]`` to the features of each step ``[T, B, D]``."""
        x = on_tokens(self.stage1, self.embed1(planes))
        x = on_tokens(self.stage2, self.embed2(x))
        tokens = self.stage3(to_tokens(self.embed3(x)))
        return tokens.mean(2)  # type: ignore[no-any-return]

    def _published_names(self) -> list[dict[str, Published]]:
        """Return the names of the reference code, which differ between CIFAR and ImageNet."""
        small = isinstance(self.embed1, _CifarStem)
        names = {
            "embed1.conv1": published("patch_embed1.proj_*"),
            "embed1.conv2": published("patch_embed1.proj1_*"),
            "embed1.conv3": published("patch_embed1.proj2_*"),
            "embed1.shortcut": published("patch_embed1.proj_res_*"),
            "head": published("head"),
        }
        for i in (2, 3):
            names[f"embed{i}.conv1"] = published(f"patch_embed{i}.proj3_*")
            names[f"embed{i}.conv2"] = published(f"patch_embed{i}.proj4_*")
            names[f"embed{i}.shortcut"] = published(f"patch_embed{i}.proj_res_*")
        last = "ssa" if small else "attn"
        stages = ((self.stage1, "tssa", "qk"), (self.stage2, "tssa", "qk"), (self.stage3, last, "qkv"))
        for stage, (blocks, attention, inputs) in enumerate(stages, 1):
            for block in (f"stage{stage}.{index}" for index in range(len(blocks))):
                names |= attention_names(f"{block}.attn", f"{block}.{attention}", inputs)
                names |= mlp_names(f"{block}.mlp", f"{block}.mlp", "mlp" if small else "fc")
        return [names]


def _qk_blocks(
    depth: int, width: int, num_heads: int, mlp_ratio: int, spiking: NeuronBuilder
) -> nn.Sequential:
    return nn.Sequential(
        *(
            Residual(
                attn=TokenQKAttention(width, num_heads, spiking),
                mlp=SpikingMLP(width, mlp_ratio * width, spiking),
            )
            for _ in range(depth)
        )
    )


class _CifarStem(nn.Module):
    """Stem that keeps the size of the image."""

    def __init__(self, in_channels: int, width: int, spiking: NeuronBuilder, code: AnalogSteps) -> None:
        super().__init__()
        self.conv1 = first_conv_spike(in_channels, width // 2, spiking, code)
        self.conv2 = ConvSpike(width // 2, width, spiking)
        self.shortcut = ConvSpike(width // 2, width, spiking, kernel_size=1)

    def forward(self, planes: Tensor) -> Tensor:
        x = self.conv1(planes)
        out: Tensor = self.conv2(x) + self.shortcut(x)
        return out


class _ImageNetStem(nn.Module):
    """Stem that divides the size of the image by 4."""

    def __init__(self, in_channels: int, width: int, spiking: NeuronBuilder, code: AnalogSteps) -> None:
        super().__init__()
        conv = first_conv_norm(in_channels, width // 2, code)
        self.conv1 = nn.Sequential(conv, max_pool(), spiking(channel_shape=(width // 2, 1, 1)))
        self.conv2 = _conv_pool_spike(width // 2, width, spiking)
        self.conv3 = ConvSpike(width, width, spiking)
        self.shortcut = ConvSpike(width // 2, width, spiking, kernel_size=1, stride=2)

    def forward(self, planes: Tensor) -> Tensor:
        x = self.conv1(planes)
        out: Tensor = self.conv3(self.conv2(x)) + self.shortcut(x)
        return out


class _PatchEmbedding(nn.Module):
    """Halve the size and double the channels; for small images, the pooling comes later."""

    def __init__(self, width: int, small_images: bool, spiking: NeuronBuilder) -> None:
        super().__init__()
        first, second = (ConvSpike, _conv_pool_spike) if small_images else (_conv_pool_spike, ConvSpike)
        self.conv1 = first(width // 2, width, spiking)
        self.conv2 = second(width, width, spiking)
        self.shortcut = ConvSpike(width // 2, width, spiking, kernel_size=1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.conv1(x)) + self.shortcut(x)
        return out


def _conv_pool_spike(in_channels: int, width: int, spiking: NeuronBuilder) -> nn.Sequential:
    """Build convolution, pooling and neuron. Pooling spikes instead of currents would be a logical or."""
    return nn.Sequential(ConvNorm(in_channels, width), max_pool(), spiking(channel_shape=(width, 1, 1)))


def _imagenet(dim: int, settings: QKFormerSettings) -> QKFormer:
    filled: QKFormerSettings = {
        "dim": dim,
        "depths": (1, 2, 7),
        "num_heads": dim // 64,
        "small_images": False,
        "image_size": 224,
        **settings,
    }
    return QKFormer(**filled)


@register_model
def qkformer_tiny(**settings: Unpack[QKFormerSettings]) -> QKFormer:
    """QKFormer with one block per stage at width 64, for tests and tutorials."""
    filled: QKFormerSettings = {"dim": 64, "depths": (1, 1, 1), "num_heads": 4, **settings}
    return QKFormer(**filled)


@register_model
def qkformer_4_384(**settings: Unpack[QKFormerSettings]) -> QKFormer:
    """QKFormer for CIFAR (HST-4-384), 4 blocks at width 384."""
    filled: QKFormerSettings = {"dim": 384, "depths": (1, 1, 2), "num_heads": 8, **settings}
    return QKFormer(**filled)


@register_model
def qkformer_10_384(**settings: Unpack[QKFormerSettings]) -> QKFormer:
    """QKFormer for ImageNet (HST-10-384), 10 blocks at width 384."""
    return _imagenet(384, settings)


@register_model
def qkformer_10_512(**settings: Unpack[QKFormerSettings]) -> QKFormer:
    """QKFormer for ImageNet (HST-10-512), 10 blocks at width 512."""
    return _imagenet(512, settings)


@register_model
def qkformer_10_768(**settings: Unpack[QKFormerSettings]) -> QKFormer:
    """QKFormer for ImageNet (HST-10-768), 10 blocks at width 768."""
    return _imagenet(768, settings)
