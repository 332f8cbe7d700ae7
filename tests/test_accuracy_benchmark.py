"""The accuracy benchmark: its statistics, its tables, and that a run can be repeated and resumed."""

from __future__ import annotations

import dataclasses
import json
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks" / "accuracy"
MODULES = ("cell", "changes", "data", "paired", "report", "run", "tables")

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="needs a checkout")


@pytest.fixture
def bench(monkeypatch):
    """The benchmark's modules, by name; they are no package, and leave with the test."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield lambda name: import_module(name)
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def small(bench):
    return bench("cell").Cell("fashion_mnist", "lenet", {}, "asnn", "hybrid", 4, 0, 4000, 4)


@pytest.fixture
def noise(bench, monkeypatch):
    """Random images in place of the data."""
    cell, images = bench("cell"), bench("data").Images
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (24, 1, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.randint(10, (24,), generator=generator)
    monkeypatch.setattr(cell, "load", lambda *_: (images(pixels[:16], labels[:16]), images(pixels, labels)))


def test_mean_and_deviation(bench):
    mean = bench("paired").mean({0: 88.0, 1: 90.0})
    assert (mean.mean, mean.count) == (89.0, 2)
    assert mean.deviation == pytest.approx(2**0.5)
    assert str(mean) == "89.00 ± 1.41"
    assert str(bench("paired").mean({0: 88.0})) == "88.00"


def test_interval_of_a_paired_difference(bench):
    """Differences 1, 2, 3 of the seeds on both sides; t(0.975; 2) = 4.3027."""
    pytest.importorskip("scipy")
    difference = bench("paired").difference({0: 2.0, 1: 4.0, 2: 6.0, 3: 0.0}, {2: 3.0, 0: 1.0, 1: 2.0})
    half = 4.302653 / 3**0.5
    assert (difference.mean, difference.count, difference.sign) == (2.0, 3, 0)
    assert (difference.low, difference.high) == pytest.approx((2 - half, 2 + half))


@pytest.mark.parametrize(("shift", "sign"), [(3.0, 1), (-3.0, -1)])
def test_a_difference_counts_where_its_whole_interval_does(bench, shift, sign):
    pytest.importorskip("scipy")
    difference = bench("paired").difference({0: shift, 1: 1.1 * shift, 2: 0.9 * shift}, {0: 0, 1: 0, 2: 0})
    assert difference.sign == sign
    assert str(difference).startswith(f"**{shift:+.2f} [")


def test_one_pair_has_no_interval_and_none_has_no_difference(bench):
    paired = bench("paired")
    assert str(paired.difference({0: 2.0}, {0: 1.5})) == "+0.50"
    assert paired.difference({0: 2.0}, {1: 1.5}) is None


def test_tables_come_from_the_results(bench, small, tmp_path, monkeypatch):
    pytest.importorskip("scipy")
    report = bench("report")
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    assert report.grid("lenet").startswith("No run is finished yet.")
    lines = []
    for neuron, accuracies in (("lif", (80.0, 80.5, 81.0)), ("asnn", (82.0, 82.4, 83.1))):
        for seed, accuracy in enumerate(accuracies):
            cell = dataclasses.asdict(dataclasses.replace(small, neuron=neuron, seed=seed))
            versions = {"torch": "2", "snntorch": "1"}
            about = {"versions": versions, "threads": 1, "machine": "m", "date": "2026-01-01", "command": "c"}
            lines.append(json.dumps({"cell": cell, "accuracy": accuracy, **about}) + "\n")
    (tmp_path / "accuracy_lenet.jsonl").write_text("".join(lines))
    assert "| T | neuron | hybrid |" in report.grid("lenet")
    assert "| 4 | LIF | 80.50 ± 0.50 |" in report.grid("lenet")
    assert "4,000 training images, 4 epochs" in report.grid("lenet")
    assert "| 4 | hybrid | **+2.00 [+1.75, +2.25]** |" in report.neurons()
    assert "The whole interval is above 0 in 1 of 1 comparisons: hybrid, T = 4 (+2.00)." in report.neurons()


def test_every_table_can_be_made_from_what_stands_in_the_repository(bench):
    pytest.importorskip("scipy")
    for name, table in bench("report").TABLES.items():
        assert table().startswith(("|", "- **", "No run is finished yet.")), name


def test_a_run_repeats_itself(bench, small, noise):
    cell = dataclasses.replace(small, model_args={"channels": [2, 2, 2], "hidden": 4}, batch=8, epochs=2)
    cell = dataclasses.replace(cell, augment=True, change="carry")
    results = [bench("cell").run(cell, None) for _ in range(2)]
    for result in results:
        del result["seconds_per_epoch"]
    assert results[0] == results[1]
    assert results[0]["first_layer_macs"] == 2 * 9 * 64


def test_every_change_builds_and_learns(bench, small):
    changes, build = bench("changes"), bench("cell").build
    images = torch.rand(4, 1, 28, 28)
    for change in [*changes.CHANGES, "carry+step_norm"]:
        cell = dataclasses.replace(small, model_args={"channels": [2, 2, 2], "hidden": 4}, change=change)
        logits = build(cell, 1, 28)(images, return_steps=True)
        changes.criterion(change)(logits, torch.tensor([0, 1, 2, 3])).backward()
        assert logits.shape == (4, 4, 10)


def test_norms_see_their_own_phase_only(bench):
    norm = bench("changes").PhaseNorms(torch.nn.BatchNorm1d(3), [1, 2])
    x = torch.randn(3, 8, 3) * torch.tensor([1.0, 5.0, 5.0]).view(3, 1, 1)
    out = norm(x.flatten(0, 1)).view(3, 8, 3)
    for part in (out[:1], out[1:]):
        torch.testing.assert_close(part.flatten(0, 1).mean(0), torch.zeros(3))
        torch.testing.assert_close(
            part.flatten(0, 1).var(0, correction=0), torch.ones(3), rtol=1e-4, atol=1e-4
        )


def test_learned_levels_start_as_the_hybrid_code(bench):
    from snntorch_asnn import spikegen

    images = torch.rand(2, 1, 8, 8)
    encode = bench("changes").LearnedLevels(4)
    torch.testing.assert_close(encode(images).detach(), spikegen.hybrid(images, 4))
    encode(images).square().sum().backward()
    assert encode.bins.grad.abs().sum() > 0


def test_images_move_by_two_pixels_at_most_and_mirror(bench):
    images = torch.zeros(200, 1, 9, 9, dtype=torch.uint8)
    images[:, :, 4, 3] = 255
    moved = bench("cell").shift_and_flip(images, torch.Generator().manual_seed(0))
    _, _, rows, columns = moved.nonzero(as_tuple=True)
    assert len(rows) == 200
    assert (set(rows.tolist()), set(columns.tolist())) == (set(range(2, 7)), set(range(1, 8)))


def test_a_line_that_was_cut_off_does_not_count(bench, tmp_path):
    file = tmp_path / "accuracy.jsonl"
    file.write_text('{"cell": 1}\n{"cell"')
    assert bench("run").read(file) == [{"cell": 1}]
    assert file.read_text() == '{"cell": 1}\n'


def test_the_tables_are_whole_and_their_runs_distinct(bench):
    tables = bench("tables").TABLES
    cells = {name: table() for name, table in tables.items()}
    assert len(cells["lenet"]) == 5 * 4 * 3 * 3
    for name, table in cells.items():
        assert len({cell.key() for cell in table}) == len(table), name
        assert all(cell.split == ("validation" if name == "ablation" else "test") for cell in table), name


def test_the_validation_split_is_never_trained_on(bench):
    with pytest.raises(ValueError, match="train_images must be at most 50000"):
        bench("data").split_of(60_000, "validation", 60_000)
