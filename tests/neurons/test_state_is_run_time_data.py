"""State belongs to a run, not to the model: what may see it, copy it and move it, and what may not."""

from __future__ import annotations

import copy
import functools
import io
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest
import snntorch as snn
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

import snntorch_asnn as asnn
from snntorch_asnn import AdaptiveLapicque, AdaptiveLeaky, AdaptiveRLeaky, AdaptiveSynaptic
from snntorch_asnn.neurons.adaptive import AdaptiveNeuron

STEPS = 6
GAIN = torch.linspace(0.6, 1.4, STEPS)
FAMILY: dict[str, Callable[..., AdaptiveNeuron]] = {
    "Leaky": lambda **o: AdaptiveLeaky(0.9, **options(o)),
    "Synaptic": lambda **o: AdaptiveSynaptic(0.5, 0.9, **options(o)),
    "RLeaky": lambda **o: AdaptiveRLeaky(0.9, linear_features=4, **options(o)),
    "Lapicque": lambda **o: AdaptiveLapicque(0.9, R=5.0, **options(o)),
}


def options(more: dict[str, Any]) -> dict[str, Any]:
    return {"num_steps": STEPS, "gain": GAIN, "feature_shape": ()} | more


@pytest.fixture(params=list(FAMILY))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def steps_of(net: nn.Module, x: Tensor) -> Tensor:
    return torch.stack([net(current) for current in x])


