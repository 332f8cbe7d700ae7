"""A run that is broken off and continued ends like one that was left alone."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import sys
import time
from pathlib import Path

import pytest
import torch

pytest.importorskip("lightning_fabric")
pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")
pytest.importorskip("torchvision")

sys.path.insert(0, str(Path(__file__).parent))
import resuming
from resuming import SETTINGS, Killed, KilledAt, assert_same, outcome, train

from snntorch_asnn.train import NonFiniteLossError, TrainConfig, fit, make_config
from snntorch_asnn.train.learner import Learner


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """A run that was left alone."""
    out = tmp_path_factory.mktemp("alone") / "run"
    train(out)
    return out


@pytest.fixture(scope="module")
def broken_off(tmp_path_factory) -> Path:
    """The same run, broken off in its second epoch."""
    out = tmp_path_factory.mktemp("broken") / "run"
    with pytest.raises(Killed):
        fit(TrainConfig(**SETTINGS, out=out), reporter=KilledAt(epoch=2))
    state = torch.load(out / "last.pt", weights_only=True)
    assert (state["epoch"], state["step"]) == (2, 5)
    assert state["steps_per_epoch"] == 7
    return out


@pytest.fixture
def copy(broken_off, tmp_path) -> Path:
    return Path(shutil.copytree(broken_off, tmp_path / "run"))


def test_it_goes_on_in_the_middle_of_an_epoch(alone, copy):
    train(copy)
    assert_same(outcome(alone), outcome(copy))
    assert not (copy / "previous.pt").exists()


def test_other_processes_may_load_its_images(alone, copy):
    train(copy, workers=2, checkpoint_every=None)
    assert_same(outcome(alone), outcome(copy))


def test_a_truncated_checkpoint_is_refused_and_the_one_before_it_used(alone, copy):
    last = copy / "last.pt"
    last.write_bytes(last.read_bytes()[:-100])
    told = KilledAt(epoch=0)
    fit(TrainConfig(**SETTINGS, out=copy), reporter=told)
    assert told.messages[0].startswith("run must have a whole checkpoint")
    assert told.messages[0].endswith("going on from previous.pt")
    assert_same(outcome(alone), outcome(copy))


def test_a_truncated_checkpoint_is_not_kept_as_the_one_before(copy):
    good, last = (copy / "previous.pt").read_bytes(), copy / "last.pt"
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(Killed):
        fit(TrainConfig(**SETTINGS, out=copy), reporter=KilledAt(epoch=2))
    assert good in [file.read_bytes() for file in copy.glob("*.pt")]


def test_without_a_whole_checkpoint_nothing_is_touched(copy):
    for name in ("last.pt", "previous.pt"):
        (copy / name).write_bytes(b"not a checkpoint")
    before = {file: file.read_bytes() for file in copy.iterdir()}
    with pytest.raises(ValueError, match=r"last.pt is damaged.*previous.pt is damaged"):
        train(copy)
    assert {file: file.read_bytes() for file in copy.iterdir()} == before


def test_a_checkpoint_of_another_model_is_refused(copy):
    state = torch.load(copy / "last.pt", weights_only=True)
    state["learner"]["model"]["fc2.weight"] = torch.zeros(3, 3)
    torch.save(state, copy / "last.pt")
    with pytest.raises(ValueError, match=r"(?s)run must have a checkpoint of lenet; .*fc2\.weight"):
        train(copy)


def test_other_settings_are_refused(copy):
    with pytest.raises(ValueError, match=r"resume must keep .*; got lr=0.1 where it has 0.003"):
        train(copy, lr=0.1)


def test_the_folder_knows_its_settings(copy):
    config = make_config(None, {"resume": True, "out": str(copy), "workers": 3})
    assert (config.mixup, config.epochs, config.workers) == (0.5, 3, 3)
    assert make_config(None, {"resume": True, "out": "nowhere"}).epochs == 10


def test_a_finished_run_is_not_trained_again(alone):
    before = {file: file.stat().st_mtime_ns for file in alone.iterdir()}
    result = fit(TrainConfig(**SETTINGS, out=alone))
    assert {file: file.stat().st_mtime_ns for file in alone.iterdir()} == before
    assert result.best_epoch == outcome(alone)["result"]["best_epoch"]
    assert [line["epoch"] for line in result.metrics] == [1, 2, 3]


def test_a_run_that_diverges_keeps_its_last_good_checkpoint(copy, monkeypatch):
    good = (copy / "last.pt").read_bytes()

    step = Learner.step

    def poisoned(self, *args):
        with torch.no_grad():
            self.model.conv2[0].bias[3] = float("nan")
        return step(self, *args)

    monkeypatch.setattr(Learner, "step", poisoned)
    with pytest.raises(
        NonFiniteLossError, match=r"the gradient became nan at epoch 2, step 6; first"
    ) as caught:
        train(copy)
    assert caught.value.layer == "the parameter bias of conv2.0"
    assert "keeps last.pt and checkpoint.pt" in str(caught.value)
    assert (copy / "last.pt").read_bytes() == good


@pytest.mark.skipif(sys.platform != "linux", reason="needs SIGKILL and fork")
def test_a_run_that_is_killed_again_and_again_ends_like_one_left_alone(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["resuming", "lightning_fabric", "sklearn.datasets", "matplotlib.figure"])
    alone = context.Process(target=resuming.train, args=(tmp_path / "alone",))
    alone.start()
    alone.join()
    out, moments = tmp_path / "run", random.Random(0)
    kills = 0
    while not (out / "result.json").exists():
        process = context.Process(target=resuming.train, args=(out,))
        process.start()
        if kills < 6:
            wait_for_a_checkpoint(out, process)
            process.join(moments.uniform(0.0, 0.15))
            kills += process.is_alive()
            process.kill()
        process.join()
        assert kills > 0
    assert kills > 2
    assert_same(outcome(tmp_path / "alone"), outcome(out))


def wait_for_a_checkpoint(out: Path, process) -> None:
    """Wait until a process has written another checkpoint, or has ended."""
    last = out / "last.pt"
    before = written_at(last)
    while process.is_alive() and written_at(last) <= before:
        time.sleep(0.002)


def written_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # not yet, or between the move to previous.pt and the next one's rename
        return 0
