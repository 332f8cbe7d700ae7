"""The model zoo: networks of spiking neurons by name, each with any neuron, code and readout."""

from __future__ import annotations

from snntorch_asnn.models.base import SpikingModel
from snntorch_asnn.models.lenet import LeNet
from snntorch_asnn.models.reference_weights import LoadReport, load_reference_weights
from snntorch_asnn.models.registry import create_model, list_models, register_model

__all__ = [
    "LeNet",
    "LoadReport",
    "SpikingModel",
    "create_model",
    "list_models",
    "load_reference_weights",
    "register_model",
]
