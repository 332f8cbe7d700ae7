"""A run that is broken off and continued ends like one that was left alone."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("lightning_fabric")
pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")
pytest.importorskip("torchvision")

from PIL import Image

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
    fit(TrainConfig(**SETTINGS, out=copy, resume=True), reporter=told)
    assert told.messages[0].startswith("run folder is damaged: ")
    assert told.messages[0].endswith("resuming from previous.pt")
    assert_same(outcome(alone), outcome(copy))


def test_a_truncated_checkpoint_is_not_kept_as_the_one_before(copy):
    good, last = (copy / "previous.pt").read_bytes(), copy / "last.pt"
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(Killed):
        fit(TrainConfig(**SETTINGS, out=copy, resume=True), reporter=KilledAt(epoch=2))
    assert good in [file.read_bytes() for file in copy.glob("*.pt")]


def test_without_a_whole_checkpoint_nothing_is_touched(copy):
    for name in ("last.pt", "previous.pt"):
        (copy / name).write_bytes(b"not a checkpoint")
    before = {file: file.read_bytes() for file in copy.iterdir()}
    with pytest.raises(ValueError, match=r"damaged: .*last.pt: .*damaged: .*previous.pt: "):
        train(copy)
    assert {file: file.read_bytes() for file in copy.iterdir()} == before


def test_a_checkpoint_of_another_model_is_refused(copy):
    state = torch.load(copy / "last.pt", weights_only=True)
    state["learner"]["model"]["head.weight"] = torch.zeros(3, 3)
    torch.save(state, copy / "last.pt")
    with pytest.raises(ValueError, match=r"(?s)last.pt must hold the state of model lenet; .*head\.weight"):
        train(copy)


def test_other_settings_are_refused(copy):
    with pytest.raises(ValueError, match=r"resume must keep .*; got lr=0.1 where it has 0.003"):
        train(copy, lr=0.1)


def test_the_folder_knows_its_settings(copy):
    config = make_config(None, {"resume": True, "out": str(copy), "workers": 3})
    assert (config.mixup, config.epochs, config.workers) == (0.5, 3, 3)


@pytest.mark.parametrize("given", [{}, {"data": "digits", "epochs": 3}])
@pytest.mark.parametrize("exists", [True, False])
def test_there_must_be_a_run_to_go_on_with(tmp_path, given, exists):
    out = tmp_path / "rnu"
    if exists:
        out.mkdir()
    for begin in (make_config, lambda _, values: fit(TrainConfig(**values))):
        with pytest.raises(ValueError, match=r"resume needs the folder of a run; .*rnu"):
            begin(None, given | {"resume": True, "out": str(out)})
    assert not exists or list(out.iterdir()) == []


def test_a_finished_run_is_not_trained_again(alone):
    before = {file: file.stat().st_mtime_ns for file in alone.iterdir()}
    result = fit(TrainConfig(**SETTINGS, out=alone, resume=True))
    assert {file: file.stat().st_mtime_ns for file in alone.iterdir()} == before
    assert result.best_epoch == outcome(alone)["result"]["best_epoch"]
    assert [line["epoch"] for line in result.metrics] == [1, 2, 3]


def test_a_run_that_diverges_keeps_its_last_good_checkpoint(copy, monkeypatch):
    good = (copy / "last.pt").read_bytes()

    step = Learner.step

    def poisoned(self, *args):
        with torch.no_grad():
            self.model.conv2.conv.bias[3] = float("nan")
        return step(self, *args)

    monkeypatch.setattr(Learner, "step", poisoned)
    with pytest.raises(
        NonFiniteLossError, match=r"the gradient became nan at epoch 2, step 6; it began in"
    ) as caught:
        train(copy)
    assert caught.value.layer == "the parameter bias of conv2.conv"
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


def picture_folder(root: Path, level_of: dict[str, int]) -> Path:
    """Three classes of grey pictures, named after their level."""
    for split in ("train", "test"):
        for name, level in level_of.items():
            (root / split / name).mkdir(parents=True)
            for number in range(6):
                pixels = np.full((8, 8), level + number, np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.bmp")
    return root


PICTURES = {
    "data": "image-folder",
    "image_size": 8,
    "num_steps": 2,
    "epochs": 2,
    "batch_size": 6,
    "val_fraction": 0.2,
    "device": "cpu",
    "threads": 1,
    "tensorboard": False,
}


@pytest.fixture(scope="module")
def of_pictures(tmp_path_factory) -> Path:
    """A folder with pictures and a run on them that was broken off after its first epoch."""
    root = tmp_path_factory.mktemp("pictures")
    picture_folder(root / "data", {"a": 30, "b": 120, "c": 220})
    config = TrainConfig(**PICTURES, data_dir=root / "data", out=root / "run")
    with pytest.raises(Killed):
        fit(config, reporter=KilledAt(epoch=2))
    return root


def rename(data: Path) -> None:
    for split in ("train", "test"):
        (data / split / "a").rename(data / split / "z")


def swap(data: Path) -> None:
    for split in ("train", "test"):
        (data / split / "a").rename(data / split / "x")
        (data / split / "b").rename(data / split / "a")
        (data / split / "x").rename(data / split / "b")


def repaint(data: Path) -> None:
    for file in (data / "train" / "b").iterdir():
        Image.fromarray(np.full((8, 8), 121, np.uint8)).save(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename, "the classes are b, c, z, and in the run a, b, c"),
        (swap, "the train and test images differ"),
        (lambda data: (data / "train" / "a" / "0.bmp").unlink(), "the numbers of images are .*, and in the"),
        (lambda data: (data / "test" / "a" / "0.bmp").unlink(), "the numbers of images are .*'test': 17.*18"),
        (
            lambda data: (data / "train" / "a" / "0.bmp").rename(data / "train" / "a" / "9.bmp"),
            "the train im",
        ),
        (
            lambda data: shutil.rmtree(data / "test" / "c") or shutil.rmtree(data / "train" / "c"),
            "the classes are a, b, and in",
        ),
        (repaint, "the train images differ in their names, sizes, order or content"),
    ],
)
def test_other_data_are_refused_and_nothing_is_touched(of_pictures, tmp_path, change, message):
    root = Path(shutil.copytree(of_pictures, tmp_path / "all"))
    change(root / "data")
    before = {file: file.read_bytes() for file in (root / "run").iterdir()}
    config = TrainConfig(**PICTURES, data_dir=root / "data", out=root / "run", resume=True)
    with pytest.raises(ValueError, match=rf"resume must find the data of the run; {message}"):
        fit(config)
    assert {file: file.read_bytes() for file in (root / "run").iterdir()} == before


def test_the_same_data_may_have_moved(of_pictures, tmp_path):
    root = Path(shutil.copytree(of_pictures, tmp_path / "all"))
    (root / "data").rename(root / "moved")
    fit(TrainConfig(**PICTURES, data_dir=root / "moved", out=root / "run", resume=True))
    assert (root / "run" / "result.json").exists()
    held = torch.load(root / "run" / "checkpoint.pt", weights_only=True)["data"]
    assert held["classes"] == ["a", "b", "c"]
    assert held["images"] == {"train": 14, "val": 4, "test": 18}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda identity: identity["classes"].reverse(),
            "the classes come in another order: 0, 1, .*, and in",
        ),
        (lambda identity: identity["images"].update(test=3), "the numbers of images are"),
        (lambda identity: identity["content"].update(test="x"), "the test images differ"),
        (lambda identity: identity.clear(), "the classes are 0, 1, .*, and in the run "),
    ],
)
def test_other_data_in_memory_are_refused(copy, change, message):
    state = torch.load(copy / "last.pt", weights_only=True)
    change(state["data"])
    torch.save(state, copy / "last.pt")
    with pytest.raises(ValueError, match=f"resume must find the data of the run; {message}"):
        train(copy)


def test_a_resume_with_other_data_ends_in_one_line(of_pictures, tmp_path, capsys):
    pytest.importorskip("cyclopts")
    from snntorch_asnn.cli import main

    root = Path(shutil.copytree(of_pictures, tmp_path / "all"))
    rename(root / "data")
    for wrong, message in (
        (root / "run", "are b, c, z, and in the run a, b, c"),
        (root / "rnu", "no folder"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["train", "--resume", "--out", str(wrong), "--data-dir", str(root / "data")])
        error = capsys.readouterr().err.strip()
        assert (stopped.value.code, len(error.splitlines())) == (2, 1)
        assert message in error
