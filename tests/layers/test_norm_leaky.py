"""Norm and neuron in one against the two, one after the other."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import snntorch_asnn as asnn
from snntorch_asnn.layers import NormLeaky, OverTime, fold_norm, fold_time, fuse_norm, norm_leaky, unfuse_norm
from snntorch_asnn.models import create_model, from_pretrained, list_models
from snntorch_asnn.ops._adaptive_leaky.cpp import implementation as cpp
from snntorch_asnn.ops._batch_moments import moments as moments_module
from snntorch_asnn.ops._batch_moments.moments import batch_moments

sys.path.insert(0, str(Path(__file__).parent))
from norm_distributed_worker import Net, data, train

TINY = [*list_models("*_tiny"), "lenet"]
CHANNELS = 3
NORMS = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


@pytest.fixture(autouse=True)
def _fused_in_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norm_leaky, "FUSING_PAYS_FROM", 0)


class Pair(nn.Module):
    """What NormLeaky must compute."""

    def __init__(self, norm: nn.Module, neuron: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.neuron = neuron

    def forward(self, x: Tensor) -> Any:
        return self.neuron(fold_time(self.norm, x))


def pair_of(layer: NormLeaky) -> Pair:
    twin = copy.deepcopy(layer)
    return Pair(twin.norm, twin.neuron)


def layer_for(x: Tensor, norm_options: dict[str, Any] | None = None, **options: Any) -> NormLeaky:
    norm = NORMS[x.ndim - 3](x.shape[2], **(norm_options or {}))
    norm = norm.to(torch.promote_types(x.dtype, torch.float32))
    if norm.affine:
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.uniform_(norm.bias, -0.5, 1)
    rule = {"reset_delay": False, "exact_reset": True} | options
    return NormLeaky(norm, asnn.AdaptiveLeaky(0.8, num_steps=x.shape[0], gain=1.2, sequence=True, **rule))


def outcome(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Spikes, membrane, every gradient and every buffer after one call."""
    leaf = x.clone().requires_grad_()
    layer.zero_grad()
    spikes, mem = layer(leaf)
    weights = torch.linspace(-1, 1, spikes.numel(), dtype=mem.dtype).view(spikes.shape)
    ((spikes * weights).sum() + mem.square().sum()).backward()
    found = {"spikes": spikes, "mem": mem, "grad of x": leaf.grad}
    found |= {f"grad of {name}": p.grad for name, p in layer.named_parameters()}
    return found | dict(layer.state_dict())


def assert_agree(layer: NormLeaky, x: Tensor, **tolerance: float) -> None:
    pair = pair_of(layer)
    for training in (True, False):
        layer.train(training)
        pair.train(training)
        found, wanted = outcome(layer, x), outcome(pair, x)
        assert found.keys() == wanted.keys()
        assert wanted["spikes"].any() or x.numel() < 50
        for name, value in found.items():
            torch.testing.assert_close(value, wanted[name], msg=lambda m, n=name: f"{n}: {m}", **tolerance)


def maps(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, dtype=dtype) * 2 + 3


RULES = [
    {"reset_delay": delay, "exact_reset": exact, "reset_mechanism": mechanism, "detach_reset": detach}
    for delay, exact in ((True, False), (False, True), (False, False))
    for mechanism in ("subtract", "zero", "none")
    for detach in (None, True, False)
]


