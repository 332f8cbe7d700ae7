"""Files that were changed, damaged or made to harm, and models that their recipe does not make."""

from __future__ import annotations

import copy
import json
import pickle
import resource
import subprocess
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from snntorch_asnn import AdaptiveLeaky, spikegen
from snntorch_asnn.layers import set_norm_over_time
from snntorch_asnn.models import create_model, from_pretrained, list_models

safetensors = pytest.importorskip("safetensors")
save_file = pytest.importorskip("safetensors.torch").save_file

TINY = [name for name in list_models() if name.endswith("_tiny") or name == "lenet"]
PYTORCHS_HEADS = ("lenet", "spiking_resnet_tiny")
"""Models whose last layer starts as PyTorch draws it."""


def build(name: str = "lenet", **settings: Any) -> Any:
    return create_model(name, **{"num_classes": 10, "num_steps": 3, "image_size": 16} | settings)


@pytest.fixture
def path(tmp_path: Any) -> Any:
    return tmp_path / "model.safetensors"


def rewrite(path: Any, recipe: Any = None, tensors: Any = None, **settings: Any) -> None:
    """The file again with another recipe, other settings or other tensors."""
    with safetensors.safe_open(path, framework="pt") as file:
        old = json.loads(file.metadata()["snntorch_asnn"])
        tensors = tensors or {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    new = old | (recipe or {})
    if settings:
        new["settings"] = old["settings"] | settings
    save_file(tensors, path, metadata={"snntorch_asnn": json.dumps(new)})


# What is saved can be loaded


@pytest.mark.parametrize("name", TINY)
def test_a_head_that_was_replaced_is_refused_with_the_cure(name: str, path: Any) -> None:
    model = build(name)
    model.head = nn.Linear(model.head.in_features, 3)
    message = r"'head.(bias|weight)' is of shape .*10.* got of shape .*3.*reset_classifier"
    with pytest.raises(ValueError, match=message):
        model.save_pretrained(path)
    assert not path.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model.conv2.spike, "norm", nn.BatchNorm2d(48, affine=False)),
        lambda model: setattr(model, "extra", nn.Linear(2, 2)),
        lambda model: delattr(model, "conv2"),
        lambda model: setattr(model.conv1.neuron.neuron, "gain", nn.Parameter(torch.ones(5))),
        lambda model: setattr(model.conv2.spike, "neuron", nn.Identity()),
        lambda model: prune.l1_unstructured(model.head, "weight", amount=0.5),
    ],
    ids=["norm", "more", "less", "longer", "other", "pruned"],
)
@pytest.mark.parametrize("neuron", ["asnn", partial(AdaptiveLeaky, 0.8, sequence=True)], ids=["name", "own"])
def test_other_changes_are_refused(change: Any, neuron: Any, path: Any) -> None:
    model = build(neuron=neuron)
    change(model)
    with pytest.raises(ValueError, match="model must match its settings"):
        model.save_pretrained(path)
    assert not path.exists()


def by_pickle(model: Any) -> Any:
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("kind", ["sequential", "step_statistics", "step"])
def test_norms_that_were_changed_in_the_whole_model_are_recorded(kind: Any, path: Any) -> None:
    model = set_norm_over_time(build("spikformer_tiny"), kind, 3)
    model.save_pretrained(path)
    back = from_pretrained(path)
    assert back.norm_over_time == kind
    assert {k: v.shape for k, v in back.state_dict().items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }


@pytest.mark.parametrize("duplicate", [copy.deepcopy, by_pickle])
def test_copies_can_be_saved(duplicate: Any, path: Any) -> None:
    duplicate(build()).save_pretrained(path)
    code = partial(spikegen.hybrid, direct_steps=2)
    by_hand = build("spikformer_tiny", encoding=code, neuron=partial(AdaptiveLeaky, 0.8, sequence=True))
    duplicate(by_hand).save_pretrained(path)


@pytest.mark.parametrize("name", TINY)
def test_a_reset_classifier_is_recorded(name: str, path: Any) -> None:
    model = build(name).double().eval()
    before = dict(model.state_dict())
    model.reset_classifier(np.int64(3))
    head = model.head
    assert (head.out_features, model.num_classes, head.weight.dtype) == (3, 3, torch.float64)
    assert not head.training
    if name not in PYTORCHS_HEADS:
        assert head.weight.std() < 0.03
        assert not head.bias.any()
    model.save_pretrained(path)
    back = from_pretrained(path)
    assert back.num_classes == 3
    kept = [key for key, value in back.state_dict().items() if torch.equal(value, before[key])]
    assert len(before) - len(kept) == 2


