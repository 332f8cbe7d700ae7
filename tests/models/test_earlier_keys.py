"""Files of version 0.0, in which every layer had its published name, load into today's models."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from snntorch_asnn.models import create_model, from_pretrained, list_models
from snntorch_asnn.models.earlier_keys import current_key, take_earlier_keys

KEYS = Path(__file__).parents[1] / "golden" / "model_keys_0_0.txt.xz"


def read_keys() -> dict[str, dict[str, tuple[int, ...]]]:
    """Keys and shapes of each model's ``state_dict``, in order, as version 0.0 wrote them."""
    models: dict[str, dict[str, tuple[int, ...]]] = {}
    for line in lzma.decompress(KEYS.read_bytes()).decode().splitlines():
        if not line.startswith(" "):
            keys = models[line] = {}
        else:
            key, *shape = line.split()
            keys[key] = tuple(map(int, shape))
    return models


EARLIER = read_keys()
"""Of models for ten classes, four steps and a hybrid code that is carried on, or a ``direct`` one."""

TINY = [name for name in EARLIER if "_tiny" in name or "lenet" in name]


def build(entry: str, **settings: Any) -> Any:
    name, *code = entry.split()
    own = {"encoding": code[0]} if code else {} if "dvs" in name else {"carry": True}
    return create_model(name, **{"num_classes": 10, "num_steps": 4, **own, **settings})


def tensors_of(entry: str) -> dict[str, Tensor]:
    counts = ("num_batches_tracked", "reset_mechanism_val")
    return {
        key: torch.tensor(1) if key.endswith(counts) else torch.randn(shape)
        for key, shape in EARLIER[entry].items()
    }


def test_all_models_were_there() -> None:
    assert {entry.split()[0] for entry in EARLIER} <= set(list_models())


@pytest.mark.parametrize("entry", EARLIER)
def test_earlier_keys_and_shapes_become_todays(entry: str) -> None:
    with torch.device("meta"):
        model = build(entry)
        tensors = {key: torch.empty(shape) for key, shape in EARLIER[entry].items()}
    own = {key: value.shape for key, value in model.state_dict().items()}
    take_earlier_keys(model, tensors)
    assert {key: value.shape for key, value in tensors.items()} == own
    earlier = model.earlier_keys()
    assert all(current_key(earlier, key) == key for key in own)


@pytest.mark.parametrize("entry", TINY)
def test_earlier_state_dicts_load(entry: str) -> None:
    model = build(entry)
    earlier, tensors = model.earlier_keys(), tensors_of(entry)
    given = dict(tensors)
    model.load_state_dict(tensors)
    assert tensors.keys() == given.keys()
    own = model.state_dict()
    for key, value in given.items():
        assert torch.equal(own[current_key(earlier, key)].flatten(), value.flatten()), key
    torch.nn.Sequential(model).load_state_dict({f"0.{key}": value for key, value in given.items()})


@pytest.mark.parametrize("settings", [{"kernel_dims": [1, 2]}, {"stem": "proj"}])
def test_earlier_files_load(settings: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    from snntorch_asnn.models import tensor_file

    name = "spikformer_tiny" if "kernel_dims" in settings else "spikingformer_tiny"
    tensors = tensors_of(name)
    if "kernel_dims" in settings:
        tensors = {key.replace("_linear.", "_conv."): value for key, value in tensors.items()}
        dims = {
            key: 1 if ".attn." in key else 2 for key in tensors if "block." in key and "_conv.weight" in key
        }
        tensors |= {key: tensors[key].view(*tensors[key].shape, *[1] * n) for key, n in dims.items()}
    else:
        stem = "patch_embed."
        tensors = {
            key.replace(f"{stem}block0_", f"{stem}proj_").replace(f"{stem}block", f"{stem}proj"): value
            for key, value in tensors.items()
        }
    recipe = {"num_classes": 10, "num_steps": 4, "carry": True, "norm_over_time": "pooled", **settings}
    path = tmp_path / "model.safetensors"
    tensor_file.write(path, tensors, {"name": name, "settings": recipe, "by_hand": []})
    model = from_pretrained(path)
    earlier, own = model.earlier_keys(), model.state_dict()
    for key, value in tensors.items():
        assert torch.equal(own[current_key(earlier, key)].flatten(), value.flatten()), key


def test_a_key_without_a_layer_stays() -> None:
    assert current_key({"fc.": "head.", "scale": "readout.scale"}, "scale") == "readout.scale"
    assert current_key({"fc.": "head."}, "fc") == "fc"
    assert current_key({"fc.": "head."}, "fc1.weight") == "fc1.weight"
