"""benchmarks/gpu.py in miniature: its stages, and what is left when one of them or all of it dies."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
if not BENCHMARKS.is_dir():
    pytest.skip("the benchmarks are not in a built distribution", allow_module_level=True)
SCRIPT = BENCHMARKS / "gpu.py"


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the script, imported as it imports it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield lambda name: importlib.import_module(f"gpu_stages.{name}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "gpu_stages"]:
        del sys.modules[name]


def start(*options: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), "--dry-run", *map(str, options)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_stages_run_in_miniature_and_leave_a_table(tmp_path: Path) -> None:
    process = start("--stages", "floor,learn-resnet", "--json", tmp_path)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    content = json.loads((tmp_path / "gpu_dry_run.json").read_text())
    assert {name: stage["status"] for name, stage in content["stages"].items()} == {
        "floor": "done",
        "learn-resnet": "done",
    }
    rows = content["stages"]["learn-resnet"]["rows"]
    assert {row["method"] for row in rows} == {"direct code, LIF", "hybrid code, ASNN"}
    assert sum("test_accuracy" in row for row in rows) == 2
    assert {"card", "driver", "commit", "command", "date", "versions"} <= content["about"].keys()
    assert "== floor: done" in said
    assert "GB/s" in said


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_kill_in_the_middle_leaves_whole_json(how: signal.Signals, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    process = start("--stages", "floor,host", "--json", file)
    end = time.monotonic() + 300
    while time.monotonic() < end and process.poll() is None:
        if file.exists() and json.loads(file.read_text())["stages"].get("floor", {}).get("rows"):
            break
        time.sleep(0.02)
    process.send_signal(how)
    process.communicate(timeout=60)
    assert process.returncode != 0
    content = json.loads(file.read_text())
    assert content["stages"]["floor"]["rows"][0]["gb_per_s"] > 0
    assert [path for path in tmp_path.iterdir() if path != file] == []


@pytest.mark.parametrize("names", ["floor,no such", "no such"])
def test_an_unknown_stage_is_named(names: str) -> None:
    process = start("--stages", names)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "must be of warm, floor, tests" in said
    assert "'no such'" in said


def test_a_figure_that_fails_is_recorded_and_the_next_one_made(part: Any) -> None:
    child = part("child")
    told: list[dict[str, Any]] = []
    place = argparse.Namespace(tell=told.append)

    def fail() -> dict[str, Any]:
        raise RuntimeError("no such kernel\nand more")

    figures = [child.Figure("a", fail), child.Figure("b", lambda: {"ms": 1.0}), child.Figure("c", fail)]
    assert child.run_figures(figures, place, ["c"]) == 0
    rows = [row for row in told if "name" in row]
    assert [row["name"] for row in rows] == ["a", "b"]
    assert rows[0]["failed"] == "RuntimeError: no such kernel | and more"
    assert rows[1]["ms"] == 1.0
    assert [row for row in told if "name" not in row] == [
        *({"starts": "a"}, {"ends": "a"}),
        *({"starts": "b"}, {"ends": "b"}),
    ]


def test_stages_that_compile_ahead_run_beside_the_tests(part: Any) -> None:
    plan = part("plan")
    groups = [[stage.name for stage in group] for group in plan.chosen(None, False)]
    assert groups[0] == ["floor"]
    assert groups[1][0] == "tests"
    assert all(name.startswith("warm-") for name in groups[1][1:])
    assert all(len(group) == 1 for group in groups[2:])
    assert ["profile"] not in groups
    (together,) = plan.chosen("warm", False)
    assert len(together) == len(groups[1]) - 1


def test_a_row_that_updates_takes_the_place_of_the_last(part: Any) -> None:
    child = object.__new__(part("children").Child)
    child.kept = {"rows": []}
    for row in ({"name": "a"}, {"name": "b", "n": 1}, {"name": "b", "updates": True, "n": 2}):
        child._keep(dict(row))
    assert child.kept["rows"] == [{"name": "a"}, {"name": "b", "n": 2}]


STUB = """
import json, sys, time
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
rows = open(options["--rows"], "a")
assert float(sys.stdin.readline()) > 0
for name in ("a", "b", "c"):
    if name in json.loads(options["--skip"]):
        continue
    rows.write(json.dumps({"starts": name}) + "\\n")
    rows.flush()
    if name == "b":
        print("at fault", flush=True)
        FAULT
    rows.write(json.dumps({"name": name, "ms": 1}) + "\\n" + json.dumps({"ends": name}) + "\\n")
    rows.flush()
