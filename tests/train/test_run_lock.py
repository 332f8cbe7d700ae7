"""Two processes never write one run folder, and one that was killed blocks no other."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("lightning_fabric")
pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

from snntorch_asnn.train import TrainConfig, fit
from snntorch_asnn.train import run_lock as module
from snntorch_asnn.train.run_lock import LOCK_NAME, locked

DIGITS = {"data": "digits", "train_subset": 100, "epochs": 1, "device": "cpu", "threads": 1}


@pytest.fixture
def ended() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def hold(folder: Path, **changes) -> Path:
    """Write the lock file of another process."""
    folder.mkdir(parents=True, exist_ok=True)
    owner = {"pid": os.getpid(), "host": platform.node(), "start": module._start_of(os.getpid())}
    lock = folder / LOCK_NAME
    lock.write_text(json.dumps(owner | changes))
    return lock


def test_a_lock_is_held_and_given_back(tmp_path):
    folder = tmp_path / "a" / "b"
    with locked(folder):
        assert json.loads((folder / LOCK_NAME).read_text())["pid"] == os.getpid()
        with pytest.raises(
            ValueError, match=rf"no other process writes to; process {os.getpid()} is training"
        ):
            locked(folder).__enter__()
        assert (folder / LOCK_NAME).exists()
    assert list(tmp_path.iterdir()) == []  # nothing was written, so that nothing stays
    with locked(folder):
        (folder / "config.json").write_text("{}")
    assert [file.name for file in folder.iterdir()] == ["config.json"]


def test_a_lock_is_given_back_after_an_error(tmp_path):
    with pytest.raises(KeyboardInterrupt), locked(tmp_path):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="processes cannot be asked for")
def test_the_lock_of_a_process_that_has_ended_is_taken_over(tmp_path, ended):
    lock = hold(tmp_path, pid=ended)
    with locked(tmp_path):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
        assert [file.name for file in tmp_path.iterdir()] == [LOCK_NAME]
    assert not lock.exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs the start of a process")
def test_another_process_that_has_got_the_same_number_does_not_count(tmp_path):
    hold(tmp_path, start="1")
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", "{", "3", "[]", '{"pid": "x", "host": 3}', "{}"])
def test_a_lock_that_names_no_process_is_taken_over(tmp_path, monkeypatch, content):
    monkeypatch.setattr(module, "_SECONDS_TO_WRITE", 0.01)
    (tmp_path / LOCK_NAME).write_text(content)
    with locked(tmp_path):
        pass


def test_a_lock_of_another_machine_is_respected_and_named(tmp_path, ended):
    lock = hold(tmp_path, host="elsewhere", pid=ended)
    with pytest.raises(
        ValueError, match=rf"process {ended} on elsewhere is .*; if it has ended, remove .*lock"
    ):
        locked(tmp_path).__enter__()
    assert lock.exists()


def test_of_many_at_once_one_gets_the_lock(tmp_path, ended):
    hold(tmp_path, pid=ended)
    got, refused, start, finish = [], [], threading.Barrier(8), threading.Barrier(8)

    def take() -> None:
        start.wait()
        try:
            with locked(tmp_path):
                got.append(1)
                finish.wait()
        except ValueError:
            refused.append(1)
            finish.wait()

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)


def hold_for_ever(folder: Path, ready) -> None:
    with locked(folder):
        (folder / "config.json").write_text("{}")
        ready.set()
        threading.Event().wait()


@pytest.mark.skipif(sys.platform != "linux", reason="needs SIGKILL and fork")
def test_a_killed_process_does_not_block_another(tmp_path):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    first = context.Process(target=hold_for_ever, args=(tmp_path, ready))
    first.start()
    assert ready.wait(60)
    with pytest.raises(ValueError, match=rf"process {first.pid} is training"):
        locked(tmp_path).__enter__()
    first.kill()
    while module._start_of(first.pid) != "ended":  # also before its parent has asked for it
        pass
    with locked(tmp_path):
        pass
    first.join()


@pytest.mark.parametrize("change", [{}, {"overwrite": True}, {"resume": True}])
def test_training_stops_where_another_process_trains(tmp_path, change):
    out = tmp_path / "run"
    if "resume" in change:
        fit(TrainConfig(**DIGITS, out=out, tensorboard=False))
        (out / "result.json").unlink()
    hold(out)
    before = {file: file.stat().st_mtime_ns for file in out.iterdir()}
    with pytest.raises(ValueError, match="out must be a folder that no other process writes to"):
        fit(TrainConfig(**DIGITS, out=out, **change))
    assert {file: file.stat().st_mtime_ns for file in out.iterdir()} == before


def test_a_process_that_is_not_the_first_of_a_run_leaves_the_lock_alone(tmp_path, monkeypatch):
    from snntorch_asnn.train._fit import _prepared
    from snntorch_asnn.train.progress import Reporter
    from snntorch_asnn.train.run_folder import RunFolder

    lock = hold(tmp_path)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with _prepared(TrainConfig(out=tmp_path), RunFolder(tmp_path), Reporter()):
        assert lock.exists()
    assert lock.exists()


def test_the_second_run_on_the_command_line_ends_in_one_line(tmp_path, capsys):
    pytest.importorskip("cyclopts")
    from snntorch_asnn.cli import main

    hold(tmp_path / "run")
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--train-subset", "100", "--device", "cpu", "--out", str(tmp_path / "run")])
    error = capsys.readouterr().err.strip()
    assert (stopped.value.code, len(error.splitlines())) == (2, 1)
    assert f"process {os.getpid()} is training in" in error
