from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from snntorch_asnn import AdaptiveLeaky
from snntorch_asnn.layers import TimeWeightedReadout
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.optimizer import make_optimizer, make_schedule


@pytest.fixture
def model() -> nn.Module:
    neuron = AdaptiveLeaky(beta=0.5, num_steps=2, feature_shape=(4, 1, 1), learn_threshold=True)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), neuron, nn.Linear(4, 3), TimeWeightedReadout(2)
    )


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_only_weights_decay(model, name):
    config = TrainConfig(optimizer=name, weight_decay=0.1)
    decaying = [group for group in make_optimizer(model, config).param_groups if group["weight_decay"]]
    assert [group["weight_decay"] for group in decaying] == [0.1]
    assert decaying[0]["params"] == [model[0].weight, model[3].weight]


@pytest.mark.parametrize(("schedule", "peak"), [("one-cycle", 2), ("cosine", 0)])
def test_learning_rate_peaks_and_ends_low(model, schedule, peak):
    config = TrainConfig(lr=0.1, schedule=schedule, epochs=1)
    optimizer = make_optimizer(model, config)
    steps = make_schedule(optimizer, config, steps_per_epoch=10)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        steps.step()
    assert rates.index(max(rates)) == peak
    assert max(rates) == pytest.approx(0.1)
    assert rates[-1] < 0.01


@pytest.mark.parametrize(
    ("name", "key", "wanted"), [("sgd", "momentum", 0.5), ("adamw", "betas", (0.9, 0.999))]
)
def test_one_cycle_leaves_the_momentum_as_it_is(model, name, key, wanted):
    config = TrainConfig(optimizer=name, momentum=0.5, epochs=1)
    optimizer = make_optimizer(model, config)
    steps = make_schedule(optimizer, config, steps_per_epoch=10)
    for _ in range(10):
        assert optimizer.param_groups[0][key] == wanted
        optimizer.step()
        steps.step()


def test_schedule_of_a_single_step_is_its_peak(model):
    for schedule in ("one-cycle", "cosine", "constant"):
        config = TrainConfig(schedule=schedule, epochs=1)
        optimizer = make_optimizer(model, config)
        steps = make_schedule(optimizer, config, steps_per_epoch=1)
        assert steps.get_last_lr() == [config.lr] * len(optimizer.param_groups)
        optimizer.step()
        steps.step()


def rates_of(model, **settings) -> list[float]:
    config = TrainConfig(lr=0.1, **settings)
    optimizer = make_optimizer(model, config)
    schedule = make_schedule(optimizer, config, steps_per_epoch=10)
    rates = []
    for _ in range(10 * config.epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_cosine_warms_up_falls_and_cools_down(model):
    rates = rates_of(
        model, schedule="cosine", epochs=6, warmup_epochs=2, warmup_lr=0.01, cooldown_epochs=1, min_lr=0.001
    )
    assert rates[:20] == pytest.approx([0.01 + 0.09 * step / 20 for step in range(20)])
    assert rates[20] == max(rates) == pytest.approx(0.1)
    assert rates[35] == pytest.approx((0.1 + 0.001) / 2)
    assert all(a > b for a, b in itertools.pairwise(rates[20:51]))
    assert rates[50:] == pytest.approx([0.001] * 10)


def test_constant_stays_after_its_warm_up(model):
    rates = rates_of(model, schedule="constant", epochs=3, warmup_epochs=1, optimizer="sgd")
    assert rates[0] == pytest.approx(1e-5)
    assert rates[10:] == pytest.approx([0.1] * 20)


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "constant"])
def test_a_schedule_goes_on_from_its_saved_state(model, schedule, tmp_path):
    config = TrainConfig(lr=0.1, schedule=schedule, epochs=4, cooldown_epochs=1, warmup_epochs=1)
    optimizers = [make_optimizer(model, config) for _ in range(2)]
    first, second = (make_schedule(optimizer, config, steps_per_epoch=5) for optimizer in optimizers)
    for _ in range(7):
        optimizers[0].step()
        first.step()
    torch.save([optimizers[0].state_dict(), first.state_dict()], tmp_path / "state")
    of_optimizer, of_schedule = torch.load(tmp_path / "state", weights_only=True)
    optimizers[1].load_state_dict(of_optimizer)
    second.load_state_dict(of_schedule)
    for _ in range(12):
        for optimizer, steps in zip(optimizers, (first, second), strict=True):
            optimizer.step()
            steps.step()
        assert optimizers[0].param_groups[0]["lr"] == optimizers[1].param_groups[0]["lr"]
