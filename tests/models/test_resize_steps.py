"""One call gives a whole model another number of steps, or says why it cannot."""

from __future__ import annotations

from functools import partial
from inspect import signature
from typing import Any

import numpy as np
import pytest
import snntorch as snn
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

import snntorch_asnn as asnn
from snntorch_asnn import spikegen
from snntorch_asnn.encoding import Encoder
from snntorch_asnn.layers import MeanReadout, TimeWeightedReadout
from snntorch_asnn.models import create_model, from_pretrained, list_models

TINY = [name for name in list_models() if name.endswith("_tiny") or name == "lenet"]


def build(name: str = "lenet", **settings: Any) -> Any:
    return create_model(name, **{"num_classes": 5, "num_steps": 4, "image_size": 16} | settings).eval()


def inputs(model: Any, steps: int) -> Tensor:
    images = torch.rand(2, model.in_channels, *model.image_size)
    return images.expand(steps, *images.shape) if model.encode.encoder is None else images


def fill(model: nn.Module) -> None:
    """Time parameters that are a straight line in time, which linear interpolation keeps."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith((".gain", ".beta", "readout.scale", "carry.weight")) and value.ndim:
                line = torch.linspace(0.25, 0.75, len(value))
                value.copy_(line.view(-1, *[1] * (value.ndim - 1)).expand_as(value))


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("steps", [6, 2])
def test_every_family(name: str, steps: int) -> None:
    model = build(name)
    fill(model)
    assert model.resize_steps(steps) is model
    assert model.num_steps == steps
    assert model(inputs(model, steps), return_steps=True).shape == (steps, 2, 5)
    fresh = build(name, num_steps=steps)
    fill(fresh)
    wanted = {k: v for k, v in fresh.state_dict().items() if k.endswith((".gain", ".beta", "scale"))}
    assert wanted
    for key, value in wanted.items():
        torch.testing.assert_close(model.state_dict()[key], value)
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        k: v.shape for k, v in fresh.state_dict().items()
    }


def named(settings: dict[str, Any]) -> str:
    """A name without addresses, which would differ between pytest's workers."""
    plain = {k: v if isinstance(v, str | bool | tuple) else type(v).__name__ for k, v in settings.items()}
    return "-".join(f"{key}={value}" for key, value in plain.items())


@pytest.mark.parametrize(
    "settings",
    [
        {"neuron": "lif"},
        {"neuron": "tebn", "sharing": "channel"},
        {"neuron": "dalif"},
        {"neuron": "plif"},
        {"neuron": partial(snn.Leaky, 0.9, init_hidden=True)},
        {"carry": True},
        {"encoding": "direct", "readout": "mean"},
        {"encoding": "binary_temporal"},
        {"encoding": partial(spikegen.hybrid, direct_steps=2)},
        {"encoding": Encoder(4, levels="quantile", direct_steps=2)},
        {"normalize": (0.5, 0.25)},
        {"fused": True},
        {"readout": TimeWeightedReadout(4, learn_scale=False)},
    ],
    ids=named,
)
def test_every_setting(settings: Any) -> None:
    model = build(**settings)
    requires = {k: p.requires_grad for k, p in model.named_parameters()}
    images = torch.rand(2, 3, 16, 16)
    for steps in (7, 3, 4):
        model.resize_steps(np.int64(steps))
        assert model(images, return_steps=True).shape == (steps, 2, 5)
        assert model.encode(images).shape[0] == steps
        assert type(model.num_steps) is int
        _, taken = asnn.anytime(model, images, threshold=1.0)
        assert taken.max() <= steps
    assert {k: p.requires_grad for k, p in model.named_parameters()} == requires


@pytest.mark.skipif(
    "norm_over_time" not in signature(create_model).parameters, reason="needs norms of each step"
)
@pytest.mark.parametrize("kind", ["pooled", "sequential", "step_statistics", "step"])
@pytest.mark.parametrize("carry", [False, True])
def test_norms_of_each_step(kind: str, carry: bool) -> None:
    model = build(norm_over_time=kind, carry=carry)
    images = torch.rand(3, 3, 16, 16)
    model.train()(images)
    model.resize_steps(6)
    assert model(images, return_steps=True).shape == (6, 3, 5)
    fresh = build(num_steps=6, norm_over_time=kind, carry=carry)
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        k: v.shape for k, v in fresh.state_dict().items()
    }


def test_saved_with_its_new_number(tmp_path: Any) -> None:
    pytest.importorskip("safetensors")
    model = build().resize_steps(6)
    model.save_pretrained(tmp_path / "model.safetensors")
    back = from_pretrained(tmp_path / "model.safetensors").eval()
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(back(images), model(images))


def test_the_same_number_changes_nothing() -> None:
    model = build()
    before = dict(model.state_dict())
    model.resize_steps(4)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    model.num_steps = 4


# What is refused, with nothing changed


def module_of_4_steps() -> nn.Module:
    module = nn.Identity()
    module.num_steps = 4
    return module


