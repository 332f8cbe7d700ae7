from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import snntorch as snn
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import snntorch_asnn as asnn
from snntorch_asnn import energy
from snntorch_asnn.layers import HybridStem, OverTime, TimeFolded, spiking_attention
from snntorch_asnn.models import create_model, list_models
from snntorch_asnn.models.earlier_keys import current_key

TINY = [name for name in list_models() if name.endswith("_tiny") or name == "lenet"]
PUBLISHED = Path(__file__).parents[1] / "golden" / "spikingformer_8_768_firing_rates.json"


def by_name(report):
    return {layer.name: layer for layer in report.layers}


class Fires(nn.Module):
    """A linear layer that is given whole sequences."""

    def __init__(self, inputs=4, outputs=2, num_steps=3):
        super().__init__()
        self.num_steps = num_steps
        self.fc = nn.Linear(inputs, outputs)

    def forward(self, x):
        return self.fc(x)


class Loop(nn.Module):
    """A network in snnTorch's own style: a loop over time, membranes passed by hand."""

    def __init__(self, num_steps):
        super().__init__()
        self.steps = num_steps
        self.fc1, self.lif1 = nn.Linear(4, 8), snn.Leaky(0.5)
        self.fc2, self.lif2 = nn.Linear(8, 3), snn.Leaky(0.5)
        self.readout = nn.Linear(3, 2)

    def forward(self, x):
        mem1, mem2 = self.lif1.reset_mem(), self.lif2.reset_mem()
        logits = []
        for _ in range(self.steps):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            logits.append(self.readout(spk2))
        return torch.stack(logits).mean(0)


def profile_sequence(x, **options):
    """The one layer of :class:`Fires`, over ``x`` of 3 steps."""
    return energy.profile(Fires(x.shape[-1]), x, batch_dim=1, **options).layers[0]


def test_binary_input_adds_and_analog_input_multiplies():
    x = torch.zeros(3, 2, 4)
    x[0] = torch.rand(2, 4) + 0.1
    x[1, 0, 0] = 1.0
    x[2, :, :3] = 1.0
    layer = profile_sequence(x)
    assert layer.dense_macs == (8, 8, 8)
    assert layer.inputs == ("analog", "binary", "binary")
    assert layer.rates == (None, 1 / 8, 3 / 4)
    assert layer.macs == (8, 0, 0)
    assert layer.acs == (0, 1, 6)
    assert layer.pj == pytest.approx((8 * 4.6, 0.9, 6 * 0.9))


@pytest.mark.parametrize("factor", [1.0, 0.125, -2.0, 1e-30])
def test_a_constant_factor_goes_into_the_weights(factor):
    spikes = torch.tensor([[1.0, 0, 0, 1], [0, 0, 0, 1]]).expand(3, 2, 4)
    layer = profile_sequence(factor * spikes)
    assert layer.inputs == ("binary",) * 3
    assert layer.acs == (3.0, 3.0, 3.0)


def test_signed_spikes_add_and_subtract():
    layer = profile_sequence(torch.tensor([[1.0, -1, 0, 0]]).expand(3, 1, 4))
    assert layer.acs == (4, 4, 4)


def test_silence_costs_nothing():
    layer = profile_sequence(torch.zeros(3, 2, 4))
    assert (layer.rates, layer.pj) == ((0, 0, 0), (0, 0, 0))


def test_integers_are_billed_as_asked():
    x = torch.tensor([[3.0, 1, 0, 0], [0, 0, 2, 0]]).expand(3, 2, 4)
    as_mac, as_acs = profile_sequence(x), profile_sequence(x, nonbinary="multi_ac")
    for layer in (as_mac, as_acs):
        assert layer.inputs == ("integer",) * 3
        assert layer.rates == (6 / 8,) * 3
    assert (as_mac.macs, as_mac.acs) == ((8,) * 3, (0,) * 3)
    assert (as_acs.macs, as_acs.acs) == ((0,) * 3, (6,) * 3)


