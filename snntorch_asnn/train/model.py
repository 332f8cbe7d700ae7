"""The model that a configuration names."""

from __future__ import annotations

from torch import nn

from snntorch_asnn import models
from snntorch_asnn.train.config import TrainConfig, moments_of


def build_model(config: TrainConfig, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """Create the model that a configuration names, for images of the given shape."""
    return models.create_model(
        config.model,
        num_classes=num_classes,
        num_steps=config.num_steps,
        neuron=config.neuron,
        sharing=config.sharing,
        encoding=config.encoding,
        carry=config.carry,
        norm_over_time=None if config.norm_over_time == "auto" else config.norm_over_time,
        readout=config.readout,
        in_channels=in_channels,
        image_size=image_size,
        normalize=moments_of(config),
    )
