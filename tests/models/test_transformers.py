"""What is particular to the successors of Spikformer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from snntorch_asnn.layers import OverTime, SpikingSelfAttention, TokenQKAttention
from snntorch_asnn.models import create_model, load_reference_weights

FAMILIES = ("spikingformer_tiny", "qkformer_tiny", "maxformer_tiny")


def build(name, **settings):
    return create_model(name, **{"num_classes": 10, "num_steps": 3, **settings})


def inputs_of(model, kinds):
    """What every layer of these kinds sees, by name, after a call."""
    seen = {}
    for name, layer in model.named_modules():
        if isinstance(layer, kinds):
            layer.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0]}))
    return seen


@pytest.mark.parametrize("name", ["spikingformer_tiny", "maxformer_tiny"])
def test_every_layer_sees_binary_spikes(name):
    model = build(name)
    seen = inputs_of(model, (nn.Conv2d, nn.Linear))
    model(torch.rand(2, 3, 32, 32))
    analog = {key for key, x in seen.items() if x.unique().tolist() not in ([0], [1], [0, 1])}
    first = "embed1.conv1" if name == "maxformer_tiny" else "stem.0.conv_norm"
    assert analog <= {"head", f"{first}.direct.conv", f"{first}.spike.conv"}
    assert any(x.any() for key, x in seen.items() if "attn.q.linear" in key)


def test_stream_of_qkformer_is_integer():
    model = build("qkformer_tiny")
    seen = inputs_of(model, TokenQKAttention | SpikingSelfAttention)
    model(torch.rand(2, 3, 32, 32))
    assert len(seen) == 3
    assert any(x.max() > 1 for x in seen.values())
    assert all(x.eq(x.round()).all() for x in seen.values())


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        (
            "spikingformer_4_384",
            ["patch_embed.block0_conv.weight", "patch_embed.block4_bn.running_var",
             "block.3.mlp.mlp2_conv.bias", "block.0.attn.q_conv.weight", "block.1.norm2.weight"],
        ),
        ("spikingformer_8_512", ["patch_embed.proj_conv.weight", "patch_embed.proj4_bn.weight"]),
        (
            "qkformer_4_384",
            ["patch_embed1.proj_res_conv.weight", "patch_embed3.proj4_bn.bias",
             "stage1.0.tssa.proj_conv.bias", "stage3.1.ssa.v_bn.weight", "stage2.0.mlp.mlp1_conv.weight"],
        ),
        (
            "qkformer_10_512",
            ["patch_embed1.proj2_conv.weight", "stage3.6.attn.v_bn.weight", "stage2.1.mlp.fc2_bn.bias"],
        ),
        (
            "maxformer_cifar",
            ["patch_embed1.proj_conv.weight", "patch_embed1.embed2.embed_bn.bias", "stage2.0.mixer.conv.bias",
             "patch_embed3.max_embed2.embed_conv.weight", "stage3.1.attn.proj_bn.weight",
             "stage1.0.mlp.fc1_conv.bias"],
        ),
        ("maxformer_10_512", ["patch_embed1.embed4.embed_conv.weight", "stage1.0.mixer.conv5_bn.weight"]),
    ],
)  # fmt: skip
def test_knows_the_references_keys(name, keys):
    with torch.device("meta"):
        model = create_model(name, num_classes=10, num_steps=4, neuron=nn.Identity, encoding="direct")
    assert set(keys) <= model.reference_keys().keys()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("small_images", [True, False])
def test_loads_a_checkpoint_into_both_first_layers(name, small_images):
    settings = {"image_size": 32}
    if not small_images:
        settings |= {"pools": (True,) * 4} if "spiking" in name else {"small_images": False}
    one, two = build(name, encoding="direct", **settings), build(name, encoding="hybrid", **settings)
    checkpoint = {key: one.state_dict()[place] for key, place in one.reference_keys().items() if place}
    report = load_reference_weights(two, checkpoint)
    assert set(report.taken) == checkpoint.keys()
    assert {one.reference_keys()[key] for key in report.taken} == set(one.network_keys())
    copies = [key for key in two.state_dict() if ".direct." in key]
    assert copies
    assert not set(copies) & set(report.missed)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("spikingformer_tiny", {"image_size": 30}, "image_size must be divisible by 4"),
        ("spikingformer_tiny", {"num_heads": 3}, "num_heads must divide dim=64; got 3"),
        ("spikingformer_tiny", {"dim": 36}, "dim must be a multiple of 8; got 36"),
        ("qkformer_tiny", {"image_size": (32, 30)}, "image_size must be divisible by 4"),
        ("qkformer_10_384", {"image_size": 228}, "image_size must be divisible by 16"),
        ("qkformer_tiny", {"num_heads": 3}, "num_heads must divide dim / 4=16; got 3"),
        ("qkformer_tiny", {"depths": (1, 1)}, "depths must be three numbers"),
        ("qkformer_tiny", {"depths": (1, 0, 1)}, "depths must be at least 1; got 0"),
        ("maxformer_tiny", {"kernel_sizes": (0, 4)}, "kernel_sizes must be two odd numbers, or 0"),
        ("maxformer_tiny", {"kernel_sizes": (3,)}, "kernel_sizes must be two odd numbers, or 0"),
        ("maxformer_tiny", {"depths": (1, 1, 0)}, "depths must be at least 1; got 0"),
        ("maxformer_10_384", {"image_size": 200}, "image_size must be divisible by 16"),
    ],
)
def test_wrong_arguments(name, wrong, message):
    with pytest.raises(ValueError, match=message):
        build(name, **wrong)


@pytest.mark.parametrize("small_images", [True, False])
def test_qkformer_pools_currents_and_not_spikes(small_images):
    """A maximum over spikes would be a logical or; the reference's neurons stand behind the pooling."""
    from snntorch_asnn.models import QKFormer

    sizes = {"dim": 32, "depths": (1, 1, 1), "num_heads": 2, "num_classes": 10, "num_steps": 2}
    size = 32 if small_images else 64
    model = QKFormer(**sizes, small_images=small_images, neuron="if", image_size=size)
    seen = {name: [] for name, layer in model.named_modules() if isinstance(layer, nn.MaxPool2d)}
    after = []
    for name, layer in model.named_modules():
        if name in seen:
            layer.register_forward_hook(lambda _, x, y, name=name: seen[name].append((x[0], y)))
        if isinstance(layer, OverTime):
            layer.register_forward_hook(lambda _, x, y: after.append(x[0]))
    model(torch.rand(2, 3, size, size))
    pooled = [pair for pairs in seen.values() for pair in pairs]
    assert len(pooled) >= 2
    for x, y in pooled:
        assert x.unique().numel() > 2  # what comes out of a norm
        assert (x < 0).any()
        assert any(z.numel() == y.numel() and torch.equal(z.flatten(), y.flatten()) for z in after)
