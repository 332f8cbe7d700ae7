from __future__ import annotations

import re

import pytest
import torch
from torch import nn

import snntorch_asnn as asnn
from snntorch_asnn.layers import ConvSpike, sew_iand
from snntorch_asnn.models import SpikingResNet, create_model, load_reference_weights

SHORTCUTS = ["vanilla", "sew_add", "sew_and", "sew_iand", "ms"]


def pytorchs_places(model):
    """Keys of PyTorch's own residual networks, and the model's."""
    return {
        key: place
        for key, place in model.reference_keys().items()
        if not re.search(r"\.conv\d\.(module|\d)\.|downsample\.0\.(module|\d)\.", key)
    }


def tiny(shortcut, **settings):
    return create_model("spiking_resnet_tiny", num_classes=10, num_steps=3, shortcut=shortcut, **settings)


def test_matches_the_reference_code(golden_vectors, fill_weights, assert_reproduces):
    vectors = golden_vectors("sew_resnet34_add_t2")
    model = create_model(
        "sew_resnet34",
        num_classes=vectors["logits"].shape[1],
        num_steps=2,
        neuron="lif",
        encoding="none",
        readout="mean",
        image_size=64,
    )
    own = model.state_dict()
    shapes = {key: tuple(own[place].shape) for key, place in pytorchs_places(model).items()}
    report = load_reference_weights(model, fill_weights(shapes, vectors["seed"]))
    assert set(report.taken) == shapes.keys()
    images = vectors["x"]
    assert_reproduces(model, model.eval()(images.expand(2, *images.shape)), vectors)


@pytest.mark.parametrize("container", [".module", ""])
def test_takes_the_official_key_names(container):
    model = tiny("sew_add", neuron="if")
    own = model.state_dict()
    values = {
        key: torch.randn(own[place if isinstance(place, str) else place[0]].shape)
        for key, place in pytorchs_places(model).items()
    }
    checkpoint = {}
    for key, value in values.items():
        place = key
        if key.startswith("layer"):
            stage, index, name, *rest = key.split(".")
            if name == "downsample":
                rest = ["0" + container, *rest]
            else:
                rest = [{"c": "0", "b": "1"}[name[0]], *rest]
                name = f"conv{name[-1]}{container}"
            place = ".".join((stage, index, name, *rest))
        checkpoint[place] = value
    assert f"layer2.0.downsample.0{container}.1.running_mean" in checkpoint
    assert f"layer1.0.conv2{container}.0.weight" in checkpoint
    report = load_reference_weights(model, checkpoint)
    assert set(report.taken) == checkpoint.keys()
    for key, place in pytorchs_places(model).items():
        for own in (place,) if isinstance(place, str) else place:
            if "num_b" not in key:
                assert torch.equal(model.state_dict()[own], values[key]), key


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_takes_the_weights_of_torchvision(name):
    torchvision = pytest.importorskip("torchvision")
    network = getattr(torchvision.models, name)()
    with torch.device("meta"):
        meta = create_model(f"spiking_{name}", num_classes=1000, num_steps=2, neuron=nn.Identity)
    assert set(meta.reference_keys()) >= set(network.state_dict())
    if name == "resnet18":
        model = create_model("spiking_resnet18", num_classes=1000, num_steps=2, encoding="direct")
        report = load_reference_weights(model, network.state_dict())
        assert set(report.taken) == set(network.state_dict())
        assert report.dropped == ()


