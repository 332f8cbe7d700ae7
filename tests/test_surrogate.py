"""Surrogate gradients: derivatives, and where they must work."""

from __future__ import annotations

import copy
import pickle

import pytest
import snntorch.surrogate
import torch
from torch import Tensor

from snntorch_asnn import surrogate
from snntorch_asnn.surrogate import Surrogate

ALL = [
    surrogate.atan(),
    surrogate.fast_sigmoid(slope=5),
    surrogate.sigmoid(slope=4),
    surrogate.triangular(width=0.7),
    surrogate.straight_through(),
    surrogate.sigmoid(slope=4, fires_at_threshold=True),
]


def weighted(spike_grad: Surrogate, u: Tensor) -> Tensor:
    return (spike_grad(u) * torch.arange(1.0, u.shape[-1] + 1)).sum()


@pytest.mark.parametrize("spike_grad", ALL, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_spikes_are_a_step_in_the_dtype_of_the_input(spike_grad: Surrogate, dtype: torch.dtype) -> None:
    u = torch.tensor([-1.0, -1e-3, 0.0, 1e-3, 1.0], dtype=dtype, requires_grad=True)
    spikes = spike_grad(u)
    assert spikes.dtype == dtype
    assert spikes.tolist() == [0, 0, float(spike_grad.fires_at_threshold), 1, 1]
    assert torch.equal(spike_grad.spikes(u), spikes)
    spikes.sum().backward()
    assert u.grad is not None
    assert u.grad.dtype == dtype
    assert torch.equal(u.grad, spike_grad.derivative(u.detach()))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (surrogate.atan(2.0), snntorch.surrogate.atan(2.0)),
        (surrogate.atan(0.7), snntorch.surrogate.atan(0.7)),
        (surrogate.fast_sigmoid(25), snntorch.surrogate.fast_sigmoid(25)),
        (surrogate.straight_through(), snntorch.surrogate.straight_through_estimator()),
    ],
)
def test_gradient_equals_snntorchs_to_the_bit(ours: Surrogate, theirs: object) -> None:
    grads = []
    u = torch.randn(1000) * 3
    weight = torch.randn(1000)
    for spike_grad in (ours, theirs):
        leaf = u.clone().requires_grad_()
        (spike_grad(leaf) * weight).sum().backward()  # type: ignore[operator]
        grads.append(leaf.grad)
    assert torch.equal(*grads)  # type: ignore[arg-type]


def test_sigmoid_equals_snntorchs_where_that_is_finite() -> None:
    u = torch.linspace(-1, 1, 101, requires_grad=True)
    snntorch.surrogate.sigmoid(25)(u).sum().backward()
    torch.testing.assert_close(surrogate.sigmoid(25).derivative(u.detach()), u.grad)


def test_sigmoid_stays_finite_far_below_the_threshold() -> None:
    u = torch.tensor([-1e4, -20.0, 20.0, 1e4])
    assert torch.equal(surrogate.sigmoid(25).derivative(u), torch.zeros(4))


@pytest.mark.parametrize(
    ("spike_grad", "integral"),
    [(surrogate.atan(), 1), (surrogate.sigmoid(4), 1), (surrogate.triangular(0.7), 1)],
    ids=["atan", "sigmoid", "triangular"],
)
def test_derivative_is_that_of_a_unit_step(spike_grad: Surrogate, integral: float) -> None:
    u = torch.linspace(-500, 500, 2_000_001, dtype=torch.float64)
    area = torch.trapezoid(spike_grad.derivative(u), u).item()
    assert area == pytest.approx(integral, abs=2e-3)


@pytest.mark.parametrize("spike_grad", ALL, ids=repr)
def test_copies_and_pickles_are_equal(spike_grad: Surrogate) -> None:
    assert copy.deepcopy(spike_grad) == spike_grad
    assert pickle.loads(pickle.dumps(spike_grad)) == spike_grad
    assert len({spike_grad, copy.copy(spike_grad)}) == 1


@pytest.mark.parametrize("spike_grad", ALL, ids=repr)
def test_works_under_func_transforms(spike_grad: Surrogate) -> None:
    u = torch.randn(3, 5)
    gradient = torch.func.grad(lambda row: weighted(spike_grad, row))
    by_hand = spike_grad.derivative(u) * torch.arange(1.0, 6.0)
    torch.testing.assert_close(torch.func.vmap(gradient)(u), by_hand)
    assert torch.equal(torch.func.vmap(spike_grad)(u), spike_grad(u))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("transform", ["none", "grad", "vmap", "vmap of grad"])
def test_works_under_compile_and_func_transforms_together(backend: str, transform: str) -> None:
    spike_grad = surrogate.sigmoid(4)

    def loss(u: Tensor) -> Tensor:
        return weighted(spike_grad, u)

    function = {
        "none": loss,
        "grad": torch.func.grad(loss),
        "vmap": torch.func.vmap(loss),
        "vmap of grad": torch.func.vmap(torch.func.grad(loss)),
    }[transform]
    u = torch.randn(3, 5) if transform != "grad" else torch.randn(5)
    compiled = torch.compile(function, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(u), function(u))


def test_backward_survives_inductor() -> None:
    spike_grad = surrogate.atan()
    u = torch.randn(64, requires_grad=True)
    compiled = torch.compile(spike_grad, fullgraph=True)
    (grad,) = torch.autograd.grad(compiled(u).sum(), u)
    torch.testing.assert_close(grad, spike_grad.derivative(u.detach()))


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["atan", "fast_sigmoid", "sigmoid", "triangular"])
def test_refuses_a_parameter_that_is_not_positive_and_finite(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"the parameter of {name} must be a positive, finite number"):
        getattr(surrogate, name)(value)


@pytest.mark.parametrize("value", ["2", None, [2.0], True, torch.tensor(2.0)])
@pytest.mark.parametrize(
    ("name", "argument"),
    [("atan", "alpha"), ("fast_sigmoid", "slope"), ("sigmoid", "slope"), ("triangular", "width")],
)
def test_refuses_a_parameter_that_is_no_number(name: str, argument: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"{argument} must be a real number; got "):
        getattr(surrogate, name)(value)
    with pytest.raises(TypeError, match="shape must be a real number; got "):
        Surrogate(name, value)  # type: ignore[arg-type]


def test_refuses_an_unknown_kind() -> None:
    with pytest.raises(ValueError, match="kind must be one of atan"):
        Surrogate("step")
