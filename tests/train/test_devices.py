"""Several processes train as one with the joined batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

pytest.importorskip("lightning_fabric")
pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

import snntorch_asnn
from snntorch_asnn.ops._adaptive_leaky import engine
from snntorch_asnn.ops._adaptive_leaky.cpp import kernels as cpp_kernels
from snntorch_asnn.ops._batch_moments import moments as batch_moments
from snntorch_asnn.ops._cpp import build as cpp_build
from snntorch_asnn.train import TrainConfig, fit
from snntorch_asnn.train.devices import make_fabric, resolve_device

SETTINGS = {
    "data": "digits",
    "num_steps": 2,
    "train_subset": 300,
    "epochs": 2,
    "batch_size": 30,
    "lr": 1e-3,
    "device": "cpu",
    "threads": 1,
    "checkpoint_every": 4,
}


# The processes of this file have no compiler, and say so.
pytestmark = pytest.mark.filterwarnings("ignore:adaptive neurons run as slow reference loops:UserWarning")

_CACHED = (
    cpp_build.find_compiler,
    cpp_build.library,
    cpp_kernels.missing,
    cpp_kernels.lack,
    cpp_kernels._forward_kernel,
    cpp_kernels._backward_kernel,
    batch_moments._kernels,
    engine._warn_of_the_reference,
)
"""What remembers whether there is a compiler."""


@pytest.fixture(scope="module", autouse=True)
def no_compiler():
    """Without a C++ compiler no process spends its time on compiling; the next file finds it again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "")
        patch.delenv("CXX", raising=False)
        for function in _CACHED:
            function.cache_clear()
        yield
    for function in _CACHED:
        function.cache_clear()


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def curve(out: Path) -> list[float]:
    """The losses of a run, of single steps and of epochs, in training and in validation."""
    metrics = lines(out / "metrics.jsonl")
    losses = [line["loss"] for line in lines(out / "steps.jsonl")]
    return losses + [line[name] for line in metrics for name in ("train_loss", "val_loss")]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "run"
    fit(TrainConfig(**SETTINGS, out=out, tensorboard=False))
    return out


@pytest.mark.skipif(not dist.is_available(), reason="torch is built without torch.distributed")
def test_two_processes_have_the_loss_curve_of_one(alone, tmp_path):
    out = tmp_path / "run"
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
    command = [sys.executable, "-m", "snntorch_asnn.cli", "train", *options]
    done = subprocess.run(
        [*command, "--devices=2", f"--out={out}", "--no-tensorboard"],
        env=os.environ | {"PYTHONPATH": str(Path(snntorch_asnn.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test accuracy") == 1
    assert curve(out) == pytest.approx(curve(alone), rel=1e-5)
    assert len(curve(alone)) == 2 * 1 + 2 * 2
    evaluations = [json.loads((folder / "evaluation.json").read_text()) for folder in (out, alone)]
    assert sum(map(sum, evaluations[0]["confusion"])) == evaluations[0]["images"] == 360
    assert evaluations[0]["loss"] == pytest.approx(evaluations[1]["loss"], rel=1e-5)
    assert json.loads((out / "config.json").read_text())["processes"] == 2


def test_parts_that_are_accumulated_cover_the_same_images(alone, tmp_path):
    fit(TrainConfig(**SETTINGS, accumulate=3, tensorboard=False, out=tmp_path / "run"))
    accumulated, whole = (lines(folder / "metrics.jsonl") for folder in (tmp_path / "run", alone))
    # Norms take the statistics of each part, so the curves are alike and not equal.
    assert accumulated[0]["train_loss"] == pytest.approx(whole[0]["train_loss"], rel=0.05)
    assert len(accumulated) == len(whole)


@pytest.mark.parametrize("precision", ["bf16", "64"])
def test_other_precisions_train(tmp_path, precision):
    config = TrainConfig(**SETTINGS | {"epochs": 1}, precision=precision, out=tmp_path, tensorboard=False)
    result = fit(config)
    assert result.metrics[0]["train_loss"] < 2.5
    wanted = torch.float64 if precision == "64" else torch.float32
    weights = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["model"]
    assert weights["conv2.conv.weight"].dtype == wanted


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "cuda:99"}, "device must be one that torch sees; got 'cuda:99'"),
        ({"device": "tpu"}, "device must be auto, .*; got 'tpu'"),
        ({"device": "meta"}, "device must be auto, .*; got 'meta'"),
        ({"device": "cpu", "precision": "16"}, "precision must be 32, bf16 or 64 on a CPU; got '16'"),
    ],
)
def test_impossible_devices_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        make_fabric(TrainConfig(**settings))


def test_torchrun_decides_how_many_processes_there_are(monkeypatch):
    for name, value in {
        "TORCHELASTIC_RUN_ID": "x",
        "LOCAL_WORLD_SIZE": "2",
        "WORLD_SIZE": "4",
        "RANK": "0",
        "LOCAL_RANK": "0",
        "GROUP_RANK": "0",
    }.items():
        monkeypatch.setenv(name, value)
    strategy = make_fabric(TrainConfig(device="cpu", batch_size=8)).strategy
    assert (strategy.num_processes, strategy.num_nodes) == (2, 2)
    with pytest.raises(ValueError, match=r"devices × nodes must be left out under torchrun, .*; got 8"):
        make_fabric(TrainConfig(device="cpu", batch_size=8, devices=8))
    with pytest.raises(ValueError, match=r"batch_size must be a multiple .* which is 4; got 10"):
        make_fabric(TrainConfig(device="cpu", batch_size=10))


def test_auto_is_a_device_that_is_there():
    assert resolve_device("auto").type in ("cpu", "cuda")
    assert resolve_device("cpu") == torch.device("cpu")
