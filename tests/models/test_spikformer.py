from __future__ import annotations

import pytest
import torch
from torch import nn

from snntorch_asnn.models import create_model, list_models, load_reference_weights

UNUSED = ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias")


def places_for_cifar(model):
    """Keys of the reference code for CIFAR, whose tokens go through linear layers, and the model's."""
    places = model.reference_keys().items()
    return {
        key: place for key, place in places if place and not (key.startswith("block.") and "_conv" in key)
    }


def reference_shapes(model, dim):
    """Shapes of the reference's state_dict: the network's, and two layer norms a block, never used."""
    own = model.state_dict()
    shapes = {key: tuple(own[place].shape) for key, place in places_for_cifar(model).items()}
    return shapes | {f"block.{i}.{name}": (dim,) for i in range(len(model.blocks)) for name in UNUSED}


@pytest.fixture
def like_the_reference():
    return create_model(
        "spikformer_2_256", num_classes=10, num_steps=4, neuron="lif", encoding="none", readout="mean"
    )


def test_matches_the_reference_code(like_the_reference, golden_vectors, fill_weights, assert_reproduces):
    model, vectors = like_the_reference, golden_vectors("spikformer_2_256_t4")
    report = load_reference_weights(model, fill_weights(reference_shapes(model, 256), vectors["seed"]))
    assert set(report.dropped) == {f"block.{i}.{name}" for i in range(2) for name in UNUSED}
    assert {places_for_cifar(model)[key] for key in report.taken} == set(model.network_keys())
    images = vectors["x"]
    assert_reproduces(model, model.eval()(images.expand(4, *images.shape)), vectors)


def test_knows_the_references_keys(like_the_reference):
    layers = ("conv", "conv1", "conv2", "conv3")
    stem = {f"patch_embed.proj_{name}.weight" for name in layers} | {"patch_embed.rpe_conv.weight"}
    found = places_for_cifar(like_the_reference)
    keys = {key for key in found if "_bn" not in key}
    affine = ("weight", "bias")
    block = {f"attn.{name}_linear.{suffix}" for name in ("q", "k", "v", "proj") for suffix in affine} | {
        f"mlp.{name}_linear.{suffix}" for name in ("fc1", "fc2") for suffix in affine
    }
    blocks = {f"block.{index}.{key}" for index in range(2) for key in block}
    assert keys == stem | blocks | {"head.weight", "head.bias"}
    assert sum("_bn" in key for key in found) == 5 * (5 + 2 * 6)


def test_number_of_keys_of_the_largest_for_cifar():
    model = create_model("spikformer_4_384", num_classes=10, num_steps=1, neuron=nn.Identity)
    assert len(reference_shapes(model, 384)) == 216


@pytest.mark.parametrize(
    ("name", "attention", "mlp"),
    [
        ("spikformer_8_384", (384, 384, 1), (1536, 384, 1, 1)),
        ("spikformer_dvs_2_256", (256, 256, 1), (1024, 256, 1)),
    ],
)
def test_linear_layers_take_the_weights_of_convolutions(name, attention, mlp):
    model = create_model(name, num_classes=10, num_steps=4, neuron=nn.Identity, depth=1)
    places, own = model.reference_keys(), model.state_dict()
    checkpoint = {
        key: torch.randn(own[place if isinstance(place, str) else place[0]].shape)
        for key, place in places.items()
        if place and "_linear" not in key
    }
    shapes = {"block.0.attn.q_conv.weight": attention, "block.0.mlp.fc1_conv.weight": mlp}
    checkpoint |= {key: torch.randn(shape) for key, shape in shapes.items()}
    assert "block.0.attn.q_conv.bias" not in places
    assert "block.0.attn.proj_conv.bias" in places
    assert set(load_reference_weights(model, checkpoint).taken) == checkpoint.keys()
    for key in shapes:
        assert torch.equal(model.state_dict()[places[key]], checkpoint[key].flatten(1))
    key, (_, *wrong) = "block.0.attn.q_conv.weight", (*attention, 1, 3)
    with pytest.raises(ValueError, match=rf"'{key}'\] must have shape .*; got .*3\)"):
        load_reference_weights(model, checkpoint | {key: torch.randn(attention[0], *wrong)})


def test_event_data_comes_as_a_sequence():
    model = create_model("spikformer_dvs_tiny", num_classes=10, num_steps=5)
    assert model(torch.rand(5, 2, 2, 32, 32)).shape == (2, 10)
    assert {block.attn.scale for block in model.blocks} == {0.25}


def test_scale_and_heads_of_event_data():
    with torch.device("meta"):
        model = create_model("spikformer_dvs_2_256", num_classes=10, num_steps=10, neuron=nn.Identity)
    assert [block.attn.num_heads for block in model.blocks] == [16, 16]
    assert model(torch.rand(10, 1, 2, 128, 128, device="meta")).shape == (1, 10)


def test_first_layer_of_a_checkpoint_goes_to_both_of_its_copies(like_the_reference):
    own = like_the_reference.state_dict()
    checkpoint = {key: own[place] for key, place in places_for_cifar(like_the_reference).items()}
    model = create_model("spikformer_2_256", num_classes=10, num_steps=4, encoding="hybrid")
    report = load_reference_weights(model, checkpoint)
    first = model.stem.conv1.conv_norm
    for copy in (first.direct, first.spike):
        assert torch.equal(copy.conv.weight, checkpoint["patch_embed.proj_conv.weight"])
        assert torch.equal(copy.norm.running_var, checkpoint["patch_embed.proj_bn.running_var"])
    assert not any("direct" in key for key in report.missed)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image_size": 30}, r"image_size must be divisible by 4; got \(30, 30\)"),
        ({"image_size": (32, 34)}, r"image_size must be divisible by 4; got \(32, 34\)"),
        ({"num_heads": 5}, "num_heads must divide dim=64; got 5"),
        ({"num_heads": 0}, "num_heads must be at least 1; got 0"),
        ({"dim": 60, "num_heads": 2}, "dim must be a multiple of 8; got 60"),
        ({"depth": 0}, "depth must be at least 1; got 0"),
        ({"mlp_ratio": 0}, "mlp_ratio must be at least 1; got 0"),
    ],
)
def test_wrong_arguments(wrong, message):
    with pytest.raises(ValueError, match=message):
        create_model("spikformer_tiny", num_classes=10, num_steps=4, **wrong)


def test_lists_the_family():
    assert len(list_models("spikformer_*")) == 12
