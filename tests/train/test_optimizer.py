from __future__ import annotations

import itertools
import lzma
from pathlib import Path

import pytest
import torch
from torch import nn

from snntorch_asnn import AdaptiveLeaky
from snntorch_asnn.layers import TimeWeightedReadout
from snntorch_asnn.models import create_model
from snntorch_asnn.models.earlier_keys import current_key
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.optimizer import in_current_order, make_optimizer, make_schedule

GOLDEN = Path(__file__).parents[1] / "golden"


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


def test_moments_find_their_parameters_in_files_of_earlier_versions():
    """Version 0.0 registered the neurons of a block in another order, and had pointwise convolutions."""
    text = lzma.decompress((GOLDEN / "model_keys_0_0.txt.xz").read_bytes()).decode()
    lines = text.split("\nspikingformer_tiny\n")[1].splitlines()
    before = [line.split()[0] for line in itertools.takewhile(lambda line: line.startswith(" "), lines)]
    model = create_model("spikingformer_tiny", num_classes=10, num_steps=4, carry=True)
    config = TrainConfig(data="digits", model="spikingformer_tiny", weight_decay=0.1)
    optimizer = make_optimizer(model, config)
    now = {name: number for number, (name, _) in enumerate(model.named_parameters(), 1)}
    keys = {current_key(model.earlier_keys(), key): key for key in before}
    assert [key for key in keys if key in now] != list(now)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups, entries, count = [], {}, 0
    for group in optimizer.param_groups:
        of_group = {names[id(parameter)]: parameter for parameter in group["params"]}
        in_order = [name for name in keys if name in of_group]
        for number, name in enumerate(in_order, count):
            dims = (1,) if ".attn." in name and "linear.weight" in name else ()
            mean = torch.full((*of_group[name].shape, *dims), float(now[name]))
            entries[number] = {"step": torch.tensor(3.0), "exp_avg": mean, "exp_avg_sq": mean + 0.5}
        groups.append({**group, "params": list(range(count, count + len(in_order)))})
        count += len(in_order)
    saved = {"state": entries, "param_groups": groups}
    optimizer.load_state_dict(in_current_order(saved, optimizer, model, before))
    for name, parameter in model.named_parameters():
        assert optimizer.state[parameter]["exp_avg"].eq(now[name]).all(), name
        assert optimizer.state[parameter]["exp_avg_sq"].shape == parameter.shape
    todays = optimizer.state_dict()
    again = in_current_order(todays, optimizer, model, list(model.state_dict()))
    assert [g["params"] for g in again["param_groups"]] == [g["params"] for g in todays["param_groups"]]