@settings(max_examples=60)
@given(
    spatial=st.lists(st.integers(1, 4), max_size=3),
    steps=st.integers(1, 5),
    batch=st.integers(2, 4),
    rule=st.sampled_from(RULES),
    shared=st.sampled_from(["layer", "channel", "neuron"]),
    last=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_agrees_with_the_pair(
    spatial: list[int], steps: int, batch: int, rule: dict[str, Any], shared: str, last: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    x = maps(steps, batch, CHANNELS, *spatial)
    if last:  # channels last in memory
        x = x.movedim(2, -1).contiguous().movedim(-1, 2)
    features = {"layer": (), "channel": (CHANNELS, *(1 for _ in spatial)), "neuron": (CHANNELS, *spatial)}
    layer = layer_for(x, feature_shape=features[shared], **rule)
    assert_agree(layer.double(), x)


@pytest.mark.parametrize(
    "options",
    [
        {"momentum": None},
        {"momentum": 0.7},
        {"track_running_stats": False},
        {"affine": False},
        {"affine": False, "track_running_stats": False},
        {"eps": 0.3},
    ],
)
def test_every_option_of_the_norm(options: dict[str, Any]) -> None:
    x = maps(3, 4, CHANNELS, 5, 5)
    layer = layer_for(x, options).double()
    for _ in range(3):  # a cumulative average moves at each call
        assert_agree(layer.train(), x)
        layer.train()(x * 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_moments_of_large_tensors(dtype: torch.dtype, channels_last: bool) -> None:
    """In the C++ kernels, where there is a compiler."""
    x = (torch.randn(4, 8, 16, 16, 16) * 2 + 3).to(dtype)
    assert x.numel() > moments_module.LEAST_TO_COMPILE_FOR
    if channels_last:
        x = x.movedim(2, -1).contiguous().movedim(-1, 2)
    leaf, exact = x.clone().requires_grad_(), x.double().requires_grad_()
    same, mean, variance, elements = batch_moments(leaf, 2)
    wide_variance, wide_mean = torch.var_mean(exact, (0, 1, 3, 4), correction=0)
    torch.testing.assert_close(mean, wide_mean.float())
    torch.testing.assert_close(variance, wide_variance.float(), rtol=1e-5, atol=1e-5)
    assert elements == 4 * 8 * 16 * 16
    weights = torch.linspace(-1, 1, x.numel()).view(x.shape).to(dtype)
    factors = torch.linspace(1, 2, 16)
    (1e3 * ((mean + variance) * factors).sum() + (same * weights).sum()).backward()
    (1e3 * ((wide_mean + wide_variance) * factors).sum() + (exact * weights).sum()).backward()
    torch.testing.assert_close(leaf.grad, exact.grad.to(dtype))
    assert torch.equal(x, leaf)


def test_moments_beside_nothing_else() -> None:
    leaf = maps(2, 3, CHANNELS, 4).requires_grad_()
    _, mean, variance, _ = batch_moments(leaf, 2)
    assert torch.autograd.gradcheck(lambda x: batch_moments(x, 2)[1:3], leaf)
    (mean.sum() + variance.sum()).backward()
    assert leaf.grad.any()


def test_trains_to_the_same_weights() -> None:
    fused, pair = Net(fused=True), Net(fused=False)
    pair.load_state_dict(fused.state_dict())
    start = copy.deepcopy(fused.state_dict())
    train(fused, data(), steps=50)
    train(pair, data(), steps=50)
    for name, value in fused.state_dict().items():
        torch.testing.assert_close(value, pair.state_dict()[name], rtol=1e-4, atol=1e-5, msg=name)
    assert sum(not torch.equal(start[name], value) for name, value in fused.state_dict().items()) > 8


@pytest.mark.skipif(cpp.missing() is not None, reason="needs a C++ compiler")
def test_keeps_the_input_once() -> None:
    x = maps(4, 8, 16, 16, 16, dtype=torch.float32)
    layer = layer_for(x, impl="cpp")
    for run, wanted in ((layer, 4), (pair_of(layer), 8)):
        stored: dict[int, int] = {}

        def pack(tensor: Tensor, stored: dict[int, int] = stored) -> Tensor:
            stored[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        leaf = x.clone().requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = run(leaf)
        assert wanted <= sum(stored.values()) / x.numel() < wanted + 0.05
        del out


@pytest.mark.skipif(cpp.missing() is not None, reason="needs a C++ compiler")
@pytest.mark.parametrize("channels_last", [False, True])
def test_agrees_with_the_pair_in_the_kernel(channels_last: bool) -> None:
    x = maps(4, 8, 16, 16, 16)
    if channels_last:
        x = x.movedim(2, -1).contiguous().movedim(-1, 2)
    assert x.numel() > moments_module.LEAST_TO_COMPILE_FOR
    assert_agree(layer_for(x, impl="cpp").double(), x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_rounds_nothing_in_between(dtype: torch.dtype) -> None:
    x = maps(4, 8, CHANNELS, 6, 6, dtype=dtype)
    layer = layer_for(x)
    pair = pair_of(layer)
    spikes, mem = layer(x)
    wide_spikes, wide_mem = pair(x.float())
    assert spikes.dtype == dtype
    assert mem.dtype == torch.float32
    torch.testing.assert_close(spikes.float(), wide_spikes)
    torch.testing.assert_close(mem, wide_mem)
    for name, value in layer.norm.state_dict().items():
        torch.testing.assert_close(value, pair.norm.state_dict()[name])


def test_autocast() -> None:
    net, x = Net(fused=True), data()
    with torch.autocast("cpu", torch.bfloat16):
        loss = net(x).float().square().sum()
    loss.backward()
    assert all(p.grad.isfinite().all() and p.grad.dtype == torch.float32 for p in net.parameters())
    assert net.layer.norm.running_mean.dtype == torch.float32


def test_empty_batches() -> None:
    layer, x = layer_for(maps(3, 2, CHANNELS, 4, 4)), torch.empty(3, 0, CHANNELS, 4, 4)
    for training in (True, False):
        spikes, mem = layer.train(training)(x)
        assert spikes.shape == x.shape
        assert mem.shape == x.shape[1:]


@pytest.mark.skipif(cpp.missing() is not None, reason="needs a C++ compiler")
@pytest.mark.parametrize("shared", [(), (CHANNELS, 1, 1), (CHANNELS, 16, 8)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_every_sharing_of_parameters_in_the_kernel(shared: tuple[int, ...], channels_last: bool) -> None:
    x = maps(4, 16, CHANNELS, 16, 8)
    assert x.numel() > moments_module.LEAST_TO_COMPILE_FOR
    if channels_last:
        x = x.movedim(2, -1).contiguous().movedim(-1, 2)
    options = {"learn_threshold": True, "output": True, "feature_shape": shared, "impl": "cpp"}
    assert_agree(layer_for(x, **options).double(), x)
    fixed = {"learn_beta": False, "learn_gain": False, "feature_shape": shared, "impl": "cpp"}
    assert_agree(layer_for(x, **fixed).double(), x)


@pytest.mark.skipif(cpp.missing() is not None, reason="needs a C++ compiler")
def test_carried_membranes_in_the_kernel() -> None:
    x, start = maps(4, 16, CHANNELS, 16, 8), maps(16, CHANNELS, 16, 8).requires_grad_()
    layer = layer_for(x, impl="cpp").double()
    pair = pair_of(layer)
    grads = []
    for run, current in ((layer, x), (pair.neuron, fold_time(pair.norm, x))):
        spikes, mem = run(current, mem=start, step=0)
        grads.append(torch.autograd.grad(spikes.sum() + mem.square().sum(), start)[0])
    torch.testing.assert_close(*grads)


def test_small_inputs_run_as_the_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    x = maps(3, 4, CHANNELS, 5, 5)
    layer = layer_for(x).double()
    pair = pair_of(layer)
    monkeypatch.setattr(norm_leaky, "FUSING_PAYS_FROM", x.numel() + 1)
    assert all(map(torch.equal, outcome(layer, x).values(), outcome(pair, x).values()))
    half = x.bfloat16()
    wide = layer.float().eval()(half.float())[1]
    torch.testing.assert_close(layer(half)[1], wide)  # still without rounding in between


def test_memory_format_is_kept() -> None:
    x = maps(4, 2, CHANNELS, 5, 6).movedim(2, -1).contiguous().movedim(-1, 2)
    leaf = x.clone().requires_grad_()
    spikes, _ = layer_for(x).double()(leaf)
    spikes.sum().backward()
    assert spikes.stride() == x.stride() == leaf.grad.stride()


def test_state_dict_is_that_of_the_two() -> None:
    layer = layer_for(maps(4, 2, CHANNELS, 5, 5, dtype=torch.float32))
    keys = {f"norm.{key}" for key in layer.norm.state_dict()} | {
        f"neuron.{key}" for key in layer.neuron.state_dict()
    }
    assert set(layer.state_dict()) == keys
    other = NormLeaky(CHANNELS, asnn.AdaptiveLeaky(0.1, num_steps=4, sequence=True))
    other.load_state_dict(layer.state_dict())
    for key, value in other.state_dict().items():
        assert torch.equal(value, layer.state_dict()[key]), key


def test_what_works_on_the_pair_works_on_it() -> None:
    x = maps(4, 2, CHANNELS, 5, 5, dtype=torch.float32)
    layer = NormLeaky(CHANNELS, OverTime(asnn.AdaptiveLeaky(0.5, num_steps=4, sequence=True)))
    seen = []
    layer.neuron.neuron.register_forward_hook(lambda module, args, out: seen.append(out[0]))
    spikes = layer(x)
    assert torch.equal(seen[0], spikes)
    asnn.reset(layer)
    assert torch.equal(layer(x), spikes)
    assert asnn.describe(layer)[0].names == ("neuron.neuron",)
    copied = copy.deepcopy(layer.eval())
    assert torch.equal(copied(x), layer(x))
    with torch.inference_mode():
        assert torch.equal(copied(x), layer(x))


def test_hidden_state_goes_on_from_call_to_call() -> None:
    x = maps(4, 3, CHANNELS, 5, 5)
    norm = nn.BatchNorm2d(CHANNELS).double().eval()
    options = {"num_steps": 4, "sequence": True}
    whole = NormLeaky(norm, asnn.AdaptiveLeaky(0.9, **options).double())(x)[0]
    halves = NormLeaky(norm, asnn.AdaptiveLeaky(0.9, init_hidden=True, **options).double())
    assert torch.equal(torch.cat([halves(x[:2]), halves(x[2:])]), whole)


def square_root(mem: Tensor) -> Tensor:
    return mem.round(decimals=1)


@pytest.mark.parametrize(
    "options", [{"spike_grad": lambda u: (u > 0).to(u) + 0 * u}, {"state_quant": square_root}]
)
def test_what_cannot_be_fused_runs_as_the_pair(options: dict[str, Any]) -> None:
    x = maps(3, 4, CHANNELS, 5, 5)
    layer = layer_for(x, **options).double()
    pair = pair_of(layer)
    assert all(map(torch.equal, outcome(layer, x).values(), outcome(pair, x).values()))


def test_hooks_on_the_norm_see_what_they_would() -> None:
    x = maps(3, 4, CHANNELS, 5, 5)
    layer, seen = layer_for(x).double(), []
    layer.norm.register_forward_hook(lambda module, args, out: seen.append(out))
    layer(x)
    assert len(seen) == 1


def test_under_function_transforms() -> None:
    layer, x = layer_for(maps(3, 2, CHANNELS, 4, 4)).double().eval(), maps(5, 3, 2, CHANNELS, 4, 4)

    def loss(x: Tensor) -> Tensor:
        return layer(x)[1].square().sum()

    per_sample = torch.func.vmap(torch.func.grad(loss))(x)
    leaf = x.clone().requires_grad_()
    torch.stack([loss(one) for one in leaf]).sum().backward()
    torch.testing.assert_close(per_sample, leaf.grad)


@pytest.mark.slow
def test_compiles_to_one_graph() -> None:
    torch._dynamo.reset()
    x = maps(3, 4, CHANNELS, 5, 5)
    layer = layer_for(x).double()
    wanted = outcome(copy.deepcopy(layer), x)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    leaf = x.clone().requires_grad_()
    spikes, mem = compiled(leaf)
    weights = torch.linspace(-1, 1, spikes.numel(), dtype=mem.dtype).view(spikes.shape)
    ((spikes * weights).sum() + mem.square().sum()).backward()
    torch.testing.assert_close(spikes, wanted["spikes"])
    torch.testing.assert_close(leaf.grad, wanted["grad of x"])
    for name, value in layer.state_dict().items():
        torch.testing.assert_close(value, wanted[name])


def neuron(num_steps: int, threshold: float) -> asnn.AdaptiveLeaky:
    return asnn.AdaptiveLeaky.paper(num_steps, threshold=threshold, sequence=True, impl="reference")


@pytest.mark.parametrize("name", TINY)
def test_networks_of_the_zoo(name: str) -> None:
    torch.manual_seed(0)
    options = {"shortcut": "sew_add"} if "resnet" in name else {}
    options |= {"encoding": "direct"} if "dvs" not in name else {}
    options["neuron"] = neuron
    plain = create_model(name, num_classes=10, num_steps=2, **options).double()
    fused = create_model(name, num_classes=10, num_steps=2, fused=True, **options).double()
    fused.load_state_dict(plain.state_dict())
    images = torch.rand(2, plain.in_channels, 32, 32) if "dvs" not in name else torch.rand(2, 2, 2, 32, 32)
    seen = []
    for model in (plain, fused):
        logits = model(images.double())
        logits.square().sum().backward()
        seen.append([logits, *(p.grad for p in model.parameters()), *model.buffers()])
    for found, wanted in zip(*seen, strict=True):
        torch.testing.assert_close(found, wanted)
    kept = []
    with pytest.warns(DeprecationWarning, match="unfuse_norm"):
        assert not any(
            m.fused for m in fuse_norm(copy.deepcopy(fused), False).modules() if isinstance(m, NormLeaky)
        )
    for model in (plain.eval(), unfuse_norm(fused).eval()):
        kept.append(model(images.double()))
    torch.testing.assert_close(*kept)


def test_a_saved_model_is_fused_again(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    model = create_model("lenet", num_classes=10, num_steps=2, fused=True)
    model.save_pretrained(tmp_path / "model.safetensors")
    back, plain = (
        from_pretrained(tmp_path / "model.safetensors"),
        create_model("lenet", num_classes=10, num_steps=2),
    )
    for model, fused in ((back, True), (plain, False)):
        pairs = [layer for layer in model.modules() if isinstance(layer, NormLeaky)]
        assert {pair.fused for pair in pairs} == {fused}


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.Conv2d(2, CHANNELS, 3), torch.rand(3, 4, 2, 7, 7)),
        (nn.ConvTranspose2d(2, CHANNELS, 3), torch.rand(3, 4, 2, 7, 7)),
        (nn.Conv1d(2, CHANNELS, 3, bias=False), torch.rand(3, 4, 2, 7)),
        (nn.Linear(2, CHANNELS), torch.rand(3, 4, 2)),
    ],
)
def test_folds_into_the_layer_before_it(layer: nn.Module, x: Tensor) -> None:
    layer = layer.double()
    current = fold_time(layer, x.double())
    after = layer_for(current).double()
    after(current)  # moves the running averages
    folded, neuron = fold_norm(layer.eval(), after.eval())
    found, wanted = neuron(fold_time(folded, x.double())), after(current)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)
    with pytest.raises(ValueError, match="layer and norm_leaky must be in evaluation mode"):
        fold_norm(layer.train(), after)


def test_wrong_arguments() -> None:
    neuron = asnn.AdaptiveLeaky(0.9, num_steps=2, sequence=True)
    with pytest.raises(TypeError, match="norm must be a batch norm or a number of channels; got GroupNorm"):
        NormLeaky(nn.GroupNorm(1, 3), neuron)
    with pytest.raises(TypeError, match="neuron must be an AdaptiveLeaky or OverTime; got ReLU"):
        NormLeaky(3, nn.ReLU())
    with pytest.raises(ValueError, match="neuron must have sequence=True"):
        NormLeaky(3, asnn.AdaptiveLeaky(0.9, num_steps=2))
    with pytest.raises(ValueError, match=r"x must have 3 channels in dimension 2, .*got shape \(2, 2, 4"):
        NormLeaky(3, neuron)(torch.rand(2, 2, 4, 5, 5))
    with pytest.raises(ValueError, match="expected 4D input"):
        NormLeaky(nn.BatchNorm2d(3), neuron)(torch.rand(2, 2, 3))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        NormLeaky(nn.BatchNorm1d(3), neuron)(torch.rand(1, 1, 3))
    with pytest.raises(ValueError, match="affine must be None with sequence=False"):
        asnn.AdaptiveLeaky(0.9, num_steps=2)(torch.rand(3), affine=(torch.ones(()), torch.zeros(())))
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module; got int"):
        fuse_norm(3)
    with pytest.raises(ValueError, match="model must contain NormLeaky layers"):
        fuse_norm(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="fused must be a bool; got 'yes'"):
        create_model("lenet", num_classes=2, num_steps=2, fused="yes")
    with pytest.raises(TypeError, match="norm_leaky must be a NormLeaky; got BatchNorm2d"):
        fold_norm(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3))
    with pytest.raises(TypeError, match=r"layer must be a convolution or nn\.Linear; got ReLU"):
        fold_norm(nn.ReLU().eval(), NormLeaky(3, neuron).eval())


@pytest.mark.parametrize(
    ("layer", "channels", "message"),
    [
        (nn.Conv2d(2, 4, 3), 3, "norm_leaky must have 4 channels, like the output of layer; got 3"),
        (nn.Conv2d(2, 4, 3), 1, "norm_leaky must have 4 channels, like the output of layer; got 1"),
        (nn.Linear(2, 4), 1, "norm_leaky must have 4 channels, like the output of layer; got 1"),
        (nn.ConvTranspose2d(2, 4, 3), 2, "norm_leaky must have 4 channels, like the output of layer; got 2"),
        (nn.ConvTranspose2d(2, 4, 3, groups=2), 4, "layer must have groups=1, .* got groups=2"),
    ],
)
def test_folding_refuses_what_does_not_fit(layer: nn.Module, channels: int, message: str) -> None:
    after = NormLeaky(channels, asnn.AdaptiveLeaky(0.9, num_steps=2, sequence=True))
    with pytest.raises(ValueError, match=message):
        fold_norm(layer.eval(), after.eval())


def test_becomes_synchronised_as_the_pair_would() -> None:
    net = nn.SyncBatchNorm.convert_sync_batchnorm(Net(fused=True))
    assert isinstance(net.layer.norm, nn.SyncBatchNorm)
    plain = Net(fused=True)
    plain.load_state_dict(net.state_dict())
    torch.testing.assert_close(net(data()), plain(data()))


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_available(), reason="torch is built without torch.distributed")
def test_two_processes_train_as_one_with_the_joined_batch(tmp_path: Path) -> None:
    script = Path(__file__).with_name("norm_distributed_worker.py")
    root = Path(asnn.__file__).parents[1]
    workers = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), "2", str(tmp_path)],
            env=os.environ | {"PYTHONPATH": str(root)},
        )
        for rank in range(2)
    ]
    try:
        assert [process.wait(120) for process in workers] == [0, 0]
    finally:
        for process in workers:
            process.kill()
    pooled, each_step = torch.load(tmp_path / "weights.pt")
    pairs = [("pooled", weights) for weights in pooled]
    pairs += [(kind.removeprefix("unfused "), weights) for kind, weights in each_step.items()]
    for kind, shared in pairs:
        alone = Net(fused=True, norm_over_time=kind)
        train(alone, data(), steps=5)
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(shared[name], value, rtol=1e-4, atol=1e-5, msg=f"{kind}: {name}")


@pytest.mark.parametrize("kind", ["forward_pre", "forward", "full_backward_pre", "full_backward"])
def test_hooks_on_the_neuron_see_the_normalised_current(kind: str) -> None:
    def seen_by(run: nn.Module) -> list[Tensor]:
        seen: list[Tensor] = []

        def hook(module: nn.Module, first: Any, *_: Any) -> None:
            seen.append(first[0].detach())

        getattr(run.neuron, f"register_{kind}_hook")(hook)
        run(x.clone().requires_grad_())[0].sum().backward()
        return seen

    x = maps(3, 4, CHANNELS, 5, 5)
    layer = layer_for(x).double()
    pair = pair_of(layer)
    (found,), (wanted,) = seen_by(layer), seen_by(pair)
    torch.testing.assert_close(found, wanted)


@pytest.mark.slow
def test_a_second_derivative_raises() -> None:
    x = maps(3, 4, CHANNELS, 5, 5).requires_grad_()
    layer = layer_for(x, impl="compile").double()
    (grad,) = torch.autograd.grad(layer(x)[1].sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="has no second derivative"):
        grad.square().sum().backward()
