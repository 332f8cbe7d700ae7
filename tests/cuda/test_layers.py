"""Layers on a GPU: norm and neuron in one, spikes kept as bits, half precision."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import snntorch_asnn as asnn

STEPS = 4
MARGIN = 1e-4
"""No membrane is nearer to its threshold, so that rounding changes no spike."""


def norm_leaky(threshold: float = 1.0) -> asnn.NormLeaky:
    layer = asnn.NormLeaky(
        16, asnn.AdaptiveLeaky(0.75, threshold, num_steps=STEPS, sequence=True, learn_threshold=True)
    )
    with torch.no_grad():
        layer.norm.weight.copy_(torch.linspace(0.5, 1.5, 16))
        layer.norm.bias.copy_(torch.linspace(-0.5, 0.5, 16))
    return layer


def clear_input(shape: tuple[int, ...]) -> Tensor:
    """The first random input for which all membranes keep away from the threshold."""
    for seed in range(100):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 + 0.5
        near = [norm_leaky(1 + by).double()(x)[0] for by in (-MARGIN, MARGIN)]
        if torch.equal(*near):
            return x
    raise AssertionError("all random inputs come too near to the threshold")


def results(layer: asnn.NormLeaky, x: Tensor, grad: Tensor) -> dict[str, Tensor]:
    x = x.detach().requires_grad_()
    spikes, mem = layer(x)
    spikes.backward(grad)
    assert x.grad is not None
    found = {"spikes": spikes, "mem": mem, "x": x.grad, "mean": layer.norm.running_mean}
    found |= {"var": layer.norm.running_var}
    found |= {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}
    return {name: value.detach().double().cpu() for name, value in found.items()}


@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
@pytest.mark.parametrize("training", [True, False])
def test_norm_and_neuron_in_one_are_those_of_float64_on_the_cpu(
    training: bool, layout: str, device: str
) -> None:
    shape = (STEPS, 2, 16, 5, 7) if device == "cpu" else (STEPS, 4, 16, 7, 7)
    x = clear_input(shape)
    if layout == "channels last":
        x = x.transpose(2, 4).contiguous().transpose(2, 4)
    grad = torch.randn(shape, dtype=torch.float64)
    layer = norm_leaky().train(training)
    expected = results(copy.deepcopy(layer).double(), x, grad)
    assert 0.05 < expected["spikes"].mean() < 0.95
    got = results(layer.to(device), x.float().to(device), grad.float().to(device))
    assert torch.equal(got["spikes"], expected["spikes"])
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        scale = max(1.0, float(value.abs().max()))
        torch.testing.assert_close(got[name], value, rtol=1e-4, atol=1e-4 * scale, msg=name)


class Convolutions(nn.Module):
    """Three layers, the second fed with spikes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = asnn.NormLeaky(16, asnn.AdaptiveLeaky(0.75, num_steps=STEPS, sequence=True))
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.neuron = asnn.AdaptiveLeaky(0.75, num_steps=STEPS, sequence=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(0, 1)).unflatten(0, (STEPS, -1))
        spikes = self.norm(x)[0]
        x = self.second(spikes.flatten(0, 1)).unflatten(0, (STEPS, -1))
        out: Tensor = self.neuron(x)[0]
        return out


def images(device: str) -> Tensor:
    """So many that the kernels run on a GPU, and so few on a CPU that nothing has to be compiled."""
    shape = (8, 3, 16, 16) if device == "cuda" else (2, 3, 8, 8)
    return torch.rand(STEPS, *shape, device=device)


def gradients(net: nn.Module, x: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(net(x).square().mean(), list(net.parameters())))


def test_packed_spikes_give_the_same_gradients(device: str) -> None:
    net, x = Convolutions().to(device), images(device)
    torch.backends.cudnn.deterministic = True
    try:
        expected = gradients(net, x)
        with asnn.pack_spikes():
            loss = net(x).square().mean()
        packed = torch.autograd.grad(loss, list(net.parameters()))
    finally:
        torch.backends.cudnn.deterministic = False
    assert all(bool(gradient.any()) for gradient in expected)
    assert all(torch.equal(*pair) for pair in zip(packed, expected, strict=True))


@pytest.mark.cuda
def test_packed_spikes_take_less_memory() -> None:
    net, x = Convolutions().cuda(), torch.rand(STEPS, 64, 3, 32, 32, device="cuda")

    def kept(packed: bool) -> int:
        before = torch.cuda.memory_allocated()
        if packed:
            with asnn.pack_spikes():
                loss = net(x).square().mean()
        else:
            loss = net(x).square().mean()
        torch.cuda.synchronize()
        held = torch.cuda.memory_allocated() - before
        loss.backward()
        return held

    kept(False)
    spikes = STEPS * 64 * 16 * 32 * 32 * 4
    assert kept(True) < kept(False) - 0.8 * spikes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_trains_as_float32_does(dtype: torch.dtype, device: str) -> None:
    net, x = Convolutions().to(device), images(device)
    expected = gradients(net, x)
    # As on most losses, the scale is so large that gradients that are too small for fp16 are not lost.
    scaler = torch.amp.GradScaler(device, init_scale=1024.0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    with torch.autocast(device, dtype):
        out = net(x)
        loss = out.float().square().mean()
    assert out.dtype == dtype
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()
        cosine = torch.cosine_similarity(parameter.grad.flatten(), gradient.flatten(), 0)
        assert cosine > 0.9
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 1024.0
