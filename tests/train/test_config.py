from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.evaluation import build_model
from snntorch_asnn.train.recipe import load_recipe


def test_out_has_a_default_that_names_the_run():
    config = TrainConfig(data="cifar10", encoding="direct", neuron="lif", seed=3)
    assert config.run_folder == Path("runs/cifar10-lenet-direct-lif-seed3")


def test_settings_survive_json():
    config = TrainConfig(data_dir="somewhere", out="there", train_subset=100)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_every_setting_says_what_it_is():
    for field in dataclasses.fields(TrainConfig):
        assert field.metadata["help"]
        assert field.metadata["group"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("data", "mnist3d"),
        ("model", "lenett"),
        ("augment", "everything"),
        ("schedule", "linear"),
        ("epochs", -1),
        ("epochs", 0),
        ("num_steps", 0),
        ("batch_size", 0),
        ("image_size", 0),
        ("train_subset", 0),
        ("threads", 0),
        ("workers", -1),
        ("seed", -1),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("weight_decay", -0.1),
        ("weight_decay", float("inf")),
        ("val_fraction", 0.0),
        ("val_fraction", 1.0),
    ],
)
def test_values_out_of_range_are_named(name, value):
    message = rf"^{name} must be .*; got {re.escape(repr(value))}(; did you mean '[\w-]+'\?)?$"
    with pytest.raises(ValueError, match=message):
        TrainConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("data", 3),
        ("model", None),
        ("epochs", 1.5),
        ("epochs", True),
        ("lr", "fast"),
        ("compile", 1),
        ("out", 7),
        ("data_dir", 7),
        ("train_subset", 0.5),
    ],
)
def test_values_of_a_wrong_type_are_named(name, value):
    with pytest.raises(TypeError, match=rf"^{name} must be .*; got {re.escape(repr(value))}$"):
        TrainConfig(**{name: value})


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match="unknown setting dropout"):
        TrainConfig.from_dict({"dropout": 0.1})


@pytest.mark.parametrize(
    ("name", "value", "plain"),
    [
        ("epochs", np.int64(3), 3),
        ("num_steps", np.uint8(3), 3),
        ("seed", np.int32(3), 3),
        ("lr", np.float32(0.5), 0.5),
        ("mixup", np.float64(0.5), 0.5),
        ("clip_grad", np.int64(2), 2.0),
        ("data_dir", "x", Path("x")),
    ],
)
def test_numbers_of_numpy_become_plain_ones(name, value, plain):
    config = TrainConfig(**{name: value})
    assert getattr(config, name) == plain
    assert type(getattr(config, name)) is type(plain)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", np.float64(3)), ("epochs", np.bool_(True)), ("lr", np.bool_(True)), ("lr", 1j)],
)
def test_other_types_of_numpy_are_refused(name, value):
    with pytest.raises(TypeError, match=f"{name} must be"):
        TrainConfig(**{name: value})


def test_norms_over_time_of_a_configuration() -> None:
    """A run of the version before had pooled norms; a new one has what its network's reference does."""
    stored = TrainConfig(out="run").to_dict()
    del stored["norm_over_time"]
    assert TrainConfig.from_stored(stored).norm_over_time == "pooled"
    for value, wanted in (
        ("auto", "sequential"),
        ("step_statistics", "step_statistics"),
        ("pooled", "pooled"),
    ):
        config = TrainConfig(norm_over_time=value, out="run")
        assert build_model(config, 2, 1, 8).norm_over_time == wanted
    assert load_recipe("lenet").settings["norm_over_time"] == "sequential"
    with pytest.raises(ValueError, match="norm_over_time must be"):
        TrainConfig(norm_over_time="each")
