from __future__ import annotations

from functools import partial

import pytest
import snntorch as snn
import torch
from torch import nn

import snntorch_asnn as asnn
from snntorch_asnn.models.named_neurons import build_neuron

CHANNELS = (8, 1, 1)


def test_adaptive_is_the_papers_neuron():
    neuron = build_neuron("asnn", 4, channel_shape=CHANNELS).neuron
    assert neuron.beta.tolist() == neuron.gain.tolist() == [0.5] * 4
    assert {name for name, _ in neuron.named_parameters()} == {"beta", "gain"}


def test_lif_resets_to_zero_and_learns_nothing():
    neuron = build_neuron("lif", 4, channel_shape=CHANNELS)
    assert not list(neuron.parameters())
    currents = torch.tensor([1.5, 1.5, 0.9, 9.0]).view(4, 1, 1)
    assert neuron(currents).flatten().tolist() == [0, 1, 0, 1]


def test_lif_cuts_the_reset_out_of_the_gradient():
    """u[1] = (v[0] + x[1]) / 2 with v[0] = u[0] (1 - s[0]): x[0] counts where s[0] = 0 only."""
    neuron = build_neuron("lif", 2, channel_shape=(1,))
    for current, silent in ((1.9, 1.0), (2.1, 0.0)):
        x = torch.tensor([[[current]], [[1.0]]], dtype=torch.float64, requires_grad=True)
        neuron.double()(x)[1].sum().backward()
        u0 = current / 2
        slope = torch.sigmoid(torch.tensor(4 * ((u0 * silent + 1) / 2 - 1), dtype=torch.float64))
        wanted = 4 * slope * (1 - slope) * silent / 4
        torch.testing.assert_close(x.grad[0, 0, 0], wanted)


@pytest.mark.parametrize("name", ["asnn", "lif"])
def test_threshold_of_the_place(name):
    neuron = build_neuron(name, 1, channel_shape=CHANNELS, threshold=0.5)
    assert neuron(torch.full((1, 1, 1), 1.2)).item() == 1


def test_callable_is_given_what_it_requires():
    seen = {}

    def build(num_steps, *, channel_shape, threshold, beta=0.9):
        seen.update(num_steps=num_steps, channel_shape=channel_shape, threshold=threshold, beta=beta)
        return nn.Identity()

    build_neuron(build, 4, channel_shape=CHANNELS, threshold=0.5)
    assert seen == {"num_steps": 4, "channel_shape": CHANNELS, "threshold": 0.5, "beta": 0.9}


CALLABLES = {
    "no arguments": lambda: snn.Leaky(0.9, init_hidden=True),
    "steps": lambda num_steps: snn.Leaky(0.9, init_hidden=True),
    "steps and context": lambda num_steps, **context: asnn.AdaptiveLeaky(
        0.9, num_steps=num_steps, sequence=True
    ),
    "partial Leaky": partial(snn.Leaky, 0.9, init_hidden=True),
    "partial Synaptic": partial(snn.Synaptic, 0.9, 0.8, init_hidden=True),
    "partial AdaptiveLeaky": partial(asnn.AdaptiveLeaky, 0.9, sequence=True),
    "partial paper": partial(asnn.AdaptiveLeaky.paper, sequence=True),
    "class": nn.ReLU,
}


@pytest.mark.parametrize("build", CALLABLES.values(), ids=CALLABLES)
def test_callables(build):
    currents = torch.rand(4, 2, 8)
    assert build_neuron(build, 4, channel_shape=(8,))(currents).shape == currents.shape


def test_wrong_neurons():
    build = partial(build_neuron, num_steps=4, channel_shape=CHANNELS)
    with pytest.raises(ValueError, match=r"neuron must be one of 'asnn', 'lif', .*, or a callable; got"):
        build("leaky")
    for wrong in (snn.Leaky(0.9, init_hidden=True), None, 0.5):
        with pytest.raises(TypeError, match="neuron must be a name or a callable"):
            build(wrong)
    with pytest.raises(TypeError, match="got no default for 'beta'"):
        build(snn.Leaky)
    with pytest.raises(TypeError, match=r"neuron must be an nn\.Module; got float"):
        build(lambda: 0.5)
    with pytest.raises(ValueError, match="neuron must hide its state"):
        build(lambda: snn.Leaky(0.9))
