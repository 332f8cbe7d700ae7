from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import nn

from snntorch_asnn.train import TrainConfig
from snntorch_asnn.train.config import LossName
from snntorch_asnn.train.losses import (
    cross_entropy,
    distillation,
    make_loss,
    step_wise,
    tet,
    training_loss,
)

T, B, C = 3, 4, 5


@pytest.fixture
def steps():
    return torch.randn(T, B, C, dtype=torch.float64, requires_grad=True)


@pytest.fixture
def labels():
    return torch.tensor([0, 3, 1, 4])


def written_out(logits, probabilities) -> float:
    """Cross-entropy in plain Python."""
    total = 0.0
    for row, q in zip(logits.tolist(), probabilities.tolist(), strict=True):
        normaliser = math.log(sum(math.exp(o) for o in row))
        total -= sum(qc * (o - normaliser) for o, qc in zip(row, q, strict=True))
    return total / len(logits)


def one_hot(labels, smoothing=0.0):
    return nn.functional.one_hot(labels, C).double() * (1 - smoothing) + smoothing / C


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_the_formula(steps, labels, smoothing):
    outputs = steps.mean(0)
    found = cross_entropy(outputs, labels, label_smoothing=smoothing)
    assert found.item() == pytest.approx(written_out(outputs, one_hot(labels, smoothing)))
    soft = torch.rand(B, C, dtype=torch.float64).softmax(1)
    found = cross_entropy(outputs, soft, label_smoothing=smoothing)
    assert found.item() == pytest.approx(written_out(outputs, soft * (1 - smoothing) + smoothing / C))


@pytest.mark.parametrize("lam", [0.0, 0.05, 1.0])
def test_tet_is_the_formula(steps, labels, lam):
    entropy = sum(written_out(logits, one_hot(labels)) for logits in steps) / T
    squares = sum((o - 0.5) ** 2 for o in steps.flatten().tolist()) / (T * B * C)
    found = tet(steps, labels, lam=lam, mean=0.5)
    assert found.item() == pytest.approx((1 - lam) * entropy + lam * squares)


@pytest.mark.parametrize("weights", [None, [1.0, 0.0, 2.0]])
def test_step_wise_is_the_formula(steps, labels, weights):
    w = weights or [1.0] * T
    means = [sum(steps[s] for s in range(t + 1)) / (t + 1) for t in range(T)]
    wanted = sum(wt * written_out(mean, one_hot(labels)) for wt, mean in zip(w, means, strict=True)) / sum(w)
    assert step_wise(steps, labels, weights=weights).item() == pytest.approx(wanted)


def test_step_wise_on_the_last_step_is_cross_entropy_of_the_output(steps, labels):
    assert step_wise(steps, labels, weights=[0, 0, 1]).item() == pytest.approx(
        cross_entropy(steps.mean(0), labels).item()
    )


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distillation_is_the_formula(steps, temperature):
    student, teacher = steps[0], steps[1]
    wanted = 0.0
    for o, z in zip(student.tolist(), teacher.tolist(), strict=True):
        p = [math.exp(v / temperature) for v in o]
        q = [math.exp(v / temperature) for v in z]
        p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
        wanted += sum(qc * math.log(qc / pc) for pc, qc in zip(p, q, strict=True))
    found = distillation(student, teacher, temperature=temperature)
    assert found.item() == pytest.approx(temperature**2 * wanted / B)


@pytest.mark.parametrize(
    "loss",
    [
        lambda steps, labels: cross_entropy(steps.mean(0), labels, label_smoothing=0.1),
        lambda steps, labels: tet(steps, labels, lam=0.05),
        lambda steps, labels: tet(steps, one_hot(labels, 0.2)),
        lambda steps, labels: step_wise(steps, labels, weights=[1, 2, 3]),
        lambda steps, labels: distillation(steps.mean(0), torch.ones(B, C, dtype=torch.float64)),
    ],
    ids=["cross-entropy", "tet", "tet-soft", "step-wise", "distillation"],
)
def test_gradients_are_those_of_the_values(steps, labels, loss):
    assert torch.autograd.gradcheck(lambda s: loss(s, labels), steps)


