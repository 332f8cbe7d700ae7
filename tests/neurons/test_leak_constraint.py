"""Leaks at the ends of their range: snnTorch's values forward, a gradient back into the range."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import snntorch as snn
import torch
from torch import Tensor

import snntorch_asnn as asnn
from snntorch_asnn import AdaptiveLapicque, AdaptiveLeaky, AdaptiveRLeaky, AdaptiveSynaptic
from snntorch_asnn.neurons.adaptive import AdaptiveNeuron
from snntorch_asnn.neurons.leak_constraint import constrain, unconstrain
from snntorch_asnn.ops._adaptive_leaky.cpp import implementation as cpp

RAW = torch.tensor([-0.2, 0.0, 0.4, 0.9, 1.0, 1.3])
STEPS = len(RAW)
FAMILY: dict[str, Callable[..., AdaptiveNeuron]] = {
    "Leaky": lambda **o: AdaptiveLeaky(0.5, **o),
    "Synaptic": lambda **o: AdaptiveSynaptic(0.5, 0.5, **o),
    "RLeaky": lambda **o: AdaptiveRLeaky(0.5, linear_features=3, **o),
    "Lapicque": lambda **o: AdaptiveLapicque(0.9, **o),
}
PLACES = [
    ("Leaky", "beta", "reference"), ("Leaky", "beta", "cpp"), ("Leaky", "beta", "auto"),
    ("Synaptic", "beta", "auto"), ("Synaptic", "alpha", "reference"), ("Synaptic", "alpha", "auto"),
    ("RLeaky", "beta", "reference"), ("Lapicque", "beta", "auto"),
]  # fmt: skip


def neuron_with(raw: Tensor, name: str, kind: str, constraint: Any, **options: Any) -> AdaptiveNeuron:
    torch.manual_seed(0)
    neuron = FAMILY[kind](num_steps=len(raw), beta_constraint=constraint, **options).to(raw.dtype)
    with torch.no_grad():
        getattr(neuron, name).copy_(raw)
    return neuron


def gradient(neuron: AdaptiveNeuron, name: str, x: Tensor, sign: float) -> tuple[Tensor, Tensor]:
    """Spikes and the gradient of a loss that wants less of the leak (``sign`` 1) or more (-1)."""
    neuron.zero_grad()
    if neuron.sequence:
        spikes, *_, mem = neuron(x)
    else:
        state = neuron.reset_mem()
        state = state if isinstance(state, tuple) else (state,)
        trace = []
        for current in x:
            spk, *after = neuron(current, *state)
            state = tuple(after) if len(after) == len(state) else (spk, *after)
            trace.append(spk)
        spikes, mem = torch.stack(trace), state[-1]
    (sign * (spikes.sum() + mem.sum())).backward()
    grad = getattr(neuron, name).grad
    assert grad is not None
    return spikes.detach(), grad.clone()


@pytest.mark.parametrize(("kind", "name", "impl"), PLACES)
@pytest.mark.parametrize("sequence", [True, False])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_leads_back_into_the_range(
    kind: str, name: str, impl: Any, sequence: bool, sign: float, dtype: torch.dtype
) -> None:
    if impl == "cpp" and cpp.missing():
        pytest.skip("needs a C++ compiler")
    raw, x = RAW.to(dtype), torch.linspace(0, 2, STEPS * 6, dtype=dtype).reshape(STEPS, 2, 3)
    options = {"sequence": sequence, "impl": impl}
    clamped = neuron_with(raw, name, kind, "clamp", **options)
    inside = neuron_with(raw.clamp(0, 1), name, kind, "none", **options)
    if kind == "Synaptic":  # the other leak of the two
        other = "alpha" if name == "beta" else "beta"
        assert torch.equal(getattr(clamped, other), getattr(inside, other))
    spikes, grad = gradient(clamped, name, x, sign)
    wanted_spikes, full = gradient(inside, name, x, sign)
    assert torch.equal(spikes, wanted_spikes)
    outwards = ((raw >= 1) & (full < 0)) | ((raw <= 0) & (full > 0))
    assert torch.equal(grad, torch.where(outwards, 0, full))
    assert (full != 0).any()


@pytest.mark.parametrize("sequence", [True, False])
def test_equals_snntorch_inside_the_range(sequence: bool) -> None:
    theirs = snn.Leaky(torch.tensor(0.9), learn_beta=True)
    ours = AdaptiveLeaky(0.9, num_steps=4, sequence=sequence)
    x = torch.linspace(0, 2, 24).reshape(4, 2, 3)
    spikes, grad = gradient(ours, "beta", x, 1.0)
    mem, trace = theirs.reset_mem(), []
    for current in x:
        spk, mem = theirs(current, mem)
        trace.append(spk)
    wanted = torch.stack(trace)
    (wanted.sum() + mem.sum()).backward()
    assert torch.equal(spikes, wanted)
    torch.testing.assert_close(grad.sum(), theirs.beta.grad)


@pytest.mark.parametrize("kind", list(FAMILY))
def test_a_leak_that_has_left_the_range_returns(kind: str) -> None:
    neuron = FAMILY[kind](
        num_steps=3, sequence=True, reset_mechanism="none", beta_constraint="clamp", learn_gain=False
    )
    optimizer = torch.optim.Adam([neuron.beta], lr=0.05)
    x = torch.rand(3, 16, 3)
    sizes = []
    for i in range(120):  # first towards as large a membrane as possible, then towards a small one
        optimizer.zero_grad()
        mem = neuron(x)[-1]
        (-mem.mean() if i < 40 else mem.mean()).backward()
        optimizer.step()
        sizes.append(neuron.beta.detach().clone())
    assert (sizes[39][1:] >= 1).all()
    assert (sizes[-1][1:] < 0.5).all()


def test_a_leak_of_several_steps_is_led_by_the_sum_of_their_gradients() -> None:
    neuron = AdaptiveLeaky(1.0, num_steps=1, on_overrun="hold", sequence=True, reset_mechanism="none")
    x = torch.ones(3, 1, 1)
    neuron(x)[1].sum().backward()
    assert neuron.beta.grad is not None
    assert neuron.beta.grad.item() == 3.0  # d(1 + b + b²)/db
    neuron.zero_grad()
    (-neuron(x)[1].sum()).backward()
    assert neuron.beta.grad.item() == 0.0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # Dynamo of torch 2.11
@pytest.mark.parametrize("spike_grad", [None, snn.surrogate.fast_sigmoid()])
@pytest.mark.parametrize("sequence", [True, False])
def test_in_a_compiled_graph(spike_grad: Any, sequence: bool) -> None:
    torch._dynamo.reset()
    raw, x = RAW.clone(), torch.linspace(0, 2, STEPS * 6).reshape(STEPS, 2, 3)
    options = {"sequence": sequence, "impl": "reference", "spike_grad": spike_grad}
    for sign in (1.0, -1.0):
        neuron = neuron_with(raw, "beta", "Leaky", "clamp", **options)
        spikes, grad = gradient(neuron, "beta", x, sign)

        def run(x: Tensor, neuron: Any = neuron) -> tuple[Tensor, Tensor]:
            if neuron.sequence:
                return neuron(x)  # type: ignore[no-any-return]
            mem, trace = neuron.reset_mem(), []
            for current in x:
                spk, mem = neuron(current, mem)
                trace.append(spk)
            return torch.stack(trace), mem

        neuron.zero_grad()
        found, mem = torch.compile(run, fullgraph=True, backend="aot_eager")(x)
        (sign * (found.sum() + mem.sum())).backward()
        assert torch.equal(found, spikes)
        torch.testing.assert_close(neuron.beta.grad, grad)


def test_under_transforms_and_compiled_transforms() -> None:
    raw, weights = RAW.clone(), torch.randn(5, STEPS)

    def loss(raw: Tensor, weight: Tensor) -> Tensor:
        return (constrain(raw, "clamp") * weight).sum()

    grads = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(raw, weights)
    outwards = ((raw >= 1) & (weights < 0)) | ((raw <= 0) & (weights > 0))
    assert torch.equal(grads, torch.where(outwards, 0, weights))
    AdaptiveLeaky(0.5, num_steps=1)  # Dynamo is told with the first neuron
    compiled = torch.compile(torch.func.grad(loss), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(raw, weights[0]), grads[0])


def test_second_derivatives() -> None:
    raw = torch.tensor([-0.1, 0.3, 0.8, 1.2], dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad((constrain(raw, "clamp") ** 3).sum(), raw, create_graph=True)
    (second,) = torch.autograd.grad(grad.sum(), raw)
    inside = raw.detach().clamp(0, 1)
    # Beyond 1 the gradient that leads back is that of the bound, on which it hardly depends.
    torch.testing.assert_close(grad.detach(), 3 * inside**2 * (raw.detach() > 0))
    torch.testing.assert_close(second[1:3], 6 * inside[1:3])


@pytest.mark.parametrize("leak", [0.05, 0.5, 0.9, 0.95])
def test_a_step_of_adam_moves_a_sigmoid_leak_as_it_moves_a_clamped_one(leak: float) -> None:
    moved = []
    for constraint in ("clamp", "sigmoid"):
        neuron = AdaptiveLeaky(leak, num_steps=1, sequence=True, beta_constraint=constraint)
        optimizer = torch.optim.Adam(neuron.parameters(), lr=5e-3)
        neuron(torch.ones(1, 1, 1), torch.ones(1, 1))[1].sum().backward()
        optimizer.step()
        moved.append((neuron.leak - leak).item())
    assert 0.4 < moved[1] / moved[0] < 2.6
    assert neuron.leak.item() == pytest.approx(leak, abs=0.02)


@pytest.mark.parametrize("kind", list(FAMILY))
def test_logits_of_older_checkpoints_are_read_as_such(kind: str) -> None:
    neuron = FAMILY[kind](num_steps=2, beta_constraint="sigmoid")
    state = neuron.state_dict()
    for name in neuron.leaks:
        state[name] = torch.logit(torch.full((2,), 0.8))
    state._metadata[""]["version"] = 1  # type: ignore[attr-defined]
    neuron.load_state_dict(state)
    torch.testing.assert_close(neuron.leak, torch.full((2,), 0.8))
    neuron.load_state_dict(neuron.state_dict())
    torch.testing.assert_close(neuron.leak, torch.full((2,), 0.8))


def test_sigmoid_is_undone() -> None:
    leaks = torch.tensor([0.01, 0.5, 0.95])
    torch.testing.assert_close(constrain(unconstrain(leaks, "sigmoid"), "sigmoid"), leaks)


@pytest.mark.parametrize("constraint", ["clamp", "sigmoid", "none"])
def test_adapt_takes_the_constraint(constraint: Any) -> None:
    def build() -> torch.nn.Sequential:
        return torch.nn.Sequential(snn.Leaky(0.9), snn.Synaptic(0.4, 0.8), snn.Lapicque(R=5, C=2))

    net = asnn.adapt(build(), num_steps=3, beta_constraint=constraint)
    assert {neuron.beta_constraint for neuron in net} == {constraint}
    for neuron, leak in zip(net, (0.9, 0.8, 0.9), strict=True):
        torch.testing.assert_close(neuron.leak, torch.full((3,), leak))
    own = asnn.adapt(build(), num_steps=3)
    assert [neuron.beta_constraint for neuron in own] == ["clamp", "clamp", "none"]


def test_adapt_keeps_the_outputs_of_leaks_that_snntorch_clamps() -> None:
    x = torch.rand(3, 2, 4)
    theirs, ours = snn.Leaky(1.4), asnn.adapt(snn.Leaky(1.4), num_steps=3, beta_constraint="none")
    mem, our_mem = theirs.reset_mem(), ours.reset_mem()
    for current in x:
        _, mem = theirs(current, mem)
        _, our_mem = ours(current, our_mem)
    assert torch.equal(mem, our_mem)
    with pytest.raises(ValueError, match="beta must lie strictly between 0 and 1"):
        asnn.adapt(snn.Leaky(1.0), num_steps=3, beta_constraint="sigmoid")
    with pytest.raises(ValueError, match="beta_constraint='clamp' would change"):
        asnn.adapt(snn.Lapicque(R=0.5, C=1), num_steps=3, beta_constraint="clamp")
    with pytest.raises(ValueError, match="beta_constraint must be one of"):
        asnn.adapt(snn.Leaky(0.9), num_steps=3, beta_constraint="tanh")  # type: ignore[arg-type]


def test_describe_shows_leaks_at_a_bound() -> None:
    net = torch.nn.Sequential(
        neuron_with(RAW, "beta", "Leaky", "clamp"),
        neuron_with(RAW, "alpha", "Synaptic", "none"),
        AdaptiveLeaky(1.0, learn_beta=False, num_steps=2),
    )
    first, second, fixed = asnn.describe(net)
    assert first.leaks_at_bounds == (("beta", 2, 2, STEPS),)
    assert second.leaks_at_bounds == (("alpha", 2, 2, STEPS),)
    assert fixed.leaks_at_bounds == ()
