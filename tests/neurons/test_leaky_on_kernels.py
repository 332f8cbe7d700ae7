"""Modules on the Triton kernels: single steps, and a norm's factor and offset, beside the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import snntorch_asnn as asnn
from snntorch_asnn.neurons import lapicque, leak_constraint, leaky
from snntorch_asnn.ops.adaptive_leaky import triton as kernels
from snntorch_asnn.ops.adaptive_leaky.rule import ResetMechanism

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if lack := kernels.missing(DEVICE):
    pytest.skip(f"misses {lack}", allow_module_level=True)

from snntorch_asnn.ops import triton_leaks  # noqa: E402


@pytest.fixture
def _steps_on_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU."""
    for module in (leaky, lapicque):
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
