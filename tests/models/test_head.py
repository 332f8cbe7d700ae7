"""The head is the same attribute in every model, and files of earlier versions still load."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snntorch_asnn.models import SpikingModel, create_model, from_pretrained, list_models

TINY = [name for name in list_models() if name.endswith("_tiny") or name == "lenet"]
EARLIER_HEADS = {"lenet": "fc2", "spiking_resnet_tiny": "fc"}


def build(name: str, **settings: Any) -> Any:
    return create_model(name, **{"num_classes": 5, "num_steps": 3, "image_size": 16} | settings)


def images_for(model: Any) -> Tensor:
    images = torch.rand(2, model.in_channels, 16, 16)
    return images.expand(3, *images.shape) if model.encode.encoder is None else images


@pytest.mark.parametrize("name", TINY)
def test_features_through_the_head_are_the_logits(name: str) -> None:
    model = build(name, readout="mean").eval()
    images = images_for(model)
    features = model.forward_features(images)
    assert features.shape == (3, 2, model.head.in_features)
    torch.testing.assert_close(model.head(features).mean(0), model(images))


@pytest.mark.parametrize("name", TINY)
def test_a_fresh_head_leaves_the_features_alone(name: str) -> None:
    model = build(name).eval()
    images = images_for(model)
    before = model.forward_features(images)
    model.reset_classifier(7)
    assert model(images).shape == (2, 7)
    torch.testing.assert_close(model.forward_features(images), before)


def test_features_check_their_images() -> None:
    with pytest.raises(ValueError, match=r"images must be \[B, 3, 16, 16\]"):
        build("lenet").forward_features(torch.rand(2, 1, 16, 16))


def earlier(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict as the version before wrote it."""
    return {re.sub(r"^head\.", f"{EARLIER_HEADS[name]}.", key): value for key, value in state.items()}


@pytest.mark.parametrize("name", EARLIER_HEADS)
@pytest.mark.parametrize("wrapped", [False, True])
def test_state_dicts_of_the_version_before(name: str, wrapped: bool) -> None:
    model, other = build(name), build(name)
    state = earlier(name, model.state_dict())
    given = copy.copy(state)
    if wrapped:
        state = {f"0.{key}": value for key, value in state.items()}
        nn.Sequential(other).load_state_dict(state)
    else:
        other.load_state_dict(state)
        assert state.keys() == given.keys()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("name", EARLIER_HEADS)
def test_files_of_the_version_before(name: str, tmp_path: Any) -> None:
    pytest.importorskip("safetensors")
    from snntorch_asnn.models import tensor_file

    model, path = build(name), tmp_path / "model.safetensors"
    tensor_file.write(path, earlier(name, model.state_dict()), model.recipe)
    back = from_pretrained(path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), back.parameters(), strict=True))


class TwoHeads(SpikingModel):
    def __init__(self, head: nn.Module) -> None:
        super().__init__(num_classes=5, num_steps=3, image_size=8)
        self.head = head

    def step_features(self, planes: Tensor) -> Tensor:
        return planes.flatten(2)


def test_only_a_linear_head_is_replaced() -> None:
    model = TwoHeads(nn.Sequential(nn.Linear(192, 8), nn.Linear(8, 5)))
    assert model(torch.rand(2, 3, 8, 8)).shape == (2, 5)
    with pytest.raises(ValueError, match=r"head must be an nn.Linear to be replaced; got Sequential"):
        model.reset_classifier(3)
    assert model.num_classes == 5
