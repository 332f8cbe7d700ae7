from __future__ import annotations

import copy
import json
import shutil
from importlib import metadata
from pathlib import Path

import pytest
import torch

from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.files import write_atomically
from snntorch_asnn.train.run_folder import RunFolder, versions

BEST = {"config": {}, "classes": [], "in_channels": 1, "image_size": 8, "model": {}}
STATE = {
    "data": {},
    "epoch": 1,
    "step": 0,
    "steps_per_epoch": 7,
    "lr": 0.1,
    "tally": {"loss": 0.0, "correct": 0, "images": 0, "seconds": 0.0},
    "best": {"epoch": 0, "val_accuracy": -1.0, "val_loss": float("inf"), "model": {}},
    "metrics": [],
    "learner": {},
}


def test_a_used_folder_is_refused_unless_it_may_be_replaced(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.check(TrainConfig(out=folder.path))
    folder.create()
    folder.check(TrainConfig(out=folder.path))
    (folder.path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="out must be an empty folder"):
        folder.check(TrainConfig(out=folder.path))
    folder.check(TrainConfig(out=folder.path, overwrite=True))


def test_replacing_removes_only_the_files_of_a_run(tmp_path):
    folder = RunFolder(tmp_path)
    folder.append(folder.metrics, {"epoch": 1})
    (tmp_path / "notes.txt").write_text("mine")
    folder.create()
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(ValueError, match="out must be a folder"):
        RunFolder(tmp_path / "run").check(TrainConfig(overwrite=True))


def test_metrics_are_lines_of_json(tmp_path):
    folder = RunFolder(tmp_path)
    for epoch in (1, 2):
        folder.append(folder.metrics, {"epoch": epoch})
    lines = folder.metrics.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"epoch": 1}, {"epoch": 2}]
    with folder.metrics.open("a") as stream:
        stream.write('{"epoch": 3, "lo')
    assert folder.read_lines(folder.metrics) == [{"epoch": 1}, {"epoch": 2}]
    folder.rewrite(folder.metrics, [{"epoch": 1}])
    assert folder.read_lines(folder.metrics) == [{"epoch": 1}]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    file = tmp_path / "x.json"
    file.write_text("old")

    def fail(stream):
        stream.write(b"half")
        raise RuntimeError("disk gone")

    with pytest.raises(RuntimeError, match="disk gone"):
        write_atomically(file, fail)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_checkpoints_come_back(tmp_path):
    folder = RunFolder(tmp_path)
    folder.save_checkpoint(BEST | {"epoch": 3, "model": {"weight": torch.arange(3.0)}})
    found = folder.load_checkpoint()
    assert found["epoch"] == 3
    assert torch.equal(found["model"]["weight"], torch.arange(3.0))
    assert list(tmp_path.iterdir()) == [folder.checkpoint]


