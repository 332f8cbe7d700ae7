"""What AdaptiveSynaptic, AdaptiveRLeaky and AdaptiveLapicque have beyond equality with snnTorch."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from typing import Any

import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

import snntorch_asnn as asnn
from snntorch_asnn import AdaptiveLapicque, AdaptiveRLeaky, AdaptiveSynaptic

STEPS = 4
FAMILY: dict[str, Any] = {
    "Synaptic": lambda **o: AdaptiveSynaptic(**{"alpha": 0.5, "beta": 0.9, "num_steps": STEPS} | o),
    "RLeaky": lambda **o: AdaptiveRLeaky(**{"beta": 0.9, "linear_features": 5, "num_steps": STEPS} | o),
    "Lapicque": lambda **o: AdaptiveLapicque(**{"beta": 0.9, "R": 5.0, "num_steps": STEPS} | o),
}
POSITIONAL = {
    "Synaptic": (0.4, 0.8, 0.9, None, False, True, False, False, False, True, "zero", False, True, False),
    "RLeaky": (
        *(0.8, 0.3, False, None, None, None, 0.9, None, False, True, False, False, True, False),
        *("zero", False, True, False),
    ),
    "Lapicque": (0.8, 2.0, False, 0.5, 0.9, None, False, True, False, False, True, "zero", False, True),
}


@pytest.fixture(params=list(FAMILY))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def steps(neuron: Any, x: Tensor) -> Tensor:
    return torch.stack([neuron(current) for current in x])


def test_positional_arguments_are_snntorchs(kind: str) -> None:
    theirs = getattr(snn, kind)(*POSITIONAL[kind])
    ours = getattr(asnn, f"Adaptive{kind}")(*POSITIONAL[kind], num_steps=STEPS)
    assert isinstance(ours, getattr(snn, kind))
    for name in ("init_hidden", "inhibition", "reset_mechanism", "state_quant", "output", "reset_delay"):
        assert getattr(theirs, name, True) == getattr(ours, name), name
    for name in ("threshold", *(("R", "C", "time_step") if kind == "Lapicque" else ())):
        assert (getattr(ours, name) == getattr(theirs, name)).all(), name
    assert isinstance(ours.threshold, nn.Parameter)
    assert not isinstance(ours.beta, nn.Parameter)
    x = torch.rand(STEPS, 3, 5) * 3
    with torch.no_grad():
        for a, b in zip((theirs(c) for c in x), (ours(c) for c in x), strict=True):
            assert all(map(torch.equal, a, b))


def test_every_step_learns_its_own_parameters(kind: str) -> None:
    neuron = FAMILY[kind](init_hidden=True, learn_threshold=True)
    (steps(neuron, torch.rand(STEPS, 3, 5) * 4) * torch.rand(5)).sum().backward()
    for name in (*neuron.leaks, "gain", "threshold"):
        grad = getattr(neuron, name).grad
        assert grad.shape == (STEPS,)
        assert grad[1:].unique().numel() == STEPS - 1, name


@pytest.mark.parametrize(
    "keep", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))], ids=["copy", "pickle"]
)
def test_the_state_survives(kind: str, keep: Any) -> None:
    x = torch.rand(STEPS, 3, 5) * 3
    neuron = FAMILY[kind](init_hidden=True)
    with torch.no_grad():
        expected = steps(FAMILY[kind](init_hidden=True) if kind != "RLeaky" else copy.deepcopy(neuron), x)
        steps(neuron, x[:2])
        kept = keep(neuron)
        assert kept.step == 2
        assert torch.equal(steps(kept, x[2:]), expected[2:])


def test_restarts_when_any_state_is_replaced(kind: str) -> None:
    neuron = FAMILY[kind](init_hidden=True)
    for name in neuron.states:
        with torch.no_grad():
            neuron(torch.rand(2, 5))
        assert neuron.step > 0
        setattr(neuron, name, torch.zeros(2, 5))
        assert neuron.step == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("sequence", [False, True])
def test_dtypes(kind: str, dtype: torch.dtype, sequence: bool) -> None:
    neuron = FAMILY[kind](init_hidden=True, sequence=sequence).to(dtype)
    x = torch.rand(STEPS, 3, 5).to(dtype) * 3
    spikes = neuron(x) if sequence else steps(neuron, x)
    assert spikes.dtype == dtype
    assert neuron.mem.dtype == torch.promote_types(dtype, torch.float32)


def test_resize_steps(kind: str) -> None:
    neuron = FAMILY[kind](init_hidden=True).resize_steps(7)
    assert all(getattr(neuron, name).shape == (7,) for name in (*neuron.leaks, "gain"))
    assert steps(neuron, torch.rand(7, 2, 5)).shape == (7, 2, 5)


def test_a_step_past_the_last_raises_and_changes_nothing(kind: str) -> None:
    neuron = FAMILY[kind](init_hidden=True)
    steps(neuron, torch.rand(STEPS, 2, 5))
    mem = neuron.mem.clone()
    with pytest.raises(ValueError, match=f"num_steps={STEPS}"):
        neuron(torch.rand(2, 5))
    assert torch.equal(neuron.mem, mem)


def test_one_neuron_for_two_layers_keeps_their_steps_apart(kind: str) -> None:
    shared = FAMILY[kind](gain=torch.tensor([1.0, 2.0, 3.0, 4.0]), feature_shape=())
    alone = copy.deepcopy(shared)
    x = torch.rand(STEPS, 2, 5)
    first, second = ((s,) if isinstance(s, Tensor) else s for s in (shared.reset_mem(), shared.reset_mem()))
    now = alone.reset_mem()
    now = (now,) if isinstance(now, Tensor) else now

    def call(neuron: Any, current: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        spk, *rest = neuron(current, *state)
        rest = [state.detach() for state in rest]
        return spk, (spk, *rest) if kind == "RLeaky" else tuple(rest)

    for current in x:
        spk, first = call(shared, current, first)
        again, second = call(shared, current, second)
        expected, now = call(alone, current, now)
        assert torch.equal(spk, expected)
        assert torch.equal(again, expected)


def test_feedback_that_is_not_learned_follows_the_module() -> None:
    neuron = AdaptiveRLeaky(
        0.9, V=0.5, all_to_all=False, learn_recurrent=False, num_steps=2, init_hidden=True
    ).double()
    assert neuron(torch.rand(2, 3, dtype=torch.float64)).dtype == torch.float64
    assert neuron.V.dtype == torch.float64
    assert not [name for name, _ in neuron.named_parameters() if "V" in name]


@pytest.mark.slow
def test_a_sequence_is_one_graph(kind: str) -> None:
    neuron = FAMILY[kind](sequence=True)
    x = torch.rand(STEPS, 3, 5, requires_grad=True)
    found, expected = (
        (*run(x), *torch.autograd.grad(run(x)[0].sum(), [x, neuron.gain]))
        for run in (torch.compile(neuron, fullgraph=True, backend="aot_eager"), neuron)
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("build", "arguments", "error", "message"),
    [
        ("Synaptic", {"alpha": "0.5"}, TypeError, "alpha must be a real number"),
        ("Synaptic", {"alpha": float("inf")}, ValueError, "alpha must be finite"),
        ("Synaptic", {"alpha": 1.0, "beta_constraint": "sigmoid"}, ValueError, "alpha must lie strictly"),
        ("Synaptic", {"learn_alpha": 1}, TypeError, "learn_alpha must be a bool"),
        ("Synaptic", {"reset_mechanism": "zero", "impl": "compile"}, ValueError, "impl='compile' does not"),
        ("RLeaky", {"impl": "compile"}, ValueError, "impl='compile' does not cover"),
        ("RLeaky", {"learn_recurrent": 1}, TypeError, "learn_recurrent must be a bool"),
        ("RLeaky", {"linear_features": None}, TypeError, "requires either"),
        ("RLeaky", {"kernel_size": 3}, TypeError, "cannot be specified at the same time"),
        ("Lapicque", {"beta": 1.0, "R": False}, ValueError, "beta must be below 1"),
        ("Lapicque", {"R": -1.0}, ValueError, "R must be positive"),
        ("Lapicque", {"time_step": "1"}, TypeError, "time_step must be a number"),
        ("Lapicque", {"beta": torch.rand(3)}, ValueError, "beta must be one number"),
        ("Lapicque", {"beta": False}, ValueError, "beta or 2 of beta, R and C"),
        ("Lapicque", {"reset_mechanism": "zero", "impl": "compile"}, ValueError, "impl='compile' does not"),
    ],
)
def test_wrong_arguments(build: str, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        FAMILY[build](**arguments)
    # Nothing half-built stays where snnTorch would reset it.
    snn.RLeaky.reset_hidden()
    snn.Lapicque.reset_hidden()


def test_a_neuron_may_go_while_snntorch_resets_it() -> None:
    class Going(AdaptiveRLeaky):
        """As one that only the graph of its own state keeps alive."""

        def init_rleaky(self) -> tuple[Tensor, Tensor]:
            alone.clear()
            return super().init_rleaky()

    alone = [Going(0.9, num_steps=3, all_to_all=False, V=0.5, init_hidden=True)]
    reference = weakref.ref(alone[0])
    snn.RLeaky.reset_hidden()
    gc.collect()
    assert reference() is None
    snn.RLeaky.reset_hidden()


def test_wrong_states(kind: str) -> None:
    neuron = FAMILY[kind]()
    good = [torch.zeros(2, 5) for _ in neuron.states]
    for position, name in enumerate(neuron.states):
        wrong = [*good]
        wrong[position] = torch.zeros(2, 6)
        with pytest.raises(ValueError, match=f"{name} must have the shape"):
            neuron(torch.rand(2, 5), *wrong)
        wrong[position] = [1.0]  # type: ignore[call-overload]
        with pytest.raises(TypeError, match=f"{name} must be a tensor"):
            neuron(torch.rand(2, 5), *wrong)
    with pytest.raises(TypeError, match="should not be passed"):
        FAMILY[kind](init_hidden=True)(torch.rand(2, 5), *good)


@pytest.mark.parametrize("num_steps", [1, 4])
def test_a_lapicque_tells_snntorchs_checkpoints_from_its_own(num_steps: int) -> None:
    ours = AdaptiveLapicque(R=2.0, C=3.0, num_steps=num_steps, gain=0.3)
    ours.load_state_dict(snn.Lapicque(R=5.0, C=2.0).state_dict())
    torch.testing.assert_close(ours.beta.data, torch.full((num_steps,), 0.9))
    assert torch.equal(ours.gain, torch.ones(num_steps))
    trained = AdaptiveLapicque(R=5.0, C=2.0, num_steps=num_steps)
    torch.nn.init.constant_(trained.beta, 0.7)
    state = trained.state_dict()
    del state["gain"]
    ours = AdaptiveLapicque(R=2.0, C=3.0, num_steps=num_steps, gain=0.3)
    assert ours.load_state_dict(state, strict=False).missing_keys == ["gain"]
    assert torch.equal(ours.beta, trained.beta)
    assert torch.equal(ours.gain, torch.full((num_steps,), 0.3))