"""


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("time.sleep(60)", "no figure within 2 s"),
        ("sys.exit(3)", "the process ended with status 3"),
        ("import os; os.abort()", "the process ended with status -6"),
    ],
)
def test_a_stage_that_dies_or_hangs_goes_on_without_the_figure(
    fault: str, why: str, part: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    children = part("children")
    script = tmp_path / "stub.py"
    script.write_text(STUB.replace("FAULT", fault))
    monkeypatch.setattr(children, "SCRIPT", script)
    stage = part("plan").Stage("stub", "stub", "a stub", 60, 2)
    options = argparse.Namespace(scratch=tmp_path, dry_run=False, data=None)
    child = children.Child(stage, options)
    kept = child.kept
    child.release(60)
    while not child.is_done:
        child.follow()
        time.sleep(0.02)
    assert kept["status"] == "done"
    assert [row["name"] for row in kept["rows"]] == ["a", "b", "c"]
    assert kept["rows"][1]["failed"] == why
    assert "at fault" in kept["rows"][1]["log"]


def test_a_stage_at_its_limit_keeps_what_it_has(
    part: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    children = part("children")
    script = tmp_path / "stub.py"
    script.write_text(STUB.replace("FAULT", "time.sleep(60)"))
    monkeypatch.setattr(children, "SCRIPT", script)
    options = argparse.Namespace(scratch=tmp_path, dry_run=False, data=None)
    child = children.Child(part("plan").Stage("stub", "stub", "a stub", 60, 60), options)
    kept = child.kept
    child.release(3)
    while not child.is_done:
        child.follow()
        time.sleep(0.02)
    assert kept["status"] == "stopped at its limit of 3 s"
    assert [row["name"] for row in kept["rows"]] == ["a", "b"]
    with pytest.raises(ProcessLookupError):
        os.kill(child._process.pid, 0)


def test_goals_stand_beside_the_figures(part: Any) -> None:
    def neuron(contender: str, ms: float) -> dict[str, Any]:
        return {
            "contender": contender,
            "steps": 4,
            "dtype": "bfloat16",
            "both": {"ms": ms},
            "both_over_floor": ms / 2,
        }

    def network(contender: str, speed: float, mib: float) -> dict[str, Any]:
        return {"contender": contender, "images_per_second": speed, "peak_mib": mib}

    rows = {
        "neuron": [
            neuron("ours, learned", 2.2),
            neuron("SpikingJelly", 9.0),
            neuron("SpikingJelly, float32 state", 3.0),
        ],
        "spikformer": [
            network("ours", 200.0, 60.0),
            network("ours, packed", 150.0, 40.0),
            network("SpikingJelly", 100.0, 100.0),
        ],
    }
    content = {"stages": {name: {"rows": found} for name, found in rows.items()}}
    said = "\n".join(part("table").goals(content))
    assert "met    neuron ≤ 1.15 × copy: 1.10 (ours, learned" in said
    assert "missed ≥ 1.5 × SpikingJelly in bf16: 1.36 (ours, learned; SpikingJelly, float32 state)" in said
    assert "missed faster than it in half its memory: 2.00 × its speed, 0.60 × its memory (ours)" in said
    assert (
        "met    faster than it in half its memory: 1.50 × its speed, 0.40 × its memory (ours, packed)" in said
    )


def test_the_documentation_has_tables_of_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS.parent / "docs"))
    tables = importlib.import_module("gpu_table")
    network = {
        "contender": "ours, fused",
        "model": "spikformer_4_384",
        "batch": 128,
        "steps": 4,
        "precision": "bfloat16",
        "images_per_second": 4096.4,
        "step_ms": 31.25,
        "host_ms": 12.0,
        "peak_mib": 3588.2,
    }
    failed = {"name": "spikformer_4_384: ours", "failed": "OutOfMemoryError"}
    about = {"command": "c", "date": "2026-11-26T07:00", "card": "H100", "driver": "580", "commit": "abc"}
    content = {
        "about": about | {"versions": {"torch": "2.11.0"}},
        "stages": {"spikformer": {"rows": [network, failed]}},
    }
    said = "\n".join(tables.networks(content))
    assert "| this package, fused | 4,096 | 31.2 | 12.0 | 3,588 |" in said
    assert "`c`, 2026-11-26, H100, driver 580, commit abc; torch 2.11.0." in said
    assert tables.neuron(content) == tables.host(content) == tables.learning(content) == []
    del sys.modules["gpu_table"]