@pytest.mark.parametrize(
    ("code", "inputs"),
    [
        ("direct", ("analog",) * 4),
        ("temporal", ("binary",) * 4),
        ("hybrid", ("analog", "binary", "binary", "binary")),
    ],
)
def test_the_code_decides_what_the_first_layer_costs(code, inputs):
    conv = nn.Sequential(TimeFolded(nn.Conv2d(1, 6, 3, padding=1)))
    images = torch.rand(5, 1, 8, 8)
    planes = getattr(asnn.spikegen, code)(images, 4)
    layer = energy.profile(conv, planes, num_steps=4, batch_dim=1).layers[0]
    macs = 6 * 9 * 64
    assert layer.dense_macs == (macs,) * 4
    assert layer.inputs == inputs
    for t, kind in enumerate(inputs):
        spikes = planes[t].mean().item() * macs
        wanted = (macs, 0) if kind == "analog" else (0, spikes)
        assert (layer.macs[t], layer.acs[t]) == pytest.approx(wanted)


def test_copies_of_the_first_layer_share_the_steps():
    stem = HybridStem(nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 3), direct_steps=2)
    planes = asnn.spikegen.hybrid(torch.rand(3, 1, 5, 5), 5, direct_steps=2)
    report = energy.profile(stem, planes, num_steps=5, batch_dim=1)
    direct, spike = report.layers
    macs = 2 * 9 * 9
    assert direct.dense_macs == (macs, macs, 0, 0, 0)
    assert spike.dense_macs == (0, 0, macs, macs, macs)
    assert spike.rates[2:] == pytest.approx(planes[2:].flatten(1).mean(1).tolist())
    assert report.ann_macs == macs  # an ANN has one of them


@pytest.mark.parametrize("batch", [1, 2, 4, 6])
def test_a_loop_over_time_is_followed_step_by_step(batch):
    torch.manual_seed(0)
    net, x = Loop(4), 4 * torch.rand(batch, 4)
    spikes = {"fc2": [], "readout": []}
    handles = [
        getattr(net, name).register_forward_pre_hook(
            lambda _, args, name=name: spikes[name].append(args[0].mean().item())
        )
        for name in spikes
    ]
    net(x)
    for handle in handles:
        handle.remove()
    report = energy.profile(net, x)
    layers = by_name(report)
    assert report.num_steps == 4
    assert list(layers) == ["fc1", "fc2", "readout"]
    assert layers["fc1"].macs == (32,) * 4
    assert sum(spikes["fc2"]) > 0
    for name, rates in spikes.items():
        assert layers[name].rates == pytest.approx(rates)
        assert layers[name].macs == (0,) * 4
    assert report.firing_rates["lif1"] == pytest.approx(spikes["fc2"])
    assert report.ann_macs == 32 + 24 + 6


def test_a_loop_outside_of_the_network():
    net = nn.Sequential(nn.Linear(4, 8), snn.Leaky(0.5, init_hidden=True), nn.Linear(8, 2))
    x = torch.rand(3, 5, 4)

    def run(model, planes):
        for plane in planes:
            model(plane)

    report = energy.profile(net, x, batch_dim=1, run=run)
    assert report.num_steps == 3
    assert [layer.name for layer in report.layers] == ["0", "2"]
    assert report.layers[0].dense_macs == (32,) * 3


def test_layers_that_skip_steps_are_placed_where_they_run():
    """As the paper's published code does it: the first step has a convolution of its own."""

    class Net(nn.Module):
        num_steps = 3

        def __init__(self):
            super().__init__()
            self.once, self.first, self.others = nn.Linear(4, 6), nn.Linear(6, 4), nn.Linear(6, 4)
            self.fc, self.head = nn.Linear(4, 4), nn.Linear(4, 5)

        def forward(self, x):
            x = self.once(x)
            steps = [self.fc((self.first if t == 0 else self.others)(x)) for t in range(3)]
            return self.head(sum(steps))

    layers = by_name(energy.profile(Net(), torch.rand(2, 4)))
    runs = {name: [macs > 0 for macs in layer.dense_macs] for name, layer in layers.items()}
    assert runs == {
        "once": [True, False, False],
        "first": [True, False, False],
        "others": [False, True, True],
        "fc": [True] * 3,
        "head": [False, False, True],
    }


