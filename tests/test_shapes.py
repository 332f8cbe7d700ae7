"""Networks whose shapes are all that is known: on meta tensors, and compiled for sizes that change."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import snntorch_asnn as asnn
from snntorch_asnn import surrogate
from snntorch_asnn.models import create_model
from snntorch_asnn.ops import adaptive_leaky

STEPS = 4
SURROGATES = [
    surrogate.atan(),
    surrogate.fast_sigmoid(3),
    surrogate.sigmoid(4),
    surrogate.triangular(1.5),
    surrogate.straight_through(),
]

NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "leaky": (lambda: asnn.AdaptiveLeaky(0.5, num_steps=STEPS, sequence=True), (STEPS, 64, 300)),
    "leaky step": (lambda: asnn.AdaptiveLeaky(0.5, num_steps=STEPS), (2, 3)),
    "synaptic": (lambda: asnn.AdaptiveSynaptic(0.5, 0.5, num_steps=STEPS, sequence=True), (STEPS, 64, 300)),
    "lapicque": (lambda: asnn.AdaptiveLapicque(0.5, num_steps=STEPS, sequence=True), (STEPS, 64, 300)),
    "rleaky": (
        lambda: asnn.AdaptiveRLeaky(0.5, linear_features=3, num_steps=STEPS, sequence=True),
        (STEPS, 2, 3),
    ),
    "norm": (
        lambda: asnn.NormLeaky(8, asnn.AdaptiveLeaky(0.5, num_steps=STEPS, sequence=True)),
        (STEPS, 2, 8, 40, 40),
    ),
    "zoo": (lambda: create_model("lenet", num_classes=4, num_steps=STEPS), (2, 3, 32, 32)),
    "fused zoo": (
        lambda: create_model("spikformer_tiny", num_classes=4, num_steps=STEPS, fused=True),
        (2, 3, 32, 32),
    ),
}


def first(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_are_told_on_meta_tensors(name: str, training: bool) -> None:
    make, shape = NETWORKS[name]
    with torch.device("meta"):
        network, x = make().train(training), torch.empty(shape, requires_grad=True)
    output = first(network(x))
    output.sum().backward()
    assert output.is_meta
    assert x.grad is not None
    assert x.grad.shape == x.shape
    expected = first(make().train(training)(torch.rand(shape)))
    assert output.shape == expected.shape
    assert output.dtype == expected.dtype


@pytest.mark.parametrize("spike_grad", SURROGATES, ids=repr)
def test_the_op_compiles_with_dynamic_shapes(spike_grad: surrogate.Surrogate) -> None:
    def function(x: Tensor, spike_grad: surrogate.Surrogate) -> Tensor:
        return adaptive_leaky(x, 0.9, spike_grad=spike_grad, output_mem=True)[1]

    torch._dynamo.reset()
    compiled = torch.compile(function, dynamic=True, fullgraph=True, backend="eager")
    for batch in (3, 5):
        assert_same(lambda x: compiled(x, spike_grad), lambda x: function(x, spike_grad), (STEPS, batch, 6))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["leaky", "leaky step", "norm", "zoo"])
def test_networks_compile_with_dynamic_shapes(name: str) -> None:
    make, shape = NETWORKS[name]
    network = make().eval() if name == "zoo" else make()
    torch._dynamo.reset()
    backend = "eager" if name == "zoo" else "aot_eager"
    compiled = torch.compile(network, dynamic=True, fullgraph=True, backend=backend)
    batch_dim = 1 if len(shape) != 2 and name != "zoo" else 0
    for batch in (3, 5):
        sizes = tuple(batch if dim == batch_dim else min(size, 32) for dim, size in enumerate(shape))

        def fresh(module: nn.Module) -> Callable[[Tensor], Tensor]:
            return lambda x: (asnn.reset(network), first(module(x)))[1]

        assert_same(fresh(compiled), fresh(network), sizes)


def assert_same(
    compiled: Callable[[Tensor], Tensor], plain: Callable[[Tensor], Tensor], shape: tuple[int, ...]
) -> None:
    """Outputs and gradients of the input agree."""
    x = torch.rand(shape, requires_grad=True)
    got, expected = compiled(x), plain(x)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(
        *(torch.autograd.grad(output.float().cos().sum(), x)[0] for output in (got, expected))
    )
