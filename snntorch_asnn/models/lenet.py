"""LeNet, the network of the ASNN reference code."""

from __future__ import annotations

from functools import partial
from typing import Unpack

from torch import Tensor, nn

from snntorch_asnn._arguments import check_count
from snntorch_asnn.layers import (
    ConvSpike,
    LinearSpike,
    OverTime,
    TimeFolded,
    TimeWeightedReadout,
    first_conv_spike,
    set_norm_over_time,
)
from snntorch_asnn.models.base import Copies, SpikingModel, TargetKeys
from snntorch_asnn.models.model_settings import BaseSettings, ModelSettings
from snntorch_asnn.models.named_neurons import NeuronLike, Sharing, build_neuron
from snntorch_asnn.models.reference_keys import Published, reference_keys
from snntorch_asnn.models.registry import register_model
from snntorch_asnn.neurons import AdaptiveLeaky

__all__ = ["LeNet", "lenet"]

_AFFINE = ("weight", "bias")
_NORM = (*_AFFINE, "running_mean", "running_var", "num_batches_tracked")


class LeNetSettings(ModelSettings, total=False):
    """Arguments of :class:`LeNet`."""

    channels: tuple[int, int, int]
    hidden: int


class LeNet(SpikingModel):
    """Spiking network with three convolutions and two linear layers.

    Each entry of ``channels`` is a stage: 3×3 convolution, batch norm, neuron, 2×2 max pooling. Then come a
    linear layer with batch norm and neuron, and a linear layer that gives the logits of each step. With a
    hybrid code, the analog steps have their own first convolution and norm.

    The reference code runs step by step. So in training, its batch norms take the statistics of each step and
    update one pair of running averages T times. This is ``norm_over_time="sequential"``, the default here.

    Args:
        channels: Output channels of the three convolutions.
        hidden: Width of the first linear layer.
        neuron: See :func:`~snntorch_asnn.models.create_model`.
        sharing: See :func:`~snntorch_asnn.models.create_model`.
        **settings: The other arguments of :func:`~snntorch_asnn.models.create_model`. The images must have at
            least 8×8 pixels.

    Raises:
        TypeError: An argument has a wrong type.
        ValueError: An argument is out of range.

    Source: the code of "Adaptive Spiking Neural Networks with Hybrid Coding", arXiv 2408.12407.

    Example::

        >>> import torch
        >>> model = LeNet(num_classes=10, num_steps=4)
        >>> model(torch.rand(2, 3, 32, 32), return_steps=True).shape
        torch.Size([4, 2, 10])
    """

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
            raise ValueError(
                f"image_size must be at least 8, because three poolings halve it; got {self.image_size}"
            )
        if len(channels) != 3:
            raise ValueError(f"channels must be three numbers; got {channels!r}")
        for count in channels:
            check_count("channels", count)
        check_count("hidden", hidden)
        first, second, third = channels
        spiking = partial(build_neuron, neuron, self.num_steps, sharing=sharing)
        self.conv1 = first_conv_spike(self.in_channels, first, spiking, self.analog_steps, bias=True)
        self.conv2 = ConvSpike(first, second, spiking, bias=True)
        self.conv3 = ConvSpike(second, third, spiking, bias=True)
        self.pool = TimeFolded(nn.MaxPool2d(2))
        self.fc1 = LinearSpike(third * (height // 8) * (width // 8), hidden, spiking)
        self.head = nn.Linear(hidden, self.num_classes)
        set_norm_over_time(self, self.norm_over_time)

    def step_features(self, planes: Tensor) -> Tensor:
        """Map encoded images ``[T, B, C, H, W]`` to the features of each step ``[T, B, F]``."""
        x = self.pool(self.conv1(planes))
        x = self.pool(self.conv2(x))
        x = self.pool(self.conv3(x))
        features: Tensor = self.fc1(x.flatten(2))
        return features

    def reference_keys(self) -> dict[str, TargetKeys]:
        """Return the keys that receive each tensor of the reference code's checkpoint."""
        names = {
            "conv1": Published("con1", "bn1", ""),
            "conv2": Published("con2", "bn2", ""),
            "conv3": Published("con3", "bn3", ""),
            "fc1": Published("lin1", "bn4", ""),
            "head": Published("lin2", "", ""),
        }
        if self.encode.direct_steps and not self.direct_steps:
            names["conv1"] = Published("con11", "bn11", "")
        unused = [f"lano.{suffix}" for suffix in _AFFINE]
        for layer, norm in (("con1", "bn1"), ("con11", "bn11")):
            unused += [f"{layer}.{suffix}" for suffix in _AFFINE] + [f"{norm}.{suffix}" for suffix in _NORM]
        targets = dict.fromkeys(unused) | reference_keys(self, names)
        for key, place in targets.copy().items():
            if isinstance(place, Copies):  # In the reference, too, the analog steps have their own layer.
                name, _, suffix = key.partition(".")
                targets[key], targets[f"{name}1.{suffix}"] = place
        weighted = isinstance(self.readout, TimeWeightedReadout)
        targets["scale"] = "readout.scale" if weighted else None
        targets["leakelayers"] = self._time_parameters("beta")
        targets["inputlayers"] = self._time_parameters("gain")
        return targets

    def _time_parameters(self, name: str) -> tuple[str, ...] | None:
        """Return the keys of a parameter of the four neurons; None if the neurons do not have it."""
        neurons = {key: module for key, module in self.named_modules() if isinstance(module, OverTime)}
        for layer in neurons.values():
            if not isinstance(layer.neuron, AdaptiveLeaky):
                return None
            if layer.neuron.beta_constraint != "none":
                raise ValueError(
                    "model must have neurons with beta_constraint='none', like the reference's;"
                    f" got {layer.neuron.beta_constraint!r}"
                )
        return tuple(f"{key}.neuron.{name}" for key in neurons)

    def earlier_keys(self) -> dict[str, str]:
        """Return the keys of version 0.0 with their current names."""
        hybrid = "conv1.conv_norm"
        return {
            "stem.0.0.": "conv1.conv.",
            "stem.0.1.": "conv1.spike.norm.",
            "stem.direct.0.": f"{hybrid}.direct.conv.",
            "stem.direct.1.": f"{hybrid}.direct.norm.",
            "stem.spike.0.": f"{hybrid}.spike.conv.",
            "stem.spike.1.": f"{hybrid}.spike.norm.",
            "stem.carry.": f"{hybrid}.carry.",
            "spike1.": "conv1.spike.neuron." if isinstance(self.conv1, ConvSpike) else "conv1.neuron.",
            "conv2.0.": "conv2.conv.",
            "conv2.1.": "conv2.spike.norm.",
            "spike2.": "conv2.spike.neuron.",
            "conv3.0.": "conv3.conv.",
            "conv3.1.": "conv3.spike.norm.",
            "spike3.": "conv3.spike.neuron.",
            "fc1.0.": "fc1.linear.",
            "fc1.1.": "fc1.spike.norm.",
            "spike4.": "fc1.spike.neuron.",
            "fc2.": "head.",
        }


@register_model
def lenet(**settings: Unpack[LeNetSettings]) -> LeNet:
    """LeNet for CIFAR, as in the method's published code."""
    return LeNet(**settings)
