"""Arguments as people give them: NumPy's numbers, names of other packages, labels of any integer type."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

import snntorch_asnn as asnn
from snntorch_asnn import spikegen
from snntorch_asnn.encoding import Encoder
from snntorch_asnn.layers import AnalogCarry, TimeWeightedReadout
from snntorch_asnn.models import LeNet, create_model, from_pretrained, list_models, register_model, registry

INTEGERS = [np.int64, np.int32, np.uint8]
TINY = [name for name in list_models() if name.endswith("_tiny") or name == "lenet"]


@pytest.mark.parametrize("integer", INTEGERS)
def test_numpy_integers_build_models(integer: Any, tmp_path: Any) -> None:
    model = create_model(
        "lenet",
        num_classes=integer(5),
        num_steps=integer(3),
        in_channels=integer(1),
        image_size=(integer(8), integer(16)),
        channels=[integer(2)] * 3,
        hidden=integer(4),
    )
    assert {type(value) for value in (model.num_classes, model.num_steps, model.in_channels)} == {int}
    assert model(torch.rand(2, 1, 8, 16)).shape == (2, 5)
    json.dumps(model.recipe)
    pytest.importorskip("safetensors")
    model.save_pretrained(tmp_path / "model.safetensors")
    assert from_pretrained(tmp_path / "model.safetensors").recipe == model.recipe
    assert LeNet(num_classes=integer(5), num_steps=integer(3)).num_steps == 3


@pytest.mark.parametrize("integer", INTEGERS)
@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (asnn.AdaptiveLeaky, {"beta": 0.9}),
        (asnn.AdaptiveSynaptic, {"alpha": 0.8, "beta": 0.9}),
        (asnn.AdaptiveRLeaky, {"beta": 0.9, "all_to_all": False}),
        (asnn.AdaptiveLapicque, {"beta": 0.9}),
    ],
)
def test_numpy_integers_build_neurons(integer: Any, cls: Any, arguments: Any) -> None:
    neuron = cls(**arguments, num_steps=integer(4), feature_shape=(integer(3),), sequence=True)
    assert type(neuron.num_steps) is int
    assert neuron.feature_shape == (3,)
    assert neuron(torch.rand(4, 2, 3))[0].shape == (4, 2, 3)
    assert neuron(torch.rand(2, 2, 3), step=integer(1))[0].shape == (2, 2, 3)
    assert type(neuron.resize_steps(integer(6)).num_steps) is int


@pytest.mark.parametrize("integer", INTEGERS)
@pytest.mark.parametrize("name", spikegen.CODES)
def test_numpy_integers_in_codes(integer: Any, name: str) -> None:
    image = torch.rand(2, 5)
    assert torch.equal(spikegen.CODES[name](image, integer(4)), spikegen.CODES[name](image, 4))
    assert torch.equal(Encoder(integer(4), code=name)(image), spikegen.CODES[name](image, 4))


def test_numpy_integers_elsewhere() -> None:
    four, two = np.int64(4), np.int64(2)
    image = torch.rand(2, 5)
    assert torch.equal(Encoder(four, direct_steps=two)(image), spikegen.hybrid(image, 4, direct_steps=2))
    assert spikegen.phase(image, four, period=two).shape == (4, 2, 5)
    assert spikegen.quantile_levels(four).shape == (3,)
    assert type(TimeWeightedReadout(four).num_steps) is int
    assert AnalogCarry(two).weight.shape == (2,)
    model = create_model("lenet", num_classes=5, num_steps=4, image_size=8).eval()
    assert asnn.energy.profile(model, torch.rand(2, 3, 8, 8), num_steps=four).num_steps == 4
    assert asnn.energy.count_macs(model, [np.int64(3), np.int64(8), np.int64(8)]).num_steps == 4
    assert asnn.anytime(model, torch.rand(2, 3, 8, 8), threshold=1.0, num_steps=two).steps.max() <= 2
    leaky = asnn.adapt(torch.nn.Sequential(asnn.AdaptiveLeaky(0.9, num_steps=4)), four)
    assert leaky[0].num_steps == 4


@pytest.mark.parametrize("wrong", [True, np.True_, 2.0, np.float64(3.0), "2", None, torch.tensor(2)])
def test_what_is_no_integer(wrong: Any) -> None:
    for build in (
        lambda: create_model("lenet", num_classes=wrong, num_steps=4),
        lambda: create_model("lenet", num_classes=4, num_steps=wrong),
        lambda: asnn.AdaptiveLeaky(0.9, num_steps=wrong),
        lambda: Encoder(wrong),
        lambda: spikegen.temporal(torch.rand(2), wrong),
        lambda: TimeWeightedReadout(wrong),
    ):
        with pytest.raises(TypeError, match="must be an integer; got"):
            build()


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("img_size", "image_size"),
        ("in_chans", "in_channels"),
        ("timesteps", "num_steps"),
        ("T", "num_steps"),
        ("encodings", "encoding"),
        ("normalise", "normalize"),
        ("neurons", "neuron"),
    ],
)
def test_an_unknown_argument_is_told_the_nearest(name: str, given: str, meant: str) -> None:
    with pytest.raises(TypeError, match=rf"takes no argument '{given}'; did you mean '{meant}'\?"):
        create_model(name, num_classes=5, num_steps=4, **{given: 3})


@pytest.mark.parametrize(
    ("name", "given", "meant"),
    [
        ("spikformer_tiny", "depths", "depth"),
        ("lenet", "hiden", "hidden"),
        ("lenet", "channel", "channels"),
        ("spiking_resnet_tiny", "short_cut", "shortcut"),
    ],
)
def test_arguments_of_one_family_are_known(name: str, given: str, meant: str) -> None:
    with pytest.raises(TypeError, match=rf"takes no argument '{given}'; did you mean '{meant}'\?"):
        create_model(name, num_classes=5, num_steps=4, **{given: 3})


def test_an_argument_like_no_other_is_told_all() -> None:
    with pytest.raises(TypeError, match=r"LeNet takes no argument 'xyzzy'; it takes num_classes, .*hid"):
        create_model("lenet", num_classes=5, num_steps=4, xyzzy=3)


def test_a_models_own_type_errors_stay_what_they_are() -> None:
    def broken(**settings: Any) -> LeNet:
        return len(3)  # type: ignore[arg-type, return-value]

    register_model(broken)
    try:
        with pytest.raises(TypeError, match="object of type 'int' has no len"):
            create_model("broken", num_classes=5, num_steps=4)
    finally:
        registry._BUILDERS.pop("broken")


def test_an_unknown_option_of_an_encoder_is_told_the_nearest() -> None:
    with pytest.raises(
        TypeError, match=r"the code takes no option 'direct_step'; .*; did you mean 'direct_steps'"
    ):
        Encoder(4, direct_step=2)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_labels_of_every_integer_type(dtype: torch.dtype) -> None:
    from snntorch_asnn.train.learner import to_device
    from snntorch_asnn.train.losses import cross_entropy, step_wise, tet

    steps, labels = torch.randn(3, 4, 10), torch.tensor([1, 9, 0, 3])
    for loss, x in ((cross_entropy, steps.mean(0)), (tet, steps), (step_wise, steps)):
        assert torch.equal(loss(x, labels.to(dtype)), loss(x, labels))
    _, moved = to_device(torch.rand(4, 1, 2, 2), labels.to(dtype), torch.device("cpu"))
    assert moved.dtype == torch.int64
