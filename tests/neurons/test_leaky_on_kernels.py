"""Modules on the Triton kernels: single steps, and a norm's factor and offset, beside the reference."""

from __future__ import annotations

from typing import Any

import pytest
import snntorch as snn
import torch
from torch import Tensor

import snntorch_asnn as asnn
from snntorch_asnn.neurons import lapicque, leak_constraint, leaky, synaptic
from snntorch_asnn.ops._adaptive_leaky.rule import ResetMechanism
from snntorch_asnn.ops._adaptive_leaky.triton import implementation as kernels
from snntorch_asnn.ops._adaptive_rleaky import step as adaptive_rleaky
from snntorch_asnn.ops._spike_origin import spike_worth

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if lack := kernels.missing(DEVICE):
    pytest.skip(f"misses {lack}", allow_module_level=True)

from snntorch_asnn.ops._adaptive_rleaky.triton import step as triton_recurrent  # noqa: E402
from snntorch_asnn.ops._leak_gradient.triton import gradient as triton_leaks  # noqa: E402


@pytest.fixture
def _steps_on_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU."""
    for module in (leaky, lapicque, synaptic):
        monkeypatch.setattr(module, "takes_steps", lambda impl, x, rule: impl == "triton" and rule.is_fusable)


def stepwise(neuron: asnn.AdaptiveLeaky | asnn.AdaptiveLapicque, x: Tensor) -> dict[str, Tensor]:
    """Outputs of all steps, the last membrane, and every gradient."""
    x = x.clone().requires_grad_()
    mem = neuron.reset_mem()
    spikes = []
    for current in x:
        spk, mem = neuron(current, mem)
        spikes.append(spk)
    weights = torch.arange(x.numel(), device=x.device).reshape(x.shape).cos()
    loss = (torch.stack(spikes) * weights).sum() + (mem * weights[0]).sum()
    leaves = {"x": x, **{f"grad of {n}": p for n, p in neuron.named_parameters()}}
    grads = torch.autograd.grad(loss, list(leaves.values()))
    return {"spikes": torch.stack(spikes), "mem": mem, **dict(zip(leaves, grads, strict=True))}


@pytest.mark.usefixtures("_steps_on_kernels")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"feature_shape": (3, 1, 1), "threshold": 0.7, "learn_threshold": True},
        {
            "reset_mechanism": "zero",
            "learn_beta": False,
            "feature_shape": (3, 1, 1),
            "graded_spikes_factor": 2.0,
        },
        {"reset_delay": False, "exact_reset": True, "detach_reset": True},
    ],
    ids=["default", "channels", "mixed shapes", "exact"],
)
def test_single_steps_on_kernels_are_those_of_the_reference(options: dict[str, Any]) -> None:
    x = torch.randn(3, 2, 3, 2, 5, device=DEVICE)
    found, expected = (
        stepwise(asnn.AdaptiveLeaky(0.8, num_steps=3, impl=impl, **options).to(DEVICE), x)
        for impl in ("triton", "reference")
    )
    for name, value in expected.items():
        if name in ("spikes", "mem"):
            assert torch.equal(found[name], value), name
        else:
            torch.testing.assert_close(found[name], value, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.usefixtures("_steps_on_kernels")
@pytest.mark.parametrize("mechanism", ["subtract", "none"])
@pytest.mark.parametrize("layout", ["contiguous", "every other"])
def test_the_drive_of_a_circuit_is_one_pass(mechanism: ResetMechanism, layout: str) -> None:
    x = torch.randn(3, 2, 3, 2, 10, device=DEVICE)
    x = x[..., ::2] if layout == "every other" else x
    found, expected = (
        stepwise(
            asnn.AdaptiveLapicque(
                R=0.7, C=1.9, time_step=0.9, num_steps=3, impl=impl, reset_mechanism=mechanism
            ).to(DEVICE),
            x,
        )
        for impl in ("triton", "reference")
    )
    for name, value in expected.items():
        if name in ("spikes", "mem"):
            assert torch.equal(found[name], value), name
        else:
            torch.testing.assert_close(found[name], value, msg=lambda m, n=name: f"{n}: {m}")


SYNAPTIC: dict[str, dict[str, Any]] = {
    "default": {},
    "channels": {"feature_shape": (3, 1, 1), "learn_threshold": True, "detach_reset": False},
    "exact": {"reset_delay": False, "exact_reset": True, "reset_mechanism": "zero", "learn_alpha": False},
    "immediate": {"reset_delay": False, "learn_beta": False},
}


@pytest.mark.usefixtures("_steps_on_kernels")
@pytest.mark.parametrize("name", SYNAPTIC)
def test_synaptic_steps_on_kernels_are_those_of_the_reference(name: str) -> None:
    x = torch.randn(3, 2, 3, 2, 5, device=DEVICE)
    results = []
    for impl in ("triton", "reference"):
        neuron = asnn.AdaptiveSynaptic(0.6, 0.8, num_steps=3, impl="auto", **SYNAPTIC[name]).to(DEVICE)
        neuron.impl = impl
        now = x.clone().requires_grad_()
        state = neuron.reset_mem()
        outputs = []
        for current in now:
            spk, *state = neuron(current, *state)
            outputs.append(spk)
        outputs += state
        loss = sum((o * (2 + o.detach()).cos()).sum() for o in outputs)
        leaves = [now, *(p for p in neuron.parameters() if p.requires_grad)]
        results.append((outputs, torch.autograd.grad(loss, leaves)))
    (found, found_grads), (expected, expected_grads) = results
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    assert any(bool(spk.any()) for spk in expected[:3])
    for grad, other in zip(found_grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, other)


RECURRENT: dict[str, dict[str, Any]] = {
    "layer": {"linear_features": 6},
    "neurons": {"linear_features": 6, "feature_shape": (6,), "learn_threshold": True},
    "one to one": {"all_to_all": False, "V": 0.6, "reset_mechanism": "none"},
    "channels": {
        "conv2d_channels": 6,
        "kernel_size": 3,
        "feature_shape": (6, 1, 1),
        "detach_reset": False,
        "learn_threshold": True,
    },
    "zero": {"linear_features": 6, "reset_mechanism": "zero", "detach_reset": False, "learn_threshold": True},
    "immediate": {"linear_features": 6, "reset_delay": False, "feature_shape": (6,), "learn_beta": False},
    "immediate zero": {
        "linear_features": 6,
        "reset_delay": False,
        "reset_mechanism": "zero",
        "learn_gain": False,
    },
    "exact": {
        "linear_features": 6,
        "reset_delay": False,
        "exact_reset": True,
        "reset_mechanism": "zero",
        "detach_reset": True,
        "learn_recurrent": False,
    },
}


def recurrent(options: dict[str, Any], impl: Any = "auto") -> asnn.AdaptiveRLeaky:
    torch.manual_seed(0)
    options = {"feature_shape": (), **options}
    neuron = asnn.AdaptiveRLeaky(torch.tensor([0.8, 0.7, 0.9]), num_steps=3, impl=impl, **options)
    if not options.get("all_to_all", True):
        neuron.graded_spikes_factor.data.fill_(2.0)
    return neuron.to(DEVICE)


def recurrent_steps(neuron: Any, x: Tensor) -> dict[str, Tensor]:
    """Outputs of all steps, the last membrane, and every gradient, that of the first membrane too."""
    x = x.clone().requires_grad_()
    start = torch.full_like(x[0], 0.4, requires_grad=True)
    if getattr(neuron, "sequence", False):
        outputs, mem = neuron(x, torch.zeros_like(start), start)
    else:
        spk, mem = torch.zeros_like(start), start
        spikes = []
        for current in x:
            spk, mem = neuron(current, spk, mem)
            spikes.append(spk)
        outputs = torch.stack(spikes)
    weights = torch.arange(x.numel(), device=x.device).reshape(x.shape).cos().to(x.dtype)
    loss = (outputs * weights).sum() + (mem * weights[0]).sum()
    leaves = {"x": x, "start": start}
    leaves |= {f"grad of {n}": p for n, p in neuron.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    found = {"spikes": outputs, "mem": mem, **dict(zip(leaves, grads, strict=True))}
    return {key: value for key, value in found.items() if value is not None}


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """As on a GPU; the names of what was launched."""
    takes = lambda impl, x, rule: impl == "auto" and rule.is_fusable  # noqa: E731
    monkeypatch.setattr(adaptive_rleaky, "takes_steps", takes)
    names: list[str] = []
    launch = triton_recurrent.Prepared.__call__

    def noted(self: Any, *tensors: Tensor) -> None:
        names.append(self.kernel.fn.__name__)
        launch(self, *tensors)

    monkeypatch.setattr(triton_recurrent.Prepared, "__call__", noted)
    return names


@pytest.mark.parametrize(
    ("name", "layout"),
    [*((name, "contiguous") for name in RECURRENT), *((n, "every other") for n in ("neurons", "channels"))],
)
@pytest.mark.parametrize("sequence", [False, True])
def test_recurrent_steps_on_kernels_are_those_of_the_reference(
    name: str, layout: str, sequence: bool, launched: list[str]
) -> None:
    options = RECURRENT[name] | {"sequence": sequence}
    shape = (3, 2, 6, 5, 4) if name == "channels" else (3, 4, 6)
    x = 2 * torch.randn(*shape[:-1], 2 * shape[-1], device=DEVICE)
    x = x[..., ::2] if layout == "every other" else x[..., : shape[-1]].contiguous()
    found, expected = (recurrent_steps(recurrent(options, impl), x) for impl in ("auto", "reference"))
    assert launched == ["recurrent_forward_kernel"] * 3 + ["recurrent_backward_kernel"] * 3
    exact = recurrent_steps(recurrent(options, "reference").double(), x.double())
    assert 0 < expected["spikes"].count_nonzero() < expected["spikes"].numel()
    assert found.keys() == expected.keys() == exact.keys()
    assert all(torch.equal(found[key], expected[key]) for key in ("spikes", "mem"))
    assert torch.equal(found["spikes"].double(), exact["spikes"])
    for key, value in exact.items():
        torch.testing.assert_close(found[key], value.float(), msg=lambda m, n=key: f"{n}: {m}")


@pytest.mark.parametrize("mechanism", ["subtract", "zero", "none"])
def test_recurrent_steps_on_kernels_start_as_those_of_snntorch(
    mechanism: ResetMechanism, launched: list[str]
) -> None:
    x = 2 * torch.randn(3, 4, 6, device=DEVICE)
    ours = asnn.AdaptiveRLeaky(0.8, linear_features=6, num_steps=3, reset_mechanism=mechanism).to(DEVICE)
    theirs = snn.RLeaky(beta=0.8, linear_features=6, reset_mechanism=mechanism).to(DEVICE)
    theirs.recurrent.load_state_dict(ours.recurrent.state_dict())
    found, expected = recurrent_steps(ours, x), recurrent_steps(theirs, x)
    assert "recurrent_forward_kernel" in launched
    assert all(torch.equal(found[key], expected[key]) for key in ("spikes", "mem"))
    for key in ("x", "start", "grad of recurrent.weight"):
        torch.testing.assert_close(found[key], expected[key])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_recurrent_steps_on_kernels_take_half_precision(dtype: torch.dtype, launched: list[str]) -> None:
    x = torch.randn(2, 4, 6, device=DEVICE, dtype=dtype)
    fed = torch.randn(4, 6, device=DEVICE, dtype=torch.bfloat16)
    results = []
    for impl in ("auto", "reference"):
        neuron = recurrent({"all_to_all": False}, impl)
        leaves = [x.clone().requires_grad_(), fed.clone().requires_grad_()]
        neuron._feed_back = lambda spk, leaf=leaves[1]: leaf + 0  # type: ignore[method-assign]
        spk, mem = neuron(leaves[0][0])
        grads = torch.autograd.grad(
            spk.float().sum() + mem.square().sum(), [*leaves, neuron.beta, neuron.gain]
        )
        results.append((spk, mem, *grads))
    assert launched
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("read", ["spikes", "membrane"])
def test_a_recurrent_step_of_which_one_result_is_read(read: str, launched: list[str]) -> None:
    x = torch.randn(4, 6, device=DEVICE)
    grads = []
    for impl in ("auto", "reference"):
        neuron = recurrent({"all_to_all": False}, impl)
        leaf = x.clone().requires_grad_()
        results = neuron(leaf)
        grads.append(torch.autograd.grad(results[read == "membrane"].sum(), [leaf, neuron.gain]))
    assert launched == ["recurrent_forward_kernel", "recurrent_backward_kernel"]
    for found, expected in zip(*grads, strict=True):
        torch.testing.assert_close(found, expected)


def test_spikes_of_recurrent_steps_are_known_as_such(launched: list[str]) -> None:
    neuron = recurrent({"all_to_all": False})
    spk, mem = neuron(torch.randn(4, 6, device=DEVICE))
    worth = spike_worth(spk)
    assert worth is not None
    assert worth.value == 2
    assert spike_worth(mem) is None
    learned = recurrent({"all_to_all": False})
    learned.graded_spikes_factor = torch.nn.Parameter(learned.graded_spikes_factor)
    assert spike_worth(learned(torch.randn(4, 6, device=DEVICE))[0]) is None


@pytest.mark.parametrize("feature_shape", [(), (3, 1, 1), (1, 2, 5)])
@pytest.mark.parametrize(
    ("over_time", "fixed"), [(False, ()), (True, ()), (False, ("beta", "gain")), (False, ("factor", "gain"))]
)
def test_an_affine_input_on_kernels_is_that_of_the_reference(
    feature_shape: tuple[int, ...], over_time: bool, fixed: tuple[str, ...]
) -> None:
    x = torch.randn(3, 4, 3, 2, 5, device=DEVICE)
    weights = torch.arange(x.numel(), device=DEVICE).reshape(x.shape).cos()
    shape = (3, 1, 3, 1, 1) if over_time else (3, 1, 1)
    both = torch.rand(2, *shape, device=DEVICE) + 0.5
    results = []
    for impl in ("triton", "reference"):
        neuron = asnn.AdaptiveLeaky(
            torch.tensor([0.8, 0.7, 0.9]).view(3, *(1,) * len(feature_shape)).expand(3, *feature_shape),
            num_steps=3,
            sequence=True,
            impl=impl,
            feature_shape=feature_shape,
        ).to(DEVICE)
        leaves = {"x": x.clone(), "factor": both[0].clone(), "offset": both[1].clone() - 1}
        leaves |= dict(neuron.named_parameters())
        wanted = [leaf.requires_grad_(name not in fixed) for name, leaf in leaves.items()]
        spikes, mem = neuron(leaves["x"], affine=(leaves["factor"], leaves["offset"]))
        loss = (spikes * weights).sum() + (mem * weights[0]).sum()
        wanted = [leaf for leaf in wanted if leaf.requires_grad]
        results.append((spikes, mem, *torch.autograd.grad(loss, wanted)))
    assert torch.equal(results[0][0], results[1][0])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_changed_attribute_changes_the_rule() -> None:
    neuron = asnn.AdaptiveLeaky(0.9, num_steps=2, sequence=True)
    x = torch.full((2, 1, 1), 1.5)
    _, mem = neuron(x)
    neuron.reset_mechanism = "none"
    _, kept = neuron(x)
    assert not torch.equal(mem, kept)
    neuron.detach_reset = "never"  # type: ignore[assignment]
    with pytest.raises(TypeError, match="detach_reset must be a bool or None; got 'never'"):
        neuron(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_leak_is_led_back_by_a_kernel_as_by_operators(dtype: torch.dtype) -> None:
    raw = torch.tensor([-0.5, 0.0, 0.0, 0.5, 1.0, 1.0, 1.5, float("nan")] * 80, dtype=dtype, device=DEVICE)
    grad = torch.tensor([1.0, -1.0, float("nan"), 0.0, -2.0, 2.0, float("inf"), 1.0, -0.5], device=DEVICE)
    grad = grad.to(dtype).repeat(80)[: raw.numel()].view(8, 80).t()
    found = triton_leaks.led_back(raw.view(80, 8), grad)
    expected = leak_constraint._led_back(raw.view(80, 8), grad)
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.equal(found.nan_to_num(), expected.nan_to_num())