def test_one_wrong_bit_is_noticed(tmp_path):
    folder = RunFolder(tmp_path)
    folder.save_checkpoint(BEST | {"model": {"weights": torch.zeros(10_000)}})
    content = bytearray(folder.checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    folder.checkpoint.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint.pt: wrong checksum"):
        folder.load_checkpoint()


def test_the_state_before_the_last_is_kept_and_used_where_the_last_is_damaged(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.load_state() == (None, None)
    for step in (1, 2, 3):
        folder.save_state(STATE | {"step": step, "learner": {"weight": torch.full((1000,), float(step))}})
    assert folder.load_state()[0]["step"] == 3
    whole = folder.last.read_bytes()
    for content in (whole[:-1], whole[: len(whole) // 2], b"", None):
        if content is None:
            folder.last.unlink()
        else:
            folder.last.write_bytes(content)
        state, reason = folder.load_state()
        assert state["step"] == 2
        assert "last.pt" in reason
    folder.previous.write_bytes(whole[:100])
    with pytest.raises(ValueError, match=r"damaged: .*previous.pt: "):
        folder.load_state()


def test_a_damaged_state_never_replaces_the_good_one_before_it(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    for step in (1, 2):
        folder.save_state(STATE | {"step": step})
    folder.last.write_bytes(folder.last.read_bytes()[:-100])
    assert folder.load_state()[0]["step"] == 1
    folder.restore_previous()
    rename = Path.replace

    def killed_between_the_renames(self, target):
        if self.name.endswith(".tmp"):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", killed_between_the_renames)
    with pytest.raises(KeyboardInterrupt):
        folder.save_state(STATE | {"step": 2})
    assert folder.load_state()[0]["step"] == 1


def test_checkpoints_of_the_other_kind_are_refused(tmp_path):
    folder = RunFolder(tmp_path)
    folder.save_checkpoint(BEST)
    shutil.copy(folder.checkpoint, folder.last)
    with pytest.raises(ValueError, match=r"last.pt lacks data, epoch"):
        folder.load_state()
    folder.save_state(STATE)
    shutil.copy(folder.last, folder.checkpoint)
    with pytest.raises(ValueError, match=r"checkpoint.pt lacks config"):
        folder.load_checkpoint()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "run folder is damaged: .*config.json: "),
        ("3", "config.json must hold a JSON object"),
        ("{}", "config.json lacks config, images"),
        (
            '{"config": {"epoch": 1}, "images": 1, "device": 1, "threads": 1, "versions": 1}',
            "unknown setting epoch; did",
        ),
        (
            '{"config": 3, "images": 1, "device": 1, "threads": 1, "versions": 1}',
            "run folder is damaged: .*config.json, config: ",
        ),
    ],
)
def test_damaged_settings_are_named(tmp_path, text, message):
    folder = RunFolder(tmp_path)
    folder.config.write_text(text)
    with pytest.raises(ValueError, match=message):
        folder.read_config()


def test_what_is_no_checkpoint_is_refused(tmp_path):
    folder = RunFolder(tmp_path)
    with pytest.raises(ValueError, match=r"run folder .* is incomplete: checkpoint.pt is missing"):
        folder.load_checkpoint()
    folder.save_checkpoint({"model": {"weight": torch.zeros(1000)}})
    whole = folder.checkpoint.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not a checkpoint", whole[:-1]):
        folder.checkpoint.write_bytes(content)
        with pytest.raises(ValueError, match=r"run folder is damaged: .*checkpoint.pt: "):
            folder.load_checkpoint()
    torch.save({"weight": torch.zeros(1)}, folder.checkpoint)
    with pytest.raises(ValueError, match=r"checkpoint.pt is no checkpoint of snntorch-asnn"):
        folder.load_checkpoint()


@pytest.mark.parametrize("name", BEST)
@pytest.mark.parametrize("value", [None, "x", 1.5, True])
def test_a_wrong_value_of_a_checkpoint_is_named(tmp_path, name, value):
    folder = RunFolder(tmp_path)
    folder.save_checkpoint(BEST | {name: value})
    with pytest.raises(ValueError, match=rf"checkpoint.pt: {name} must be of type \w+; got"):
        folder.load_checkpoint()


@pytest.mark.parametrize("name", [*STATE, "tally.images", "best.model", "best.epoch"])
def test_a_wrong_value_of_a_state_is_named(tmp_path, name):
    folder, state = RunFolder(tmp_path), copy.deepcopy(STATE)
    *outer, inner = name.split(".")
    (state[outer[0]] if outer else state)[inner] = "wrong"
    folder.save_state(state)
    with pytest.raises(ValueError, match=rf"last.pt.*{inner} must be of type \w+; got str"):
        folder.load_state()


def test_a_file_without_a_version_is_refused(tmp_path):
    folder = RunFolder(tmp_path)
    torch.save({"format": "snntorch-asnn checkpoint"}, folder.checkpoint)
    with pytest.raises(
        ValueError, match=r"checkpoint.pt must have checkpoint version 1, .*; got version None"
    ):
        folder.load_checkpoint()


def test_checkpoints_cannot_run_code(tmp_path):
    folder = RunFolder(tmp_path)
    torch.save({"format": "snntorch-asnn checkpoint", "version": 1, "f": print}, folder.checkpoint)
    with pytest.raises(ValueError, match=r"run folder is damaged: .*checkpoint.pt: "):
        folder.load_checkpoint()


def test_a_checkpoint_of_a_later_version_is_refused(tmp_path):
    folder = RunFolder(tmp_path)
    folder.save_checkpoint({"version": 99})
    with pytest.raises(ValueError, match=r"checkpoint.pt must have checkpoint version 1, .*; got version 99"):
        folder.load_checkpoint()


def test_versions_name_what_counts():
    assert {"python", "snntorch-asnn", "torch", "snntorch", "numpy"} <= set(versions())


def test_versions_pass_over_what_is_not_installed(monkeypatch):
    installed = metadata.version

    def version(name):
        if name == "torchvision":
            raise metadata.PackageNotFoundError(name)
        return installed(name)

    everything = versions()
    monkeypatch.setattr(metadata, "version", version)
    assert versions() == {name: number for name, number in everything.items() if name != "torchvision"}
