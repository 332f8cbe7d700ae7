from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

import snntorch_asnn as asnn
from snntorch_asnn.models import LeNet, LoadReport, load_reference_weights

NEURON_STATE = {"threshold", "graded_spikes_factor", "reset_mechanism_val"}


def lenet(**settings):
    return LeNet(**{"num_classes": 100, "num_steps": 7, **settings})


def test_takes_everything_that_the_reference_uses(reference_lenet):
    model = lenet()
    report = load_reference_weights(model, reference_lenet)
    assert set(report.taken) == reference_lenet.keys() - {"lano.weight", "lano.bias"}
    assert set(report.dropped) == {"lano.weight", "lano.bias"}
    assert {key.rsplit(".")[-1] for key in report.missed} == NEURON_STATE
    own = model.state_dict()
    assert torch.equal(own["conv1.conv_norm.direct.conv.weight"], reference_lenet["con11.weight"])
    assert torch.equal(own["conv1.conv_norm.spike.norm.running_var"], reference_lenet["bn1.running_var"])
    assert torch.equal(own["fc1.spike.norm.bias"], reference_lenet["bn4.bias"])
    assert torch.equal(own["readout.scale"], reference_lenet["scale"])
    neurons = ("conv1.neuron", "conv2.spike.neuron", "conv3.spike.neuron", "fc1.spike.neuron")
    for layer, neuron in enumerate(f"{path}.neuron" for path in neurons):
        assert torch.equal(own[f"{neuron}.beta"], reference_lenet["leakelayers"][layer])
        assert torch.equal(own[f"{neuron}.gain"], reference_lenet["inputlayers"][layer])


@pytest.mark.parametrize(
    ("settings", "dropped"),
    [
        ({"encoding": "direct"}, {"con11", "bn11"}),
        ({"readout": "mean"}, {"scale"}),
        ({"neuron": lambda: nn.ReLU()}, {"leakelayers", "inputlayers"}),
    ],
)
def test_drops_what_the_model_has_no_use_for(reference_lenet, settings, dropped):
    report = load_reference_weights(lenet(**settings), reference_lenet)
    assert {key.split(".")[0] for key in report.dropped} == dropped | {"lano"}
    assert set(report.taken) | set(report.dropped) == reference_lenet.keys()


def test_one_step_of_a_hybrid_code_is_the_analog_one(reference_lenet):
    checkpoint = {k: v[..., :1] if "layers" in k else v for k, v in reference_lenet.items()}
    checkpoint["scale"] = checkpoint["scale"][:1]
    model = lenet(num_steps=1)
    load_reference_weights(model, checkpoint)
    assert torch.equal(model.state_dict()["conv1.conv.weight"], checkpoint["con11.weight"])


def test_what_a_model_has_no_use_for_may_be_missing(reference_lenet):
    checkpoint = {k: v for k, v in reference_lenet.items() if not k.startswith("lano")}
    assert load_reference_weights(lenet(), checkpoint).dropped == ()


def test_a_fixed_neuron_takes_the_leak_too(reference_lenet):
    model = lenet(neuron="lif")
    load_reference_weights(model, reference_lenet)
    assert torch.equal(model.conv1.neuron.neuron.beta, reference_lenet["leakelayers"][0])


def test_spreads_a_layers_leak_over_its_channels(reference_lenet):
    def per_channel(num_steps, channel_shape):
        return asnn.AdaptiveLeaky.paper(num_steps, feature_shape=channel_shape, sequence=True)

    model = lenet(neuron=per_channel)
    load_reference_weights(model, reference_lenet)
    beta = model.conv2.spike.neuron.neuron.beta
    assert beta.shape == (7, 48, 1, 1)
    assert torch.equal(beta, reference_lenet["leakelayers"][1].view(7, 1, 1, 1).expand_as(beta))


def test_keeps_the_models_dtype_and_identity(reference_lenet):
    model = lenet().double()
    before = dict(model.named_parameters())
    load_reference_weights(model, reference_lenet)
    after = dict(model.named_parameters())
    assert all(after[key] is before[key] and after[key].requires_grad for key in before)
    assert model.conv2.conv.weight.dtype == torch.float64


def without(key):
    return lambda checkpoint: checkpoint.pop(key)


def put(key, value):
    return lambda checkpoint: checkpoint.update({key: value})


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (put("con1.weight", torch.zeros(32, 1, 3, 3)), ValueError,
         r"state_dict\['con1.weight'\] must have shape \(32, 3, 3, 3\); got \(32, 1, 3, 3\)"),
        (put("leakelayers", torch.zeros(4, 6)), ValueError,
         r"state_dict\['leakelayers'\] must have shape \(4, 7\); got \(4, 6\)"),
        (put("scale", torch.ones(())), ValueError, r"'scale'\] must have shape \(7,\); got \(\)"),
        (put("lin2.bias", torch.zeros(10)), ValueError, r"'lin2.bias'\] must have shape \(100,\)"),
        (put("lin2.weight", torch.full((100, 256), torch.nan)), ValueError,
         r"state_dict\['lin2.weight'\] must be finite"),
        (put("lin2.weight", [1.0]), TypeError, r"'lin2.weight'\] must be a tensor; got list"),
        (put("module.con1.weight", torch.zeros(1)), ValueError, r"got 'module.con1.weight'"),
        (without("con11.bias"), ValueError, r"must hold 'con11.bias' of shape \(32,\), but"),
        (without("inputlayers"), ValueError, r"must hold 'inputlayers' of shape \(4, 7\)"),
    ],
)  # fmt: skip
def test_refuses_a_mismatch_and_changes_nothing(reference_lenet, spoil, error, message):
    model = lenet()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    spoil(reference_lenet)
    with pytest.raises(error, match=message):
        load_reference_weights(model, reference_lenet)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_refuses_a_constrained_leak(reference_lenet):
    model = lenet(
        neuron=lambda num_steps: asnn.AdaptiveLeaky(
            0.5, num_steps=num_steps, sequence=True, beta_constraint="sigmoid"
        )
    )
    with pytest.raises(ValueError, match=r"beta_constraint='none'.*got 'sigmoid'"):
        load_reference_weights(model, reference_lenet)


def test_refuses_what_is_no_model_of_the_zoo(reference_lenet):
    with pytest.raises(TypeError, match=r"model must be a model of the zoo.*; got Linear"):
        load_reference_weights(nn.Linear(2, 2), reference_lenet)


def test_report_is_frozen_and_readable():
    report = LoadReport(taken=("a", "b"), dropped=(), missed=("c",))
    assert str(report) == "taken 2: a, b\ndropped 0: -\nmissed 1: c"
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.taken = ()
