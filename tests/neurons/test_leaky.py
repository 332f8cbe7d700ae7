"""AdaptiveLeaky: its own options, parameters and errors."""

from __future__ import annotations

import re
from typing import Any

import pytest
import snntorch as snn
import torch
from torch import Tensor

from snntorch_asnn import AdaptiveLeaky, surrogate


def drive(lif: AdaptiveLeaky, currents: list[float]) -> list[tuple[float, float]]:
    """(spike, membrane) at each step of one neuron."""
    mem = lif.reset_mem()
    trace = []
    for current in currents:
        spk, mem = lif(torch.tensor([current]), mem)
        trace.append((spk.item(), round(mem.item(), 4)))
    return trace


@pytest.mark.parametrize(
    ("options", "trace"),
    [
        ({}, [(0, 0.6), (1, 1.14), (0, 0.626)]),
        ({"reset_delay": False}, [(0, 0.6), (1, 0.14), (0, 0.726)]),
        ({"reset_mechanism": "zero"}, [(0, 0.6), (1, 1.14), (0, 0.6)]),
        ({"reset_mechanism": "zero", "reset_delay": False}, [(0, 0.6), (1, 0.0), (0, 0.6)]),
        ({"reset_mechanism": "none"}, [(0, 0.6), (1, 1.14), (1, 1.626)]),
        ({"reset_delay": False, "exact_reset": True}, [(0, 0.6), (1, 0.14), (0, 0.726)]),
    ],
)
def test_membrane_traces_by_hand(options: dict[str, Any], trace: list[tuple[float, float]]) -> None:
    assert drive(AdaptiveLeaky(0.9, num_steps=3, **options), [0.6, 0.6, 0.6]) == trace


def test_every_step_has_its_own_parameters() -> None:
    lif = AdaptiveLeaky(
        torch.tensor([0.5, 0.5, 0.25]),
        gain=torch.tensor([1.0, 2.0, 1.0]),
        threshold=torch.tensor([1.5, 3.0, 1.0]),
        graded_spikes_factor=torch.tensor([2.0, 3.0, 4.0]),
        reset_delay=False,
        exact_reset=True,
        num_steps=3,
        feature_shape=(),
    )
    assert drive(lif, [2.0, 1.0, 1.0]) == [(2, 0.5), (0, 2.25), (4, 0.5625)]


@pytest.mark.parametrize("sequence", [False, True])
def test_delayed_reset_subtracts_the_threshold_that_was_crossed(sequence: bool) -> None:
    threshold = torch.tensor([1.5, 5.0, 0.5])
    lif = AdaptiveLeaky(1.0, threshold, num_steps=3, feature_shape=(), sequence=sequence, output=True)
    x = torch.tensor([2.0, 0.0, 0.0]).reshape(3, 1)
    mem = lif(x)[1].flatten().tolist() if sequence else [m for _, m in drive(lif, x.flatten().tolist())]
    assert mem == [2.0, 0.5, 0.5]


def test_training_moves_every_steps_parameters() -> None:
    lif = AdaptiveLeaky(0.9, learn_threshold=True, num_steps=4, feature_shape=(3,), sequence=True)
    spikes, mem = lif(torch.rand(4, 8, 3))
    (spikes.sum() + mem.sum()).backward()
    for name in ("gain", "threshold"):
        grad = getattr(lif, name).grad
        assert grad.shape == (4, 3)
        assert (grad != 0).all(), name
    assert (lif.beta.grad[0] == 0).all()
    assert (lif.beta.grad[1:] != 0).all()


def test_per_channel_parameters_of_a_convolution() -> None:
    lif = AdaptiveLeaky(torch.rand(5, 1, 1), num_steps=2, sequence=True)
    assert lif.feature_shape == (5, 1, 1)
    assert lif.beta.shape == lif.gain.shape == (2, 5, 1, 1)
    assert lif(torch.rand(2, 3, 5, 4, 4))[0].shape == (2, 3, 5, 4, 4)


def test_paper_is_the_published_neuron() -> None:
    lif = AdaptiveLeaky.paper(4, sequence=True)
    assert (lif.beta == 0.5).all()
    assert (lif.gain == 0.5).all()
    assert lif.exact_reset
    assert lif.detach_reset is False
    assert lif.beta_constraint == "none"
    assert lif.spike_grad == surrogate.sigmoid(4)
    assert not AdaptiveLeaky.paper(4, learn_gain=False).gain.requires_grad


