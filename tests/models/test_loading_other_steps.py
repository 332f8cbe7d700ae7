"""Weights of another number of steps, from a file and from a state dict."""

from __future__ import annotations

from typing import Any

import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

from snntorch_asnn import AdaptiveLeaky
from snntorch_asnn.models import create_model, from_pretrained, list_models

TINY = [name for name in list_models() if name.endswith("_tiny") or name == "lenet"]


def by_hand(num_steps: int) -> AdaptiveLeaky:
    return AdaptiveLeaky(0.8, num_steps=num_steps, sequence=True)


SETTINGS = [
    {"carry": True, "norm_over_time": "step", "sharing": "channel"},
    {"norm_over_time": "step_statistics", "neuron": "lif", "readout": "mean"},
    {"neuron": "plif"},
    {"neuron": "dalif", "readout": "mean"},
    pytest.param({"neuron": by_hand}, id="neuron by hand"),
]


def build(name: str = "lenet", num_steps: int = 4, **settings: Any) -> Any:
    """A model whose parameters for each step differ."""
    defaults = {"num_classes": 5, "image_size": 16}
    model = create_model(name, num_steps=num_steps, **defaults | settings)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point() and tensor.ndim:
                tensor.add_(0.1 * torch.rand_like(tensor))
    return model.eval()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("steps", [6, 2])
def test_as_resize_steps_does(name: str, steps: int, tmp_path: Any) -> None:
    pytest.importorskip("safetensors")
    model, path = build(name), tmp_path / "model.safetensors"
    model.save_pretrained(path)
    other = build(name, steps)
    other.load_state_dict(model.state_dict(), resize=True)
    read = from_pretrained(path, num_steps=steps, resize=True)
    wanted = model.resize_steps(steps).state_dict()
    assert same(other.state_dict(), wanted)
    assert same(read.state_dict(), wanted)
    assert read.num_steps == read.recipe["settings"]["num_steps"] == steps
    images = torch.rand(2, model.in_channels, 16, 16)
    images = images.expand(steps, *images.shape) if "dvs" in name else images
    torch.testing.assert_close(other(images), model(images))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_every_setting(settings: Any) -> None:
    model, other = build(**settings), build(num_steps=7, **settings)
    other.load_state_dict(model.state_dict(), resize=True)
    assert same(other.state_dict(), model.resize_steps(7).state_dict())


def test_with_a_fresh_head_and_a_neuron_by_hand(tmp_path: Any) -> None:
    pytest.importorskip("safetensors")
    path, neuron = tmp_path / "model.safetensors", by_hand
    build(neuron=neuron).save_pretrained(path)
    model = from_pretrained(path, num_steps=6, resize=True, num_classes=3, neuron=neuron)
    assert model(torch.rand(2, 3, 16, 16), return_steps=True).shape == (6, 2, 3)
    assert not from_pretrained(path, num_classes=5, num_steps=4, neuron=neuron).eval().training
    model.save_pretrained(path)
    assert from_pretrained(path, neuron=neuron).num_steps == 6


def test_the_same_number_is_loaded_to_the_bit() -> None:
    model, other = build(), build()
    other.load_state_dict(model.state_dict(), resize=True)
    assert same(other.state_dict(), model.state_dict())


def test_without_resize_the_error_names_it(tmp_path: Any) -> None:
    pytest.importorskip("safetensors")
    model, other, path = build(), build(num_steps=6), tmp_path / "model.safetensors"
    message = r"state_dict must be of a model with num_steps=6; got num_steps=4; .*resize=True\) to resample"
    with pytest.raises(RuntimeError, match=message):
        other.load_state_dict(model.state_dict())
    with pytest.raises(RuntimeError, match=message):
        nn.Sequential(other).load_state_dict({f"0.{key}": value for key, value in model.state_dict().items()})
    model.save_pretrained(path)
    with pytest.raises(ValueError, match=r"num_steps must be 4, as in '.*'; got 6; pass resize=True"):
        from_pretrained(path, num_steps=6)
    assert from_pretrained(path, num_steps=4).num_steps == 4


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: state.pop("head.weight"), "Missing key.*head.weight"),
        (lambda state: state.update(more=torch.ones(2)), "Unexpected key.*more"),
        (lambda state: state.update({"head.bias": torch.ones(7)}), "size mismatch for head.bias"),
    ],
)
def test_nothing_is_loaded_of_what_does_not_fit(spoil: Any, message: str) -> None:
    state, other = dict(build().state_dict()), build(num_steps=6)
    before = {key: value.clone() for key, value in other.state_dict().items()}
    spoil(state)
    with pytest.raises(RuntimeError, match=message):
        other.load_state_dict(state, resize=True)
    assert same(other.state_dict(), before)


def test_what_is_missing_stays() -> None:
    model, other = build(), build(num_steps=6)
    state = {key: value for key, value in model.state_dict().items() if "head" not in key} | {
        "x": torch.ones(1)
    }
    head = other.head.weight.clone()
    report = other.load_state_dict(state, strict=False, resize=True)
    assert report.missing_keys == ["head.weight", "head.bias"]
    assert report.unexpected_keys == ["x"]
    assert torch.equal(other.head.weight, head)
    assert torch.equal(other.readout.scale, model.resize_steps(6).readout.scale)


def test_a_leak_of_snntorchs_is_no_number_of_steps() -> None:
    class Fixed(nn.Module):
        """What a network of snnTorch's neurons saves."""

        def __init__(self) -> None:
            super().__init__()
            self.neuron = snn.Leaky(torch.tensor([0.7]))

    model = build(neuron=by_hand)
    state = model.state_dict()
    leaky = {f"conv1.neuron.neuron.{key}": value for key, value in Fixed().neuron.state_dict().items()}
    state = {key: value for key, value in state.items() if not key.startswith("conv1.neuron.neuron.")} | leaky
    model.load_state_dict(state)
    assert model.conv1.neuron.neuron.leak.tolist() == pytest.approx([0.7] * 4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_steps": 0, "resize": True}, ValueError, "num_steps must be at least 1; got 0"),
        ({"num_steps": 1, "resize": True}, ValueError, "num_steps must be above direct_steps=1"),
        ({"num_steps": 2.0, "resize": True}, TypeError, "num_steps must be an integer; got 2.0"),
        ({"resize": 1}, TypeError, "resize must be a bool; got 1"),
        ({"num_class": 3}, TypeError, r"takes no argument 'num_class' for .*; did you mean 'num_classes'\?"),
        (
            {"xyzzy": 3},
            TypeError,
            "takes no argument 'xyzzy' for .*; it takes num_classes, num_steps, resize",
        ),
        ({"image_size": 3}, ValueError, "settings must not include image_size, which .* stores"),
    ],
)
def test_wrong_arguments(arguments: Any, error: type[Exception], message: str, tmp_path: Any) -> None:
    pytest.importorskip("safetensors")
    path = tmp_path / "model.safetensors"
    build().save_pretrained(path)
    with pytest.raises(error, match=message):
        from_pretrained(path, **arguments)