@pytest.mark.parametrize(
    ("settings", "steps", "message"),
    [
        ({}, 1, "num_steps must be above direct_steps=1, because the first layer"),
        ({"num_steps": 1}, 4, "num_steps must be at most direct_steps=1, because the first layer"),
        ({"encoding": partial(spikegen.hybrid, direct_steps=3)}, 3, "must be above direct_steps=3"),
        ({"encoding": Encoder(4, levels=torch.tensor([0.7, 0.5, 0.2]))}, 6, "levels are a tensor"),
        ({"encoding": module_of_4_steps()}, 6, "the encoding has no resize_steps"),
        ({"encoding": "bit_plane"}, 17, r"num_steps must be in 1\.\.16; got 17"),
        ({}, 0, "num_steps must be at least 1"),
    ],
    ids=["1", "4", "3", "levels", "module", "bits", "0"],
)
def test_what_cannot_be(settings: Any, steps: int, message: str) -> None:
    model = build(**settings)
    before = dict(model.state_dict())
    with pytest.raises(ValueError, match=message):
        model.resize_steps(steps)
    assert all(
        value is before[key] or torch.equal(value, before[key]) for key, value in model.state_dict().items()
    )
    assert model.num_steps == settings.get("num_steps", 4)
    assert model.encode.num_steps == model.readout.num_steps == model.num_steps


@pytest.mark.parametrize("wrong", [2.5, "6", True, None])
def test_what_is_no_number(wrong: Any) -> None:
    with pytest.raises(TypeError, match="num_steps must be an integer"):
        build().resize_steps(wrong)


def resize_neuron(model: Any) -> None:
    model.conv2.spike.neuron.neuron.resize_steps(6)


def resize_encoder(model: Any) -> None:
    model.encode.encoder.resize_steps(6)


def resize_readout(model: Any) -> None:
    model.readout.resize_steps(6)


def other_readout(model: Any) -> None:
    model.readout = MeanReadout(6)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (resize_neuron, "conv2.spike.neuron.neuron"),
        (resize_encoder, "encode.encoder"),
        (resize_readout, "readout"),
        (other_readout, "readout"),
    ],
)
def test_parts_that_do_not_fit_together_raise(change: Any, name: str) -> None:
    model = build()
    change(model)
    message = rf"num_steps=4; got {name} with num_steps=6; change them together"
    with pytest.raises(ValueError, match=message):
        model(torch.rand(2, 3, 16, 16))
    with pytest.raises(ValueError, match=message):
        model.resize_steps(6)


def test_the_number_cannot_be_set() -> None:
    model = build()
    with pytest.raises(ValueError, match=r"num_steps must be changed with model.resize_steps\(6\)"):
        model.num_steps = 6
    assert model(torch.rand(2, 3, 16, 16)).shape == (2, 5)


# Parameters that PyTorch's tools compute


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (asnn.AdaptiveLeaky, {"beta": 0.9}),
        (asnn.AdaptiveSynaptic, {"alpha": 0.8, "beta": 0.9}),
        (asnn.AdaptiveRLeaky, {"beta": 0.9, "all_to_all": False}),
        (asnn.AdaptiveLapicque, {"beta": 0.9}),
    ],
)
@pytest.mark.parametrize("sequence", [True, False])
def test_a_pruned_neuron(cls: Any, arguments: Any, sequence: bool) -> None:
    neuron = cls(**arguments, num_steps=4, sequence=sequence, init_hidden=not sequence)
    prune.random_unstructured(neuron, "gain", amount=2)
    mask = neuron.gain_mask.clone()
    neuron.resize_steps(8)
    assert neuron.gain.shape == neuron.gain_orig.shape == neuron.gain_mask.shape == (8,)
    assert neuron.gain_mask[[0, -1]].tolist() == mask[[0, -1]].tolist()
    assert set(neuron.gain_mask.tolist()) == {0.0, 1.0}
    x = torch.rand(8, 2, 3)
    _ = neuron(x) if sequence else [neuron(step) for step in x]
    assert torch.equal(neuron.gain, neuron.gain_orig * neuron.gain_mask)
    prune.remove(neuron, "gain")
    assert neuron.gain.shape == (8,)


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x

    def right_inverse(self, x: Tensor) -> Tensor:
        return x / 2


@pytest.mark.parametrize("steps", [2, 8])
def test_a_parametrized_neuron(steps: int) -> None:
    neuron = asnn.AdaptiveLeaky(0.9, gain=torch.linspace(0.0, 1.0, 4), feature_shape=(), num_steps=4)
    parametrize.register_parametrization(neuron, "gain", Doubled())
    neuron.resize_steps(steps)
    torch.testing.assert_close(neuron.gain, torch.linspace(0.0, 1.0, steps))
    assert neuron.parametrizations.gain.original.shape == (steps,)


def test_a_pruned_model() -> None:
    model = build(carry=True)
    for module, name in (
        (model.conv1.neuron.neuron, "beta"),
        (model.readout, "scale"),
        (model.conv1.conv_norm.carry, "weight"),
    ):
        prune.l1_unstructured(module, name, amount=1)
    model.resize_steps(7)
    assert model(torch.rand(2, 3, 16, 16), return_steps=True).shape == (7, 2, 5)
    assert (model.readout.scale_mask == 0).any()
