"""Norms over time as layers: every kind against a loop of PyTorch's norms, on every implementation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

import snntorch_asnn as asnn
from snntorch_asnn.layers import (
    NormLeaky,
    OverTime,
    StepBatchNorm,
    StepNorm,
    TimeFolded,
    fold_norm,
    norm_leaky,
    set_norm_over_time,
    split_norms,
)
from snntorch_asnn.layers.norm_over_time import is_synchronised
from snntorch_asnn.layers.pointwise import Pointwise
from snntorch_asnn.models import create_model
from snntorch_asnn.ops._adaptive_leaky.cpp import implementation as cpp

STEPS, CHANNELS = 3, 4
EACH = ["sequential", "step_statistics", "step"]
NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
SHAPES = {"features": (6, CHANNELS), "signals": (5, CHANNELS, 3), "images": (4, CHANNELS, 3, 3)}


@pytest.fixture(autouse=True)
def _fused_in_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norm_leaky, "FUSING_PAYS_FROM", 0)


def sequence(shape: tuple[int, ...], dtype: torch.dtype = torch.float64, steps: int = STEPS) -> Tensor:
    """Steps that differ in mean and spread."""
    spread = torch.linspace(0.5, 3, steps).view(-1, *(1,) * len(shape))
    return (torch.randn(steps, *shape) * spread + spread - 1).to(dtype)


def norm_for(shape: tuple[int, ...], **options: Any) -> Any:
    torch.manual_seed(3)
    norm = NORMS[len(shape)](shape[1], **options).double()
    if norm.affine:
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.uniform_(norm.bias, -0.5, 1)
    return norm


class Loop(nn.Module):
    """The definition: one norm at every step, or one for each step with what it shares tied."""

    def __init__(self, norm: nn.Module, kind: str, steps: int = STEPS) -> None:
        super().__init__()
        norms = [norm] * steps if kind == "sequential" else [copy.deepcopy(norm) for _ in range(steps)]
        self.norms = nn.ModuleList(norms)
        if kind == "step_statistics":
            for other in norms[1:]:
                other.weight, other.bias = norms[0].weight, norms[0].bias
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([norm(x_t) for norm, x_t in zip(self.norms, x, strict=True)])

    def tensors(self) -> dict[str, Tensor]:
        """What the norm under test must hold, gradients included."""
        one = dict(self.norms[0].state_dict())
        stacked = {key: torch.stack([norm.state_dict()[key] for norm in self.norms]) for key in one}
        averages = {key: one[key] if self.kind == "sequential" else stacked[key] for key in one}
        found = averages | (
            {} if self.kind == "step" else {k: one[k] for k in ("weight", "bias") if k in one}
        )
        for key, p in self.norms[0].named_parameters():
            own = [norm.get_parameter(key).grad for norm in self.norms]
            found[f"gradient of {key}"] = torch.stack(own) if self.kind == "step" else p.grad
        return found


def tensors_of(norm: nn.Module) -> dict[str, Tensor]:
    return norm.state_dict() | {f"gradient of {key}": p.grad for key, p in norm.named_parameters()}


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor], **close: float) -> None:
    assert found.keys() == wanted.keys()
    for key, value in found.items():
        torch.testing.assert_close(value, wanted[key], msg=lambda m, k=key: f"{k}: {m}", **close)


def run(layer: Callable[[Tensor], Tensor], x: Tensor) -> dict[str, Tensor]:
    leaf = x.clone().requires_grad_()
    out = layer(leaf)
    (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    return {"output": out, "gradient of x": leaf.grad}


OPTIONS: list[dict[str, Any]] = [
    {},
    {"momentum": None},
    {"momentum": 0.0},
    {"momentum": 1.0},
    {"affine": False},
    {"track_running_stats": False},
    {"affine": False, "track_running_stats": False},
]


@pytest.mark.parametrize("kind", EACH)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equals_a_loop(kind: str, shape: tuple[int, ...], options: dict[str, Any]) -> None:
    loop = Loop(norm_for(shape, **options), kind)
    layer = TimeFolded(norm_for(shape, **options), norm_over_time=kind, num_steps=STEPS)
    for training in (True, True, False):
        x = sequence(shape)
        assert_same(run(layer.train(training), x), run(loop.train(training), x))
        assert_same(tensors_of(layer[0]), loop.tensors())
        layer.zero_grad()
        loop.zero_grad()


@pytest.mark.parametrize("kind", EACH)
@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"affine": False}], ids=str)
def test_fused_equals_a_loop(kind: str, options: dict[str, Any]) -> None:
    shape = SHAPES["images"]
    loop = Loop(norm_for(shape, **options), kind)
    layer = NormLeaky(norm_for(shape, **options), neuron("reference"), norm_over_time=kind)
    twin = neuron("reference")
    for training in (True, True, False):
        x = sequence(shape)
        layer.train(training).zero_grad()
        loop.train(training).zero_grad()
        found, wanted = run(lambda x: layer(x)[0], x), run(lambda x: twin(loop(x))[0], x)
        assert wanted["output"].any()
        assert_same(found, wanted)
        assert_same(tensors_of(layer.norm), loop.tensors())


def neuron(impl: str) -> asnn.AdaptiveLeaky:
    return asnn.AdaptiveLeaky.paper(STEPS, sequence=True, impl=impl).double()


@pytest.mark.parametrize(
    "impl",
    [
        pytest.param("compile", marks=pytest.mark.slow),
        pytest.param("cpp", marks=pytest.mark.skipif(bool(cpp.missing()), reason="needs a C++ compiler")),
        pytest.param("triton", marks=pytest.mark.skipif(not find_spec("triton"), reason="needs triton")),
    ],
)
@pytest.mark.parametrize("kind", ["sequential", "step"])
@pytest.mark.parametrize("last", [False, True])
def test_fused_in_every_implementation(kind: str, impl: str, last: bool) -> None:
    shape, dtype = (4, 5, 6, 6), torch.float32 if impl == "triton" else torch.float64
    layers = [
        NormLeaky(norm_for(shape), neuron(i), norm_over_time=kind).to(dtype) for i in ("reference", impl)
    ]
    x = sequence(shape, dtype)
    if last:
        x = x.movedim(2, -1).contiguous().movedim(-1, 2)
    close = {"rtol": 1e-3, "atol": 1e-4} if impl == "triton" else {}
    wanted, found = (run(lambda x, f=layer: f(x)[0], x) for layer in layers)
    assert wanted["output"].any()
    assert_same(found, wanted, **close)
    assert_same(tensors_of(layers[1]), tensors_of(layers[0]), **close)


@pytest.mark.parametrize("kind", EACH)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(kind: str, dtype: torch.dtype) -> None:
    shape = SHAPES["images"]
    for options in ({}, {"affine": False}, {"affine": False, "track_running_stats": False}):
        norm = norm_for(shape, **options).float()
        if options:
            norm = norm.to(dtype)
        layer = TimeFolded(norm, norm_over_time=kind, num_steps=STEPS)
        wide = copy.deepcopy(layer).double()
        x = sequence(shape, dtype)
        for training in (True, False):
            found, wanted = run(layer.train(training), x), run(wide.train(training), x.double())
            assert found["output"].dtype == dtype
            assert_same({k: v.double() for k, v in found.items()}, wanted, rtol=0.05, atol=0.05)
        fused = NormLeaky(copy.deepcopy(norm), neuron("reference").float(), norm_over_time=kind)
        spikes, mem = fused(x)
        assert spikes.dtype == dtype
        assert mem.dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize("kind", EACH)
def test_compiled_in_one_graph(kind: str) -> None:
    torch._dynamo.reset()
    shape = SHAPES["images"]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.folded = TimeFolded(nn.Sequential(norm_for(shape)), norm_over_time=kind, num_steps=STEPS)
            self.layer = NormLeaky(norm_for(shape), neuron("reference"), norm_over_time=kind)

        def forward(self, x: Tensor) -> Tensor:
            spikes: Tensor = self.layer(self.folded(x))[0]
            return spikes

    net, x = Net(), sequence(shape)
    twin = copy.deepcopy(net)
    for training in (True, False):
        compiled = torch.compile(twin.train(training), fullgraph=True, backend="aot_eager")
        assert_same(run(compiled, x), run(net.train(training), x))
        assert_same(tensors_of(twin), tensors_of(net))


def test_norms_of_each_step_are_synchronised_as_the_given_one_is() -> None:
    assert is_synchronised(StepBatchNorm(nn.SyncBatchNorm(3), STEPS))
    assert not is_synchronised(StepBatchNorm(nn.BatchNorm2d(3), STEPS))


@pytest.mark.parametrize("kind", EACH)
@pytest.mark.parametrize("training", [True, False])
def test_under_function_transforms(kind: str, training: bool) -> None:
    shape = SHAPES["images"]
    norm = norm_for(shape, track_running_stats=not training)  # vmap cannot move averages in place
    layer = TimeFolded(norm, norm_over_time=kind, num_steps=STEPS)
    layer(sequence(shape))
    layer.train(training)
    many = torch.stack([sequence(shape) for _ in range(3)])
    per_sample = torch.func.vmap(torch.func.grad(lambda x: layer(x).square().sum()))(many)
    leaf = many.clone().requires_grad_()
    torch.stack([layer(one).square().sum() for one in leaf]).sum().backward()
    torch.testing.assert_close(per_sample, leaf.grad)


@pytest.mark.parametrize("kind", EACH)
@pytest.mark.parametrize("training", [True, False])
def test_second_derivatives(kind: str, training: bool) -> None:
    shape = (3, 2, 2)
    layer = TimeFolded(norm_for(shape, momentum=0.0), norm_over_time=kind, num_steps=2).train(training)
    x = sequence(shape, steps=2).requires_grad_()
    assert torch.autograd.gradcheck(layer, x)
    assert torch.autograd.gradgradcheck(layer, x)


@pytest.mark.parametrize("kind", EACH)
def test_hooks_see_one_step_at_a_time(kind: str) -> None:
    shape = SHAPES["images"]
    plain = TimeFolded(nn.Sequential(norm_for(shape)), norm_over_time=kind, num_steps=STEPS)
    for place in (0, 1):
        hooked, seen = copy.deepcopy(plain), []
        module = hooked[0] if place else hooked[0][0]
        module.register_forward_hook(lambda m, args, out, seen=seen: seen.append(args[0].shape))
        x = sequence(shape)
        twin = copy.deepcopy(plain)
        assert_same(run(hooked, x), run(twin, x))
        assert seen == [torch.Size(shape)] * STEPS
        assert_same(tensors_of(hooked), tensors_of(twin))


@pytest.mark.parametrize("kind", EACH)
def test_modules_that_run_norms_by_themselves(kind: str) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = norm_for(SHAPES["images"])

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.norm(x).relu()
            return out

    torch.manual_seed(0)
    layer = TimeFolded(Block(), norm_over_time=kind, num_steps=STEPS)
    flat = TimeFolded(Block().norm, nn.ReLU(), norm_over_time=kind, num_steps=STEPS)
    for training in (True, False):
        x = sequence(SHAPES["images"])
        assert_same(run(layer.train(training), x), run(flat.train(training), x))
    assert_same(dict(layer[0].norm.state_dict()), dict(flat[0].state_dict()))
    with pytest.raises(ValueError, match=r"'norm', which no layer of this package runs; put it into"):
        set_norm_over_time(Block(), kind, STEPS)


@pytest.mark.parametrize("kind", ["step_statistics", "step"])
@pytest.mark.parametrize("init_hidden", [True, False])
def test_parts_of_a_sequence_take_their_own_steps(kind: str, init_hidden: bool) -> None:
    shape = SHAPES["images"]
    lif = asnn.AdaptiveLeaky(0.9, num_steps=4, sequence=True, init_hidden=init_hidden).double()
    layer = NormLeaky(norm_for(shape), lif, norm_over_time=kind).eval()
    nn.init.uniform_(layer.norm.running_mean)
    x = sequence(shape, steps=4)
    whole = layer(x) if init_hidden else layer(x)[0]
    asnn.reset(layer)
    if init_hidden:
        halves = [layer(x[:1]), layer(x[1:])]
    else:
        first, mem = layer(x[:1], step=0)
        halves = [first, layer(x[1:], mem=mem, step=1)[0]]
    assert torch.equal(torch.cat(halves), whole)


def test_the_neuron_in_over_time_has_the_steps() -> None:
    layer = NormLeaky(CHANNELS, OverTime(neuron("auto")), norm_over_time="step")
    assert layer.norm.num_steps == STEPS
    assert layer.norm.weight.shape == (STEPS, CHANNELS)


def test_kinds_follow_each_other() -> None:
    shape = SHAPES["images"]
    net = TimeFolded(nn.Conv2d(CHANNELS, CHANNELS, 1), norm_for(shape)).double()
    net(sequence(shape))
    x, weight = sequence(shape), net[1].weight
    wanted = net.eval()(x)
    for kind in ("sequential", "step_statistics", "step", "step_statistics", "pooled", "step", "sequential"):
        assert set_norm_over_time(net, kind, STEPS) is net
        assert net.norm_over_time == kind
        torch.testing.assert_close(net(x), wanted)
        assert net[1].training is False
        if kind == "step_statistics":
            assert net[1].weight.shape == weight.shape
    assert type(net[1]) is nn.BatchNorm2d
    set_norm_over_time(net, "step", STEPS).train()(x)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    for kind in ("pooled", "sequential"):
        with pytest.raises(
            ValueError, match="for each step of the norm '1', because its steps already differ"
        ):
            set_norm_over_time(net, kind)
    assert_same(dict(net.state_dict()), before)
    assert net.norm_over_time == "step"


def test_a_slice_keeps_the_kind() -> None:
    net = TimeFolded(nn.Linear(3, CHANNELS), nn.BatchNorm1d(CHANNELS), nn.ReLU(), norm_over_time="sequential")
    assert net[:2].norm_over_time == "sequential"
    assert isinstance(net[1], nn.BatchNorm1d)
    assert "norm_over_time='sequential'" in repr(net)


@pytest.mark.parametrize("each_weight", [True, False])
def test_a_norm_of_each_step_says_what_its_layer_is(each_weight: bool) -> None:
    shape = SHAPES["images"]
    norm = StepBatchNorm(norm_for(shape), STEPS, each_weight=each_weight)
    folded = TimeFolded(norm, nn.ReLU())
    fused = NormLeaky(copy.deepcopy(norm), neuron("reference"))
    for layer in (folded, fused):
        assert layer.norm_over_time == ("step" if each_weight else "step_statistics")
    assert folded[0] is norm
    x = sequence(shape)
    folded(x)
    assert not torch.equal(norm.running_mean[0], norm.running_mean[1])
    assert folded[:1][0] is norm
    assert folded[:1].norm_over_time == folded.norm_over_time
    torch.testing.assert_close(folded.eval()(x), norm(x.flatten(0, 1)).view_as(x).relu())
    assert fused(x)[0].shape == x.shape


def test_other_numbers_of_steps() -> None:
    norm = StepBatchNorm(nn.BatchNorm1d(CHANNELS), 2, each_weight=True)
    with torch.no_grad():
        norm.running_mean.copy_(torch.tensor([[0.0], [1.0]]).expand(2, CHANNELS))
        norm.num_batches_tracked.fill_(7)
    assert norm.resize_steps(3) is norm
    assert norm.running_mean[:, 0].tolist() == [0.0, 0.5, 1.0]
    assert norm.num_batches_tracked.tolist() == [7] * 3
    assert norm.weight.shape == (3, CHANNELS)
    assert isinstance(norm.weight, nn.Parameter)
    assert norm(torch.rand(6, CHANNELS)).shape == (6, CHANNELS)
    with pytest.raises(ValueError, match="num_steps"):
        norm.resize_steps(0)


def test_synchronised_norms_keep_their_kind() -> None:
    shape = SHAPES["images"]
    for kind in EACH:
        plain = TimeFolded(norm_for(shape), norm_over_time=kind, num_steps=STEPS)
        synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(plain))
        assert isinstance(synchronised[0], nn.SyncBatchNorm)
        x = sequence(shape)
        assert_same(run(synchronised, x), run(plain, x))
        assert_same(dict(synchronised.state_dict()), dict(plain.state_dict()))
        torch.testing.assert_close(synchronised.eval()(x), plain.eval()(x))


@pytest.mark.parametrize("kind", ["pooled", *EACH])
@pytest.mark.filterwarnings("ignore:Pointwise is deprecated")
def test_folding_into_the_layer_before(kind: str) -> None:
    for layer, x in (
        (nn.Conv2d(2, CHANNELS, 3), sequence((4, 2, 5, 5))),
        (nn.Linear(2, CHANNELS), sequence((6, 2))),
        (Pointwise(CHANNELS, CHANNELS, kernel_dims=2), sequence((6, CHANNELS))),
        (Pointwise(2, CHANNELS, bias=False, kernel_dims=1), sequence((6, 2))),
    ):
        layer = layer.double()
        for affine in (True, False):
            current = TimeFolded(layer)(x).detach()
            norm = norm_for(current.shape[1:], affine=affine)
            after = NormLeaky(norm, neuron("reference"), norm_over_time=kind).double()
            after(current)
            after.eval(), layer.eval()
            if kind in ("step_statistics", "step"):
                with pytest.raises(ValueError, match=f"same norm at every step.*got norm_over_time='{kind}'"):
                    fold_norm(layer, after)
                continue
            folded, spiking = fold_norm(layer, after)
            torch.testing.assert_close(spiking(TimeFolded(folded)(x))[0], after(current)[0])
            torch.testing.assert_close(TimeFolded(folded)(x), TimeFolded(norm)(current))


@pytest.mark.parametrize(
    "shape", [(CHANNELS,), (CHANNELS, 7), (CHANNELS, 3, 3), (CHANNELS, 2, 3, 3)], ids=str
)
def test_a_number_of_channels_takes_any_shape(shape: tuple[int, ...]) -> None:
    x = torch.rand(STEPS, 2, *shape)
    assert NormLeaky(CHANNELS, neuron("auto").float())(x)[0].shape == x.shape


@pytest.mark.parametrize("fused", [True, False])
def test_messages_name_the_norm_that_fits(fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norm_leaky, "FUSING_PAYS_FROM", 0 if fused else 1 << 30)
    for kind in ("pooled", *EACH):
        layer = NormLeaky(nn.BatchNorm2d(CHANNELS), neuron("auto").float(), norm_over_time=kind)
        with pytest.raises(ValueError, match=r"expected 4D.*use nn\.BatchNorm1d for this shape"):
            layer(torch.rand(STEPS, 2, CHANNELS, 7))
        with pytest.raises(ValueError, match=r"x must have 4 channels in dimension 2"):
            layer(torch.rand(STEPS, 2, CHANNELS + 1, 7, 7))


def test_says_what_is_wrong() -> None:
    x = torch.rand(2, 4, CHANNELS)
    layer = TimeFolded(nn.BatchNorm1d(CHANNELS), norm_over_time="step_statistics", num_steps=STEPS)
    with pytest.raises(ValueError, match="x must have 3 steps, like its norm; got 2"):
        layer(x)
    with pytest.raises(ValueError, match=r"input must hold 3 steps folded into the batch, .*; got 4"):
        layer[0](torch.rand(4, CHANNELS))
    layer.norm_over_time = "sequential"
    with pytest.raises(
        ValueError, match="'sequential' does not fit the norm, which has running averages of 3"
    ):
        layer(x)
    with pytest.raises(ValueError, match="more than 1 value per channel at each step"):
        TimeFolded(nn.BatchNorm1d(CHANNELS), norm_over_time="sequential")(x[:, :1])
    with pytest.raises(ValueError, match="num_steps must be given for norms with values at each step"):
        TimeFolded(nn.BatchNorm1d(CHANNELS), norm_over_time="step")
    with pytest.raises(ValueError, match="norm_over_time must be one of"):
        TimeFolded(nn.BatchNorm1d(CHANNELS), norm_over_time="each")
    with pytest.raises(TypeError, match="norm must be a batch norm"):
        StepBatchNorm(nn.LayerNorm(3), STEPS)
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module"):
        set_norm_over_time("lenet", "step", STEPS)
    split = TimeFolded(nn.BatchNorm1d(CHANNELS), norm_over_time="step", num_steps=STEPS)
    with pytest.raises(ValueError, match="num_steps must be 3 for the norm '0'; got 4"):
        set_norm_over_time(split, "step_statistics", 4)


def test_deprecated_names() -> None:
    with pytest.warns(DeprecationWarning, match="use StepBatchNorm"):
        norm = StepNorm(nn.BatchNorm1d(3), 2)
    assert norm.each_weight
    model = create_model("lenet", num_classes=2, num_steps=STEPS)
    with pytest.warns(DeprecationWarning, match="use set_norm_over_time"):
        split_norms(model, STEPS)
    first = [m.num_steps for m in model.conv1.modules() if isinstance(m, StepBatchNorm)]
    assert first == [1, 2]
    assert model.norm_over_time == "step"


def test_a_migrated_loop_trains_as_it_did(caplog: pytest.LogCaptureFixture) -> None:
    """One network in a loop over time, and adapted to whole sequences, with the same weights."""

    class Looped(nn.Module):
        def __init__(self, kind: str | None = None) -> None:
            super().__init__()
            torch.manual_seed(0)
            layers = nn.Conv2d(2, CHANNELS, 3), nn.BatchNorm2d(CHANNELS)
            self.conv = nn.Sequential(*layers) if kind is None else TimeFolded(*layers, norm_over_time=kind)
            self.lif = snn.Leaky(beta=0.9, threshold=0.5)
            self.fc = nn.Linear(CHANNELS * 9, 2)

        def forward(self, x: Tensor) -> Tensor:
            mem, logits = self.lif.reset_mem(), []
            for x_t in x:
                spikes, mem = self.lif(self.conv(x_t), mem)
                logits.append(self.fc(spikes.flatten(1)))
            return torch.stack(logits).mean(0)

    class Sequences(Looped):
        def forward(self, x: Tensor) -> Tensor:
            spikes, _ = self.lif(self.conv(x))
            logits: Tensor = self.fc(spikes.flatten(2)).mean(0)
            return logits

    loop, net = Looped(), asnn.adapt(Sequences("sequential"), num_steps=STEPS, sequence=True)
    assert not caplog.records
    assert loop.state_dict().keys() <= net.state_dict().keys()
    x = sequence((4, 2, 5, 5), torch.float32)
    for training in (True, True, False):
        found, wanted = (run(model.train(training), x) for model in (net, loop))
        assert wanted["gradient of x"].any()
        assert_same(found, wanted)
        assert_same(dict(net.conv.state_dict()), dict(loop.conv.state_dict()))
    asnn.adapt(Looped(), num_steps=STEPS, sequence=True)
    (record,) = caplog.records
    assert record.getMessage().startswith("conv.1: a loop over time normalised each step by itself")


def test_norms_beside_layers_over_time_are_named_too(caplog: pytest.LogCaptureFixture) -> None:
    def layer() -> list[nn.Module]:
        return [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)]

    net = nn.Sequential()
    net.conv = TimeFolded(*layer())
    net.conv2 = nn.Sequential(*layer())  # its name begins like that of a layer over time
    net.lif = snn.Leaky(0.9)
    asnn.adapt(net, num_steps=STEPS, sequence=True)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["conv2.1"]
