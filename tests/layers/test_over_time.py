from __future__ import annotations

import copy
from typing import Any

import pytest
import snntorch as snn
import torch
from torch import nn

import snntorch_asnn as asnn
from snntorch_asnn.layers import OverTime

STEP_NEURONS = {
    "leaky": lambda: snn.Leaky(0.9, init_hidden=True),
    "leaky with output": lambda: snn.Leaky(0.9, init_hidden=True, output=True),
    "synaptic": lambda: snn.Synaptic(0.9, 0.8, init_hidden=True),
    "alpha": lambda: snn.Alpha(0.9, 0.8, init_hidden=True),
    "lapicque": lambda: snn.Lapicque(0.9, init_hidden=True),
    "rleaky": lambda: snn.RLeaky(0.9, all_to_all=False, init_hidden=True),
    "adaptive": lambda: asnn.AdaptiveLeaky(0.9, num_steps=6, init_hidden=True),
    "inside a module": lambda: nn.Sequential(snn.Leaky(0.9, init_hidden=True), nn.Dropout(0.0)),
}


@pytest.fixture
def currents():
    return torch.rand(6, 4, 5, generator=torch.Generator().manual_seed(0)) * 1.5


def test_equals_a_loop_by_hand(currents):
    neuron, mem, spikes = snn.Leaky(0.9), None, []
    for current in currents:
        spk, mem = neuron(current, mem)
        spikes.append(spk)
    out = OverTime(snn.Leaky(0.9, init_hidden=True))(currents)
    assert torch.equal(out, torch.stack(spikes))
    assert 0 < out.mean() < 1


@pytest.mark.parametrize("hidden", [True, False])
def test_sequence_neuron_equals_step_neuron(currents, hidden):
    steps = OverTime(asnn.AdaptiveLeaky(0.9, num_steps=6, init_hidden=True))
    sequence = OverTime(
        asnn.AdaptiveLeaky(0.9, num_steps=6, sequence=True, init_hidden=hidden, impl="reference")
    )
    assert torch.equal(sequence(currents), steps(currents))


@pytest.mark.parametrize("make", STEP_NEURONS.values(), ids=STEP_NEURONS)
def test_every_call_is_a_new_sequence(currents, make):
    neuron = OverTime(make())
    first = neuron(currents)
    assert first.shape == currents.shape
    assert torch.equal(neuron(currents), first)
    assert torch.equal(neuron(currents[:, :3]), first[:, :3])


def test_leaves_no_graph_behind(currents):
    neuron = OverTime(snn.Leaky(0.9, init_hidden=True))
    neuron(currents.requires_grad_()).sum().backward()
    copied = copy.deepcopy(neuron)
    assert torch.equal(copied(currents), neuron(currents))


def test_resets_no_other_network(currents):
    other = snn.Leaky(0.9, init_hidden=True)
    other(currents[0])
    before = other.mem.clone()
    OverTime(snn.Leaky(0.9, init_hidden=True))(currents)
    assert torch.equal(other.mem, before)


def test_any_module_is_called_once(currents):
    class Count(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return x > 1

    neuron = OverTime(Count())
    assert torch.equal(neuron(currents), currents > 1)
    assert neuron.neuron.calls == 1


def test_refuses_a_state_left_to_the_caller():
    with pytest.raises(ValueError, match=r"neuron must hide its state.*got Leaky"):
        OverTime(snn.Leaky(0.9))


@pytest.mark.parametrize("neuron", [torch.relu, None, snn.Leaky])
def test_refuses_what_is_no_module(neuron):
    with pytest.raises(TypeError, match=r"neuron must be an nn\.Module"):
        OverTime(neuron)


def test_a_membrane_is_kept_for_hooks_alone() -> None:
    neuron = asnn.AdaptiveLeaky(0.5, num_steps=4, sequence=True)
    layer, x = OverTime(neuron), torch.rand(4, 2, 3) * 2
    expected, mem = neuron(x)
    assert torch.equal(layer(x), expected)
    assert torch.equal(neuron(x, spikes_only=True), expected)
    seen: list[Any] = []
    neuron.register_forward_hook(lambda module, inputs, output: seen.append(output))
    assert torch.equal(layer(x), expected)
    assert torch.equal(seen[0][1], mem)


def test_spikes_only_is_for_sequences() -> None:
    with pytest.raises(ValueError, match="spikes_only must be False with sequence=False"):
        asnn.AdaptiveLeaky(0.5, num_steps=4)(torch.rand(2, 3), spikes_only=True)
