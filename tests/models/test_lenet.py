from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import batch_norm, conv2d, linear, max_pool2d

import snntorch_asnn as asnn
from snntorch_asnn import spikegen
from snntorch_asnn.layers import ConvSpike, HybridStem
from snntorch_asnn.models import LeNet, create_model, load_reference_weights

CODES = {"mix time": "hybrid", "time": partial(spikegen.temporal, last="all")}


def paper_neuron(impl):
    return lambda num_steps: asnn.AdaptiveLeaky.paper(num_steps, sequence=True, impl=impl)


@pytest.mark.parametrize("impl", ["reference", "auto"])
def test_matches_the_reference_code(golden, impl, assert_reproduces):
    model = create_model(
        "lenet",
        num_classes=100,
        num_steps=7,
        encoding=CODES[golden["code"]],
        neuron=paper_neuron(impl),
    )
    load_reference_weights(model, golden["weights"])
    assert_reproduces(model, model.eval()(golden["x"]), golden)


def test_named_neuron_is_the_papers(golden):
    outputs = []
    for neuron in ("asnn", paper_neuron("reference")):
        model = LeNet(num_classes=100, num_steps=7, neuron=neuron)
        load_reference_weights(model, golden["weights"])
        outputs.append(model.eval()(golden["x"]))
    torch.testing.assert_close(*outputs)


def test_lif_follows_its_equation():
    """The whole network once more, with functional layers and the reset written out."""
    model = LeNet(num_classes=5, num_steps=4, neuron="lif", encoding="direct", readout="mean")
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm1d)):
        nn.init.normal_(norm.weight, 2, 0.1)
        nn.init.normal_(norm.bias, 0.5, 0.3)
    images, state, logits = torch.rand(2, 3, 32, 32), [0.0] * 4, []
    w = dict(model.state_dict())

    def norm(block, x):
        keys = (f"{block}.spike.norm.{s}" for s in ("running_mean", "running_var", "weight", "bias"))
        return batch_norm(x, *(w[key] for key in keys))

    def fire(layer, x):
        u = state[layer] + (x - state[layer]) / 2
        spikes = (u > 1).float()
        state[layer] = u * (1 - spikes)
        return spikes

    for _ in range(4):
        x = images
        for layer, block in enumerate(("conv1", "conv2", "conv3")):
            x = norm(block, conv2d(x, w[f"{block}.conv.weight"], w[f"{block}.conv.bias"], padding=1))
            x = max_pool2d(fire(layer, x), 2)
        x = norm("fc1", linear(x.flatten(1), w["fc1.linear.weight"], w["fc1.linear.bias"]))
        logits.append(linear(fire(3, x), w["head.weight"], w["head.bias"]))
    torch.testing.assert_close(model.eval()(images), torch.stack(logits).mean(0))
    assert torch.stack(logits).std(0).max() > 0


def test_parameter_count():
    """Convolutions, norms, linear layers, 7 scales, 56 of neurons; a hybrid code adds a stem."""
    trunk = (896 + 13_872 + 27_712) + 2 * (32 + 48 + 64 + 256) + 262_400 + 25_700 + 7
    for encoding, stem in (("temporal", 0), ("hybrid", 896 + 64)):
        model = LeNet(num_classes=100, num_steps=7, encoding=encoding)
        assert sum(p.numel() for p in model.parameters()) == trunk + stem + 2 * 4 * 7
    fixed = LeNet(num_classes=9, num_steps=7, neuron="lif")
    assert not any("neuron" in name for name, _ in fixed.named_parameters())


@pytest.mark.parametrize("encoding", ["hybrid", "hybrid_binary", "single_spike_hybrid"])
def test_hybrid_codes_have_a_stem_for_the_analog_step(encoding):
    assert isinstance(LeNet(num_classes=2, num_steps=3, encoding=encoding).conv1.conv_norm, HybridStem)


@pytest.mark.parametrize("encoding", ["direct", "temporal", "binary_temporal", "none"])
def test_other_codes_have_one_stem(encoding):
    assert isinstance(LeNet(num_classes=2, num_steps=3, encoding=encoding).conv1, ConvSpike)


def test_analog_steps_can_be_several():
    code = partial(spikegen.hybrid, direct_steps=2)
    model = LeNet(num_classes=2, num_steps=3, encoding=code)
    assert model.conv1.conv_norm.direct_steps == 2
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 2)


@pytest.mark.parametrize("size", [8, 9, 15, (8, 31), 28])
def test_any_size_of_eight_and_more(size):
    model = LeNet(num_classes=10, num_steps=2, in_channels=1, image_size=size)
    height, width = (size, size) if isinstance(size, int) else size
    assert model(torch.rand(3, 1, height, width)).shape == (3, 10)


def test_widths():
    model = LeNet(num_classes=10, num_steps=2, channels=(4, 5, 6), hidden=7)
    assert [
        p.shape[0] for n, p in model.named_parameters() if n.endswith(("conv.weight", "linear.weight"))
    ] == [
        4,
        4,
        5,
        6,
        7,
    ]
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_per_channel_neurons():
    def per_channel(num_steps, channel_shape):
        return asnn.AdaptiveLeaky.paper(num_steps, feature_shape=channel_shape, sequence=True)

    shared = LeNet(num_classes=10, num_steps=2).eval()
    model = LeNet(num_classes=10, num_steps=2, neuron=per_channel).eval()
    assert [tuple(p.shape) for n, p in model.named_parameters() if n.endswith("beta")] == [
        (2, 32, 1, 1),
        (2, 48, 1, 1),
        (2, 64, 1, 1),
        (2, 256),
    ]
    own = model.state_dict()
    shared.load_state_dict(
        {k: own[k].flatten(1)[:, 0] if k.endswith(("beta", "gain")) else own[k] for k in own}
    )
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(model(images), shared(images))


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"image_size": 7}, ValueError, "image_size must be at least 8"),
        ({"image_size": (32, 4)}, ValueError, "image_size must be at least 8"),
        ({"channels": (32, 48)}, ValueError, "channels must be three numbers"),
        ({"channels": (32, 48, 0)}, ValueError, "channels must be at least 1"),
        ({"channels": (32, 48, 6.5)}, TypeError, "channels must be an integer"),
        ({"hidden": 0}, ValueError, "hidden must be at least 1"),
    ],
)
def test_wrong_arguments(wrong, error, message):
    with pytest.raises(error, match=message):
        LeNet(num_classes=10, num_steps=4, **wrong)