def test_layers_used_more_than_once():
    class Net(nn.Module):
        def __init__(self, loop):
            super().__init__()
            self.loop, self.fc = loop, nn.Linear(4, 4)

        def forward(self, x):
            return [self.fc(self.fc(step)) for step in x] if self.loop else self.fc(self.fc(x))

    for loop in (True, False):
        report = energy.profile(Net(loop), torch.rand(3, 2, 4), num_steps=3, batch_dim=1)
        assert [layer.name for layer in report.layers] == ["fc", "fc.2"]
        assert [layer.dense_macs for layer in report.layers] == [(16,) * 3] * 2


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        pytest.param(nn.Conv1d(4, 6, 3, groups=2), (4, 9), id="grouped"),
        pytest.param(nn.Conv2d(4, 4, 3, groups=4, padding="same"), (4, 7, 7), id="depthwise"),
        pytest.param(nn.Conv2d(3, 5, 3, stride=2, dilation=2, bias=False), (3, 11, 9), id="strided"),
        pytest.param(nn.Conv3d(2, 3, 3, padding=1), (2, 4, 5, 6), id="3d"),
        pytest.param(nn.ConvTranspose1d(4, 2, 3, stride=2), (4, 5), id="transposed1d"),
        pytest.param(nn.ConvTranspose2d(4, 6, 3, groups=2), (4, 5, 5), id="transposed2d"),
        pytest.param(nn.ConvTranspose3d(2, 3, 3), (2, 3, 3, 3), id="transposed3d"),
        pytest.param(nn.Linear(7, 5), (9, 7), id="linear"),
    ],
)
def test_macs_are_those_of_torch_s_own_counter(module, shape):
    net = nn.Sequential(TimeFolded(module))
    x = torch.rand(2, 3, *shape)
    with FlopCounterMode(display=False) as counter:
        net(x)
    wanted = counter.get_total_flops() // 2 // 3
    report = energy.profile(net, x, num_steps=2, batch_dim=1)
    assert sum(report.layers[0].dense_macs) == wanted
    assert report.macs == wanted
    assert sum(energy.count_macs(net, shape, num_steps=2, batch_dim=1).per_step) == wanted


class Functional(nn.Module):
    """Products of activations and of weights, none of them in a layer."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.weight = nn.Parameter(torch.rand(4, 6))

    def forward(self, x):
        q, k, v = x, x, 1 - x
        if self.how == "spiking":
            return spiking_attention(q, k, v, 0.25)
        if self.how == "softmax":
            return functional.scaled_dot_product_attention(q, k, v)
        if self.how == "einsum":
            return torch.einsum("tbnd,tbmd->tbnm", q, k)
        if self.how == "weight":
            return x @ self.weight
        return functional.linear(functional.linear(x, self.weight.mT), self.weight)


@pytest.mark.parametrize(
    ("how", "rates"),
    [
        ("spiking", {"Functional.product1": 0.25, "Functional.product2": 0.1875}),
        ("softmax", {"Functional.product1": 0.25, "Functional.product2": 0.75}),
        ("einsum", {"Functional.product1": 0.25}),
        ("weight", {"Functional": 0.25}),
        ("linear", {"Functional": 0.25, "Functional.2": None}),
    ],
)
def test_products_outside_of_layers(how, rates):
    """5 tokens of 4 channels; products add at the rate of the operand with fewer spikes."""
    x = torch.zeros(3, 2, 5, 4)
    x[..., 0] = 1.0
    report = energy.profile(Functional(how), x, num_steps=3, batch_dim=1)
    assert {layer.name: layer.rates[0] for layer in report.layers} == rates
    macs = 5 * 4 * 6 if how in ("weight", "linear") else 4 * 4 * 5 if how == "spiking" else 5 * 5 * 4
    for layer in report.layers:
        assert layer.dense_macs == (macs,) * 3
        share = rates[layer.name]
        assert (layer.macs[1], layer.acs[1]) == ((macs, 0) if share is None else (0, share * macs))


def test_feedback_of_a_recurrent_neuron():
    net = nn.Sequential(
        nn.Linear(4, 6), OverTime(asnn.AdaptiveRLeaky(0.5, linear_features=6, num_steps=3, sequence=True))
    )
    report = energy.profile(net, 3 * torch.rand(3, 2, 4), batch_dim=1)
    feedback = report.layers[1]
    assert feedback.name == "1.neuron.recurrent"
    assert feedback.dense_macs == (36,) * 3
    assert feedback.rates[0] == 0
    assert feedback.rates[1:] == pytest.approx(report.firing_rates["1.neuron"][:2])


def test_batches_are_averaged_by_images():
    net = Fires(2, 1, num_steps=1)
    few, many = torch.tensor([[[1.0, 0.0]]]), torch.zeros(1, 3, 2)
    report = energy.profile(net, iter([few, many]), batch_dim=1)
    assert report.images == 4
    assert report.layers[0].rates == (1 / 8,)
    assert report.acs == pytest.approx(2 / 8)
    mixed = energy.profile(net, [few, many + 0.5 * torch.rand(1, 3, 2)], batch_dim=1).layers[0]
    assert (mixed.inputs, mixed.rates, mixed.macs) == (("analog",), (None,), (1.5,))


def test_the_network_stays_as_it_is():
    net = Loop(3).train()
    net.append = nn.BatchNorm1d(2)
    x = torch.rand(4, 4)
    net(x)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    mems = net.lif1.mem, net.lif2.mem
    random = torch.get_rng_state()
    energy.profile(net, x)
    energy.count_macs(net, (4,))
    assert net.training
    assert (net.lif1.mem, net.lif2.mem) == mems
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    net(x).sum().backward()  # nothing of inference mode is left in it


def test_every_profile_is_a_new_sequence():
    net = nn.Sequential(snn.Leaky(0.9, init_hidden=True), nn.Linear(4, 2))
    x = torch.full((2, 4), 0.6)
    first = energy.profile(net, x).layers[0].rates
    net(x)
    assert first == energy.profile(net, x).layers[0].rates == (0.0,)


def test_a_compiled_network_is_seen_through():
    net = torch.compile(create_model("lenet", num_classes=3, num_steps=2, in_channels=1, image_size=8))
    report = energy.profile(net, torch.rand(2, 1, 8, 8))
    assert report.layers[0].name == "conv1.conv_norm.direct.conv"


def awake(model):
    """The model with norms that let spikes through to its last layer."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.constant_(norm.weight, 2.0)
            nn.init.constant_(norm.bias, 0.5)
    return model


