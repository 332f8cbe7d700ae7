"""Norm and neuron in one in Triton kernels, against the two in float64."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snntorch_asnn as asnn
from snntorch_asnn.layers import NormLeaky, norm_leaky
from snntorch_asnn.layers.norm_leaky import normed_spikes
from snntorch_asnn.layers.norm_over_time import normed
from snntorch_asnn.ops._adaptive_leaky.triton import implementation as kernels
from snntorch_asnn.ops._batch_moments import moments as moments_module

pytest.importorskip("triton")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if lack := kernels.missing(DEVICE):
    pytest.skip(f"misses {lack}", allow_module_level=True)

from snntorch_asnn.ops._batch_moments.triton import moments as batch_moments_triton  # noqa: E402


@pytest.fixture(autouse=True)
def _in_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU runs them interpreted."""
    monkeypatch.setattr(norm_leaky, "FUSING_PAYS_FROM", 0)
    for module in (norm_leaky, moments_module):
        monkeypatch.setattr(module, "gpu_kernels", lambda _: batch_moments_triton)


def build(options: dict[str, Any], steps: int, norm: type[nn.Module]) -> NormLeaky:
    neuron = asnn.AdaptiveLeaky(0.8, num_steps=steps, sequence=True, impl="triton", **options)
    layer = NormLeaky(norm(5), neuron)
    nn.init.uniform_(layer.norm.weight, 0.5, 2)
    nn.init.uniform_(layer.norm.bias, -0.5, 1)
    return layer.to(DEVICE)


def outcome(layer: Any, run: Any, x: Tensor) -> dict[str, Tensor]:
    leaf = x.clone().requires_grad_()
    spikes, mem = run(layer, leaf)
    weights = torch.linspace(-1, 1, spikes.numel(), dtype=mem.dtype, device=DEVICE).view(spikes.shape)
    ((spikes * weights).sum() + mem.square().sum()).backward()
    found = {"spikes": spikes, "mem": mem, "grad of x": leaf.grad}
    found |= {f"grad of {name}": p.grad for name, p in layer.named_parameters()}
    return found | dict(layer.norm.state_dict())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["maps", "channels last", "tokens"])
@pytest.mark.parametrize("options", [{}, {"feature_shape": (5, 1, 1), "reset_delay": False}], ids=str)
def test_agrees_with_the_pair(options: dict[str, Any], layout: str, dtype: torch.dtype) -> None:
    tokens = layout == "tokens"
    if tokens and options:
        options = options | {"feature_shape": (5,)}
    layer = build(options, 3, nn.BatchNorm1d if tokens else nn.BatchNorm2d)
    exact = copy.deepcopy(layer).double()
    exact.neuron.impl = "reference"
    x = (torch.randn(3, 4, 5, 3, 3, device=DEVICE) * 2 + 3).to(dtype)
    if layout == "channels last":
        x = x.movedim(2, -1).contiguous().movedim(-1, 2)
    dim = 2
    if tokens:
        x, dim = torch.randn(3, 4, 9, 5, device=DEVICE).to(dtype), 3
    found = outcome(layer, lambda one, leaf: normed_spikes(one.norm, one.neuron, leaf, dim), x)
    wanted = outcome(exact, lambda one, leaf: one.neuron(normed(one.norm, leaf, dim)), x.double())
    assert wanted["spikes"].any()
    assert found["grad of x"].stride() == x.stride()
    for name, value in found.items():
        value, expected = value.detach().double(), wanted[name].detach().double()
        half = dtype == torch.bfloat16 and name.startswith("grad")
        tolerance = 1e-2 if half else 1e-4  # of the largest: gradients are rounded on the way
        close = {"rtol": tolerance, "atol": tolerance * max(1.0, float(expected.abs().max()))}
        torch.testing.assert_close(value, expected, msg=lambda m, n=name: f"{n}: {m}", **close)


def test_moments_over_several_processes_are_joined_from_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process group gets: moments and gradient by kernels, the joining by torch.distributed."""
    x = torch.randn(3, 4, 5, 6, device=DEVICE, requires_grad=True)
    same, mean, variance, _ = moments_module.batch_moments(x, 2)
    assert "_Moments" in type(same.grad_fn).__name__
    wide = x.detach().double().requires_grad_()
    wanted_variance, wanted_mean = torch.var_mean(wide, (0, 1, 3), correction=0)
    factors = torch.linspace(1, 2, 5, device=DEVICE)
    ((mean + variance) * factors).sum().backward()
    ((wanted_mean + wanted_variance) * factors).sum().backward()
    torch.testing.assert_close(x.grad.double(), wide.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["sequential", "step_statistics", "step"])
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("last", [False, True])
def test_norms_of_each_step(kind: str, momentum: float | None, last: bool) -> None:
    neuron = asnn.AdaptiveLeaky(0.8, num_steps=3, sequence=True, impl="triton")
    layer = NormLeaky(nn.BatchNorm2d(5, momentum=momentum), neuron, norm_over_time=kind).to(DEVICE)
    nn.init.uniform_(layer.norm.weight, 0.5, 2)
    nn.init.uniform_(layer.norm.bias, -0.5, 1)
    exact = copy.deepcopy(layer).double()
    exact.neuron.impl = "reference"
    for _ in range(2):
        x = torch.randn(3, 4, 5, 3, 3, device=DEVICE) * 2 + 3
        if last:
            x = x.movedim(2, -1).contiguous().movedim(-1, 2)
        layer.zero_grad(), exact.zero_grad()
        found = outcome(layer, lambda one, leaf: one(leaf), x)
        wanted = outcome(
            exact, lambda one, leaf: one.neuron(normed(one.norm, leaf, 2, one.norm_over_time)), x.double()
        )
        assert wanted["spikes"].any()
        for name, value in found.items():
            value, expected = value.detach().double(), wanted[name].detach().double()
            close = {"rtol": 1e-4, "atol": 1e-4 * max(1.0, float(expected.abs().max()))}
            torch.testing.assert_close(value, expected, msg=lambda m, n=name: f"{n}: {m}", **close)


@pytest.mark.skipif(DEVICE != "cpu", reason="counts a GPU's traffic on a CPU")
def test_norm_and_neuron_in_one_move_fewer_bytes() -> None:
    """As benchmarks/norm_traffic.py counts them, which the documentation quotes."""
    path = Path(asnn.__file__).parents[1] / "benchmarks"
    program = f"""
import sys, torch
sys.path.insert(0, {str(path)!r})
import norm_traffic
for dtype in norm_traffic.DTYPES:
    print(*(sum(norm_traffic.eager("maps", dtype, form).values()) for form in norm_traffic.FORMS))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [tuple(map(float, line.split())) for line in done.stdout.splitlines()]
    wanted = [(53, 73, 37), (27, 61, 19)]
    for counts, quoted in zip(found, wanted, strict=True):
        assert counts == pytest.approx(quoted, abs=1)
