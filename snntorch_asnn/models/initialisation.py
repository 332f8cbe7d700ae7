"""Weight initialisations of the published networks that differ from PyTorch's."""

from __future__ import annotations

from torch import nn

from snntorch_asnn.layers import SpikingMLP

__all__ = ["init_convolutions", "init_linear", "init_truncated"]


def init_linear(model: nn.Module) -> None:
    """Initialise linear layers from a normal with standard deviation 0.02, cut off at ±2; zero the biases."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            _truncated(layer)


def init_truncated(model: nn.Module) -> None:
    """Initialise convolutions and MLPs as :func:`init_linear` does, and leave the other layers unchanged."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            _truncated(layer)
        elif isinstance(layer, SpikingMLP):
            init_linear(layer)


def _truncated(layer: nn.Linear | nn.Conv2d) -> None:
    nn.init.trunc_normal_(layer.weight, std=0.02)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def init_convolutions(model: nn.Module) -> None:
    """Initialise convolutions from a normal with variance 2 / fan-out (Kaiming)."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