def test_without_spikes_it_is_torchvisions_network():
    torchvision = pytest.importorskip("torchvision")
    network = torchvision.models.resnet18(num_classes=10).eval()
    model = create_model(
        "spiking_resnet18",
        num_classes=10,
        num_steps=1,
        neuron=nn.ReLU,
        encoding="none",
        readout="mean",
        image_size=64,
    )
    load_reference_weights(model, network.state_dict())
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(model.eval()(images[None]), network(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_shortcuts_follow_their_equations(shortcut):
    model = tiny(shortcut, neuron="lif").eval()
    block = model.stages[1][0]
    x = torch.randint(0, 2, (3, 2, 16, 8, 8)).float()

    def layer(unit, inputs):
        norm = unit.spike.norm if isinstance(unit, ConvSpike) else unit.norm
        return norm(unit.conv(inputs.flatten(0, 1))).unflatten(0, inputs.shape[:2])

    first, second = block.branch
    down = layer(block.downsample, x)
    if shortcut == "ms":
        wanted = layer(second, first.spike.neuron(layer(first, block.before(x)))) + down
    else:
        branch = layer(second, first.spike.neuron(layer(first, x)))
        if shortcut == "vanilla":
            wanted = block.after(branch + down)
        else:
            a, s = second.spike.neuron(branch), block.downsample.spike.neuron(down)
            wanted = {"sew_add": a + s, "sew_and": a * s, "sew_iand": (1 - a) * s}[shortcut]
    torch.testing.assert_close(block(x), wanted)


@pytest.mark.parametrize("shortcut", SHORTCUTS)
@pytest.mark.parametrize("bottleneck", [False, True])
def test_shortcuts_train(shortcut, bottleneck):
    model = tiny(shortcut, image_size=16, bottleneck=bottleneck)
    model(torch.rand(2, 3, 16, 16)).square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_what_goes_between_the_blocks(shortcut):
    """Spikes, or their sums with ADD; membranes with MS, where every convolution still sees spikes."""
    model = tiny(shortcut).eval()
    seen, between = [], []
    for stage in model.stages:
        stage.register_forward_hook(lambda _, args, out: between.append(out))
        for unit in stage[0].branch:
            unit.conv.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model(torch.rand(2, 3, 32, 32))
    assert all(x.eq(x.round()).all() for x in seen)
    if shortcut == "ms":
        assert not any(x.eq(x.round()).all() for x in between)
    else:
        most = 2 if shortcut == "sew_add" else 1
        assert all(x.eq(x.round()).all() and x.max() <= most + index for index, x in enumerate(between, 0))


@pytest.mark.parametrize(("kind", "shortcut"), [("spiking", "vanilla"), ("sew", "sew_add"), ("ms", "ms")])
def test_aliases_choose_the_shortcut(kind, shortcut):
    with torch.device("meta"):
        model = create_model(f"{kind}_resnet18", num_classes=10, num_steps=2, neuron=nn.Identity)
        other = create_model(
            f"{kind}_resnet18", num_classes=10, num_steps=2, neuron=nn.Identity, shortcut="sew_iand"
        )
    assert (model.shortcut, other.shortcut) == (shortcut, "sew_iand")
    assert {block.add for block in other.stages[0]} == {sew_iand}


def test_resnet19_ends_in_a_spiking_layer():
    with torch.device("meta"):
        model = create_model("spiking_resnet19", num_classes=10, num_steps=2, neuron=nn.Identity)
    linear, _ = model.hidden
    assert (linear.in_features, linear.out_features, model.head.in_features) == (512, 256, 256)


def test_per_channel_neurons():
    model = tiny("vanilla", sharing="channel")
    assert model.stem.neuron.neuron.beta.shape == (3, 16, 1, 1)
    assert model.stages[2][0].after.neuron.gain.shape == (3, 64, 1, 1)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"shortcut": "sew"}, ValueError, "shortcut must be one of 'vanilla', 'sew_add'.*; got 'sew'"),
        ({"blocks": (1, 1)}, ValueError, "blocks and widths must have the same length"),
        ({"blocks": (1, 0, 1)}, ValueError, "blocks must be at least 1; got 0"),
        ({"widths": (8, 16.0, 32)}, TypeError, "widths must be an integer; got 16.0"),
        ({"stem_width": 0}, ValueError, "stem_width must be at least 1"),
        ({"hidden": 0}, ValueError, "hidden must be at least 1"),
    ],
)
def test_wrong_arguments(wrong, error, message):
    with pytest.raises(error, match=message):
        tiny(**{"shortcut": "vanilla", **wrong})


def test_is_exported():
    assert asnn.models.SpikingResNet is SpikingResNet


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("resnet50", {"bottleneck": True, "blocks": (3, 4, 6, 3)}),
        ("resnet18", {"bottleneck": False, "blocks": (2, 2, 2, 2)}),
    ],
)
@pytest.mark.parametrize("shortcut", ["vanilla", "sew_add", "ms"])
def test_convolutions_are_those_of_torchvision(name, settings, shortcut):
    theirs = dict(pytest.importorskip("torchvision").models.get_model(name, num_classes=10).named_modules())
    with torch.device("meta"):
        ours = SpikingResNet(
            num_classes=10, num_steps=2, encoding="none", shortcut=shortcut, neuron="if", **settings
        )
    compared = []
    for key, place in ours.reference_keys().items():
        key, _, suffix = key.rpartition(".")
        if suffix == "weight" and key in theirs and isinstance(theirs[key], nn.Conv2d):
            conv = ours.get_submodule(place.removesuffix(".weight"))
            same = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "groups")
            assert [getattr(conv, s) for s in same] == [getattr(theirs[key], s) for s in same], key
            compared.append(key)
    of_blocks = [key for key, layer in theirs.items() if isinstance(layer, nn.Conv2d) and ".conv" in key]
    assert set(of_blocks) <= set(compared)
    assert ours.stages[1][0].branch[1].conv.stride == ((2, 2) if settings["bottleneck"] else (1, 1))


@pytest.mark.parametrize("shape", [(8, 64, 3), (64, 8, 3), (16, 32, 1)])
@pytest.mark.parametrize("groups", [1, 4])
def test_convolutions_start_with_a_variance_of_two_over_the_fan_out(shape, groups):
    from snntorch_asnn.models.initialisation import init_convolutions

    before, after, size = shape
    conv = nn.Conv2d(before, after, size, groups=groups)
    init_convolutions(nn.Sequential(conv))
    wanted = (2 / (after * size**2)) ** 0.5
    assert conv.weight.std().item() == pytest.approx(wanted, rel=0.2)


def test_a_network_starts_with_a_variance_of_two_over_the_fan_out():
    model = SpikingResNet(
        blocks=(1, 1), widths=(32, 128), small_images=True, stem_width=32, num_classes=10, num_steps=2
    )
    conv = model.stages[1][0].branch[0].conv
    assert (conv.in_channels, conv.out_channels) == (32, 128)
    assert conv.weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.1)
