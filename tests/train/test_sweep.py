from __future__ import annotations

import csv
import json
import sys

import pytest

pytest.importorskip("lightning_fabric")
pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

from snntorch_asnn.train import Reporter, parse_grid, sweep
from snntorch_asnn.train._fit import fit

SETTINGS = {
    "data": "digits",
    "train_subset": 100,
    "epochs": 1,
    "batch_size": 45,
    "num_steps": 2,
    "device": "cpu",
    "tensorboard": False,
}


def run(out, **changes):
    arguments = {"grid": {"neuron": ["asnn", "lif"]}, "seeds": [0, 1], "settings": SETTINGS}
    return sweep(out, **arguments | changes)


def test_a_sweep_fills_its_table_and_repeats_nothing(tmp_path, monkeypatch):
    asked = []

    def broken_off_once(config, **options):
        asked.append((config.neuron, config.seed, (config.run_folder / "result.json").exists()))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return fit(config, **options)

    monkeypatch.setattr(sys.modules["snntorch_asnn.train._sweep"], "fit", broken_off_once)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert len(json.loads((tmp_path / "sweep.json").read_text())["cells"]) == 1
    cells = run(tmp_path)
    assert asked[3:] == [("asnn", 0, True), ("asnn", 1, True), ("lif", 0, False), ("lif", 1, False)]
    assert [(cell.settings, cell.seeds) for cell in cells] == [
        ({"neuron": "asnn"}, (0, 1)),
        ({"neuron": "lif"}, (0, 1)),
    ]
    assert cells[0].parameters > cells[1].parameters
    rows = list(csv.DictReader((tmp_path / "sweep.csv").read_text().splitlines()))
    assert [(row["neuron"], row["runs"]) for row in rows] == [("asnn", "2"), ("lif", "2")]
    mean = sum(cells[0].test_accuracy) / 2
    assert float(rows[0]["test_accuracy_mean"]) == pytest.approx(mean)
    written = json.loads((tmp_path / "sweep.json").read_text())["cells"]
    assert written[0]["test_accuracy_std"] == pytest.approx(2**0.5 * abs(cells[0].test_accuracy[0] - mean))


def test_a_run_that_diverges_does_not_stop_the_others(tmp_path):
    told = []

    class Told(Reporter):
        def message(self, text) -> None:
            told.append(text)

    cells = run(
        tmp_path, grid={"lr": [1e30, 1e-3]}, seeds=[0], settings=SETTINGS | {"epochs": 3}, reporter=Told()
    )
    assert [(cell.seeds, cell.diverged) for cell in cells] == [((), (0,)), ((0,), ())]
    assert any("became" in text for text in told)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["neuron"], "set must be NAME=VALUE,VALUE,.*; got 'neuron'"),
        (["neurons=lif"], "unknown setting neurons; did you mean 'neuron'"),
        (["lr=fast"], "lr must be a number; got 'fast'"),
        (["compile=maybe"], "compile must be one of 'true', 'false'; got 'maybe'"),
        (["lr=1", "lr=2"], "set must name a setting once; got lr twice"),
        (["seed=1,2"], "set must not name seed, .*; got seed"),
        (["lr=1,1"], "set must give each value once"),
    ],
)
def test_wrong_grids_are_named(texts, message):
    with pytest.raises(ValueError, match=message):
        parse_grid(texts)


def test_values_are_read_as_their_type():
    texts = ["num-steps=2,4", "ema=none,0.9", "compile=true", "data_dir=a"]
    grid = parse_grid(texts)
    assert grid["num_steps"] == [2, 4]
    assert grid["ema"] == [None, 0.9]
    assert grid["compile"] == [True]
    assert str(grid["data_dir"][0]) == "a"


def test_wrong_settings_end_before_the_first_run(tmp_path):
    with pytest.raises(ValueError, match="num_steps must be at least 1; got 0"):
        run(tmp_path / "sweep", grid={"num_steps": [2, 0]})
    with pytest.raises(ValueError, match="seeds must hold at least one seed, and each seed once"):
        run(tmp_path / "sweep", seeds=[1, 1])
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def nothing_is_trained(monkeypatch):
    def fail(config, **options):
        raise AssertionError(f"{config.run_folder} was trained")

    monkeypatch.setattr(sys.modules["snntorch_asnn.train._sweep"], "fit", fail)


def test_runs_with_other_settings_are_never_joined(tmp_path, monkeypatch):
    run(tmp_path, grid={"encoding": ["direct"]}, seeds=[0], settings=SETTINGS | {"neuron": "lif", "lr": 0.01})
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    message = r"encoding=direct: resume must keep .*; got neuron='asnn' where it has 'lif', lr=0.003 where"
    with pytest.raises(ValueError, match=message):
        run(tmp_path, grid={"encoding": ["hybrid", "direct"]}, seeds=[1, 0])
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"encoding": ["direct", "hybird"]}, "encoding=hybird: encoding must be .*; got 'hybird'"),
        ({"encoding": ["direct", "none"]}, "encoding must be a code for digits; got 'none'"),
        ({"model": ["lenet", "spikformer_8_384"]}, r"image_size must be divisible by 16; got \(8, 8\)"),
        ({"device": ["cpu", "tpu"]}, "device must be auto"),
        (
            {"teacher": [None, "nowhere"]},
            "teacher must be a run folder or a checkpoint file; nowhere does not exist",
        ),
        ({"data_dir": ["a/b", "a_b"]}, "set must give each combination a folder of its own; got .*a_b twice"),
        ({"tet_lambda": [0.0, 0.05]}, "tet_lambda must be left out with loss=cross-entropy"),
    ],
)
@pytest.mark.usefixtures("nothing_is_trained")
def test_the_whole_plan_is_checked_before_the_first_run(tmp_path, grid, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "sweep", grid=grid)
    assert list(tmp_path.iterdir()) == []


def test_paths_can_be_compared(tmp_path):
    cells = run(tmp_path, grid={"data_dir": [tmp_path / "data", None]}, seeds=[0])
    assert [cell.settings["data_dir"] for cell in cells] == [tmp_path / "data", None]
    written = json.loads((tmp_path / "sweep.json").read_text())["cells"]
    assert [cell["settings"]["data_dir"] for cell in written] == [str(tmp_path / "data"), None]
