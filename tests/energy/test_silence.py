"""Layers that never fire are named, wherever firing rates are shown."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import snntorch as snn
import torch
from torch import nn

from snntorch_asnn import AdaptiveLeaky, energy
from snntorch_asnn.models import create_model


def chain(*thresholds: float, neuron: Any = AdaptiveLeaky) -> nn.Sequential:
    """Neurons one after another, which fire for thresholds below 1."""
    return nn.Sequential(*(neuron(0.0, threshold=t) for t in thresholds))


def adaptive(beta: float, threshold: float) -> nn.Module:
    return AdaptiveLeaky(beta, threshold=threshold, init_hidden=True, num_steps=2)


def leaky(beta: float, threshold: float) -> nn.Module:
    return snn.Leaky(beta, threshold=threshold, init_hidden=True)


def in_a_loop(net: nn.Module, x: torch.Tensor) -> None:
    for _ in range(2):
        net(x)


@pytest.mark.parametrize("neuron", [adaptive, leaky])
def test_profile_names_the_dead_layers_of_a_loop(neuron: Any) -> None:
    net = chain(0.5, 2.0, 0.5, neuron=neuron)
    with pytest.warns(energy.SilentLayersWarning, match="2 of 3 layers of neurons .* on the images: 1, 2"):
        report = energy.profile(net, torch.ones(4, 3), num_steps=2, run=in_a_loop)
    assert report.silent_layers == ("1", "2")
    assert "Warning: 2 of 3 layers of neurons never fired on the images: 1, 2." in str(report)
    assert report.to_dict()["silent_layers"] == ["1", "2"]


@pytest.mark.parametrize("neuron", ["asnn", "plif", "lif"])
@pytest.mark.parametrize("fused", [False, True])
def test_profile_names_the_dead_layers_of_a_model(neuron: str, fused: bool) -> None:
    model = create_model("lenet", num_classes=3, num_steps=2, image_size=8, neuron=neuron, fused=fused)
    images = torch.rand(4, 3, 8, 8)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.constant_(norm.bias, 4.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alive = energy.profile(model, images)
    assert alive.silent_layers == ()
    assert "Warning" not in str(alive)
    nn.init.constant_(model.conv3.spike.norm.weight, 0.0)
    nn.init.constant_(model.conv3.spike.norm.bias, -9.0)
    with pytest.warns(energy.SilentLayersWarning) as caught:
        dead = energy.profile(model, images)
    assert dead.silent_layers == ("conv3.spike.neuron.neuron",)
    assert [str(w.message)[:85] for w in caught] == [
        "1 of 4 layers of neurons never fired on the images: conv3.spike.neuron.neuron. Layers"
    ]
    assert caught[0].filename == __file__


def test_one_spike_is_enough_and_unknown_rates_are_no_silence() -> None:
    rates = {"a": (0.0, 1e-12), "b": (math.nan, math.nan), "c": (), "d": (0.0, 0.0)}
    assert energy.silent_layers(rates) == ("d",)
    assert energy.silent_layers({}) == ()
    assert energy.describe_silence({"a": (0.5,)}) is None


def test_many_names_are_cut_short() -> None:
    message = energy.describe_silence({str(index): (0.0,) for index in range(9)}, "test images")
    assert message is not None
    assert message.startswith("9 of 9 layers of neurons never fired on the test images: 0, 1, 2, 3, 4, 5")
    assert " 5 and 3 more." in message
    assert "never fired on the images: the network." in str(energy.describe_silence({"": (0.0,)}))


def test_rates_given_by_hand_are_no_measurement() -> None:
    counted = energy.MacCount((energy.LayerMacs("conv", "conv2d", (10, 10)),), num_steps=2)
    assert energy.estimate(counted, {"conv": 0.0}).silent_layers == ()


def test_the_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("sklearn", "matplotlib"):
        pytest.importorskip(package)
    pytest.importorskip("cyclopts")
    from snntorch_asnn.cli import main

    options = ["--num-steps", "1", "--encoding", "direct", "--images", "4", "--neuron", "lif"]
    with pytest.raises(SystemExit) as stopped:
        main(["energy", "spikformer_tiny", *options])
    assert not stopped.value.code
    assert "layers of neurons never fired on the images" in capsys.readouterr().out
