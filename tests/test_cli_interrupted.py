"""Ctrl-C and non-ASCII paths on the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cyclopts")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("lightning_fabric")

import snntorch_asnn
from snntorch_asnn import train
from snntorch_asnn.cli import main
from snntorch_asnn.cli.app import _fail
from snntorch_asnn.cli.terminal import TerminalReporter
from snntorch_asnn.train.files import readable_name, write_text

TINY = ["--train-subset", "100", "--epochs", "2", "--device", "cpu", "--threads", "1", "--no-tensorboard"]


def call(capsys, *args) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        main([str(arg) for arg in args])
    return stopped.value.code, capsys.readouterr().err.strip()


def test_an_interrupted_run_says_how_to_go_on(capsys, monkeypatch, tmp_path):
    def interrupt(self, line) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "my run"
    with monkeypatch.context() as patch:
        patch.setattr(TerminalReporter, "epoch", interrupt)
        code, error = call(capsys, "train", *TINY, "--out", out)
    assert code == 130
    assert error == f"snntorch-asnn: interrupted; continue with: snntorch-asnn train --resume --out '{out}'"
    assert not (out / ".lock").exists()
    assert call(capsys, "train", "--resume", "--out", out) == (0, "")
    assert (out / "result.json").exists()


@pytest.mark.parametrize(
    ("command", "function", "wanted"),
    [
        ("train", "fit", "interrupted; nothing was written yet: give the same command to begin anew"),
        ("sweep", "sweep", "interrupted; continue with the same command"),
        ("quickstart", "quickstart", "interrupted; the same command begins anew"),
    ],
)
def test_every_command_that_trains_can_be_interrupted(
    capsys, monkeypatch, tmp_path, command, function, wanted
):
    def interrupt(*args, **options) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, function, interrupt)
    options = ["--set", "lr=0.1,0.2"] if command == "sweep" else []
    assert call(capsys, command, *options, "--out", tmp_path / "run") == (130, f"snntorch-asnn: {wanted}")


@pytest.mark.parametrize("mode", [{"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {}], ids=["ascii", "utf8"])
def test_names_beyond_ascii_work_under_the_c_locale(tmp_path, mode):
    np, image = pytest.importorskip("numpy"), pytest.importorskip("PIL.Image")
    pytest.importorskip("torchvision")
    for split in ("train", "test"):
        for level, name in ((30, "Käfer"), (200, "Žába")):
            (tmp_path / "Bildër" / split / name).mkdir(parents=True)
            for number in range(3):
                pixels = np.full((8, 8), level, np.uint8)
                image.fromarray(pixels).save(tmp_path / "Bildër" / split / name / f"{number} ü.png")
    out = tmp_path / "Läufe"
    options = [
        "--data",
        "image-folder",
        "--data-dir",
        tmp_path / "Bildër",
        "--image-size",
        "8",
        "--epochs",
        "1",
    ]
    machine = ["--num-steps", "2", "--val-fraction", "0.4", "--device", "cpu", "--threads", "1"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    environment |= {
        "LC_ALL": "C",
        "COLUMNS": "300",
        "PYTHONPATH": str(Path(snntorch_asnn.__file__).parents[1]),
    } | mode
    done = subprocess.run(
        [sys.executable, "-m", "snntorch_asnn.cli", "train", *options, *machine, "--out", out],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert "Läufe" in done.stdout.decode("utf-8")
    assert json.loads((out / "evaluation.json").read_text(encoding="utf-8"))["classes"] == ["Käfer", "Žába"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<title>Läufe" in page.replace("\n", "")
    assert "Käfer" in page


def test_text_is_utf8_whatever_the_locale(tmp_path):
    undecoded = os.fsencode("Käfer").decode("ascii", "surrogateescape")
    write_text(tmp_path / "x.txt", f"{undecoded} ± 猫")
    assert (tmp_path / "x.txt").read_bytes().decode("utf-8") == "Käfer ± 猫"
    assert readable_name(undecoded) == readable_name("Käfer") == "Käfer"
    assert readable_name(b"\xff.png".decode("ascii", "surrogateescape")) == "\ufffd.png"


def test_an_error_of_a_worker_process_is_one_line(capsys):
    traced = (
        "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
    )
    error = ValueError(
        f'{traced}  File "x.py", line 3\nValueError: d/0.png: the picture cannot be read: no\n'
    )
    with pytest.raises(SystemExit):
        _fail(error, 2, debug=False)
    assert capsys.readouterr().err.strip() == "snntorch-asnn: d/0.png: the picture cannot be read: no"
