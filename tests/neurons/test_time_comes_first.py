"""A sequence whose batch comes first is not run in silence, and a tuple names its cure."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import snntorch_asnn as asnn
from snntorch_asnn import AdaptiveLapicque, AdaptiveLeaky, AdaptiveRLeaky, AdaptiveSynaptic

STEPS = 4
NEURONS = [
    lambda: AdaptiveLeaky(0.9, num_steps=STEPS, sequence=True),
    lambda: AdaptiveSynaptic(0.5, 0.9, num_steps=STEPS, sequence=True),
    lambda: AdaptiveRLeaky(0.9, linear_features=3, num_steps=STEPS, sequence=True),
    lambda: AdaptiveLapicque(0.9, num_steps=STEPS, sequence=True),
]


@pytest.mark.parametrize("build", NEURONS, ids=["Leaky", "Synaptic", "RLeaky", "Lapicque"])
def test_a_batch_first_sequence_is_not_run_in_silence(build: object) -> None:
    neuron = build()  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"time comes first.*input_\.transpose\(0, 1\)"):
        neuron(torch.rand(STEPS + 2, STEPS, 3))
    with pytest.warns(UserWarning, match=r"time comes first.*pass step=0 to confirm"):
        neuron(torch.rand(2, STEPS, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        neuron(torch.rand(2, STEPS, 3), step=0)
        neuron(torch.rand(STEPS, STEPS + 1, 3))
        neuron(torch.rand(2, 5, 3))


def test_over_time_in_a_sequential_net() -> None:
    lif = AdaptiveLeaky(0.9, num_steps=STEPS, sequence=True)
    net = nn.Sequential(nn.Linear(3, 6), asnn.layers.OverTime(lif), nn.Linear(6, 2))
    batch = torch.rand(8, STEPS, 3)
    assert net(batch.transpose(0, 1)).shape == (STEPS, 8, 2)
    with pytest.raises(ValueError, match="transpose"):
        net(batch)


@pytest.mark.parametrize("sequence", [False, True])
def test_a_tuple_names_its_cure(sequence: bool) -> None:
    first, second = (AdaptiveLeaky(0.9, num_steps=STEPS, sequence=sequence) for _ in range(2))
    with pytest.raises(TypeError, match=r"got a tuple.*layers\.OverTime.*init_hidden=True"):
        nn.Sequential(first, second)(torch.rand(STEPS, 2, 3))
