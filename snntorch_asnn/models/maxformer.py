"""Max-Former, a spiking transformer that preserves high frequencies."""

from __future__ import annotations

from functools import partial
from typing import Unpack

from torch import Tensor, nn

from snntorch_asnn._arguments import check_count, check_divides, check_image_size, check_multiple
from snntorch_asnn.layers import (
    AnalogSteps,
    ConvNorm,
    ConvSpike,
    DepthwiseMixer,
    Residual,
    SpikingMLP,
    SpikingSelfAttention,
    first_conv_norm,
    first_conv_spike,
    max_pool,
    on_tokens,
    set_norm_over_time,
    to_tokens,
)
from snntorch_asnn.layers.conv_spike import NeuronBuilder
from snntorch_asnn.models.base import TargetKeys
from snntorch_asnn.models.initialisation import init_linear, init_truncated
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

__all__ = ["MaxFormer"]

Size = tuple[int, int]


class MaxFormerSettings(ModelSettings, total=False):
    """Arguments of :class:`MaxFormer`."""

    dim: int
    depths: tuple[int, int, int]
    kernel_sizes: tuple[int, int]
    num_heads: int
    mlp_ratio: int
    small_images: bool


class MaxFormer(PublishedModel):
    r"""Hierarchical spiking transformer whose early stages mix tokens by depthwise convolutions.

    The three stages have widths D/4, D/2 and D. Neurons come before the convolutions, so the residual stream
    carries membranes. Blocks of the first two stages mix tokens by a depthwise convolution or not at all.
    Blocks of the third stage use :class:`~snntorch_asnn.layers.SpikingSelfAttention`. Every block ends with a
    :class:`~snntorch_asnn.layers.SpikingMLP`.

    Between the stages, a patch embedding applies max pooling after the convolution, which preserves high
    frequencies. At the end, a neuron turns the mean over tokens into spikes for the head.

    Args:
        dim: Channels D of a token in the last stage. It must be divisible by 8 and ``num_heads``.
        depths: Number of blocks in each stage.
        num_heads: Number of heads in the third stage.
        kernel_sizes: Kernel sizes of the depthwise convolutions in the first two stages, odd, or 0 for no
            mixing.
        mlp_ratio: Hidden width of an MLP divided by the stage's width.
        small_images: Whether the first stage keeps the size of the image, as for CIFAR. Otherwise it divides
            the size by 4, as for ImageNet.
        neuron: See :func:`~snntorch_asnn.models.create_model`.
        sharing: See :func:`~snntorch_asnn.models.create_model`.
        **settings: The other arguments of :func:`~snntorch_asnn.models.create_model`.

    Raises:
        TypeError: An argument has a wrong type.
        ValueError: An argument is out of range, or sizes do not divide each other.

    Source: Fang et al., Spiking Neural Networks Need High-Frequency Information, NeurIPS 2025.

    Example::

        >>> import torch
        >>> model = MaxFormer(
        ...     dim=32, depths=(1, 1, 1), kernel_sizes=(0, 3), num_heads=2, num_classes=10, num_steps=4
        ... )
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
        kernel_sizes: tuple[int, int] = (0, 3),
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
        if [bool(size % 2 or not size) for size in kernel_sizes] != [True, True]:
            raise ValueError(
                f"kernel_sizes must be two odd numbers, or 0 for no mixing; got {kernel_sizes!r}"
            )
        check_count("mlp_ratio", mlp_ratio)
        check_multiple("dim", dim, 8)
        check_divides("num_heads", num_heads, "dim", dim)
        check_image_size(self.image_size, 4 if small_images else 16)
        spiking = partial(build_neuron, neuron, self.num_steps, sharing=sharing)
        self.depths = depths
        height, width = (size if small_images else size // 4 for size in self.image_size)
        half = (height // 2, width // 2)
        stem = _CifarStem if small_images else _ImageNetStem
        self.embed1 = stem(self.in_channels, dim // 4, spiking, self.analog_steps)
        self.stage1 = _mixing(depths[0], dim // 4, kernel_sizes[0], (height, width), mlp_ratio, spiking)
        self.embed2 = _MaxEmbedding(dim // 2, spiking)
        self.stage2 = _mixing(depths[1], dim // 2, kernel_sizes[1], half, mlp_ratio, spiking)
        self.embed3 = _MaxEmbedding(dim, spiking)
        self.stage3 = nn.Sequential(
            *(
                Residual(
                    attn=SpikingSelfAttention(dim, num_heads, spiking, spike_first=True, qkv_bias=False),
                    mlp=SpikingMLP(dim, mlp_ratio * dim, spiking, spike_first=True),
                )
                for _ in range(depths[2])
            )
        )
        self.spike = spiking(channel_shape=(dim,))
        self.head = nn.Linear(dim, self.num_classes)
        init_linear(self.head) if small_images else init_truncated(self)
        set_norm_over_time(self, self.norm_over_time)

    def step_features(self, planes: Tensor) -> Tensor:
        """Map encoded images ``[T, B, C, H, W]`` to the features of each step ``[T, B, D]``."""
        x = on_tokens(self.stage1, self.embed1(planes))
        x = on_tokens(self.stage2, self.embed2(x))
        tokens = self.stage3(to_tokens(self.embed3(x)))
        return self.spike(tokens.mean(2))  # type: ignore[no-any-return]

    def reference_keys(self) -> dict[str, TargetKeys]:
        """Return the keys that receive each tensor of a published checkpoint.

        In checkpoints for ImageNet, the mixers of the first stage have another name.
        """
        targets = super().reference_keys()
        return targets | {
            key.replace(".mixer.conv", ".mixer.conv5"): place
            for key, place in targets.items()
            if key.startswith("stage1.")
        }

    def _published_names(self) -> list[dict[str, Published]]:
        """Return the names of the reference code, which differ between the two stems."""
        if isinstance(self.embed1, _CifarStem):
            names = {
                "embed1.conv1": published("patch_embed1.proj_*"),
                "embed1.spike2": published("patch_embed1.embed1.embed_lif"),
                "embed1.conv2": published("patch_embed1.embed1.embed_*"),
                "embed1.spike3": published("patch_embed1.embed2.embed_lif"),
                "embed1.shortcut": published("patch_embed1.embed2.embed_*"),
            }
        else:
            names = {
                "embed1.conv1": before_neuron("patch_embed1.embed1.embed_*", "patch_embed1.embed2.embed_lif"),
                "embed1.conv2": before_neuron("patch_embed1.embed2.embed_*", "patch_embed1.embed3.embed_lif"),
                "embed1.conv3": published("patch_embed1.embed3.embed_*"),
                "embed1.shortcut": published("patch_embed1.embed4.embed_*"),
            }
        names |= {"spike": published("head_lif"), "head": published("head")}
        for index in (2, 3):
            own, theirs = f"embed{index}", f"patch_embed{index}"
            names |= {
                f"{own}.spike1": published(f"{theirs}.max_embed1.embed_lif"),
                f"{own}.conv1": published(f"{theirs}.max_embed1.embed_*"),
                f"{own}.spike2": published(f"{theirs}.embed1.embed_lif"),
                f"{own}.conv2": published(f"{theirs}.embed1.embed_*"),
                f"{own}.shortcut": published(f"{theirs}.max_embed2.embed_*"),
            }
        for stage, depth in enumerate(self.depths, 1):
            for block in (f"stage{stage}.{index}" for index in range(depth)):
                conv = f"{block}.mixer.conv"
                names[f"{block}.mixer.spike"] = published(f"{conv}_lif")
                names[f"{block}.mixer.depthwise"] = Published(conv, f"{conv}_bn", "")
                names |= attention_names(f"{block}.attn", f"{block}.attn", spike_first=True)
                names |= mlp_names(f"{block}.mlp", f"{block}.mlp", spike_first=True)
        return [names]


def _mixing(depth: int, width: int, kernel: int, size: Size, ratio: int, spiking: NeuronBuilder) -> nn.Module:
    """Build the blocks of one of the first two stages, on the tokens of feature maps of ``size``."""
    blocks = []
    for _ in range(depth):
        mixer = {"mixer": DepthwiseMixer(width, kernel, size, spiking)} if kernel else {}
        blocks.append(Residual(**mixer, mlp=SpikingMLP(width, ratio * width, spiking, spike_first=True)))
    return nn.Sequential(*blocks)


class _CifarStem(nn.Module):
    """Stem that keeps the size of the image."""

    def __init__(self, in_channels: int, width: int, spiking: NeuronBuilder, code: AnalogSteps) -> None:
        super().__init__()
        self.conv1 = first_conv_norm(in_channels, width // 2, code)
        self.spike2 = spiking(channel_shape=(width // 2, 1, 1))
        self.conv2 = ConvNorm(width // 2, width)
        self.spike3 = spiking(channel_shape=(width // 2, 1, 1))
        self.shortcut = ConvNorm(width // 2, width, kernel_size=1)

    def forward(self, planes: Tensor) -> Tensor:
        x = self.conv1(planes)
        out: Tensor = self.conv2(self.spike2(x)) + self.shortcut(self.spike3(x))
        return out


class _ImageNetStem(nn.Module):
    """Stem that divides the size of the image by 4."""

    def __init__(self, in_channels: int, width: int, spiking: NeuronBuilder, code: AnalogSteps) -> None:
        super().__init__()
        self.conv1 = first_conv_spike(in_channels, width // 2, spiking, code, stride=2)
        self.conv2 = ConvSpike(width // 2, width, spiking, stride=2)
        self.conv3 = ConvNorm(width, width)
        self.shortcut = ConvNorm(width // 2, width, kernel_size=1, stride=2)

    def forward(self, planes: Tensor) -> Tensor:
        x = self.conv1(planes)
        out: Tensor = self.conv3(self.conv2(x)) + self.shortcut(x)
        return out


class _MaxEmbedding(nn.Module):
    """Halve the size and double the channels, with max pooling on both paths."""

    def __init__(self, width: int, spiking: NeuronBuilder) -> None:
        super().__init__()
        self.spike1 = spiking(channel_shape=(width // 2, 1, 1))
        self.conv1 = ConvNorm(width // 2, width)
        self.spike2 = spiking(channel_shape=(width, 1, 1))
        self.conv2 = ConvNorm(width, width)
        self.shortcut = ConvNorm(width // 2, width, kernel_size=1)
        self.pool = max_pool()

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.spike1(x)
        x = self.conv2(self.spike2(self.pool(self.conv1(spikes))))
        out: Tensor = x + self.pool(self.shortcut(spikes))
        return out


def _imagenet(dim: int, settings: MaxFormerSettings) -> MaxFormer:
    filled: MaxFormerSettings = {
        "dim": dim,
        "depths": (1, 2, 7),
        "kernel_sizes": (7, 5),
        "num_heads": dim // 64,
        "small_images": False,
        "image_size": 224,
        **settings,
    }
    return MaxFormer(**filled)


@register_model
def maxformer_tiny(**settings: Unpack[MaxFormerSettings]) -> MaxFormer:
    """Max-Former with one block per stage at width 64, for tests and tutorials."""
    filled: MaxFormerSettings = {"dim": 64, "depths": (1, 1, 1), "num_heads": 2, **settings}
    return MaxFormer(**filled)


@register_model
def maxformer_cifar(**settings: Unpack[MaxFormerSettings]) -> MaxFormer:
    """Max-Former for CIFAR, 4 blocks at width 384."""
    filled: MaxFormerSettings = {"dim": 384, "depths": (1, 1, 2), "num_heads": 8, **settings}
    return MaxFormer(**filled)


@register_model
def maxformer_10_384(**settings: Unpack[MaxFormerSettings]) -> MaxFormer:
    """Max-Former for ImageNet, 10 blocks at width 384."""
    return _imagenet(384, settings)


@register_model
def maxformer_10_512(**settings: Unpack[MaxFormerSettings]) -> MaxFormer:
    """Max-Former for ImageNet, 10 blocks at width 512."""
    return _imagenet(512, settings)


@register_model
def maxformer_10_768(**settings: Unpack[MaxFormerSettings]) -> MaxFormer:
    """Max-Former for ImageNet, 10 blocks at width 768."""
    return _imagenet(768, settings)
