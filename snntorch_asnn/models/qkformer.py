"""QKFormer: a hierarchy of tokens, and attention of queries and keys alone in the first stages."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Unpack

from torch import Tensor, nn

from snntorch_asnn._arguments import check_count, check_divides, check_image_size, check_multiple
from snntorch_asnn.layers import (
    Residual,
    SpikingMLP,
    SpikingSelfAttention,
    TokenQKAttention,
    fold_time,
    set_norm_over_time,
    to_maps,
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

__all__ = ["QKFormer"]


class QKFormerSettings(ModelSettings, total=False):
    """Arguments of :class:`QKFormer`."""

    dim: int
    depths: tuple[int, int, int]
    num_heads: int
    mlp_ratio: int
    small_images: bool


class QKFormer(SpikingModel):
    r"""Hierarchical spiking transformer: three stages at widths D/4, D/2 and D.

    Every stage begins with a patch embedding, convolutions with a 1×1 convolution around them, both ending
    in spikes that are added. The first two stages mix tokens by
    :class:`~snntorch_asnn.layers.TokenQKAttention`, the third by
    :class:`~snntorch_asnn.layers.SpikingSelfAttention`; all go on with
    :class:`~snntorch_asnn.layers.SpikingMLP`, and add spikes to the stream. The head sees the mean over
    tokens.

    Args:
        dim: D, channels of a token in the last stage; divisible by 8, and D/4 by ``num_heads``.
        depths: number of blocks in each stage.
        num_heads: number of heads, the same in all stages.
        mlp_ratio: width of an MLP over the stage's.
        small_images: whether the first stage keeps the image's size, as for CIFAR; otherwise it divides
            it by 4, as for ImageNet, where poolings also come earlier.
        neuron: see :func:`~snntorch_asnn.models.create_model`.
        sharing: see :func:`~snntorch_asnn.models.create_model`.
        **settings: the other arguments of :func:`~snntorch_asnn.models.create_model`.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: an argument is out of range, or sizes do not divide each other.

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
        widths = (dim // 4, dim // 2, dim)
        first = _cifar_stem if small_images else _imagenet_stem
        self.patch_embed1 = first(self.in_channels, widths[0], spiking, self.analog_steps)
        self.patch_embed2 = _between(widths[1], small_images, spiking)
        self.patch_embed3 = _between(widths[2], small_images, spiking)
        last = "ssa" if small_images else "attn"
        names = ("mlp1", "mlp2") if small_images else ("fc1", "fc2")
        for index, (width, depth) in enumerate(zip(widths, depths, strict=True), 1):
            blocks = nn.ModuleList()
            for _ in range(depth):
                attention = _attention(width, num_heads, spiking, full=index == 3)
                mlp = SpikingMLP(width, mlp_ratio * width, spiking, names=names, kernel_dims=2)
                blocks.append(Residual(**{last if index == 3 else "tssa": attention, "mlp": mlp}))
            self.add_module(f"stage{index}", blocks)
        self.head = nn.Linear(dim, self.num_classes)
        init_linear(self)
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
        return tokens.mean(2)

    def reference_keys(self) -> dict[str, Place]:
        """Return where each key of the reference code's checkpoint goes: to the same key."""
        return same_keys(self, "patch_embed1.")


def _attention(width: int, num_heads: int, spiking: NeuronBuilder, *, full: bool) -> nn.Module:
    if full:
        return SpikingSelfAttention(width, num_heads, spiking, qkv_bias=False, kernel_dims=1)
    return TokenQKAttention(width, num_heads, spiking)


class _PatchEmbedding(ConvLayers):
    """Convolutions with batch norm and neurons, and a 1×1 convolution around the last of them.

    Args:
        layers: ``(name, in_channels, out_channels, pooled)`` of each convolution.
        around: how many of them come before the shortcut begins.
        spiking: builds each neuron.
        analog: its analog steps, None where this is not the network's first layer.
    """

    def __init__(
        self,
        layers: Sequence[tuple[str, int, int, bool]],
        around: int,
        spiking: NeuronBuilder,
        analog: AnalogSteps | None = None,
    ) -> None:
        super().__init__()
        self.layers = tuple((name, pooled) for name, _, _, pooled in layers)
        self.around = around
        for index, (name, before, after, _) in enumerate(layers):
            if index == 0 and analog is not None:
                self._add_first(f"{name}_conv", f"{name}_bn", before, after, analog)
            else:
                self._add(f"{name}_conv", f"{name}_bn", before, after)
            self.add_module(f"{name}_lif", spiking(channel_shape=(after, 1, 1)))
        _, before, *_ = layers[around]
        _, _, after, _ = layers[-1]
        stride = 2 ** sum(pooled for *_, pooled in layers[around:])
        self._add("proj_res_conv", "proj_res_bn", before, after, kernel_size=1, stride=stride)
        self.proj_res_lif = spiking(channel_shape=(after, 1, 1))
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.is_first = analog is not None

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        for index, (name, pooled) in enumerate(self.layers):
            identity = x if index == self.around else identity
            first = self.is_first and index == 0
            neuron = getattr(self, f"{name}_lif")
            behind = None if pooled else neuron
            x = self._run_first(x, behind) if first else self._run(f"{name}_conv", f"{name}_bn", x, behind)
            x = neuron(fold_time(self.pool, x)) if pooled else x
        return x + self._run("proj_res_conv", "proj_res_bn", identity, self.proj_res_lif)


def _cifar_stem(in_channels: int, width: int, spiking: NeuronBuilder, analog: AnalogSteps) -> _PatchEmbedding:
    layers = [("proj", in_channels, width // 2, False), ("proj1", width // 2, width, False)]
    return _PatchEmbedding(layers, 1, spiking, analog)


def _imagenet_stem(
    in_channels: int, width: int, spiking: NeuronBuilder, analog: AnalogSteps
) -> _PatchEmbedding:
    layers = [
        ("proj", in_channels, width // 2, True),
        ("proj1", width // 2, width, True),
        ("proj2", width, width, False),
    ]
    return _PatchEmbedding(layers, 1, spiking, analog)


def _between(width: int, small_images: bool, spiking: NeuronBuilder) -> _PatchEmbedding:
    """Half the size at twice the channels."""
    layers = [("proj3", width // 2, width, not small_images), ("proj4", width, width, small_images)]
    return _PatchEmbedding(layers, 0, spiking)


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
    """QKFormer of one block a stage at width 64, for tests and tutorials."""
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
