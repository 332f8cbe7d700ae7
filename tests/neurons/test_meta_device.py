"""Neurons and models are built, adapted and run on the meta device, which has shapes and no values."""

from __future__ import annotations

from typing import Any

import pytest
import snntorch as snn
import torch
from torch import nn

import snntorch_asnn as asnn
from snntorch_asnn.models import create_model

CLASSES = [
    (asnn.AdaptiveLeaky, {"beta": 0.9}),
    (asnn.AdaptiveSynaptic, {"alpha": 0.8, "beta": 0.9}),
    (asnn.AdaptiveRLeaky, {"beta": 0.9, "all_to_all": False}),
    (asnn.AdaptiveLapicque, {"beta": 0.9}),
]


@pytest.mark.parametrize(("cls", "arguments"), CLASSES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"learn_threshold": True, "reset_mechanism": "zero"},
        {"beta_constraint": "sigmoid"},
        {"threshold": torch.ones(4), "feature_shape": (4,)},
    ],
    ids=["plain", "learned", "sigmoid", "per_neuron"],
)
@pytest.mark.parametrize("sequence", [True, False])
def test_neurons(cls: Any, arguments: Any, options: Any, sequence: bool) -> None:
    with torch.device("meta"):
        neuron = cls(**arguments, **options, num_steps=3, sequence=sequence, init_hidden=not sequence)
        x = torch.rand(3, 2, 4)
        spikes = neuron(x)[0] if sequence else torch.stack([neuron(step) for step in x])
    assert spikes.is_meta
    assert spikes.shape == (3, 2, 4)
    assert all(tensor.is_meta for tensor in (*neuron.parameters(), *neuron.buffers()))
    own = cls(**arguments, **options, num_steps=3, sequence=sequence, init_hidden=not sequence)
    shapes = {key: value.shape for key, value in own.state_dict().items()}
    assert {key: value.shape for key, value in neuron.state_dict().items()} == shapes


def test_weights_can_be_assigned_to_what_was_built_there() -> None:
    with torch.device("meta"):
        neuron = asnn.AdaptiveLeaky(0.5, num_steps=3, sequence=True)
    real = asnn.AdaptiveLeaky(0.9, num_steps=3, sequence=True)
    neuron.load_state_dict(real.state_dict(), assign=True)
    x = torch.rand(3, 2, 4)
    assert torch.equal(neuron(x)[0], real(x)[0])


def test_a_network_that_is_adapted_there() -> None:
    net = nn.Sequential(nn.Linear(3, 2), snn.Leaky(0.9, init_hidden=True)).to("meta")
    adapted = asnn.adapt(net, 3)
    assert adapted(torch.rand(4, 3, device="meta")).shape == (4, 2)


@pytest.mark.parametrize("neuron", ["asnn", "lif", "if", "tebn", "dalif", "plif"])
@pytest.mark.parametrize("name", ["lenet", "spikformer_tiny", "spiking_resnet_tiny"])
def test_models(name: str, neuron: str) -> None:
    settings = {"num_classes": 5, "num_steps": 3, "neuron": neuron, "normalize": (0.5, 0.25), "carry": True}
    with torch.device("meta"):
        model = create_model(name, **settings)
        assert model(torch.rand(2, 3, 32, 32)).shape == (2, 5)
        assert asnn.energy.count_macs(model).per_step
    shapes = {key: value.shape for key, value in create_model(name, **settings).state_dict().items()}
    assert {key: value.shape for key, value in model.state_dict().items()} == shapes
