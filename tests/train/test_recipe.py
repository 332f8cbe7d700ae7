from __future__ import annotations

import pytest
import torch
from torch import nn

from snntorch_asnn import AdaptiveLeaky
from snntorch_asnn.layers import TimeWeightedReadout
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.recipe import make_optimizer, make_schedule, parameter_groups


@pytest.fixture
def model() -> nn.Module:
    neuron = AdaptiveLeaky(beta=0.5, num_steps=2, feature_shape=(4, 1, 1), learn_threshold=True)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), neuron, nn.Linear(4, 3), TimeWeightedReadout(2)
    )


def test_only_weights_decay(model):
    decays, rest = parameter_groups(model, weight_decay=0.1)
    assert (decays["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    assert [id(p) for p in decays["params"]] == [id(model[0].weight), id(model[3].weight)]
    assert len(decays["params"]) + len(rest["params"]) == len(list(model.parameters()))


def test_frozen_parameters_are_left_out(model):
    model[0].weight.requires_grad_(False)
    decays, _ = parameter_groups(model, weight_decay=0.1)
    assert [id(p) for p in decays["params"]] == [id(model[3].weight)]


@pytest.mark.parametrize(("schedule", "peak"), [("one-cycle", 2), ("cosine", 0)])
def test_learning_rate_peaks_and_ends_low(model, schedule, peak):
    config = TrainConfig(lr=0.1, schedule=schedule)
    optimizer = make_optimizer(model, config)
    steps = make_schedule(optimizer, config, total_steps=10)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        steps.step()
    assert rates.index(max(rates)) == peak
    assert max(rates) == pytest.approx(0.1)
    assert rates[-1] < 0.01


def test_schedule_of_a_single_step_works(model):
    for schedule in ("one-cycle", "cosine"):
        config = TrainConfig(schedule=schedule)
        optimizer = make_optimizer(model, config)
        steps = make_schedule(optimizer, config, total_steps=1)
        assert torch.isfinite(torch.tensor(steps.get_last_lr())).all()
        optimizer.step()
        steps.step()
