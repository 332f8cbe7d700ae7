"""AdaptiveLeaky under torch.compile: one graph, no recompilation per step, the same spikes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

import snntorch_asnn as asnn
from snntorch_asnn import AdaptiveLeaky

pytestmark = pytest.mark.slow

STEPS = 6


class Net(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 16)
        self.lif1 = AdaptiveLeaky(0.9, num_steps=STEPS, **options)
        self.fc2 = nn.Linear(16, 4)
        # A delayed reset answers the threshold of the step before, so that no two steps have the same.
        thresholds = torch.linspace(0.2, 0.5, STEPS)
        self.lif2 = AdaptiveLeaky(
            0.8, thresholds, learn_threshold=True, num_steps=STEPS, feature_shape=(), **options
        )


class Hidden(Net):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.lif2(self.fc2(self.lif1(self.fc1(x))))
        return out


class ByHand(Net):
    def forward(self, x: Tensor, mem1: Tensor, mem2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        spk, mem1 = self.lif1(self.fc1(x), mem1)
        spk, mem2 = self.lif2(self.fc2(spk), mem2)
        return spk, mem1, mem2


class Sequence(Net):
    def forward(self, x: Tensor) -> Tensor:
        spk, _ = self.lif1(self.fc1(x))
        spk, _ = self.lif2(self.fc2(spk))
        return spk


def hidden_loop(net: nn.Module, x: Tensor) -> Tensor:
    asnn.reset(net)
    return torch.stack([net(current) for current in x])


def by_hand_loop(net: Any, x: Tensor) -> Tensor:
    mem1, mem2 = net.lif1.reset_mem(), net.lif2.reset_mem()
    spikes = []
    for current in x:
        spk, mem1, mem2 = net(current, mem1, mem2)
        spikes.append(spk)
    return torch.stack(spikes)


def train_step(
    net: nn.Module, forward: Callable[[Any, Tensor], Tensor], x: Tensor
) -> tuple[Tensor, list[Tensor]]:
    net.zero_grad()
    spikes = forward(net, x)
    (spikes * torch.arange(4.0)).sum().backward()
    return spikes.detach(), [p.grad.clone() for p in net.parameters() if p.grad is not None]


CASES = [
    pytest.param(lambda: Hidden(init_hidden=True), hidden_loop, id="hidden"),
    pytest.param(ByHand, by_hand_loop, id="by hand"),
    pytest.param(lambda: Sequence(sequence=True), lambda net, x: net(x), id="sequence"),
]


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch._dynamo.reset()


@pytest.mark.parametrize("where", ["loop inside", "loop outside"])
@pytest.mark.parametrize(("build", "forward"), CASES)
def test_whole_training_steps(
    build: Callable[[], Net], forward: Callable[[Any, Tensor], Tensor], where: str
) -> None:
    net = build()
    x = torch.randn(STEPS, 5, 8) * 8
    expected, grads = train_step(net, forward, x)
    assert 0 < expected.mean() < 1
    counter = CompileCounterWithBackend("aot_eager")
    if where == "loop inside":
        run = torch.compile(forward, fullgraph=True, backend=counter)
        model: Any = net
    else:
        run, model = forward, torch.compile(net, fullgraph=True, backend=counter)
    for _ in range(4):
        spikes, compiled_grads = train_step(model, run, x)
        assert torch.equal(spikes, expected)
        for got, want in zip(compiled_grads, grads, strict=True):
            torch.testing.assert_close(got, want)
    # The first sequence meets an empty membrane, later ones a zero one: never one graph per step.
    assert counter.frame_count <= 2


def test_inductor_gives_the_same_spikes() -> None:
    net = Hidden(init_hidden=True)
    x = torch.randn(STEPS, 5, 8) * 8
    expected, grads = train_step(net, hidden_loop, x)
    spikes, compiled_grads = train_step(net, torch.compile(hidden_loop, fullgraph=True), x)
    assert torch.equal(spikes, expected)
    for got, want in zip(compiled_grads, grads, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_a_step_past_the_last_raises_in_compiled_code_too() -> None:
    net = Hidden(init_hidden=True)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    x = torch.randn(5, 8)
    for _ in range(STEPS):
        compiled(x)
    with pytest.raises(RuntimeError, match=f"num_steps={STEPS}"):
        compiled(x)


@pytest.mark.parametrize(("on_overrun", "gains"), [("hold", [1, 2, 2, 2, 2]), ("cycle", [1, 2, 1, 2, 1])])
def test_overrun_by_choice(on_overrun: Any, gains: list[int]) -> None:
    lif = AdaptiveLeaky(
        0.0, gain=torch.tensor([1.0, 2.0]), num_steps=2, feature_shape=(), on_overrun=on_overrun,
        init_hidden=True, output=True, reset_mechanism="none",
    )  # fmt: skip
    compiled = torch.compile(lif, fullgraph=True, backend="aot_eager")
    assert [compiled(torch.ones(1))[1].item() for _ in range(5)] == gains


def test_eager_and_compiled_calls_take_turns() -> None:
    gain = torch.arange(1.0, STEPS + 1)
    lif = AdaptiveLeaky(
        0.0,
        gain=gain,
        num_steps=STEPS,
        feature_shape=(),
        init_hidden=True,
        output=True,
        reset_mechanism="none",
    )
    compiled = torch.compile(lif, fullgraph=True, backend="aot_eager")
    got = [call(torch.ones(1))[1].item() for call in (lif, compiled, lif, compiled, compiled, lif)]
    assert got == gain.tolist()
    assert lif.step == STEPS


def test_step_by_hand_does_not_recompile_for_every_step() -> None:
    lif = AdaptiveLeaky(
        0.5, gain=torch.arange(1.0, 10.0), num_steps=9, feature_shape=(), reset_mechanism="none"
    )
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(lif, fullgraph=True, backend=counter)
    mem = torch.zeros(1)
    for step in range(9):
        _, after = compiled(torch.ones(1), mem, step=step)
        assert after.item() == step + 1
    assert counter.frame_count <= 5


def test_hidden_sequences_continue() -> None:
    lif = AdaptiveLeaky(
        0.5,
        gain=torch.rand(6),
        num_steps=6,
        feature_shape=(),
        init_hidden=True,
        sequence=True,
        impl="reference",
    )
    x = torch.randn(6, 4, 3)
    expected = lif(x)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(lif, fullgraph=True, backend=counter)
    for _ in range(3):
        asnn.reset(compiled)
        got = torch.cat([compiled(part) for part in x.split(2)])
        assert torch.equal(got, expected)
    assert counter.frame_count <= 3


def test_inference_mode_then_training() -> None:
    net = Hidden(init_hidden=True)
    x = torch.randn(STEPS, 5, 8)
    with torch.inference_mode():
        hidden_loop(net, x)
    train_step(net, hidden_loop, x)


def leaks() -> AdaptiveLeaky:
    beta = torch.tensor([0.1, 0.3, 0.5, 0.9])
    return AdaptiveLeaky(beta, num_steps=4, feature_shape=(), on_overrun="hold", reset_mechanism="none")


def test_a_membrane_whose_step_no_graph_knows_raises() -> None:
    lif = leaks()

    def two_layers(x: Tensor) -> Tensor:
        a, b = lif.reset_mem(), lif.reset_mem()
        for _ in range(4):
            _, a = lif(x, a)
            _, b = lif(x, b)
        return a + b

    two_layers(torch.ones(1))
    with pytest.raises(ValueError, match="compiled code may not know the time step"):
        torch.compile(two_layers, backend="eager")(torch.ones(1))


def test_a_membrane_that_is_detached_between_compiled_calls_keeps_its_step() -> None:
    def truncated(lif: Callable[..., Any], neuron: AdaptiveLeaky) -> Tensor:
        mem = neuron.reset_mem()
        for _ in range(4):
            _, mem = lif(torch.ones(1), mem)
            mem = mem.detach()
        return mem

    lif = leaks()
    compiled = torch.compile(lif, backend="eager")
    for _ in range(2):
        assert torch.equal(truncated(compiled, lif), truncated(lif, lif))