@pytest.mark.parametrize("name", TINY)
def test_every_tiny_model_is_profiled(name):
    torch.manual_seed(0)
    size = 16 if "dvs" in name else 8
    model = awake(create_model(name, num_classes=10, num_steps=3, encoding="hybrid", image_size=size))
    images = torch.rand(4, model.in_channels, size, size)
    report = energy.profile(model, images)
    macs = energy.count_macs(model)
    assert tuple(layer.dense_macs for layer in report.layers) == tuple(x.macs for x in macs.layers)
    assert macs.ann == report.ann_macs == macs.per_step[0] == macs.per_step[2]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(images)
    assert sum(macs.per_step) == counter.get_total_flops() // 2 // len(images)
    first, second = report.layers[:2]
    assert first.inputs == ("analog", "none", "none")
    assert second.inputs == ("none", "binary", "binary")
    assert 0 < report.acs < sum(macs.per_step)
    assert set(report.firing_rates) == {
        name for name, module in model.named_modules() if isinstance(module, snn.SpikingNeuron)
    }


def test_other_ways_to_compute_the_same_cost_the_same():
    torch.manual_seed(0)
    model = awake(create_model("spikformer_tiny", num_classes=10, num_steps=2, image_size=8))
    images = torch.rand(4, 3, 8, 8)
    report = energy.profile(model, images)
    with asnn.pack_spikes():
        assert energy.profile(model, images).layers == report.layers
    fused = energy.profile(asnn.layers.fuse_norm(model), images)
    assert fused.layers == report.layers
    assert fused.firing_rates == report.firing_rates
    with torch.autocast("cpu", torch.bfloat16):
        cast = energy.profile(model, images)
    assert [layer.inputs for layer in cast.layers] == [layer.inputs for layer in report.layers]


@pytest.mark.parametrize("name", list_models())
def test_every_model_of_the_zoo_is_counted(name):
    with torch.device("meta"):
        model = create_model(
            name,
            num_classes=10,
            num_steps=2,
            encoding=lambda images, num_steps, direct_steps=1: images.expand(num_steps, *images.shape),
            neuron=nn.Identity,
        )
    macs = energy.count_macs(model)
    assert macs.per_step[0] == macs.per_step[1] == macs.ann > 0
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len([layer for layer in macs.layers if layer.kind != "product"]) == len(layers)


def test_spikformer_has_the_published_number_of_operations():
    model = create_model("spikformer_4_384", num_classes=10, num_steps=4, encoding="direct")
    published = energy.count_macs(model, attention="qk_first")
    assert published.per_step == (934_039_296,) * 4
    assert energy.count_macs(model).per_step == (927_747_840,) * 4
    macs = {layer.name: layer.macs[0] for layer in published.layers}

    def part(*names):
        return sum(count for name, count in macs.items() if name.startswith(names))

    assert macs["stem.conv1.conv"] == 1_327_104
    assert part("stem") == 468_467_712
    attention = part("blocks.0.attn.product")
    assert attention == 3_145_728
    assert part("blocks.0.") - attention == 113_246_208
    assert macs["head"] == 3840


