"""The model zoo: networks of spiking neurons by name, each with any neuron, code and readout."""

from __future__ import annotations

import snntorch_asnn.models.resnet_imagenet  # noqa: F401 - registers its models
from snntorch_asnn.models.base import SpikingModel
from snntorch_asnn.models.lenet import LeNet
from snntorch_asnn.models.maxformer import MaxFormer
from snntorch_asnn.models.model_settings import BaseSettings, ModelSettings
from snntorch_asnn.models.model_stepping import ModelStepping
from snntorch_asnn.models.named_neurons import build_neuron
from snntorch_asnn.models.pretrained import from_pretrained
from snntorch_asnn.models.qkformer import QKFormer
from snntorch_asnn.models.reference_weights import LoadReport, load_reference_weights
from snntorch_asnn.models.registry import create_model, list_models, register_model
from snntorch_asnn.models.resnet import SpikingResNet
from snntorch_asnn.models.spikformer import Spikformer
from snntorch_asnn.models.spikingformer import Spikingformer

__all__ = [
    "BaseSettings",
    "LeNet",
    "LoadReport",
    "MaxFormer",
    "ModelSettings",
    "ModelStepping",
    "QKFormer",
    "Spikformer",
    "SpikingModel",
    "SpikingResNet",
    "Spikingformer",
    "build_neuron",
    "create_model",
    "from_pretrained",
    "list_models",
    "load_reference_weights",
    "register_model",
]
