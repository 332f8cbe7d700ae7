"""Before training, every neuron of the family is its snnTorch counterpart to the bit, gradients included."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import snntorch as snn
import snntorch.surrogate
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from snntorch_asnn import AdaptiveLapicque, AdaptiveRLeaky, AdaptiveSynaptic

STATES = {"Synaptic": ("syn", "mem"), "RLeaky": ("spk", "mem"), "Lapicque": ("mem",)}
OURS = {"Synaptic": AdaptiveSynaptic, "RLeaky": AdaptiveRLeaky, "Lapicque": AdaptiveLapicque}


@st.composite
def cases(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    sample = draw(st.sampled_from([(1,), (7,), (3, 4, 5), (2, 1, 3)]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    features = draw(st.sampled_from([(), sample, (sample[0], *(1 for _ in sample[1:]))]))

    def leak() -> float | Tensor:
        return torch.rand(features, generator=generator) if features else draw(st.floats(-0.2, 1.2))

    options: dict[str, Any] = {
        "threshold": draw(st.sampled_from([1.0, 0.5, 1.3])),
        "spike_grad": draw(st.sampled_from([None, snntorch.surrogate.fast_sigmoid(5)])),
        "init_hidden": draw(st.booleans()),
        "learn_threshold": draw(st.booleans()),
        "reset_mechanism": draw(st.sampled_from(["subtract", "zero", "none"])),
        "state_quant": draw(st.sampled_from([False, nn.Hardtanh(-1, 1.5)])),
        "output": draw(st.booleans()),
    }
    if kind == "Lapicque":
        options |= draw(circuits())
    else:
        options |= {"beta": leak(), "reset_delay": draw(st.booleans())}
    if kind == "Synaptic":
        options["alpha"] = leak()
    if kind == "RLeaky":
        options |= _feedback(draw, sample, generator)
    return {
        "x": torch.randn(draw(st.integers(1, 6)), draw(st.integers(1, 3)), *sample, generator=generator)
        * 1.5,
        "first": [torch.randn(sample, generator=generator) for _ in STATES[kind]],
        "given": draw(st.booleans()),
        "features": features,
        "options": options,
    }


def _feedback(draw: st.DrawFn, sample: tuple[int, ...], generator: torch.Generator) -> dict[str, Any]:
    learn = {"learn_recurrent": draw(st.booleans())}
    if draw(st.booleans()):
        V = draw(st.sampled_from([0.5, torch.randn(sample, generator=generator)]))
        return {"all_to_all": False, "V": V, **learn}
    if len(sample) == 1:
        return {"linear_features": sample[0], **learn}
    return {"conv2d_channels": sample[0], "kernel_size": draw(st.sampled_from([3, (1, 3)])), **learn}


@st.composite
def circuits(draw: st.DrawFn) -> dict[str, Any]:
    numbers = st.floats(0.3, 7.0)
    circuit: dict[str, Any] = draw(
        st.fixed_dictionaries({"beta": st.floats(0.05, 0.99)})
        | st.fixed_dictionaries({"R": numbers, "C": numbers})
        | st.fixed_dictionaries({"beta": st.floats(0.05, 0.99), "R": numbers})
        | st.fixed_dictionaries({"beta": st.floats(0.05, 0.99), "C": numbers})
    )
    return circuit | {"time_step": draw(st.sampled_from([1, 0.5, 1e-1]))}


def run_steps(neuron: Any, states: tuple[str, ...], case: dict[str, Any], x: Tensor) -> tuple[Tensor, Any]:
    """A snnTorch user's own loop: spikes of all steps and the states returned with each."""
    now = neuron.reset_mem()
    now = now if isinstance(now, tuple) else (now,)
    if case["given"]:
        now = tuple(first.expand_as(x[0]).clone() for first in case["first"])
        if neuron.init_hidden:
            for name, state in zip(states, now, strict=True):
                setattr(neuron, name, state)
    spikes, returned = [], []
    for current in x:
        result = neuron(current) if neuron.init_hidden else neuron(current, *now)
        spk, *rest = result if isinstance(result, tuple) else (result,)
        # snn.RLeaky returns its spikes, which are its first state, once.
        now = (spk, *rest) if "spk" in states else tuple(rest)
        spikes.append(spk)
        returned.append(rest)
    return torch.stack(spikes), returned


def run_sequence(neuron: Any, states: tuple[str, ...], case: dict[str, Any], x: Tensor) -> tuple[Tensor, Any]:
    first = tuple(first.expand_as(x[0]).clone() for first in case["first"]) if case["given"] else ()
    if neuron.init_hidden:
        for name, state in zip(states, first, strict=False):
            setattr(neuron, name, state)
        result = neuron(x)
    else:
        result = neuron(x, *first)
    if not isinstance(result, tuple):
        return result, [[]]
    spikes, *rest = result
    steps = list(zip(*rest, strict=True)) if neuron.output else [rest]
    return spikes, steps


def build_pair(kind: str, case: dict[str, Any], **own: Any) -> tuple[Any, Any]:
    pair = []
    for cls, extra in (
        (getattr(snn, kind), {}),
        (OURS[kind], {"num_steps": len(case["x"]), "feature_shape": case["features"], **own}),
    ):
        torch.manual_seed(1)
        pair.append(cls(**case["options"], **extra))
    return pair[0], pair[1]


