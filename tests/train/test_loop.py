from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from snntorch_asnn.train.loop import NonFiniteLossError, evaluate, train_epoch

CPU = torch.device("cpu")


def loader(images: torch.Tensor, labels: torch.Tensor) -> DataLoader:
    return DataLoader(TensorDataset(images, labels), batch_size=4)


def train(model: nn.Module, batches: DataLoader, lr: float = 0.1, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1)
    return train_epoch(model, batches, optimizer, schedule, CPU, epoch=1, **options)


def test_evaluation_weighs_every_image_alike():
    images, labels = torch.rand(10, 3), torch.arange(10) % 3
    model = nn.Sequential(nn.Dropout(), nn.Linear(3, 3))
    score = evaluate(model, loader(images, labels), CPU)
    logits = model.eval()(images)
    assert score.loss == pytest.approx(nn.functional.cross_entropy(logits, labels).item())
    assert score.accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert score.images == 10


def test_evaluation_leaves_the_model_alone():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, loader(torch.rand(8, 3), torch.zeros(8).long()), CPU)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_training_lowers_the_loss_and_reports():
    labels = torch.arange(120) % 3
    batches = loader(nn.functional.one_hot(labels).float(), labels)
    model, seen = nn.Linear(3, 3), []
    before = evaluate(model, batches, CPU).loss
    score = train(model, batches, on_step=lambda *values: seen.append(values))
    assert evaluate(model, batches, CPU).loss < before
    assert [step for step, _, _ in seen] == [10, 20, 30]
    assert seen[-1] == (30, score.loss, score.accuracy)


def test_integer_images_become_unit_range():
    images = torch.full((4, 1), 255, dtype=torch.uint8)
    model = nn.Linear(1, 2)
    score = evaluate(model, loader(images, torch.zeros(4).long()), CPU)
    wanted = nn.functional.cross_entropy(model(torch.ones(4, 1)), torch.zeros(4).long())
    assert score.loss == pytest.approx(wanted.item())


@pytest.mark.parametrize("bad_step", [1, 7, 13])
def test_a_loss_that_is_not_finite_stops_and_says_where(bad_step):
    images = torch.rand(60, 2)
    images[4 * (bad_step - 1)] = float("nan")
    with pytest.raises(NonFiniteLossError, match=rf"nan at epoch 1, step {bad_step};"):
        train(nn.Linear(2, 2), loader(images, torch.zeros(60).long()))