@pytest.mark.parametrize("name", TINY)
def test_another_number_of_classes_gets_a_fresh_head(name: str, path: Any) -> None:
    model = build(name)
    model.save_pretrained(path)
    back = from_pretrained(path, num_classes=4).eval()
    images = torch.rand(2, back.in_channels, 16, 16)
    images = images.expand(3, *images.shape) if "dvs" in name else images
    assert back(images).shape == (2, 4)
    own, other = model.state_dict(), back.state_dict()
    assert all(torch.equal(own[key], other[key]) for key in own if not key.startswith("head."))
    assert back.recipe["settings"]["num_classes"] == 4
    same = from_pretrained(path, num_classes=10)
    assert torch.equal(same.head.weight, model.head.weight)


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "3", True])
def test_wrong_numbers_of_classes(wrong: Any, path: Any) -> None:
    build().save_pretrained(path)
    with pytest.raises((ValueError, TypeError), match="num_classes must be"):
        from_pretrained(path, num_classes=wrong)
    with pytest.raises((ValueError, TypeError), match="num_classes must be"):
        build().reset_classifier(wrong)


# What is loaded is whole


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("key", ["head.weight", "conv2.spike.norm.running_var", "conv1.neuron.neuron.gain"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_are_not_finite(value: float, key: str, dtype: torch.dtype, path: Any) -> None:
    model = build().to(dtype)
    model.save_pretrained(path)
    model.state_dict()[key].view(-1)[0] = value
    with pytest.raises(ValueError, match=rf"model.safetensors' must hold finite .* in '{key}'"):
        model.save_pretrained(path)
    rewrite(path, tensors={k: v.contiguous() for k, v in model.state_dict().items()})
    with pytest.raises(ValueError, match=rf"model.safetensors' must hold finite .* in '{key}'"):
        from_pretrained(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_classes": 10**12}, r"settings that fit its tensors; got num_classes=1000000000000"),
        ({"num_classes": 1e12}, r"settings that fit its tensors; got num_classes=1000000000000.0"),
        ({"num_classes": 20}, r"'head.bias' is of shape \(20,\)"),
        ({"hidden": 60000}, "ask for more weights than it holds"),
        ({"num_steps": 10**9}, r"settings that fit its tensors; got num_steps="),
        ({"image_size": [16, 10**7]}, r"settings that fit its tensors; got 1=10000000"),
        ({"channels": [10**6, 1, 1]}, r"settings that fit its tensors; got 0=1000000"),
        ({"channels": [32, 48, 65]}, "'conv3.conv.bias' is of shape"),
        ({"num_classes": None}, "num_classes must be an integer; got None"),
        ({"num_classes": [10]}, "num_classes must be an integer"),
        ({"channels": "abc"}, "channels must be an integer; got 'a'"),
        ({"channels": 5}, "settings of a model of the zoo"),
        ({"neuron": 3}, "neuron must be a name or a callable"),
        ({"image_size": {"a": 1}}, "settings of a model of the zoo"),
        ({"encoding": ["hybrid"]}, "encoding must be a name or a callable"),
        ({"encoding": "direct"}, "'conv1.conv.bias' is of shape"),
        ({"colour": True}, "LeNet takes no argument 'colour'"),
        ({"normalize": [[0.5], "x"]}, "std in normalize must be a number"),
        ({"fused": 1}, "fused must be a bool; got 1"),
    ],
)
def test_malformed_settings_name_the_file(settings: Any, message: str, path: Any) -> None:
    build().save_pretrained(path)
    rewrite(path, **settings)
    with pytest.raises(ValueError, match=message) as raised:
        from_pretrained(path)
    assert "model.safetensors" in str(raised.value)


@pytest.mark.parametrize("depth", [100, 60_000])
def test_no_more_layers_are_built_than_there_are_tensors(depth: int, path: Any) -> None:
    build("spikformer_tiny").save_pretrained(path)
    rewrite(path, depth=depth)
    with pytest.raises(ValueError, match="ask for more weights than it holds"):
        from_pretrained(path)
    build("spikformer_tiny", depth=2)  # nothing is left of the bound


@pytest.mark.parametrize(
    "recipe",
    [
        {"name": 3},
        {"name": None},
        {"name": ["lenet"]},
        {"settings": 3},
        {"settings": [["num_classes", 10]]},
        {"by_hand": None},
        {"by_hand": 3},
        {"by_hand": [1]},
        {"by_hand": "neuron"},
    ],
)
def test_malformed_recipes(recipe: Any, path: Any) -> None:
    build().save_pretrained(path)
    rewrite(path, recipe)
    with pytest.raises(ValueError, match=r"path must be a file that save_pretrained wrote; got .*model.safe"):
        from_pretrained(path)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_weights_of_another_kind(dtype: torch.dtype, path: Any) -> None:
    model = build()
    model.save_pretrained(path)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    rewrite(path, tensors=state | {"head.weight": state["head.weight"].to(dtype)})
    with pytest.raises(ValueError, match=rf"'head.weight' is of shape .* floating point .*got .* {dtype}"):
        from_pretrained(path)


def test_reading_takes_no_more_memory_than_the_file_is_large(path: Any) -> None:
    build("spikformer_tiny").save_pretrained(path)
    code = (
        "import resource, sys, snntorch_asnn.models as m\n"
        f"rewritten = {str(path)!r}\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: m.from_pretrained(rewritten)\n"
        "except ValueError as error: print(type(error).__name__)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    rewrite(path, dim=65536, num_heads=1)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kind, mebibytes = done.stdout.split()
    assert kind == "ValueError"
    assert int(mebibytes) < 300 or resource.getpagesize() > 1 << 14