def tensors_of(outputs: Any) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def by_hand(neuron: Any, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Spikes of all steps of ``x``, and the states after them, passed from call to call."""
    spikes = []
    for current in x:
        spk, *after = neuron(current, *state)
        state = tuple(after) if len(after) == len(neuron.states) else (spk, *after)
        spikes.append(spk)
    return torch.stack(spikes), state


def start(neuron: Any) -> tuple[Tensor, ...]:
    return tensors_of(neuron.reset_mem())


def test_no_one_who_asks_for_model_data_sees_it(kind: str) -> None:
    neuron = FAMILY[kind](init_hidden=True)
    before = set(dict(neuron.named_buffers()))
    neuron(torch.rand(2, 4))
    names = {*dict(neuron.named_buffers()), *dict(neuron.named_parameters()), *neuron.state_dict()}
    assert set(dict(neuron.named_buffers())) == before
    assert not names & {"mem", "_mem", "syn", "_syn", "spk", "_spk", "step", "_step"}
    assert all(buffer.is_leaf for buffer in neuron.buffers())


@pytest.mark.parametrize("use_buffers", [False, True])
def test_an_average_of_weights_leaves_states_alone(kind: str, use_buffers: bool) -> None:
    net = nn.Sequential(nn.Linear(3, 4), FAMILY[kind](init_hidden=True))
    average = AveragedModel(net, use_buffers=use_buffers)
    for batch in (2, 5):
        asnn.reset(net)
        steps_of(net, torch.rand(3, batch, 3)).sum().backward()
        average.update_parameters(net)
    x = torch.rand(STEPS, 2, 3) * 3
    asnn.reset(net)
    assert torch.equal(steps_of(average.module, x), steps_of(net, x))


def through_pickle(net: nn.Module) -> nn.Module:
    copied: nn.Module = pickle.loads(pickle.dumps(net))
    return copied


def through_torch_save(net: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(net, buffer)
    buffer.seek(0)
    copied: nn.Module = torch.load(buffer, weights_only=False)
    return copied


def through_multiprocessing(net: nn.Module) -> nn.Module:
    copied: nn.Module = pickle.loads(ForkingPickler.dumps(net))
    return copied


COPIES = [copy.deepcopy, through_pickle, through_torch_save, through_multiprocessing]


@pytest.mark.parametrize("copied_by", COPIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_copy_in_mid_sequence_goes_on_detached(
    kind: str, copied_by: Callable[[Any], Any], dtype: torch.dtype
) -> None:
    neuron = FAMILY[kind](init_hidden=True).to(dtype)
    x = torch.rand(STEPS, 2, 4, dtype=dtype) * 3
    steps_of(neuron, x[:2])
    assert neuron.mem.requires_grad
    copied = copied_by(neuron)
    assert copied.step == 2
    for name in neuron.states:
        held, theirs = getattr(neuron, name), getattr(copied, name)
        assert torch.equal(held, theirs)
        assert not theirs.requires_grad
        assert theirs.data_ptr() != held.data_ptr()
    assert neuron.mem.requires_grad, "the original keeps its graph"
    assert torch.equal(steps_of(copied, x[2:]), steps_of(neuron, x[2:]))


@pytest.mark.parametrize("copied_by", COPIES)
def test_a_copy_of_a_neuron_whose_states_are_in_the_callers_hands(
    kind: str, copied_by: Callable[[Any], Any]
) -> None:
    neuron: Any = FAMILY[kind]()
    x = torch.rand(STEPS, 2, 4) * 3
    _, state = by_hand(neuron, x[:2], start(neuron))
    copied = copied_by(neuron)
    assert copied.step == 2
    assert not copied.mem.requires_grad
    held = tuple(getattr(copied, name) for name in copied.states)
    rest, _ = by_hand(neuron, x[2:], state)
    assert torch.equal(by_hand(copied, x[2:], held)[0], rest)


def test_a_deep_copy_knows_the_membranes_of_the_original() -> None:
    neuron: Any = FAMILY["Leaky"]()
    x = torch.rand(STEPS, 2, 4) * 3
    _, state = by_hand(neuron, x[:2], start(neuron))
    copied = copy.deepcopy(neuron)
    assert torch.equal(by_hand(copied, x[2:], state)[0], by_hand(neuron, x[2:], state)[0])


def test_a_shallow_copy_goes_its_own_way(kind: str) -> None:
    neuron = FAMILY[kind](init_hidden=True)
    x = torch.rand(STEPS, 2, 4) * 3
    steps_of(neuron, x[:2])
    copied = copy.copy(neuron)
    rest = steps_of(copied, x[2:])
    assert (neuron.step, copied.step) == (2, STEPS)
    assert torch.equal(steps_of(neuron, x[2:]), rest)


def test_a_state_of_inference_mode_is_copied() -> None:
    neuron = FAMILY["Leaky"](init_hidden=True)
    with torch.inference_mode():
        neuron(torch.rand(2, 4))
    copied = copy.deepcopy(neuron)
    assert not copied.mem.is_inference()
    assert torch.equal(copied.mem, neuron.mem)


def test_a_copy_of_a_compiled_neuron_goes_on() -> None:
    neuron = FAMILY["Leaky"](init_hidden=True)
    x = torch.rand(STEPS, 2, 4) * 3
    compiled = torch.compile(neuron, backend="eager")
    for current in x[:2]:
        compiled(current)
    for copied in (copy.deepcopy(neuron), through_pickle(neuron)):
        assert copied.step == 2
        assert torch.equal(copied(x[2]), copy.deepcopy(neuron)(x[2]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_states_move_with_the_dtype(kind: str, dtype: torch.dtype) -> None:
    neuron = FAMILY[kind](init_hidden=True)
    x = torch.rand(STEPS, 2, 4) * 3
    steps_of(neuron, x[:2])
    neuron.to(dtype)
    assert {getattr(neuron, name).dtype for name in neuron.states} == {dtype}
    assert neuron.step == 2
    assert neuron(x[2].to(dtype)).dtype == dtype


def test_states_move_with_the_device(kind: str) -> None:
    neuron = FAMILY[kind](init_hidden=True)
    x = torch.rand(STEPS, 2, 4)
    steps_of(neuron, x[:2])
    neuron.to("meta")
    assert neuron.mem.is_meta
    assert neuron(x[2].to("meta")).is_meta
    neuron.to_empty(device="cpu")
    assert neuron.step == 0, "memory without values is no state"
    assert neuron.mem.numel() == 0


def test_the_step_of_a_compiled_neuron_moves_with_the_device() -> None:
    neuron = FAMILY["Leaky"](init_hidden=True)
    torch.compile(neuron, backend="eager")(torch.rand(2, 4))
    neuron.to("meta")
    assert isinstance(neuron._state.step, Tensor)
    assert neuron._state.step.is_meta


def test_a_learned_initial_membrane_gets_a_gradient() -> None:
    neuron = FAMILY["Leaky"](init_hidden=True, output=True)
    initial = torch.full((2, 4), 0.3, requires_grad=True)
    for _ in range(2):
        initial.grad = None
        neuron.mem = initial
        neuron(torch.rand(2, 4))
        _, mem = neuron(torch.rand(2, 4))
        mem.sum().backward()
        assert initial.grad is not None
        assert (initial.grad != 0).any()


def test_replicas_start_without_a_state(kind: str) -> None:
    neuron = FAMILY[kind](init_hidden=True)
    x = torch.rand(STEPS, 2, 4) * 3
    first = steps_of(neuron, x)
    replica = neuron._replicate_for_data_parallel()
    replica._parameters = {}
    for name, parameter in neuron.named_parameters(recurse=False):
        setattr(replica, name, parameter.detach())
    assert (replica.step, neuron.step) == (0, STEPS)
    assert torch.equal(steps_of(replica, x), first)


def test_export_leaves_the_state_as_it_was(kind: str) -> None:
    class Sequence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(3, 4), FAMILY[kind](init_hidden=True))

        def forward(self, x: Tensor) -> Tensor:
            asnn.reset(self)
            return steps_of(self.layers, x)

    net, x = Sequence(), torch.rand(STEPS, 2, 3) * 3
    wanted = net(x)
    asnn.reset(net)
    net.layers(x[0])
    exported = torch.export.export(net, (x,)).module()
    assert torch.equal(exported(x), wanted)
    assert net.layers[1].step == 1  # type: ignore[union-attr]
    assert type(net.layers[1].mem) is Tensor
    net.layers(x[1])


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("depth", [1, 3])
def test_checkpointing_steps_that_hide_their_state_raises(kind: str, reentrant: bool, depth: int) -> None:
    net = nn.Sequential(nn.Linear(3, 4), FAMILY[kind](init_hidden=True))
    x = (torch.rand(STEPS, 2, 3) * 3).requires_grad_()
    out = torch.stack([checkpoint(net, current, use_reentrant=reentrant) for current in x[:depth]])
    with pytest.raises(RuntimeError, match="activation checkpointing computes this step again"):
        out.sum().backward()


def test_checkpointing_hidden_sequences_raises() -> None:
    neuron = FAMILY["Leaky"](init_hidden=True, sequence=True)
    x = torch.rand(STEPS, 2, 4, requires_grad=True)
    out = torch.cat([checkpoint(neuron, part, use_reentrant=False) for part in x.split(2)])
    with pytest.raises(RuntimeError, match="activation checkpointing"):
        out.sum().backward()


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_a_whole_sequence_of_hidden_steps(kind: str, reentrant: bool) -> None:
    net = nn.Sequential(nn.Linear(3, 4), FAMILY[kind](init_hidden=True))

    def sequence(x: Tensor) -> Tensor:
        asnn.reset(net)
        return steps_of(net, x)

    outcomes = []
    for recompute in (False, True):
        x = torch.linspace(0, 3, STEPS * 6).reshape(STEPS, 2, 3).requires_grad_()
        net.zero_grad()
        out = checkpoint(sequence, x, use_reentrant=reentrant) if recompute else sequence(x)
        (out * torch.arange(4.0)).sum().backward()
        outcomes.append([x.grad, *(p.grad.clone() for p in net.parameters() if p.grad is not None)])
    assert all(map(torch.equal, *outcomes))


@pytest.mark.slow
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("depth", [1, STEPS])
def test_checkpointing_compiled_steps_that_hide_their_state_raises(reentrant: bool, depth: int) -> None:
    net = nn.Sequential(nn.Linear(3, 4), FAMILY["Leaky"](init_hidden=True))
    compiled = torch.compile(net, backend="aot_eager")
    x = (torch.rand(STEPS, 2, 3) * 3).requires_grad_()
    for _ in range(2):  # the second sequence starts after a backward pass in which none has started
        asnn.reset(net)
        out = torch.stack([checkpoint(compiled, current, use_reentrant=reentrant) for current in x[:depth]])
        with pytest.raises(RuntimeError, match="activation checkpointing computes this step again"):
            out.sum().backward()


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, True], ids=["steps compiled", "sequence compiled"])
def test_checkpointing_a_whole_sequence_of_compiled_steps(whole: bool) -> None:
    net = nn.Sequential(nn.Linear(3, 4), FAMILY["Leaky"](init_hidden=True))

    def sequence_of(module: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def sequence(x: Tensor) -> Tensor:
            asnn.reset(net)
            return torch.stack([module(current) for current in x])

        return sequence

    def compiled(function: Any) -> Any:
        return torch.compile(function, backend="aot_eager")

    sequence = compiled(sequence_of(net)) if whole else sequence_of(compiled(net))
    outcomes = []
    for run in (sequence_of(net), sequence, functools.partial(checkpoint, sequence, use_reentrant=False)):
        x = torch.linspace(0, 3, STEPS * 6).reshape(STEPS, 2, 3).requires_grad_()
        net.zero_grad()
        (run(x) * torch.arange(4.0)).sum().backward()
        outcomes.append([x.grad, *(p.grad for p in net.parameters() if p.grad is not None)])
    for outcome in outcomes[1:]:
        torch.testing.assert_close(outcome, outcomes[0])


def test_checkpointing_steps_by_hand_finds_their_steps(kind: str) -> None:
    neuron: Any = FAMILY[kind]()
    outcomes = []
    for recompute in (False, True):
        x = torch.linspace(0, 3, STEPS * 8).reshape(STEPS, 2, 4).requires_grad_()
        neuron.zero_grad()
        state = start(neuron)
        total: Any = 0
        for t, current in enumerate(x):
            if recompute:
                spk, *after = checkpoint(neuron, current, *state, use_reentrant=False)
            else:
                spk, *after = neuron(current, *state)
            state = tuple(after) if len(after) == len(neuron.states) else (spk, *after)
            total = total + (spk * (t + 1)).sum() + state[-1].sum()
        total.backward()
        outcomes.append([x.grad, *(p.grad.clone() for p in neuron.parameters() if p.grad is not None)])
    assert all(map(torch.equal, *outcomes))


def test_a_membrane_goes_on_at_its_step_after_a_reset(kind: str) -> None:
    neuron: Any = FAMILY[kind]()
    x = torch.rand(STEPS, 2, 4) * 3
    whole, _ = by_hand(neuron, x, start(neuron))
    first, state = by_hand(neuron, x[:3], start(neuron))
    by_hand(neuron, x[:2], start(neuron))
    asnn.reset(neuron)
    rest, _ = by_hand(neuron, x[3:], state)
    assert torch.equal(torch.cat([first, rest]), whole)


@pytest.mark.parametrize("restart", ["asnn.reset", "assignment", "reset_hidden"])
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("backend", [None, "eager"])
def test_whatever_restarts_a_neuron_leaves_other_membranes_their_step(
    restart: str, detach: bool, backend: str | None
) -> None:
    torch._dynamo.reset()
    neuron = AdaptiveLeaky(0.9, **options({"reset_mechanism": "none"}))
    run: Any = neuron if backend is None else torch.compile(neuron, backend=backend)
    one = torch.ones(1)
    _, mem = run(one, neuron.reset_mem())
    _, mem = run(one, mem)
    mem = mem.detach() if detach else mem
    if restart == "asnn.reset":
        asnn.reset(neuron)
    elif restart == "assignment":
        neuron.mem = torch.zeros(1)
    else:
        snn.Leaky.reset_hidden()
    _, after = run(one, mem)
    torch.testing.assert_close(after, 0.9 * mem + GAIN[2])
    assert neuron.step == 3


def test_a_copy_of_a_membrane_needs_its_step() -> None:
    """A copy cannot be told from an initial membrane of the user's own, which may start any sequence."""
    beta = torch.tensor([0.9, 0.5, 0.1, 0.7])[:STEPS]
    neuron = AdaptiveLeaky(beta, num_steps=len(beta), feature_shape=(), reset_mechanism="none")
    x = torch.rand(2, 3)
    _, first = neuron(x, neuron.reset_mem())
    _, second = neuron(x, first)
    with pytest.raises(ValueError, match=r"mem is not a tensor that this neuron has returned.*pass step="):
        neuron(x, first.clone())
    neuron.reset_mem()
    _, as_start = neuron(x, first.clone())
    assert torch.equal(as_start, beta[0] * first + x)
    neuron.reset_mem()
    _, as_copy = neuron(x, first.clone(), step=1)
    assert torch.equal(as_copy, second)
    assert neuron.step == 2


@pytest.mark.parametrize("backend", [None, "eager"])
def test_two_sequences_of_one_neuron_take_turns(backend: str | None) -> None:
    torch._dynamo.reset()
    neuron = AdaptiveLeaky(0.9, **options({"reset_mechanism": "none"}))
    run: Any = neuron if backend is None else torch.compile(neuron, backend=backend)
    x = torch.rand(STEPS, 2, 3)
    alone = []
    for side in x.unbind(1):
        mem, trace = neuron.reset_mem(), []
        for current in side:
            _, mem = neuron(current, mem)
            trace.append(mem)
        alone.append(torch.stack(trace))
    a, b, traces = neuron.reset_mem(), neuron.reset_mem(), []
    for one, two in x:
        _, a = run(one, a)
        _, b = run(two, b)
        traces.append(torch.stack([a, b]))
    assert torch.equal(torch.stack(traces, 1), torch.stack(alone))


def test_compiled_code_never_guesses_a_step() -> None:
    torch._dynamo.reset()
    neuron = AdaptiveLeaky(0.9, **options({}))
    compiled = torch.compile(neuron, backend="eager")
    x = torch.rand(2, 3)
    _, first = compiled(x, neuron.reset_mem())
    compiled(x, first)
    with pytest.raises(ValueError, match="compiled code may not know the time step"):
        compiled(x, torch.rand(2, 3))


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_available(), reason="torch is built without torch.distributed")
def test_processes_do_not_share_states(tmp_path: Path) -> None:
    script = Path(__file__).with_name("state_worker.py")
    root = Path(asnn.__file__).parents[1]
    workers = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), "2", str(tmp_path)],
            env=os.environ | {"PYTHONPATH": str(root)},
        )
        for rank in range(2)
    ]
    try:
        assert [process.wait(120) for process in workers] == [0, 0]
    finally:
        for process in workers:
            process.kill()