def test_published_energy_of_spikingformer():
    """From the firing rates in the log of its authors, less what their script counts otherwise.

    It counts biases, the head once, and 12 heads where the network has 8.
    """
    rates = json.loads(PUBLISHED.read_text())["rates"]
    with torch.device("meta"):
        settings = {"num_classes": 1000, "num_steps": 4, "neuron": nn.Identity, "encoding": "none"}
        model = create_model("spikingformer_8_768", **settings)
        like_the_script = create_model("spikingformer_8_768", num_heads=12, **settings)
    todays = model.earlier_keys()
    rates = {current_key(todays, f"{name}.").removesuffix("."): rate for name, rate in rates.items()}
    rates = {name.replace("block.", "blocks."): rate for name, rate in rates.items()}  # those of products
    report = energy.estimate(energy.count_macs(model), rates)
    assert report.macs == pytest.approx(0.520993768e9, rel=0.01)
    assert report.acs == pytest.approx(12.513659576717108e9, rel=0.01)
    assert report.mj == pytest.approx(13.658864951845398, rel=0.01)

    report = energy.estimate(energy.count_macs(like_the_script), rates)
    assert report.macs - 3 * 768_000 + 1000 == 0.520993768e9
    tokens = 4 * 14 * 14
    biased = [(name, module) for name, module in model.named_modules() if "blocks." in name]
    biases = sum(
        rates[name] * tokens * len(module.bias)
        for name, module in biased
        if isinstance(module, nn.Linear) and module.bias is not None
    )
    assert report.acs + biases == pytest.approx(12.513659576717108e9, rel=1e-8)


def test_products_of_attention_in_another_order_cost_what_they_do():
    torch.manual_seed(0)
    settings = {"num_classes": 10, "num_steps": 2, "image_size": 32}
    model = awake(create_model("spikformer_tiny", **settings))
    images = torch.rand(2, 3, 32, 32)
    kv, qk = (energy.profile(model, images, attention=f"{first}_first") for first in ("kv", "qk"))
    tokens, channels, head = 64, 64, 32
    name = "blocks.0.attn.product1"
    assert by_name(kv)[name].dense_macs == (tokens * channels * head,) * 2
    assert by_name(qk)[name].dense_macs == (tokens * tokens * channels,) * 2
    rates = kv.firing_rates
    q, k, v = (rates[f"blocks.0.attn.{x}.spike.neuron.neuron"] for x in "qkv")
    assert by_name(kv)[name].rates == pytest.approx(tuple(map(min, k, v)))
    assert by_name(kv)["blocks.0.attn.product2"].rates == pytest.approx(q)
    assert by_name(qk)[name].rates == pytest.approx(tuple(map(min, q, k)))
    assert by_name(qk)["blocks.0.attn.product2"].rates == pytest.approx(v)
    assert kv.firing_rates == qk.firing_rates
    as_run = energy.profile(model, images)
    assert as_run.layers == kv.layers  # 64 tokens, 32 channels a head


@pytest.mark.parametrize(
    ("preset", "mac", "ac"),
    [("45nm-fp32", 4.6, 0.9), ("45nm-fp16", 1.5, 0.4), ("45nm-int8", 0.23, 0.03), ((2, 0.5), 2, 0.5)],
)
def test_presets(preset, mac, ac):
    counted = energy.MacCount((energy.LayerMacs("fc", "linear", (100, 100)),), num_steps=2)
    report = energy.estimate(counted, {"fc": (None, 0.2)}, preset=preset)
    assert report.mj == pytest.approx((100 * mac + 20 * ac) * 1e-9)
    assert report.mj_by_step == pytest.approx((100 * mac * 1e-9, 20 * ac * 1e-9))
    assert report.ann_mj == pytest.approx(100 * mac * 1e-9)


