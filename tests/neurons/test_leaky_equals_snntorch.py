"""Before training, AdaptiveLeaky is snn.Leaky to the bit: spikes, membrane and input gradient."""

from __future__ import annotations

from typing import Any

import pytest
import snntorch as snn
import snntorch.surrogate
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snntorch_asnn import AdaptiveLeaky


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    sample = draw(st.sampled_from([(1,), (7,), (3, 4, 5), (2, 1, 3)]))
    features = draw(st.sampled_from([None, sample, (sample[0], *(1 for _ in sample[1:]))]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    steps = draw(st.integers(1, 6))
    beta = draw(st.floats(-0.2, 1.2))
    return {
        "x": torch.randn(steps, draw(st.integers(1, 4)), *sample, generator=generator) * 1.5,
        "mem": torch.randn(sample, generator=generator) * 1.5 if draw(st.booleans()) else None,
        "beta": beta if features is None else torch.rand(features, generator=generator),
        "features": features or (),
        "options": {
            "threshold": draw(st.sampled_from([1.0, 0.5, 1.3])),
            "spike_grad": draw(st.sampled_from([None, snntorch.surrogate.fast_sigmoid(5)])),
            "init_hidden": draw(st.booleans()),
            "learn_threshold": draw(st.booleans()),
            "reset_mechanism": draw(st.sampled_from(["subtract", "zero", "none"])),
            "state_quant": draw(st.sampled_from([False, torch.nn.Hardtanh(-1, 1.5)])),
            "output": draw(st.booleans()),
            "graded_spikes_factor": draw(st.sampled_from([1.0, 0.7, 3.0])),
            "learn_graded_spikes_factor": draw(st.booleans()),
            "reset_delay": draw(st.booleans()),
        },
    }


def run_steps(neuron: snn.Leaky, x: Tensor, first: Tensor | None) -> tuple[Tensor, list[Tensor]]:
    """A snnTorch user's own loop: spikes of all steps and the membranes that were returned."""
    mem = neuron.reset_mem()
    if first is not None:
        mem = first.expand_as(x[0]).clone()
        if neuron.init_hidden:
            neuron.mem = mem
    spikes, membranes = [], []
    for current in x:
        result = neuron(current) if neuron.init_hidden else neuron(current, mem)
        spk, *rest = result if isinstance(result, tuple) else (result,)
        if rest:
            (mem,) = rest
            membranes.append(mem)
        spikes.append(spk)
    return torch.stack(spikes), membranes


def run_sequence(neuron: AdaptiveLeaky, x: Tensor, first: Tensor | None) -> tuple[Tensor, list[Tensor]]:
    first = None if first is None else first.expand_as(x[0]).clone()
    if neuron.init_hidden and first is not None:
        neuron.mem = first
    result = neuron(x) if neuron.init_hidden else neuron(x, first)
    if not isinstance(result, tuple):
        return result, []
    spikes, mem = result
    return spikes, list(mem) if neuron.output else [mem]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["step", "sequence"])
@given(case=cases())
@settings(max_examples=300)
def test_equals_snn_leaky_to_the_bit(mode: str, case: dict[str, Any]) -> None:
    options, x = case["options"], case["x"]
    theirs = snn.Leaky(case["beta"], **options)
    ours = AdaptiveLeaky(
        case["beta"],
        num_steps=len(x),
        feature_shape=case["features"],
        sequence=mode == "sequence",
        impl="reference",
        **options,
    )
    outcomes = []
    for neuron, run in (
        (theirs, run_steps),
        (ours, run_sequence if mode == "sequence" else run_steps),
    ):
        leaf = x.clone().requires_grad_()
        spikes, membranes = run(neuron, leaf, case["mem"])  # type: ignore[operator]
        # Exact weights: a sum of their products does not depend on how it was grouped.
        weights = torch.arange(spikes.numel()).reshape(spikes.shape) % 7 - 3.0
        loss = (spikes * weights).sum()
        if membranes:
            loss = loss + membranes[-1].sum()
        (grad,) = torch.autograd.grad(loss, leaf, allow_unused=True)
        outcomes.append(
            (spikes, membranes[-1:] if mode == "sequence" and not options["output"] else membranes, grad)
        )
    (spikes, membranes, grad), (our_spikes, our_membranes, our_grad) = outcomes
    assert torch.equal(spikes, our_spikes)
    assert len(membranes) == len(our_membranes)
    assert all(map(torch.equal, membranes, our_membranes))
    assert (grad is None and our_grad is None) or torch.equal(grad, our_grad)


@pytest.mark.parametrize("reset_delay", [True, False])
def test_equals_snn_leaky_with_inhibition(reset_delay: bool) -> None:
    x = torch.randn(5, 3, 8) * 2
    with pytest.warns(UserWarning, match="Inhibition"):
        theirs = snn.Leaky(0.9, inhibition=True, reset_delay=reset_delay)
    with pytest.warns(UserWarning, match="Inhibition"):
        ours = AdaptiveLeaky(0.9, inhibition=True, reset_delay=reset_delay, num_steps=5)
    for a, b in zip(run_steps(theirs, x, None), run_steps(ours, x, None), strict=True):
        assert all(map(torch.equal, a, b))


def test_equals_snn_leaky_without_surrogate() -> None:
    x = torch.randn(5, 3, 8) * 2
    theirs = snn.Leaky(0.9, surrogate_disable=True)
    ours = AdaptiveLeaky(0.9, surrogate_disable=True, num_steps=5)
    for a, b in zip(run_steps(theirs, x, None), run_steps(ours, x, None), strict=True):
        assert all(map(torch.equal, a, b))


def test_positional_arguments_are_snn_leakys() -> None:
    arguments = (0.8, 0.9, None, False, True, False, False, True, "zero", False, True, 0.5, True, False)
    theirs, ours = snn.Leaky(*arguments), AdaptiveLeaky(*arguments, num_steps=3)
    names = ("init_hidden", "inhibition", "reset_mechanism", "state_quant", "output", "reset_delay")
    for name in names:
        assert getattr(theirs, name) == getattr(ours, name), name
    assert isinstance(ours, snn.Leaky)
    assert (ours.beta == 0.8).all()
    assert not isinstance(ours.beta, torch.nn.Parameter)
    assert isinstance(ours.threshold, torch.nn.Parameter)
    assert isinstance(ours.graded_spikes_factor, torch.nn.Parameter)


@pytest.mark.slow
@pytest.mark.parametrize("impl", ["auto", "compile"])
def test_fused_sequence_agrees_within_rounding(impl: Any) -> None:
    x = torch.randn(4, 8, 64, 8, 8)
    lif = snn.Leaky(0.9)
    expected, membranes = run_steps(lif, x, None)
    spikes, mem = AdaptiveLeaky(0.9, num_steps=4, sequence=True, impl=impl)(x)
    torch.testing.assert_close(mem, membranes[-1], rtol=0, atol=1e-5)
    assert (spikes != expected).float().mean() < 1e-5
