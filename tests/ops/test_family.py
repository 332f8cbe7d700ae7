"""The ops of synaptic, recurrent and Lapicque neurons: by hand, beside their modules and beside snnTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

import snntorch_asnn as asnn
from snntorch_asnn import ops, surrogate

STEPS, SHAPE = 5, (3, 4)
RESETS = [
    {"reset_mechanism": mechanism, "reset_delay": delay}
    for mechanism in ("subtract", "zero", "none")
    for delay in (True, False)
]
OPS = {
    "synaptic": (ops.adaptive_synaptic, {"alpha": 0.7, "beta": 0.9}, {}),
    "rleaky": (ops.adaptive_rleaky, {"beta": 0.9}, {"feedback": 0.3}),
    "lapicque": (ops.adaptive_lapicque, {"beta": 0.9}, {}),
}
Op = Callable[..., tuple[Tensor, ...]]


def current(dtype: torch.dtype = torch.float32, *, steps: int = STEPS) -> Tensor:
    return (1.5 * torch.rand(steps, *SHAPE, dtype=dtype)).requires_grad_()


def assert_same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...], leaves: list[Tensor]) -> None:
    """The same to the bit, gradients up to rounding; and neurons fired."""
    assert 0 < found[0].sum() < found[0].numel()
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    both = [
        torch.autograd.grad(sum((out * out.detach().cos()).sum() for out in outs), leaves, retain_graph=True)
        for outs in (found, expected)
    ]
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize("reset", RESETS, ids=str)
def test_synaptic_is_snntorchs(reset: dict[str, Any], impl: Any) -> None:
    x = current()
    neuron = snn.Synaptic(0.7, 0.9, **reset)
    syn, mem = neuron.reset_mem()
    steps = []
    for x_t in x:
        spk, syn, mem = neuron(x_t, syn, mem)
        steps.append((spk, syn, mem))
    expected = tuple(map(torch.stack, zip(*steps, strict=True)))
    assert_same(ops.adaptive_synaptic(x, 0.7, 0.9, output_states=True, impl=impl, **reset), expected, [x])


@pytest.mark.parametrize("reset", RESETS, ids=str)
def test_rleaky_is_snntorchs(reset: dict[str, Any]) -> None:
    x = current()
    neuron = snn.RLeaky(0.9, linear_features=4, **reset)
    spk, mem = neuron.reset_mem()
    steps = []
    for x_t in x:
        spk, mem = neuron(x_t, spk, mem)
        steps.append((spk, mem))
    expected = tuple(map(torch.stack, zip(*steps, strict=True)))
    found = ops.adaptive_rleaky(x, 0.9, feedback=neuron.recurrent, output_mem=True, **reset)
    assert_same(found, expected, [x, neuron.recurrent.weight])


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize("mechanism", ["subtract", "zero", "none"])
def test_lapicque_is_snntorchs_with_its_unit_of_time(mechanism: Any, impl: Any) -> None:
    x = current()
    neuron = snn.Lapicque(R=10, C=1, time_step=1, reset_mechanism=mechanism)
    mem = neuron.reset_mem()
    steps = []
    for x_t in x:
        spk, mem = neuron(x_t, mem)
        steps.append((spk, mem))
    expected = tuple(map(torch.stack, zip(*steps, strict=True)))
    # snnTorch's own order of operations.
    drive = x * neuron.R * (1 / (neuron.R * neuron.C)) * neuron.time_step
    leak = 1 - neuron.time_step / (neuron.R * neuron.C)
    options: dict[str, Any] = {"reset_mechanism": mechanism, "output_mem": True, "impl": impl}
    assert_same(ops.adaptive_lapicque(drive, leak, **options), expected, [x])


@pytest.mark.parametrize("features", [(), (4,)])
@pytest.mark.parametrize("name", OPS)
def test_is_what_the_module_computes(name: str, features: tuple[int, ...]) -> None:
    classes = {
        "synaptic": asnn.AdaptiveSynaptic,
        "rleaky": asnn.AdaptiveRLeaky,
        "lapicque": asnn.AdaptiveLapicque,
    }
    op, leaks, options = OPS[name]
    learned = {
        key: (torch.rand(STEPS, *features) * 0.4 + low).requires_grad_()
        for key, low in ((*((leak, 0.5) for leak in leaks), ("gain", 0.8), ("threshold", 0.7)))
    }
    circuit = {"R": 1.0, "C": 1.0} if name == "lapicque" else {}
    feedback = {"V": 0.3, "all_to_all": False} if name == "rleaky" else {}
    given = {key: value.detach() for key, value in learned.items() if not (circuit and key == "beta")}
    module = classes[name](
        **given, **circuit, **feedback, num_steps=STEPS, feature_shape=features, sequence=True,
        learn_threshold=True, output=True, beta_constraint="none",
    )  # fmt: skip
    if circuit:
        module.beta.data.copy_(learned["beta"])
    x = current()
    found, expected = op(x, **learned, **options, **_every_state(op)), module(x)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    assert 0 < found[0].sum() < found[0].numel()
    found[-1].square().sum().backward()
    expected[-1].square().sum().backward()
    for key, leaf in learned.items():
        torch.testing.assert_close(leaf.grad, getattr(module, key).grad, rtol=1e-5, atol=1e-6)


def _every_state(op: Op) -> dict[str, bool]:
    return {"output_states" if op is ops.adaptive_synaptic else "output_mem": True}


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("name", OPS)
def test_by_hand_in_float64(name: str, exact: bool) -> None:
    """An oracle of Python numbers: subtraction, at the next step or exactly at the spike."""
    if exact and name == "lapicque":
        pytest.skip("its reset is delayed")
    op, leaks, options = OPS[name]
    x = current(torch.float64).detach()
    alpha, betas = leaks.get("alpha", 0.0), [0.9, 0.5, 0.8, 0.7, 0.6]
    spikes, mems = torch.zeros_like(x), torch.zeros_like(x)
    for b in range(SHAPE[0]):
        for n in range(SHAPE[1]):
            i = v = fired = 0.0
            for t in range(STEPS):
                i = alpha * i + 1.25 * float(x[t, b, n])
                u = betas[t] * v + i + (0.3 * fired if name == "rleaky" else 0.0) - (0.0 if exact else fired)
                fired = float(u > 1.0)
                v = u - fired if exact else u
                spikes[t, b, n], mems[t, b, n] = fired, v
    reset = {"reset_delay": False, "exact_reset": True} if exact else {}
    given = leaks | {"beta": torch.tensor(betas, dtype=torch.float64)}
    spk, *_, mem = op(x, **given, gain=1.25, **options, **reset, **_every_state(op))
    assert 0 < spikes.sum() < spikes.numel()
    assert torch.equal(spk, spikes)
    torch.testing.assert_close(mem, mems, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", OPS)
def test_gradcheck_away_from_the_threshold(name: str) -> None:
    op, leaks, options = OPS[name]
    # This surrogate vanishes further than 1e-3 from the threshold, where the step is truly flat.
    spike_grad = surrogate.triangular(width=1e-3)
    x = torch.linspace(0.11, 1.73, 12, dtype=torch.float64).reshape(4, 3, 1).requires_grad_()
    given = {
        key: torch.linspace(0.31, 0.83, 4, dtype=torch.float64).requires_grad_() for key in (*leaks, "gain")
    }
    names = list(given)

    def function(x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        by_name = dict(zip(names, values, strict=True))
        return op(x, **by_name, threshold=0.7, spike_grad=spike_grad, **options)

    spikes = function(x, *given.values())[0]
    assert 0 < spikes.sum() < spikes.numel()
    assert torch.autograd.gradcheck(function, (x, *given.values()))


@pytest.mark.parametrize("name", OPS)
def test_a_sequence_goes_on_from_the_states_that_it_returned(name: str) -> None:
    op, leaks, options = OPS[name]
    x = current(steps=7)
    whole = op(x, **leaks, **options)
    first = op(x[:3], **leaks, **options)
    names = {"synaptic": ("syn", "mem"), "rleaky": ("mem",), "lapicque": ("mem",)}[name]
    states: dict[str, Tensor] = dict(zip(names, first[1:], strict=True))
    if name == "rleaky":
        states["spk"] = first[0][-1]
    rest = op(x[3:], **leaks, **options, **states)
    assert torch.equal(torch.cat([first[0], rest[0]]), whole[0])
    for one, other in zip(rest[1:], whole[1:], strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", OPS)
def test_half_precision_keeps_float32_states(name: str, dtype: torch.dtype) -> None:
    op, leaks, options = OPS[name]
    for mechanism in ("subtract", "zero"):
        spikes, *states = op(current().detach().to(dtype), **leaks, **options, reset_mechanism=mechanism)
        assert spikes.dtype == dtype
        assert all(state.dtype == torch.float32 for state in states)


@pytest.mark.parametrize("name", OPS)
def test_one_step_of_a_strided_input(name: str) -> None:
    op, leaks, options = OPS[name]
    x = torch.rand(3, 1, 8)[..., ::2].transpose(0, 1) * 1.5
    found, expected = op(x, **leaks, **options), op(x.contiguous(), **leaks, **options)
    assert all(map(torch.equal, found, expected))


def test_feedback_is_a_number_a_tensor_or_a_module() -> None:
    x = current().detach()
    diagonal = nn.Linear(4, 4, bias=False)
    diagonal.weight.data.copy_(0.3 * torch.eye(4))
    kinds = 0.3, torch.full((4,), 0.3), diagonal
    found = [ops.adaptive_rleaky(x, 0.9, feedback=feedback)[0] for feedback in kinds]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize(
    ("name", "arguments", "error", "message"),
    [
        ("synaptic", {"x": torch.zeros(3, 2, dtype=torch.int64)}, TypeError, "x must be of a floating point"),
        ("synaptic", {"alpha": torch.zeros(4)}, ValueError, "alpha must be a number or have one entry per"),
        ("synaptic", {"syn": torch.zeros(5)}, ValueError, "syn must have the shape of one step's input"),
        ("synaptic", {"impl": "cpp", "reset_mechanism": "zero"}, ValueError, "impl='cpp' does not cover"),
        ("synaptic", {"impl": "fast"}, ValueError, "impl must be one of"),
        ("synaptic", {"impl": "fast", "reset_mechanism": "zero"}, ValueError, "impl must be one of"),
        ("lapicque", {"gain": torch.zeros(3, 9)}, ValueError, r"gain has the shape \(9,\) at each step"),
        ("lapicque", {"impl": "cpp", "reset_mechanism": "zero"}, ValueError, "reset_mechanism='zero'"),
        ("lapicque", {"previous_threshold": torch.zeros(9)}, ValueError, "previous_threshold must be"),
        ("rleaky", {"impl": "cpp"}, ValueError, "impl='cpp' does not cover recurrent neurons"),
        ("rleaky", {"spk": torch.zeros(2)}, ValueError, "spk must have the shape"),
        ("rleaky", {"feedback": torch.zeros(9)}, ValueError, "feedback must broadcast against one step's"),
        ("rleaky", {"feedback": "V"}, TypeError, "feedback must be a number, a tensor or a function"),
        ("rleaky", {"feedback": True}, TypeError, "feedback must be a number, a tensor or a function"),
        ("rleaky", {"x": torch.zeros(0, 2)}, ValueError, "at least one step"),
    ],
)
def test_wrong_arguments(name: str, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    op, leaks, options = OPS[name]
    with pytest.raises(error, match=message):
        op(**{"x": torch.zeros(3, 2, 4), **leaks, **options, **arguments})


@pytest.mark.parametrize("name", OPS)
def test_positional_arguments_come_in_the_order_of_adaptive_leaky(name: str) -> None:
    op, leaks, options = OPS[name]
    x, mem = current().detach(), torch.rand(SHAPE)
    first = {"synaptic": (torch.rand(SHAPE),), "rleaky": (torch.zeros(SHAPE),), "lapicque": ()}[name]
    named = dict(zip(("syn",) if name == "synaptic" else ("spk",), first, strict=False))
    found = op(x, *leaks.values(), 1.1, 0.8, *first, mem, **options)
    expected = op(x, **leaks, gain=1.1, threshold=0.8, mem=mem, **named, **options)
    assert all(map(torch.equal, found, expected))