def test_the_teacher_gets_no_gradient(steps):
    distillation(steps[0].detach(), steps[1])
    teacher = torch.randn(B, C, requires_grad=True)
    student = torch.randn(B, C, requires_grad=True)
    distillation(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad is not None


@pytest.mark.parametrize("name", get_args(LossName))
def test_low_precision_logits_are_added_up_in_float32(name, labels):
    steps = torch.randn(T, B, C).bfloat16()
    config = TrainConfig(loss=name, tet_lambda=0.1)
    found = training_loss(config, steps, labels)
    # The mean of the steps is still in low precision, as the model's output is.
    wide = steps.mean(0, keepdim=True).float() if name == "cross-entropy" else steps.float()
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(training_loss(config, wide, labels).item())


def test_training_loss_chooses_by_name(steps, labels):
    wanted = {
        "cross-entropy": cross_entropy(steps.mean(0), labels, label_smoothing=0.1),
        "tet": tet(steps, labels, lam=0.05, label_smoothing=0.1),
        "step-wise": step_wise(steps, labels, label_smoothing=0.1),
    }
    assert set(wanted) == set(get_args(LossName))
    for name, value in wanted.items():
        config = TrainConfig(loss=name, label_smoothing=0.1, tet_lambda=0.05)
        assert torch.equal(training_loss(config, steps, labels), value)
        with pytest.warns(DeprecationWarning, match="use training_loss"):
            loss = make_loss(config)
        assert torch.equal(loss(steps, steps.mean(0), labels), value)


def test_a_teacher_is_added_to_the_loss_and_sees_the_images(steps, labels):
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(6, C)).double().eval()
    images = torch.rand(B, 1, 2, 3, dtype=torch.float64)
    config = TrainConfig(loss="tet", kd_alpha=0.3, kd_temperature=2.0)
    with pytest.warns(DeprecationWarning, match="make_loss"):
        loss = make_loss(config, teacher=teacher)
    found = training_loss(config, steps, labels, teacher(images))
    assert torch.equal(loss(steps, steps.mean(0), labels, images), found)
    imitation = distillation(steps.mean(0), teacher(images), temperature=2.0)
    assert found.item() == pytest.approx((0.7 * tet(steps, labels) + 0.3 * imitation).item())
    found.backward()
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, y: cross_entropy(s, y), r"outputs must be \[B, C\]; got shape \(3, 4, 5\)"),
        (lambda s, y: cross_entropy(s[0], y[:2]), r"targets must be \[4\] class.*; got shape \(2,\)"),
        (lambda s, y: cross_entropy(s[0], y, label_smoothing=1.0), r"label_smoothing must be in \[0, 1\)"),
        (lambda s, y: tet(s[0], y), r"steps must be \[T, B, C\]"),
        (lambda s, y: tet(s[:0], y), r"steps must be .* T of at least 1"),
        (lambda s, y: tet(s, y[:2]), "targets must be"),
        (lambda s, y: tet(s, y, lam=-0.1), r"lam must be in \[0, 1\]; got -0.1"),
        (
            lambda s, y: step_wise(s, y, weights=[1, 2]),
            "weights must hold a number for each of 3 steps; got 2",
        ),
        (lambda s, y: step_wise(s, y, weights=[0, 0, 0]), "weights must be finite.* not all 0"),
        (lambda s, y: step_wise(s, y, weights=[1, -1, 1]), "weights must be finite, at least 0"),
        (
            lambda s, y: distillation(s[0], s[1, :2]),
            r"teacher must .*got shapes \(2, 5\) and \(4, 5\)",
        ),
        (lambda s, y: distillation(s[0], s[1], temperature=0), "temperature must be above 0; got 0"),
        (lambda s, y: TrainConfig(loss="hinge"), "loss must be one of .*; got 'hinge'"),
        (lambda s, y: TrainConfig(tet_lambda=2), "tet_lambda must be at least 0 and at most 1"),
        (lambda s, y: TrainConfig(kd_alpha=-1), "kd_alpha must be at least 0 and at most 1; got -1"),
        (lambda s, y: TrainConfig(label_smoothing=-1), "label_smoothing must be at least 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_arguments_are_named(steps, labels, call, message):
    with pytest.raises(ValueError, match=message):
        call(steps, labels)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
@pytest.mark.parametrize("loss", [lambda s, t: cross_entropy(s.mean(0), t), tet, step_wise])
def test_labels_may_be_integers_of_any_kind(dtype, loss):
    steps, labels = torch.randn(3, 4, 5), torch.tensor([0, 4, 2, 2])
    assert loss(steps, labels.to(dtype)) == loss(steps, labels)
    one_hot = torch.nn.functional.one_hot(labels, 5)
    assert loss(steps, one_hot.to(dtype)) == loss(steps, one_hot.float())
    with pytest.raises(TypeError, match=r"class indices in targets must be integers; got torch.fl"):
        loss(steps, labels.float())
