from __future__ import annotations

import json
import os
from functools import partial

import pytest
import torch
from torch import nn

from snntorch_asnn import AdaptiveLeaky, spikegen
from snntorch_asnn.models import LeNet, create_model, from_pretrained

safetensors = pytest.importorskip("safetensors")
save_file = pytest.importorskip("safetensors.torch").save_file

NAME = "model.safetensors"


def lenet(**settings):
    return create_model(
        "lenet", **{"num_classes": 10, "num_steps": 3, "in_channels": 1, "image_size": 8, **settings}
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / NAME


def rewrite(path, tensors=None, **changes):
    """The file again, with other tensors or another recipe."""
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = tensors or {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    recipe = json.loads(metadata["snntorch_asnn"]) | changes
    save_file(tensors, path, metadata={"snntorch_asnn": json.dumps(recipe)})


def test_settings_come_back(path):
    model = lenet(
        neuron="tebn", sharing="channel", encoding="temporal", readout="mean", channels=(4, 5, 6), hidden=7
    )
    model.save_pretrained(path)
    other = from_pretrained(str(path))
    assert other.recipe == json.loads(json.dumps(model.recipe)) | {"settings": model.recipe["settings"]}
    assert other.conv3.conv.out_channels == 6
    own = model.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in other.state_dict().items())
    assert all(
        p.requires_grad == q.requires_grad
        for p, q in zip(model.parameters(), other.parameters(), strict=True)
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype_comes_back(path, dtype):
    lenet().to(dtype).save_pretrained(path)
    assert {p.dtype for p in from_pretrained(path).parameters()} == {dtype}


def test_channels_last_comes_back(path):
    model = lenet().to(memory_format=torch.channels_last).eval()
    model.save_pretrained(path)
    images = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(from_pretrained(path).eval()(images), model(images))


def test_callables_are_asked_for(path):
    neuron, code = partial(AdaptiveLeaky, 0.8, sequence=True), partial(spikegen.hybrid, direct_steps=2)
    model = lenet(neuron=neuron, encoding=code).eval()
    model.save_pretrained(path)
    with pytest.raises(ValueError, match="settings must include encoding, neuron, which"):
        from_pretrained(path)
    with pytest.raises(ValueError, match="settings must not include image_size, which"):
        from_pretrained(path, neuron=neuron, encoding=code, image_size=8)
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(from_pretrained(path, neuron=neuron, encoding=code).eval()(images), model(images))


def test_saves_over_an_older_file_at_once(path, monkeypatch):
    first = lenet()
    first.save_pretrained(path)

    def fail(handle):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        lenet().save_pretrained(path)
    monkeypatch.undo()
    assert [entry.name for entry in path.parent.iterdir()] == [NAME]
    assert torch.equal(from_pretrained(path).head.weight, first.head.weight)


def test_file_has_the_permissions_of_any_other(path):
    lenet().save_pretrained(path)
    other = path.with_name("other")
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode


def test_never_executes_code(path):
    class Danger:
        def __reduce__(self):
            return (os.mkdir, (str(path.with_name("executed")),))

    torch.save({"weight": Danger()}, path)
    with pytest.raises(ValueError, match="path must be a file that save_pretrained wrote; got"):
        from_pretrained(path)
    assert not path.with_name("executed").exists()


def test_refuses_foreign_and_damaged_files(path):
    with pytest.raises(FileNotFoundError, match="path must be an existing file; got"):
        from_pretrained(path)
    save_file({"weight": torch.ones(2)}, path)
    with pytest.raises(ValueError, match="path must be a file that save_pretrained wrote"):
        from_pretrained(path)
    for settings in ("[1]", "3", "{", '{"name": "lenet"}'):
        save_file({"weight": torch.ones(2)}, path, metadata={"snntorch_asnn": settings})
        with pytest.raises(ValueError, match="path must be a file that save_pretrained wrote"):
            from_pretrained(path)
    lenet().save_pretrained(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="path must be a file that save_pretrained wrote"):
        from_pretrained(path)


def test_refuses_tensors_that_do_not_fit(path):
    model = lenet()
    model.save_pretrained(path)
    own = {key: value.clone() for key, value in model.state_dict().items()}
    for spoil, message in (
        (own | {"head.bias": torch.zeros(3)}, r"'head.bias' is of shape \(10,\), .*; got of shape \(3,\)"),
        (own | {"more": torch.zeros(3)}, r"'more' is missing in the model; got of shape \(3,\)"),
        ({key: value for key, value in own.items() if key != "head.bias"}, r"'head.bias' .*; got missing"),
    ):
        rewrite(path, spoil)
        with pytest.raises(ValueError, match=message):
            from_pretrained(path)


def test_refuses_an_unknown_model(path):
    lenet().save_pretrained(path)
    rewrite(path, name="lenets")
    with pytest.raises(ValueError, match="name must be one of list_models"):
        from_pretrained(path)


def test_wrong_places(path, tmp_path):
    for wrong in (tmp_path, tmp_path / "missing" / NAME):
        with pytest.raises(ValueError, match="path must be a file in a folder that exists; got"):
            lenet().save_pretrained(wrong)


def test_models_made_by_hand_have_no_settings(path):
    model = LeNet(num_classes=10, num_steps=3)
    assert model.recipe is None
    with pytest.raises(ValueError, match="model must be made by create_model"):
        model.save_pretrained(path)


def test_modules_as_encoding_keep_their_parameters(path):
    class Shift(nn.Module):
        def __init__(self):
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(()))

        def forward(self, images):
            return (images + self.shift).expand(3, *images.shape)

    model = lenet(encoding=Shift())
    nn.init.constant_(model.encode.encoder.shift, 0.25)
    model.save_pretrained(path)
    assert from_pretrained(path, encoding=Shift()).encode.encoder.shift == 0.25