def outcome(
    neuron: Any, run: Callable[..., Any], kind: str, case: dict[str, Any]
) -> tuple[Tensor, Any, list[Tensor | None]]:
    leaf = case["x"].clone().requires_grad_()
    spikes, returned = run(neuron, STATES[kind], case, leaf)
    # Exact weights: a sum of their products does not depend on how it was grouped.
    loss = (spikes * (torch.arange(spikes.numel()).reshape(spikes.shape) % 7 - 3.0)).sum()
    for state in returned[-1]:
        loss = loss + state.sum()
    weights = [leaf, *(p for name, p in neuron.named_parameters() if "recurrent" in name)]
    weights = [w for w in weights if w.requires_grad]
    return spikes, returned, list(torch.autograd.grad(loss, weights, allow_unused=True))


def assert_same(a: Tensor | None, b: Tensor | None) -> None:
    if a is None or b is None:
        assert a is b or not (a if b is None else b).any()  # type: ignore[union-attr]
    else:
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", list(OURS))
@pytest.mark.parametrize("mode", ["step", "sequence"])
@given(data=st.data())
@settings(max_examples=100)
def test_equals_snntorch_to_the_bit(kind: str, mode: str, data: st.DataObject) -> None:
    case = data.draw(cases(kind))
    theirs, ours = build_pair(kind, case, sequence=mode == "sequence", impl="reference")
    expected = outcome(theirs, run_steps, kind, case)
    got = outcome(ours, run_sequence if mode == "sequence" else run_steps, kind, case)
    assert torch.equal(expected[0], got[0])
    states = expected[1] if len(got[1]) == len(expected[1]) else expected[1][-1:]
    for theirs_at, ours_at in zip(states, got[1], strict=True):
        assert len(theirs_at) == len(ours_at)
        assert all(map(torch.equal, theirs_at, ours_at))
    for a, b in itertools.zip_longest(expected[2], got[2]):
        assert_same(a, b)


@pytest.mark.parametrize("kind", list(OURS))
@given(data=st.data())
@settings(max_examples=40)
def test_loads_the_state_dict_of_snntorch(kind: str, data: st.DataObject) -> None:
    case = data.draw(cases(kind))
    theirs, _ = build_pair(kind, case)
    constructor = dict(case["options"])
    for name in ("alpha", "beta", "R", "C", "time_step"):
        if kind != "Lapicque" and name in constructor:
            constructor[name] = 0.5
    ours = OURS[kind](
        **constructor | ({"beta": 0.5, "R": 2.0, "C": False} if kind == "Lapicque" else {}),
        num_steps=len(case["x"]),
        feature_shape=case["features"],
    )
    if kind == "RLeaky":
        torch.manual_seed(2)
    missing = ours.load_state_dict(theirs.state_dict())
    assert not missing.missing_keys
    assert not missing.unexpected_keys
    spikes, *_ = outcome(theirs, run_steps, kind, case)
    got, *_ = outcome(ours, run_steps, kind, case)
    assert torch.equal(spikes, got)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Synaptic", "Lapicque"])
@pytest.mark.parametrize("output", [False, True])
@pytest.mark.parametrize("init_hidden", [False, True])
def test_fused_sequence_agrees_within_rounding(kind: str, output: bool, init_hidden: bool) -> None:
    x = torch.randn(5, 2, 40) * 1.5
    options = {"alpha": 0.7, "beta": 0.8} if kind == "Synaptic" else {"beta": 0.8}
    common = {"num_steps": 5, "sequence": True, "init_hidden": init_hidden, "output": output}
    outcomes = []
    for impl in ("reference", "compile"):
        neuron = OURS[kind](**options, **common, impl=impl)
        leaf = x.clone().requires_grad_()
        result = neuron(leaf)
        result = result if isinstance(result, tuple) else (result,)
        sum(r.square().sum() for r in result).backward()
        grads = [leaf.grad, *(p.grad for p in neuron.parameters())]
        outcomes.append((*result, *grads))
    for a, b in zip(*outcomes, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", list(OURS))
@pytest.mark.parametrize("exact_reset", [False, True])
def test_sequence_equals_steps(kind: str, exact_reset: bool) -> None:
    options: dict[str, Any] = {
        "Synaptic": {"alpha": torch.rand(4), "beta": torch.rand(4)},
        "RLeaky": {"beta": torch.rand(4), "all_to_all": False, "V": 0.3},
        "Lapicque": {"R": 5.0, "C": 1.44},
    }[kind]
    if exact_reset and kind == "Lapicque":
        pytest.skip("snnTorch's Lapicque has no immediate reset")
    if exact_reset:
        options |= {"exact_reset": True, "reset_delay": False}
    options |= {"num_steps": 4, "feature_shape": (), "gain": torch.tensor([1.0, 0.5, 2.0, 1.5])}
    options["threshold"] = torch.tensor([1.0, 0.5, 0.8, 1.2])
    x = torch.randn(4, 3, 6)
    by_step = OURS[kind](**options, init_hidden=True)
    expected = torch.stack([by_step(current) for current in x])
    assert 0 < expected.mean() < 1
    spikes, *_ = OURS[kind](**options, sequence=True)(x)
    assert torch.equal(spikes, expected)
    continued = OURS[kind](**options, sequence=True, init_hidden=True)
    assert torch.equal(torch.cat([continued(x[:1]), continued(x[1:])]), expected)
