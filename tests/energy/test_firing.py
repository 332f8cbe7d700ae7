from __future__ import annotations

import pytest
import snntorch as snn
import torch
from torch import nn

from snntorch_asnn import AdaptiveLeaky
from snntorch_asnn.energy import record_firing_rates
from snntorch_asnn.layers import OverTime
from snntorch_asnn.models import create_model


def test_sequences_and_steps_give_the_same_rates():
    x = 2 * torch.rand(5, 3, 4)
    whole = AdaptiveLeaky(beta=0.9, num_steps=5, sequence=True)
    stepped = snn.Leaky(beta=0.9)
    with record_firing_rates(whole, num_steps=5) as from_sequence:
        spikes, _ = whole(x)
    with record_firing_rates(stepped, num_steps=5) as from_steps:
        mem = stepped.reset_mem()
        for step in x:
            _, mem = stepped(step, mem)
    wanted = tuple(spikes.flatten(1).mean(1).tolist())
    assert from_sequence.per_layer()[""] == pytest.approx(wanted)
    assert from_steps.per_layer()[""] == pytest.approx(wanted)
    assert from_steps.mean() == pytest.approx(spikes.mean().item())


def test_batches_are_averaged_and_layers_named():
    net = nn.ModuleDict({"one": AdaptiveLeaky(beta=0.0, num_steps=2, sequence=True)})
    with record_firing_rates(net, num_steps=2) as rates:
        net["one"](torch.tensor([[3.0], [0.0]]))
        net["one"](torch.tensor([[3.0], [3.0]]))
    assert rates.per_layer() == {"one": (1.0, 0.5)}


def test_nothing_is_recorded_outside_the_context():
    neuron = snn.Leaky(beta=0.9)
    with record_firing_rates(neuron, num_steps=1) as rates:
        pass
    neuron(torch.ones(1, 1))
    assert rates.per_layer() == {}
    assert rates.mean() == 0.0


class Foreign(nn.Module):
    """Another library's neuron."""

    def forward(self, x):
        return (x > 0).to(x.dtype)


@pytest.mark.parametrize("neuron", ["plif", "asnn", Foreign])
def test_every_neuron_of_a_model_is_recorded(neuron):
    net = create_model("lenet", num_classes=3, num_steps=2, channels=[2, 2, 2], hidden=4, neuron=neuron)
    wanted = {}

    def note(name):
        def hook(_, __, out):
            spikes = out[0] if isinstance(out, tuple) else out
            wanted[name] = pytest.approx(tuple(spikes.flatten(1).mean(1).tolist()))

        return hook

    for name, module in net.named_modules():
        if isinstance(module, OverTime):
            module.register_forward_hook(note(f"{name}.neuron"))
    with record_firing_rates(net, num_steps=2) as rates:
        net(torch.rand(3, 3, 32, 32))
    assert len(wanted) == 4
    assert rates.per_layer() == wanted


def test_a_smaller_last_batch_counts_for_less():
    neuron = AdaptiveLeaky(beta=0.0, num_steps=1, sequence=True)
    with record_firing_rates(neuron, num_steps=1) as rates:
        neuron(torch.full((1, 3, 2), 3.0))
        neuron(torch.zeros(1, 1, 2))
    assert rates.per_layer() == {"": (0.75,)}
