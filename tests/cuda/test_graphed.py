"""Layers and a small network behind ``torch.cuda.make_graphed_callables``, against float64 on the CPU.

On a CPU, where there are no graphs, the same comparison runs without one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import snntorch_asnn as asnn

STEPS, BATCH, FEATURES = 4, 4, 32


class Spikes(nn.Module):
    """A neuron without its membrane."""

    def __init__(self, neuron: nn.Module) -> None:
        super().__init__()
        self.neuron = neuron

    def forward(self, x: Tensor) -> Tensor:
        spikes: Tensor = self.neuron(x)[0]
        return spikes


def leaky(**options: object) -> nn.Module:
    return Spikes(asnn.AdaptiveLeaky(0.75, gain=0.5, num_steps=STEPS, sequence=True, **options))


def network() -> nn.Module:
    """Two layers of neurons, with weights for which float32 is exact."""
    net = nn.Sequential(
        nn.Linear(FEATURES, 48), leaky(learn_threshold=True), nn.Linear(48, FEATURES), leaky()
    )
    with torch.no_grad():
        for parameter in (*net[0].parameters(), *net[2].parameters()):
            parameter.copy_((parameter * 80).round() / 16)
    return net


BUILDS: dict[str, Callable[[], nn.Module]] = {
    "leaky": leaky,
    "leaky per feature": lambda: leaky(feature_shape=(FEATURES,), learn_threshold=True),
    "synaptic": lambda: Spikes(asnn.AdaptiveSynaptic(0.5, 0.75, num_steps=STEPS, sequence=True)),
    "recurrent": lambda: Spikes(
        asnn.AdaptiveRLeaky(0.75, V=0.5, all_to_all=False, gain=0.5, num_steps=STEPS, sequence=True)
    ),
    "network": network,
}


def results(run: nn.Module, x: Tensor, grad: Tensor) -> dict[str, Tensor]:
    """Spikes, and the gradients of input and parameters, in float64 on the CPU."""
    x = x.clone().requires_grad_()
    run.zero_grad(set_to_none=True)
    spikes = run(x)
    spikes.backward(grad)
    found = {"spikes": spikes, "x": x.grad} | {name: p.grad for name, p in run.named_parameters()}
    return {name: value.detach().double().cpu() for name, value in found.items() if value is not None}


@pytest.mark.parametrize("name", BUILDS)
def test_a_graphed_callable_is_that_of_float64_on_the_cpu(name: str, device: str) -> None:
    torch.manual_seed(0)
    net = BUILDS[name]()
    precise = copy.deepcopy(net).double()
    net.to(device)
    # Multiples of 1/32, for which four steps are exact in float32, so that spikes cannot differ.
    inputs = [torch.randint(-48, 80, (STEPS, BATCH, FEATURES)) / 32 for _ in range(2)]
    if device == "cuda":
        sample = torch.zeros_like(inputs[0], device=device, requires_grad=True)
        net = torch.cuda.make_graphed_callables(net, (sample,))
    for x in inputs:
        grad = torch.randn_like(x)
        expected = results(precise, x.double(), grad.double())
        assert 0.05 < expected["spikes"].mean() < 0.95
        got = results(net, x.to(device), grad.to(device))
        assert got.keys() == expected.keys()
        assert torch.equal(got["spikes"], expected["spikes"])
        for key, value in expected.items():
            scale = max(1.0, float(value.abs().max()))
            torch.testing.assert_close(got[key], value, rtol=1e-5, atol=1e-5 * scale, msg=key)