@pytest.mark.parametrize(
    ("constraint", "raw", "leak"),
    [("clamp", 1.3, 1.0), ("clamp", -0.3, 0.0), ("none", 1.3, 1.3), ("sigmoid", 0.0, 0.5)],
)
def test_beta_constraint(constraint: Any, raw: float, leak: float) -> None:
    lif = AdaptiveLeaky(0.7, num_steps=2, beta_constraint=constraint, sequence=True)
    torch.testing.assert_close(lif.leak, torch.full((2,), 0.7))
    with torch.no_grad():
        lif.beta.fill_(raw)
    assert (lif.leak == leak).all()
    _, mem = lif(torch.tensor([[0.5], [0.0]]))
    torch.testing.assert_close(mem, torch.tensor([0.5 * leak]))


@pytest.mark.parametrize(
    ("detach_reset", "reset", "flows"),
    [
        (None, {"reset_delay": True}, False),
        (True, {"reset_delay": True}, False),
        (False, {"reset_delay": True}, True),
        (None, {"reset_delay": False}, True),
        (True, {"reset_delay": False}, False),
        (None, {"reset_delay": False, "exact_reset": True}, True),
        (True, {"reset_delay": False, "exact_reset": True}, False),
    ],
)
def test_detach_reset(detach_reset: bool | None, reset: dict[str, bool], flows: bool) -> None:
    lif = AdaptiveLeaky(1.0, num_steps=2, detach_reset=detach_reset, sequence=True, **reset)
    x = torch.tensor([[1.2], [0.1]], requires_grad=True)
    _, mem = lif(x)
    mem.sum().backward()
    assert x.grad is not None
    # Without the reset in the graph, the membrane is the plain sum of its inputs.
    assert (x.grad == 1).all().item() is not flows


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("sequence", [False, True])
def test_dtypes(dtype: torch.dtype, sequence: bool) -> None:
    lif = AdaptiveLeaky(0.9, num_steps=3, sequence=sequence)
    x = (torch.randn(3, 4, 5) * 2).to(dtype).requires_grad_()
    if sequence:
        spikes, mem = lif(x)
    else:
        mem, steps = lif.reset_mem(), []
        for current in x:
            spk, mem = lif(current, mem)
            steps.append(spk)
        spikes = torch.stack(steps)
    assert spikes.dtype == dtype
    assert mem.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    spikes.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == dtype
    assert lif.beta.grad is not None
    assert lif.beta.grad.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_module_cast_as_a_whole(dtype: torch.dtype) -> None:
    lif = AdaptiveLeaky(0.9, num_steps=3, init_hidden=True).to(dtype)
    for current in torch.randn(3, 4, 5).to(dtype):
        assert lif(current).dtype == dtype


def test_autocast() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(5, 6), AdaptiveLeaky(0.9, num_steps=2, sequence=True))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        spikes, mem = net(torch.randn(2, 3, 5))
    assert spikes.dtype == torch.bfloat16
    assert mem.dtype == torch.float32
    (spikes.float().sum() + mem.sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_vmap_func_grad_and_functional_call() -> None:
    lif = AdaptiveLeaky(0.9, num_steps=3, sequence=True)
    x = torch.randn(3, 7, 4)
    parameters = dict(lif.named_parameters())

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        spikes, mem = torch.func.functional_call(lif, parameters, (x,))
        return (spikes * torch.arange(4.0)).sum() + mem.sum()

    per_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 1))(parameters, x)
    loss(parameters, x).backward()
    for name, parameter in parameters.items():
        torch.testing.assert_close(per_sample[name].sum(0), parameter.grad)


def test_unlearned_parameters_are_buffers() -> None:
    lif = AdaptiveLeaky(0.9, num_steps=3, learn_beta=False, learn_gain=False)
    assert list(lif.parameters()) == []
    assert lif.state_dict().keys() == {
        "beta", "gain", "threshold", "graded_spikes_factor", "reset_mechanism_val",
    }  # fmt: skip


def test_attributes_changed_later_take_effect() -> None:
    lif = AdaptiveLeaky(0.9, num_steps=3)
    lif.reset_mechanism = "zero"
    lif.reset_delay = False
    assert drive(lif, [0.6, 0.6, 0.6]) == [(0, 0.6), (1, 0.0), (0, 0.6)]


def test_repr_shows_what_matters() -> None:
    shown = repr(AdaptiveLeaky.paper(4, feature_shape=(8, 1, 1), sequence=True))
    assert "num_steps=4, feature_shape=(8, 1, 1), reset_mechanism='subtract'" in shown
    assert "sequence" in shown


