"""Make the tables of README.md from the results.

Usage: ``python benchmarks/readme.py`` writes the tables between their markers. A test checks that they are up
to date.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks" / "accuracy"))

import report  # noqa: E402  the accuracy benchmark is a folder of scripts

RESULTS = ROOT / "benchmarks" / "results"
OURS = "AdaptiveLeaky, learned"
PEERS = {
    "snnTorch loop over unbind": "snnTorch's loop over time",
    "snnTorch loop, compiled": "that loop under `torch.compile`",
    "SpikingJelly": "SpikingJelly",
    "SpikingJelly, compiled": "SpikingJelly under `torch.compile`",
    "floor": "a copy of the memory that must move",
}
STEPS = {
    "snnTorch": "snnTorch",
    "SpikingJelly, compiled": "SpikingJelly, compiled",
    "ours, two layers, compiled": "this package, compiled",
    "ours, two layers": "this package",
    "ours, in one, packed": "this package, `fused=True` and `pack_spikes`",
}
NETWORKS = {"lenet": "LeNet", "resnet": "Spiking ResNet", "spikformer": "Spikformer"}


def speed() -> str:
    """How many times as fast as each peer a layer with learned parameters is, on one thread."""
    content = json.loads((RESULTS / "neuron.json").read_text())
    tables = [table for table in content["tables"] if table["threads"] in (1, None)]
    by_place = [(table, {row["name"]: row["times_faster"] for row in table["rows"]}) for table in tables]
    places = [f"{'×'.join(map(str, table['shape']))}, T = {table['steps']}" for table, _ in by_place]
    rows = [
        [label, *(f"{faster[OURS] / faster[peer]:.1f}" for _, faster in by_place)]
        for peer, label in PEERS.items()
        if all(peer in faster for _, faster in by_place)
    ]
    return report.markdown_table(["times as fast as", *places], rows)


def training() -> str:
    """Whole training steps: how many times as fast as snnTorch, and the memory that they need."""
    tables = json.loads((RESULTS / "training.json").read_text())["tables"]
    heads = [f"`{rows[0]['model']}`, T = {rows[0]['steps']}, batch {rows[0]['batch']}" for rows in tables]
    lines = []
    for name, label in STEPS.items():
        found = [next(row for row in rows if row["name"] == name) for rows in tables]
        cells = [f"{row['times_faster']:.2f} ({row['peak_mib']:.0f})" for row in found]
        lines.append([label, *cells])
    return report.markdown_table(["times as fast (peak MiB)", *heads], lines)


def accuracy() -> str:
    """Hybrid coding beside direct coding with LIF, T = 4."""
    kinds = {
        "direct, LIF": report.BASELINE,
        "direct, ASNN": report.Kind("direct", "asnn", 4),
        "hybrid, ASNN": report.Kind("hybrid", "asnn", 4),
        "hybrid with `carry=True`, ASNN": report.Kind("hybrid", "asnn", 4, "carry"),
    }
    found = {table: report.runs(table, *(["carry"] if table == "lenet" else [])) for table in NETWORKS}
    lines = []
    for label, kind in kinds.items():
        cells = []
        for runs in found.values():
            over = "" if kind == report.BASELINE else f", {report.against(runs, kind, report.BASELINE)}"
            cells.append(report.accuracy(runs, kind) + over)
        lines.append([label, *cells])
    return report.markdown_table(["code, neuron", *NETWORKS.values()], lines)


TABLES: dict[str, Callable[[], str]] = {"speed": speed, "training": training, "accuracy": accuracy}


def filled(text: str) -> str:
    """``text`` with every table between its marks renewed."""
    for name, table in TABLES.items():
        start, end = f"<!-- {name}: made by benchmarks/readme.py -->\n", f"<!-- {name} ends -->"
        before, found, rest = text.partition(start)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"README.md must hold {start.strip()!r} and then {end!r}")
        text = f"{before}{start}\n{table()}\n\n{end}{after}"
    return text


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(filled(readme.read_text(encoding="utf-8")), encoding="utf-8")
