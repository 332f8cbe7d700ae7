from __future__ import annotations

import pytest
import torch
from torch import nn

from snntorch_asnn.models import create_model, list_models, load_reference_weights

UNUSED = ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias")


def reference_shapes(model, dim):
    """Shapes of the reference's state_dict: the network's, and two layer norms a block, never used."""
    own = model.state_dict()
    shapes = {key: tuple(own[key].shape) for key in model.network_keys()}
    return shapes | {f"block.{i}.{name}": (dim,) for i in range(len(model.block)) for name in UNUSED}


@pytest.fixture
def like_the_reference():
    return create_model(
        "spikformer_2_256", num_classes=10, num_steps=4, neuron="lif", encoding="none", readout="mean"
    )


def test_matches_the_reference_code(like_the_reference, golden_vectors, fill_weights, assert_reproduces):
    model, vectors = like_the_reference, golden_vectors("spikformer_2_256_t4")
    report = load_reference_weights(model, fill_weights(reference_shapes(model, 256), vectors["seed"]))
    assert set(report.dropped) == {f"block.{i}.{name}" for i in range(2) for name in UNUSED}
    assert set(report.taken) == {*model.network_keys(), *report.dropped} - set(report.dropped)
    images = vectors["x"]
    assert_reproduces(model, model.eval()(images.expand(4, *images.shape)), vectors)


def test_keys_are_the_references(like_the_reference):
    layers = ("conv", "conv1", "conv2", "conv3")
    stem = {f"patch_embed.proj_{name}.weight" for name in layers} | {"patch_embed.rpe_conv.weight"}
    keys = {key for key in like_the_reference.network_keys() if "_bn" not in key}
    affine = ("weight", "bias")
    block = {f"attn.{name}_linear.{suffix}" for name in ("q", "k", "v", "proj") for suffix in affine} | {
        f"mlp.{name}_linear.{suffix}" for name in ("fc1", "fc2") for suffix in affine
    }
    blocks = {f"block.{index}.{key}" for index in range(2) for key in block}
    assert keys == stem | blocks | {"head.weight", "head.bias"}
    assert sum("_bn" in key for key in like_the_reference.network_keys()) == 5 * (5 + 2 * 6)


def test_number_of_keys_of_the_largest_for_cifar():
    model = create_model("spikformer_4_384", num_classes=10, num_steps=1, neuron=nn.Identity)
    shapes = reference_shapes(model, 384)
    assert len(shapes) == 216 + sum("direct" in key for key in shapes)


@pytest.mark.parametrize(
    ("name", "attention", "mlp"),
    [
        ("spikformer_8_384", (384, 384, 1), (1536, 384, 1, 1)),
        ("spikformer_dvs_2_256", (256, 256, 1), (1024, 256, 1)),
    ],
)
def test_weights_have_the_shapes_of_the_convolutions(name, attention, mlp):
    with torch.device("meta"):
        model = create_model(name, num_classes=10, num_steps=4, neuron=nn.Identity)
    own = model.state_dict()
    assert own["block.0.attn.q_conv.weight"].shape == attention
    assert own["block.0.mlp.fc1_conv.weight"].shape == mlp
    assert "block.0.attn.q_conv.bias" not in own
    assert "block.0.attn.proj_conv.bias" in own


def test_event_data_comes_as_a_sequence():
    model = create_model("spikformer_dvs_tiny", num_classes=10, num_steps=5)
    assert model(torch.rand(5, 2, 2, 32, 32)).shape == (2, 10)
    assert {block.attn.scale for block in model.block} == {0.25}


def test_scale_and_heads_of_event_data():
    with torch.device("meta"):
        model = create_model("spikformer_dvs_2_256", num_classes=10, num_steps=10, neuron=nn.Identity)
    assert [block.attn.num_heads for block in model.block] == [16, 16]
    assert model(torch.rand(10, 1, 2, 128, 128, device="meta")).shape == (1, 10)


def test_first_layer_of_a_checkpoint_goes_to_both_of_its_copies(like_the_reference):
    checkpoint = {key: like_the_reference.state_dict()[key] for key in like_the_reference.network_keys()}
    model = create_model("spikformer_2_256", num_classes=10, num_steps=4, encoding="hybrid")
    report = load_reference_weights(model, checkpoint)
    stem = model.patch_embed
    assert torch.equal(stem.direct[0].weight, checkpoint["patch_embed.proj_conv.weight"])
    assert torch.equal(stem.proj_conv.weight, checkpoint["patch_embed.proj_conv.weight"])
    assert torch.equal(stem.direct[1].running_var, checkpoint["patch_embed.proj_bn.running_var"])
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
