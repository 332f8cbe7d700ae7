"""LeNet, the network of the ASNN reference code."""

from __future__ import annotations

from functools import partial
from typing import Unpack

from torch import Tensor, nn

from snntorch_asnn._arguments import check_count
from snntorch_asnn.layers import (
    HybridStem,
    OverTime,
    TimeFolded,
    TimeWeightedReadout,
    set_norm_over_time,
)
from snntorch_asnn.layers.norm_leaky import folded_spikes
from snntorch_asnn.models.base import Place, SpikingModel
from snntorch_asnn.models.neurons import NeuronLike, Sharing, build_neuron
from snntorch_asnn.models.registry import register_model
from snntorch_asnn.models.settings import BaseSettings, ModelSettings
from snntorch_asnn.neurons import AdaptiveLeaky

__all__ = ["LeNet", "lenet"]

_AFFINE = ("weight", "bias")
_NORM = (*_AFFINE, "running_mean", "running_var", "num_batches_tracked")


class LeNetSettings(ModelSettings, total=False):
    """Arguments of :class:`LeNet`."""

    channels: tuple[int, int, int]
    hidden: int


class LeNet(SpikingModel):
    """Three convolutions and two linear layers, spiking.

    Each of ``channels`` is a stage: 3×3 convolution, batch norm, neuron, 2×2 max pooling. A linear
    layer with batch norm and neuron follows, and a linear layer to the logits of each step. With a
    hybrid code the analog steps have a first convolution and norm of their own.

    The reference code runs step by step, so that in training a batch norm takes the statistics of each step
    and moves one pair of running averages T times: ``norm_over_time="sequential"``, the default here.

    Args:
        channels: output channels of the three convolutions.
        hidden: width of the first linear layer.
        neuron: see :func:`~snntorch_asnn.models.create_model`.
        sharing: see :func:`~snntorch_asnn.models.create_model`.
        **settings: the other arguments of :func:`~snntorch_asnn.models.create_model`; images of 8×8 pixels or
            more.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: an argument is out of range.

    Source: the code of "Adaptive Spiking Neural Networks with Hybrid Coding", arXiv 2408.12407.

    Example::

        >>> import torch
        >>> model = LeNet(num_classes=10, num_steps=4)
        >>> model(torch.rand(2, 3, 32, 32), return_steps=True).shape
        torch.Size([4, 2, 10])
    """

    fused = False
    default_norm_over_time = "sequential"

    def __init__(
        self,
        *,
        channels: tuple[int, int, int] = (32, 48, 64),
        hidden: int = 256,
        neuron: NeuronLike = "asnn",
        sharing: Sharing = "layer",
        **settings: Unpack[BaseSettings],
    ) -> None:
        super().__init__(**settings)
        height, width = self.image_size
        if min(height, width) < 8:
            raise ValueError(f"image_size must be at least 8, for three poolings; got {self.image_size}")
        if len(channels) != 3:
            raise ValueError(f"channels must be three numbers; got {channels!r}")
        for count in channels:
            check_count("channels", count)
        check_count("hidden", hidden)
        first, second, third = channels
        spiking = partial(build_neuron, neuron, self.num_steps, sharing=sharing)

        stem = partial(_conv_norm, self.in_channels, first)
        self.stem = HybridStem.build(stem, self.direct_steps, self.num_steps, self.carried)
        self.spike1 = spiking(channel_shape=(first, 1, 1))
        self.conv2 = TimeFolded(*_conv_norm(first, second))
        self.spike2 = spiking(channel_shape=(second, 1, 1))
        self.conv3 = TimeFolded(*_conv_norm(second, third))
        self.spike3 = spiking(channel_shape=(third, 1, 1))
        self.pool = TimeFolded(nn.MaxPool2d(2))
        features = third * (height // 8) * (width // 8)
        self.fc1 = TimeFolded(nn.Linear(features, hidden), nn.BatchNorm1d(hidden))
        self.spike4 = spiking(channel_shape=(hidden,))
        self.head = nn.Linear(hidden, self.num_classes)
        set_norm_over_time(self, self.norm_over_time)

    def step_features(self, planes: Tensor) -> Tensor:
        """Map encoded images, ``[T, B, C, H, W]``, to the features of each step, ``[T, B, F]``."""
        spiking = partial(folded_spikes, fused=self.fused)
        x = self.pool(spiking(self.stem, self.spike1, planes))
        x = self.pool(spiking(self.conv2, self.spike2, x))
        x = self.pool(spiking(self.conv3, self.spike3, x))
        return spiking(self.fc1, self.spike4, x.flatten(2))

    def earlier_keys(self) -> dict[str, str]:
        """Return the key of the head in files of version 0.0, and today's."""
        return {"fc2.": "head."}

    def reference_keys(self) -> dict[str, Place]:
        """Return where each key of the reference code's checkpoint goes."""
        first = {"con11" if self.encode.direct_steps else "con1": "stem.0"}
        if isinstance(self.stem, HybridStem):
            first = {"con1": "stem.spike", "con11": "stem.direct"}
        blocks = {"con2": "conv2", "con3": "conv3", "lin1": "fc1"}
        norms = {"con1": "bn1", "con11": "bn11", "con2": "bn2", "con3": "bn3", "lin1": "bn4"}
        keys: dict[str, Place] = {f"lano.{suffix}": None for suffix in _AFFINE}
        for layer, norm in norms.items():
            block = (first | blocks).get(layer)
            for suffix in _AFFINE:
                keys[f"{layer}.{suffix}"] = block and f"{block}.0.{suffix}"
            for suffix in _NORM:
                keys[f"{norm}.{suffix}"] = block and f"{block}.1.{suffix}"
        keys |= {f"lin2.{suffix}": f"head.{suffix}" for suffix in _AFFINE}
        weighted = isinstance(self.readout, TimeWeightedReadout)
        keys["scale"] = "readout.scale" if weighted else None
        keys["leakelayers"] = self._time_parameters("beta")
        keys["inputlayers"] = self._time_parameters("gain")
        return keys

    def _time_parameters(self, name: str) -> tuple[str, ...] | None:
        layers = {key: layer for key, layer in self.named_children() if isinstance(layer, OverTime)}
        for layer in layers.values():
            if not isinstance(layer.neuron, AdaptiveLeaky):
                return None
            if layer.neuron.beta_constraint != "none":
                raise ValueError(
                    "model must have neurons with beta_constraint='none', like the reference's;"
                    f" got {layer.neuron.beta_constraint!r}"
                )
        return tuple(f"{key}.neuron.{name}" for key in layers)


def _conv_norm(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.BatchNorm2d(out_channels),
    )


@register_model
def lenet(**settings: Unpack[LeNetSettings]) -> LeNet:
    """LeNet of the method's published code, for CIFAR."""
    return LeNet(**settings)