def test_resize_steps_resamples_and_keeps_the_ends() -> None:
    lif = AdaptiveLeaky(
        torch.tensor([0.2, 0.8]),
        gain=torch.tensor([1.0, 3.0]),
        num_steps=2,
        feature_shape=(),
        learn_threshold=True,
    )
    assert lif.resize_steps(4) is lif
    torch.testing.assert_close(lif.beta.data, torch.tensor([0.2, 0.4, 0.6, 0.8]))
    torch.testing.assert_close(lif.gain.data, torch.tensor([1.0, 5 / 3, 7 / 3, 3.0]))
    assert lif.threshold.shape == (4,)
    assert lif.gain.requires_grad
    assert lif.num_steps == 4
    assert len(drive(lif, [0.1] * 4)) == 4
    assert AdaptiveLeaky(0.9, num_steps=3).resize_steps(1).beta.tolist() == pytest.approx([0.9])


def test_resize_steps_starts_a_new_sequence_without_membrane() -> None:
    lif = AdaptiveLeaky(0.9, num_steps=4, init_hidden=True, output=True)
    x = torch.full((1, 2), 0.6)
    lif(x)
    lif.resize_steps(3)
    assert lif.step == 0
    assert torch.equal(lif(x)[1], AdaptiveLeaky(0.9, num_steps=3)(x)[1])


def test_one_value_per_step_and_per_neuron_can_look_alike() -> None:
    with pytest.warns(UserWarning, match=re.escape("beta of shape (3,) is read as one value per time step")):
        lif = AdaptiveLeaky(torch.tensor([0.1, 0.2, 0.3]), num_steps=3)
    assert lif.beta.shape == (3,)
    lif = AdaptiveLeaky(torch.tensor([0.1, 0.2, 0.3]), num_steps=3, feature_shape=(3,))
    assert lif.beta[0].tolist() == lif.beta[2].tolist() == pytest.approx([0.1, 0.2, 0.3])