def test_report_as_text_and_as_json():
    report = energy.profile(
        create_model("lenet", num_classes=10, num_steps=4, in_channels=1, image_size=8),
        torch.rand(4, 1, 8, 8),
    )
    lines = str(report).splitlines()
    assert lines[0].startswith("One image, T = 4 steps, mean over 4 images; 45nm-fp32: 4.6 pJ per MAC")
    assert lines[3].split() == ["layer", "kind", "MACs/step", "input", "by", "step", "MACs", "ACs", "energy"]
    assert lines[5].split()[:8] == [
        "conv1.conv_norm.direct.conv",
        "conv2d",
        "18.43",
        "k",
        "analog",
        "-",
        "-",
        "-",
    ]
    assert "without time or spikes" in lines[-1]
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["mj"] == report.mj
    assert plain["ann_macs"] == report.ann_macs
    assert plain["layers"][0]["rates"] == [None] * 4
    assert plain["layers"][1]["inputs"] == ["none", "binary", "binary", "binary"]
    assert plain["op_energy"] == {"mac_pj": 4.6, "ac_pj": 0.9}
    assert list(plain["firing_rates"]) == list(report.firing_rates)


def test_long_sequences_are_shown_by_their_mean():
    x = asnn.spikegen.hybrid(torch.rand(2, 4), 20)
    text = str(energy.profile(Fires(num_steps=20), x, batch_dim=1))
    assert "1×analog 19×0." in text
    assert "all" in str(energy.count_macs(Fires(num_steps=20), (4,), batch_dim=1))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": 1}, TypeError, "net must be"),
        ({"batch": 1}, TypeError, "batch must be a tensor or an iterable of tensors; got int"),
        ({"batch": [1]}, TypeError, "batch must be a tensor"),
        ({"batch": []}, ValueError, "batch must hold images; got an empty iterable"),
        ({"batch": torch.rand(3, 0, 4)}, ValueError, "batch must hold images; got shape"),
        ({"batch": torch.rand(3, 2, 4, device="meta")}, ValueError, "batch must hold values"),
        ({"batch_dim": 2}, ValueError, "batch_dim must be 0 or 1; got 2"),
        ({"num_steps": 0}, ValueError, "num_steps must be at least 1; got 0"),
        ({"preset": "7nm"}, ValueError, "preset must be one of '45nm-fp32'"),
        ({"preset": (1, -1)}, ValueError, "preset must hold finite numbers"),
        ({"preset": 3}, TypeError, "preset must be a name or a pair"),
        ({"nonbinary": "ac"}, ValueError, "nonbinary must be one of 'mac', 'multi_ac'; got 'ac'"),
        ({"attention": "published"}, ValueError, "attention must be one of"),
        (
            {"model": nn.Linear(4, 2)},
            ValueError,
            "num_steps must be given, because the model has no snnTorch neurons",
        ),
    ],
)
def test_wrong_arguments(options, error, message):
    arguments = {"model": Fires(), "batch": torch.rand(3, 2, 4), "batch_dim": 1} | options
    model, batch = arguments.pop("model"), arguments.pop("batch")
    with pytest.raises(error, match=message):
        energy.profile(model, batch, **arguments)


def test_neurons_that_disagree_on_the_number_of_steps():
    net = nn.Sequential(snn.Leaky(0.9, init_hidden=True), nn.Linear(2, 2), snn.Leaky(0.9, init_hidden=True))

    def run(model, x):
        model(x)
        model[0](x)

    with pytest.raises(
        ValueError, match=r"num_steps must be given, because the model's neurons ran \[1, 2\] steps"
    ):
        energy.profile(net, torch.rand(1, 2), run=run)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "input_shape must be given"),
        ({"input_shape": (4,), "batch_dim": 1}, "num_steps must be given with batch_dim=1"),
        ({"input_shape": (0,)}, "input_shape must hold positive integers"),
    ],
)
def test_wrong_arguments_of_count_macs(options, message):
    with pytest.raises(ValueError, match=message):
        energy.count_macs(nn.Linear(4, 2), **options)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({}, r"firing_rates must have a rate, or None for analog input, .*'fc' is missing"),
        ({"fc": 0.1, "conv": 0.1}, "firing_rates must have layers of macs only; got 'conv'"),
        ({"fc": -0.1}, r"firing_rates\['fc'\] must be finite and not negative; got -0.1"),
        ({"fc": math.nan}, r"firing_rates\['fc'\] must be finite"),
        ({"fc": [0.1]}, r"firing_rates\['fc'\] must be one rate or 2 rates, .*; got 1"),
    ],
)
def test_wrong_rates(rates, message):
    macs = energy.MacCount((energy.LayerMacs("fc", "linear", (8, 8)),), num_steps=2)
    with pytest.raises(ValueError, match=message):
        energy.estimate(macs, rates)
