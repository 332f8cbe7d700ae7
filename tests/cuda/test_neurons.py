"""Neurons and operators on a GPU, against float64 on the CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snntorch_asnn as asnn
from snntorch_asnn.ops import adaptive_leaky
from snntorch_asnn.ops._adaptive_leaky.engine import choose
from snntorch_asnn.ops._adaptive_leaky.rule import Rule

STEPS = 4
NEURONS: dict[str, Callable[..., nn.Module]] = {
    "leaky": lambda **options: asnn.AdaptiveLeaky(0.75, gain=0.5, **options),
    "exact reset": lambda **options: asnn.AdaptiveLeaky(
        0.75, gain=0.5, reset_mechanism="zero", reset_delay=False, exact_reset=True, **options
    ),
    "per channel": lambda **options: asnn.AdaptiveLeaky(
        0.75, gain=0.5, feature_shape=(32, 1), learn_threshold=True, **options
    ),
    "synaptic": lambda **options: asnn.AdaptiveSynaptic(0.5, 0.75, **options),
    "lapicque": lambda **options: asnn.AdaptiveLapicque(0.75, R=2.0, learn_threshold=True, **options),
    "recurrent": lambda **options: asnn.AdaptiveRLeaky(0.75, all_to_all=False, V=0.5, **options),
}
neurons = pytest.mark.parametrize("name", NEURONS)


def shape_on(device: str) -> tuple[int, ...]:
    """So many neurons that the kernels run on a GPU, and so few on a CPU that nothing has to be compiled."""
    return (STEPS, 3, 32, 128) if device == "cuda" else (STEPS, 3, 32, 4)


def exact_input(device: str) -> Tensor:
    """Multiples of 1/32, for which four steps are exact in float32, so that spikes cannot differ."""
    return torch.randint(-48, 80, shape_on(device)) / 32


def pass_through(neuron: nn.Module, x: Tensor, grad: Tensor) -> dict[str, Tensor]:
    x = x.detach().requires_grad_()
    outputs = neuron(x)
    spikes = outputs[0]
    (spikes * grad).sum().backward()
    assert x.grad is not None
    found = {"spikes": spikes, "state": outputs[-1], "x": x.grad}
    found |= {key: p.grad for key, p in neuron.named_parameters() if p.grad is not None}
    return {key: value.detach().double().cpu() for key, value in found.items()}


def assert_near(got: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert got[name].isfinite().all(), name
        error = torch.linalg.vector_norm(got[name] - value)
        assert error <= tolerance * max(1.0, float(torch.linalg.vector_norm(value))), name


@neurons
def test_a_sequence_is_that_of_float64_on_the_cpu(name: str, device: str) -> None:
    neuron = NEURONS[name](num_steps=STEPS, sequence=True)
    x = exact_input(device)
    grad = torch.randn(x.shape)
    expected = pass_through(copy.deepcopy(neuron).double(), x.double(), grad.double())
    assert 0.05 < expected["spikes"].mean() < 0.95
    got = pass_through(neuron.to(device), x.to(device), grad.to(device))
    assert torch.equal(got["spikes"], expected["spikes"])
    assert_near(got, expected)


@neurons
def test_single_steps_are_those_of_float64_on_the_cpu(name: str, device: str) -> None:
    neuron = NEURONS[name](num_steps=STEPS, init_hidden=True)
    x = exact_input(device)
    precise = copy.deepcopy(neuron).double()
    expected = torch.stack([precise(current) for current in x.double()])
    neuron.to(device)
    got = torch.stack([neuron(current) for current in x.to(device)])
    assert torch.equal(got.double().cpu(), expected)
    got.sum().backward()
    expected.sum().backward()
    for (key, parameter), other in zip(neuron.named_parameters(), precise.parameters(), strict=True):
        assert parameter.grad is not None, key
        assert_near({key: parameter.grad.double().cpu()}, {key: other.grad})


STEPWISE: dict[str, tuple[Callable[[], Any], int]] = {
    "synaptic": (lambda: asnn.AdaptiveSynaptic(0.5, 0.75, num_steps=STEPS, learn_threshold=True), 2),
    "synaptic, exact": (
        lambda: asnn.AdaptiveSynaptic(
            0.5, 0.75, num_steps=STEPS, reset_mechanism="zero", reset_delay=False, exact_reset=True
        ),
        2,
    ),
    "recurrent layer": (lambda: recurrent(learn_threshold=True), 1),
    "recurrent per feature": (lambda: recurrent(feature_shape=(32,), reset_delay=False), 1),
    "recurrent, zero": (lambda: recurrent(reset_mechanism="zero", detach_reset=False), 1),
    "recurrent, fixed": (lambda: recurrent(learn_beta=False, learn_gain=False, learn_recurrent=False), 1),
}
"""Neurons, and how many kernels a step of theirs takes on a GPU."""


def recurrent(**options: Any) -> asnn.AdaptiveRLeaky:
    """With weights for which float32 is exact."""
    neuron = asnn.AdaptiveRLeaky(0.75, gain=0.5, linear_features=32, num_steps=STEPS, **options)
    with torch.no_grad():
        for parameter in neuron.recurrent.parameters():
            parameter.copy_((parameter * 32).round() / 16)
    return neuron


def step_by_step(neuron: nn.Module, x: Tensor, grad: Tensor) -> dict[str, Tensor]:
    """Spikes of all steps, the last state and every gradient, in float64 on the CPU."""
    x = x.detach().requires_grad_()
    state = neuron.reset_mem()
    spikes = []
    for current in x:
        outputs = neuron(current, *state)
        state = outputs if isinstance(neuron, asnn.AdaptiveRLeaky) else outputs[1:]
        spikes.append(outputs[0])
    stacked = torch.stack(spikes)
    ((stacked * grad).sum() + sum((s * grad[0]).sum() for s in state)).backward()
    found = {"spikes": stacked, "x": x.grad} | {f"state {i}": s for i, s in enumerate(state)}
    found |= {key: p.grad for key, p in neuron.named_parameters()}
    return {key: value.detach().double().cpu() for key, value in found.items() if value is not None}


@pytest.mark.parametrize("name", STEPWISE)
def test_fused_steps_are_those_of_float64_on_the_cpu(
    name: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    build, kernels_of_a_step = STEPWISE[name]
    neuron = build()
    x = torch.randint(-48, 80, (STEPS, 6, 32)) / 32
    grad = torch.randn(x.shape)
    expected = step_by_step(copy.deepcopy(neuron).double(), x.double(), grad.double())
    assert 0.05 < expected["spikes"].mean() < 0.95
    launched = noted_launches(monkeypatch) if device == "cuda" else []
    got = step_by_step(neuron.to(device), x.to(device), grad.to(device))
    assert torch.equal(got["spikes"], expected["spikes"])
    assert_near(got, expected)
    if device == "cuda":
        forward = [kernel for kernel in launched if kernel.endswith("forward_kernel")]
        assert len(forward) == STEPS * kernels_of_a_step, launched


def noted_launches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the kernels that are launched from now on."""
    from snntorch_asnn.ops._triton.launch import Prepared

    names: list[str] = []
    launch = Prepared.__call__

    def noted(self: Any, *tensors: Tensor) -> None:
        names.append(self.kernel.fn.__name__)
        launch(self, *tensors)

    monkeypatch.setattr(Prepared, "__call__", noted)
    return names


