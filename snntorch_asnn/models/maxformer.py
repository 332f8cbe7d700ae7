"""Max-Former: a spiking transformer that keeps high frequencies."""

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
    to_maps,
    to_tokens,
)
from snntorch_asnn.layers.hybrid_stem import AnalogSteps
from snntorch_asnn.layers.maps import ConvLayers
from snntorch_asnn.layers.tokens import NeuronBuilder
from snntorch_asnn.models.base import Place, SpikingModel
from snntorch_asnn.models.initialisation import init_linear, init_truncated
from snntorch_asnn.models.neurons import NeuronLike, Sharing, build_neuron
from snntorch_asnn.models.reference_keys import same_keys
from snntorch_asnn.models.registry import register_model
from snntorch_asnn.models.settings import BaseSettings, ModelSettings

__all__ = ["MaxFormer"]


class MaxFormerSettings(ModelSettings, total=False):
    """Arguments of :class:`MaxFormer`."""

    dim: int
    depths: tuple[int, int, int]
    kernel_sizes: tuple[int, int]
    num_heads: int
    mlp_ratio: int
    small_images: bool


class MaxFormer(SpikingModel):
    r"""Hierarchical spiking transformer: depthwise convolutions mix tokens where there are many.

    Three stages at widths D/4, D/2 and D. Neurons come before the convolutions, so that the residual stream
    is membranes. Blocks of the first two stages mix tokens by a depthwise convolution, or not at all, those
    of the third by :class:`~snntorch_asnn.layers.SpikingSelfAttention`; all go on with
    :class:`~snntorch_asnn.layers.SpikingMLP`. Between the stages a patch embedding takes the maximum after
    the convolution, which keeps high frequencies. The head sees the mean over tokens, through a neuron.

    Args:
        dim: D, channels of a token in the last stage; divisible by 8 and ``num_heads``.
        depths: number of blocks in each stage.
        kernel_sizes: of the depthwise convolutions in the first two stages, odd; 0 for no mixing.
        num_heads: number of heads in the third stage.
        mlp_ratio: width of an MLP over the stage's.
        small_images: whether the first stage keeps the image's size, as for CIFAR; otherwise it divides
            it by 4, as for ImageNet.
        neuron: see :func:`~snntorch_asnn.models.create_model`.
        sharing: see :func:`~snntorch_asnn.models.create_model`.
        **settings: the other arguments of :func:`~snntorch_asnn.models.create_model`.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: an argument is out of range, or sizes do not divide each other.

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
        kernel_sizes: tuple[int, int],
        num_heads: int,
        mlp_ratio: int = 4,
        small_images: bool = True,
        neuron: NeuronLike = "asnn",
        sharing: Sharing = "layer",
        **settings: Unpack[BaseSettings],
    ) -> None:
        super().__init__(**settings)
        _check_stages(depths, kernel_sizes)
        check_count("mlp_ratio", mlp_ratio)
        check_multiple("dim", dim, 8)
        check_divides("num_heads", num_heads, "dim", dim)
        check_image_size(self.image_size, 4 if small_images else 16)
        spiking = partial(build_neuron, neuron, self.num_steps, sharing=sharing)
        widths = (dim // 4, dim // 2, dim)
        stem = _CifarStem if small_images else _ImageNetStem
        self.patch_embed1 = stem(self.in_channels, widths[0], spiking, self.analog_steps)
        self.patch_embed2 = _MaxEmbedding(widths[0], widths[1], spiking)
        self.patch_embed3 = _MaxEmbedding(widths[1], widths[2], spiking)
        height, width = (size if small_images else size // 4 for size in self.image_size)
        self.stage1 = _early(widths[0], depths[0], kernel_sizes[0], (height, width), mlp_ratio, spiking)
        half = (height // 2, width // 2)
        self.stage2 = _early(widths[1], depths[1], kernel_sizes[1], half, mlp_ratio, spiking)
        self.stage3 = nn.ModuleList(
            Residual(
                attn=SpikingSelfAttention(
                    dim, num_heads, spiking, spike_first=True, qkv_bias=False, kernel_dims=1
                ),
                mlp=_mlp(dim, mlp_ratio, spiking),
            )
            for _ in range(depths[2])
        )
        self.head_lif = spiking(channel_shape=(dim,))
        self.head = nn.Linear(dim, self.num_classes)
        if small_images:
            init_linear(self)
        else:
            init_truncated(self)
        set_norm_over_time(self, self.norm_over_time)

    def step_features(self, planes: Tensor) -> Tensor:
        """Map encoded images, ``[T, B, C, H, W]``, to the features of each step, ``[T, B, F]``."""
        x = planes
        for index in (1, 2, 3):
            x = getattr(self, f"patch_embed{index}")(x)
            height, width = x.shape[3:]
            tokens = to_tokens(x)
            for block in getattr(self, f"stage{index}"):
                tokens = block(tokens)
            x = to_maps(tokens, (height, width))
        features: Tensor = self.head_lif(tokens.mean(2))
        return features

    def reference_keys(self) -> dict[str, Place]:
        """Return where each key of the reference code's checkpoint goes: to the same key.

        The first stage's depthwise convolutions have another name in the ImageNet code.
        """
        first = "patch_embed1." if isinstance(self.patch_embed1, _CifarStem) else "patch_embed1.embed1."
        places = same_keys(self, first)
        renamed = {
            key.replace(".mixer.conv", ".mixer.conv5"): place
            for key, place in places.items()
            if key.startswith("stage1.") and ".mixer.conv" in key
        }
        return places | renamed


def _check_stages(depths: tuple[int, ...], kernel_sizes: tuple[int, ...]) -> None:
    if len(depths) != 3:
        raise ValueError(f"depths must be three numbers; got {depths!r}")
    for depth in depths:
        check_count("depths", depth)
    if len(kernel_sizes) != 2 or any(size and size % 2 == 0 for size in kernel_sizes):
        raise ValueError(f"kernel_sizes must be two odd numbers, or 0 for no mixing; got {kernel_sizes!r}")


def _mlp(dim: int, ratio: int, spiking: NeuronBuilder) -> SpikingMLP:
    return SpikingMLP(dim, ratio * dim, spiking, spike_first=True, kernel_dims=2)


def _early(
    width: int,
    depth: int,
    kernel_size: int,
    size: tuple[int, int],
    mlp_ratio: int,
    spiking: NeuronBuilder,
) -> nn.ModuleList:
    """Blocks of one of the first two stages, on tokens that form images of ``size``."""
    blocks = nn.ModuleList()
    for _ in range(depth):
        branches: dict[str, nn.Module] = {}
        if kernel_size:
            branches["mixer"] = _DepthwiseMixer(width, kernel_size, size, spiking)
        blocks.append(Residual(**branches, mlp=_mlp(width, mlp_ratio, spiking)))
    return blocks


class _DepthwiseMixer(ConvLayers):
    """Neuron, depthwise convolution and batch norm, on tokens that form an image of ``size``."""

    def __init__(
        self, channels: int, kernel_size: int, size: tuple[int, int], spiking: NeuronBuilder
    ) -> None:
        super().__init__()
        self.size = size
        self.conv_lif = spiking(channel_shape=(channels,))
        self._add("conv", "conv_bn", channels, channels, kernel_size, groups=channels, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return to_tokens(self._run("conv", "conv_bn", to_maps(self.conv_lif(x), self.size)))


class _Embedding(ConvLayers):
    """Convolution with batch norm, a neuron before it, and max pooling after it, where asked for."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        *,
        spiking: NeuronBuilder | None = None,
        pooled: bool = False,
        analog: AnalogSteps | None = None,
    ) -> None:
        super().__init__()
        names = ("embed_conv", "embed_bn")
        if analog is None:
            self._add(*names, in_channels, out_channels, kernel_size, stride)
        else:
            self._add_first(*names, in_channels, out_channels, analog, kernel_size, stride)
        self.is_first = analog is not None
        self.embed_lif = None if spiking is None else spiking(channel_shape=(in_channels, 1, 1))
        self.pool = nn.MaxPool2d(3, stride=2, padding=1) if pooled else None

    def spikes(self, x: Tensor) -> Tensor:
        """What the convolution sees."""
        return x if self.embed_lif is None else self.embed_lif(x)

    def convolve(self, spikes: Tensor) -> Tensor:
        out = self._run_first(spikes) if self.is_first else self._run("embed_conv", "embed_bn", spikes)
        return out if self.pool is None else fold_time(self.pool, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve(self.spikes(x))


class _CifarStem(ConvLayers):
    def __init__(self, in_channels: int, width: int, spiking: NeuronBuilder, analog: AnalogSteps) -> None:
        super().__init__()
        self._add_first("proj_conv", "proj_bn", in_channels, width // 2, analog)
        self.embed1 = _Embedding(width // 2, width, 3, spiking=spiking)
        self.embed2 = _Embedding(width // 2, width, 1, spiking=spiking)

    def forward(self, planes: Tensor) -> Tensor:
        x = self._run_first(planes)
        out: Tensor = self.embed1(x) + self.embed2(x)
        return out


class _ImageNetStem(nn.Module):
    def __init__(self, in_channels: int, width: int, spiking: NeuronBuilder, analog: AnalogSteps) -> None:
        super().__init__()
        self.embed1 = _Embedding(in_channels, width // 2, 3, 2, analog=analog)
        self.embed2 = _Embedding(width // 2, width, 3, 2, spiking=spiking)
        self.embed3 = _Embedding(width, width, 3, spiking=spiking)
        self.embed4 = _Embedding(width // 2, width, 1, 2)

    def forward(self, planes: Tensor) -> Tensor:
        spikes = self.embed2.spikes(self.embed1(planes))
        out: Tensor = self.embed3(self.embed2.convolve(spikes)) + self.embed4(spikes)
        return out


class _MaxEmbedding(nn.Module):
    """Half the size at twice the channels, the maximum taken on both paths."""

    def __init__(self, in_channels: int, width: int, spiking: NeuronBuilder) -> None:
        super().__init__()
        self.max_embed1 = _Embedding(in_channels, width, 3, spiking=spiking, pooled=True)
        self.embed1 = _Embedding(width, width, 3, spiking=spiking)
        self.max_embed2 = _Embedding(in_channels, width, 1, pooled=True)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.max_embed1.spikes(x)
        out: Tensor = self.embed1(self.max_embed1.convolve(spikes)) + self.max_embed2(spikes)
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
    """Max-Former of one block a stage at width 64, for tests and tutorials."""
    filled: MaxFormerSettings = {
        "dim": 64,
        "depths": (1, 1, 1),
        "kernel_sizes": (0, 3),
        "num_heads": 2,
        **settings,
    }
    return MaxFormer(**filled)


@register_model
def maxformer_cifar(**settings: Unpack[MaxFormerSettings]) -> MaxFormer:
    """Max-Former for CIFAR, 4 blocks at width 384."""
    filled: MaxFormerSettings = {
        "dim": 384,
        "depths": (1, 1, 2),
        "kernel_sizes": (0, 3),
        "num_heads": 8,
        **settings,
    }
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