NAN = float("nan")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_steps": 0}, ValueError, "num_steps must be at least 1; got 0"),
        ({"num_steps": -2}, ValueError, "num_steps must be at least 1"),
        ({"num_steps": 2.0}, TypeError, "num_steps must be an integer"),
        ({"num_steps": True}, TypeError, "num_steps must be an integer"),
        ({"beta": NAN}, ValueError, "beta must be finite"),
        (
            {"beta": torch.tensor([0.1, NAN, 0.3, 0.4]), "feature_shape": ()},
            ValueError,
            "beta must be finite",
        ),
        ({"gain": float("inf")}, ValueError, "gain must be finite"),
        ({"threshold": NAN}, ValueError, "threshold must be finite"),
        ({"graded_spikes_factor": NAN}, ValueError, "graded_spikes_factor must be finite"),
        ({"beta": "0.9"}, TypeError, "beta must be a real number"),
        ({"beta": None}, TypeError, "beta must be a real number"),
        ({"beta": torch.tensor([True])}, TypeError, "beta must be a real number"),
        ({"gain": 1j}, TypeError, "gain must be a real number"),
        ({"beta": torch.rand(5), "feature_shape": ()}, ValueError, r"beta must be a number or of shape \(\)"),
        ({"gain": torch.rand(5)}, ValueError, r"gain must be a number or of shape \(\), \(4,\)"),
        ({"gain": torch.rand(4, 2)}, ValueError, "gain must be a number or of shape"),
        ({"beta": torch.rand(3), "threshold": torch.rand(5)}, ValueError, "threshold has the feature shape"),
        ({"feature_shape": (0,)}, ValueError, "feature_shape must hold positive integers"),
        ({"feature_shape": 5}, TypeError, "feature_shape must be a sequence of integers"),
        ({"feature_shape": (2.5,)}, TypeError, "feature_shape must be a sequence of integers"),
        ({"beta_constraint": "relu"}, ValueError, "beta_constraint must be one of 'clamp'"),
        ({"beta": 1.0, "beta_constraint": "sigmoid"}, ValueError, "beta must lie strictly between 0 and 1"),
        ({"on_overrun": "wrap"}, ValueError, "on_overrun must be one of 'raise'"),
        ({"impl": "cuda"}, ValueError, "impl must be one of 'auto'"),
        ({"reset_mechanism": "half"}, ValueError, "reset_mechanism must be"),
        ({"exact_reset": True}, ValueError, "exact_reset=True needs reset_delay=False"),
        ({"detach_reset": 1}, TypeError, "detach_reset must be a bool or None"),
        ({"spike_grad": "atan"}, TypeError, "spike_grad must be callable"),
        ({"state_quant": 8}, TypeError, "state_quant must be callable"),
        ({"init_hidden": 1}, TypeError, "init_hidden must be a bool"),
        ({"learn_gain": None}, TypeError, "learn_gain must be a bool"),
        ({"sequence": "yes"}, TypeError, "sequence must be a bool"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    before = len(snn.SpikingNeuron.instances)
    with pytest.raises(error, match=message):
        AdaptiveLeaky(**{"beta": 0.9, "num_steps": 4, **arguments})
    assert len(snn.SpikingNeuron.instances) == before, "a neuron that was refused stays registered"


@pytest.mark.parametrize(
    ("options", "call", "error", "message"),
    [
        ({}, {"input_": [1.0]}, TypeError, "input_ must be a tensor"),
        ({}, {"input_": torch.ones(2, dtype=torch.int64)}, TypeError, "input_ must be of a floating point"),
        ({}, {"input_": torch.ones(2, 3), "mem": torch.ones(3)}, ValueError, r"mem must have the shape"),
        ({}, {"input_": torch.ones(2), "mem": [1.0, 1.0]}, TypeError, "mem must be a tensor"),
        (
            {},
            {"input_": torch.ones(2), "mem": torch.ones(2).double()},
            TypeError,
            "mem must be torch.float32",
        ),
        ({}, {"input_": torch.ones(2), "step": -1}, ValueError, "step must not be negative"),
        ({}, {"input_": torch.ones(2), "step": 1.0}, TypeError, "step must be an integer"),
        ({}, {"input_": torch.ones(2), "step": 4}, ValueError, "num_steps=4: the neuron has parameters"),
        (
            {"init_hidden": True},
            {"input_": torch.ones(2), "mem": torch.ones(2)},
            TypeError,
            "`mem` should not",
        ),
        ({"feature_shape": (3,)}, {"input_": torch.ones(2, 4)}, ValueError, r"feature_shape=\(3,\) does not"),
        ({"sequence": True}, {"input_": torch.ones(5, 2)}, ValueError, "num_steps=4.*asks for step 4"),
        ({"sequence": True}, {"input_": torch.ones(0, 2)}, ValueError, "at least one step"),
        ({"sequence": True}, {"input_": torch.tensor(1.0)}, ValueError, r"must be \[T, B, ...\]"),
        ({"sequence": True}, {"input_": torch.ones(2, 3), "mem": torch.ones(3)}, ValueError, "pass step="),
        ({"sequence": True}, {"input_": torch.ones(4, 3), "mem": torch.ones(2)}, ValueError, "mem must have"),
    ],
)
def test_wrong_calls_leave_the_state_alone(
    options: dict[str, Any], call: dict[str, Any], error: type[Exception], message: str
) -> None:
    lif = AdaptiveLeaky(0.9, num_steps=4, **options)
    mem = lif.mem
    with pytest.raises(error, match=message):
        lif(**call)
    assert lif.mem is mem
    assert lif.step == 0


def test_inhibition_needs_a_dense_layer() -> None:
    with pytest.warns(UserWarning, match="Inhibition"):
        lif = AdaptiveLeaky(0.9, inhibition=True, num_steps=2)
    with pytest.raises(ValueError, match=r"input_ must be \[B, N\]"):
        lif(torch.rand(2, 3, 4, 4))


@pytest.mark.parametrize("on_overrun", ["cycle", "hold"])
@pytest.mark.parametrize("sequence", [False, True])
@pytest.mark.parametrize("mechanism", ["subtract", "zero"])
def test_past_the_last_step_a_reset_answers_the_threshold_of_the_step_before(
    on_overrun: Any, sequence: bool, mechanism: str
) -> None:
    steps, options = 3, {"dtype": torch.float64}
    thresholds, betas = torch.tensor([0.5, 1.0, 2.0], **options), torch.tensor([0.9, 0.8, 0.7], **options)
    shared = {"feature_shape": (), "threshold": thresholds, "reset_mechanism": mechanism}
    lif = AdaptiveLeaky(betas, num_steps=steps, on_overrun=on_overrun, sequence=sequence, **shared)
    x = 2 * torch.rand(3 * steps, 2, 5, **options)
    rows = [t % steps if on_overrun == "cycle" else min(t, steps - 1) for t in range(len(x))]
    mem, wanted, differs = torch.zeros(2, 5, **options), [], False
    for t, row in enumerate(rows):
        before = thresholds[rows[t - 1]] if t else thresholds[0]
        fired = (mem > before).double()
        differs |= t >= steps and bool((fired != (mem > thresholds[row])).any())
        kept = mem * (1 - fired) if mechanism == "zero" else mem
        mem = betas[row] * kept + x[t] - (fired * before if mechanism == "subtract" else 0)
        wanted.append((mem > thresholds[row]).double())
    assert differs or on_overrun == "hold"
    if sequence:
        found = lif(x)[0]
    else:
        state, spikes = lif.reset_mem(), []
        for step in x:
            spk, state = lif(step, state)
            spikes.append(spk)
        found = torch.stack(spikes)
    assert torch.equal(found, torch.stack(wanted))
