"""Trace the Triton operators for several batch sizes, on a machine without a GPU.

Run as a script, since it needs Triton without its interpreter. Graphs run without their kernels: results have
shapes, but no values. Prints for each network how many graphs were made, forward and backward, as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import torch
from compile_for_hopper import Hopper
from functorch.compile import make_boxed_func
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch._subclasses.fake_tensor import FakeTensorMode

import snntorch_asnn as asnn
from snntorch_asnn.ops._adaptive_leaky import engine

BATCHES = (1, 3, 64, 100, 128)
STEPS = 4


def networks() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """Every way that coefficients are shared, and the shape of a sample."""

    def neuron(beta: float | Tensor = 0.9) -> nn.Module:
        return asnn.AdaptiveLeaky(beta, num_steps=STEPS, spike_grad=asnn.surrogate.sigmoid(4), sequence=True)

    return {
        "layer": (neuron(), (12,)),
        "odd layer": (neuron(), (7, 3)),
        "channel": (neuron(beta=torch.rand(8, 1, 1)), (8, 16, 16)),
        "7x7": (neuron(beta=torch.rand(8, 1, 1)), (8, 7, 7)),
        "neuron": (neuron(beta=torch.rand(12)), (12,)),
    }


def made(fake: Tensor) -> Tensor:
    return torch.zeros(fake.shape, dtype=fake.dtype).as_strided(fake.shape, fake.stride())


def shapes_alone(count: list[int]) -> Callable[..., Any]:
    """A compiler that counts its graphs, and runs them for nothing but the shapes of their results."""

    def compiler(graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        count[0] += 1
        assert any("triton_kernel_wrapper" in str(node.target) for node in graph.graph.nodes)

        def run(*inputs: Any) -> list[Any]:
            with FakeTensorMode(allow_non_fake_inputs=True) as mode:
                fakes = [mode.from_tensor(t) if isinstance(t, Tensor) else t for t in inputs]
                outputs = graph(*fakes)
            return [made(output) if isinstance(output, Tensor) else output for output in outputs]

        return make_boxed_func(run)

    return compiler


def graphs(network: nn.Module, sample: tuple[int, ...], dynamic: bool | None) -> list[int]:
    forward, backward = [0], [0]
    torch._dynamo.reset()
    backend = aot_autograd(fw_compiler=shapes_alone(forward), bw_compiler=shapes_alone(backward))
    compiled = torch.compile(network, backend=backend, dynamic=dynamic, fullgraph=True)
    for batch in BATCHES:
        asnn.reset(network)
        x = torch.zeros(STEPS, batch, *sample, requires_grad=True)
        spikes, _ = compiled(x)
        assert spikes.shape == x.shape
        spikes.sum().backward()
        assert x.grad is not None
        assert x.grad.shape == x.shape
    return [forward[0], backward[0]]


def main() -> None:
    import triton

    triton.runtime.driver.set_active(Hopper())
    engine._fastest = lambda *_: engine.triton  # as it is for a tensor on a GPU
    found = {
        f"{name}, dynamic={dynamic}": graphs(network, sample, dynamic)
        for name, (network, sample) in networks().items()
        for dynamic in ((None, True) if name in ("layer", "7x7") else (None,))
        if f"{name}, dynamic={dynamic}" in sys.argv[1:] or not sys.argv[1:]
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