@neurons
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_has_a_state_in_float32(name: str, dtype: torch.dtype, device: str) -> None:
    neuron = NEURONS[name](num_steps=STEPS, sequence=True).to(device)
    x = exact_input(device).to(device)
    precise, got = neuron(x), neuron(x.to(dtype))
    assert got[0].dtype == dtype
    assert got[-1].dtype == torch.float32
    assert torch.equal(got[0].float(), precise[0])


@pytest.mark.parametrize("sequence", [True, False])
@neurons
def test_nothing_waits_for_the_device(
    name: str, sequence: bool, device: str, no_waiting: Callable[[], AbstractContextManager[None]]
) -> None:
    options: dict[str, Any] = {"sequence": True} if sequence else {"init_hidden": True}
    neuron = NEURONS[name](num_steps=STEPS, **options).to(device)
    x = torch.randn(shape_on(device), device=device, requires_grad=True)

    def run() -> None:
        asnn.reset(neuron)
        spikes = neuron(x)[0] if sequence else torch.stack([neuron(current) for current in x])
        spikes.sum().backward()

    run()  # compiles, and takes memory
    with no_waiting():
        run()


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_auto_runs_the_kernels(dtype: torch.dtype) -> None:
    x = torch.randn(STEPS, 64, 128, device="cuda", dtype=dtype)
    assert choose("auto", x, Rule()).name == "triton"
    for got, expected in zip(adaptive_leaky(x, 0.9), adaptive_leaky(x, 0.9, impl="triton"), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.cuda
@pytest.mark.parametrize("batch", [1, (1 << 20) + 3])
def test_more_neurons_than_32_bits_count(batch: int) -> None:
    count = (1 << 31) // batch + 8
    needed = 10 * batch * count  # bytes: x and spikes in bf16, the last membrane in float32, and some more
    if torch.cuda.mem_get_info()[0] < 1.5 * needed:
        pytest.skip(f"needs {1.5 * needed / 2**30:.0f} GB of memory on the GPU")
    x = torch.full((1, batch, count), 2.0, device="cuda", dtype=torch.bfloat16)
    with torch.no_grad():
        spikes, mem = adaptive_leaky(x, 0.5)
    assert bool((spikes == 1).all())
    assert bool((mem[-1:, -8:] == mem[:1, :8]).all())
