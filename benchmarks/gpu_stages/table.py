"""Print a short report of a results file, with the goal for each figure.

Usage: ``python benchmarks/gpu_stages/table.py FILE``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Content = dict[str, Any]
Row = dict[str, Any]


def report(content: Content) -> str:
    about = content["about"]
    lines = [
        f"{about['card'] or 'no GPU'}, driver {about['driver']}, commit {about['commit']}, {about['date']}",
        ", ".join(f"{name} {version}" for name, version in about["versions"].items()),
    ]
    for name, stage in content["stages"].items():
        rows = [row for row in stage["rows"] if "failed" not in row]
        failed = [row for row in stage["rows"] if "failed" in row]
        if name.startswith("warm") and not failed:
            continue
        lines += ["", f"== {name}: {stage['status']}, {stage.get('seconds', 0):.0f} s"]
        lines += SHOWN.get(name, lambda _: [])(rows)
        lines += [f"  FAILED {row['name']}: {row['failed'][:300]}" for row in failed[:12]]
        if stage["status"] != "done" and not rows and "log" in stage:
            lines += ["  " + line for line in stage["log"].splitlines()[-6:]]
    if not about["dry_run"]:
        lines += ["", "== goals", *goals(content)]
    return "\n".join([*lines, ""])


def _floor(rows: list[Row]) -> list[str]:
    return [f"  {row['name']:24}{row['ms']:9.3f} ms{row['gb_per_s']:9.0f} GB/s" for row in rows]


def _tests(rows: list[Row]) -> list[str]:
    return [
        f"  {row['passed']} passed, {row['failed_tests']} failed, {row['errors']} errors, {row['skipped']} "
        f"skipped in {row['seconds']:.0f} s; slowest: {', '.join(row['slowest'][:3])}"
        for row in rows
    ]


def _neuron(rows: list[Row]) -> list[str]:
    head = f"  {'':38}{'T':>3}  {'dtype':9}{'fwd ms':>8}{'both ms':>9}{'÷floor':>8}{'÷floor':>8}"
    return [head + f"{'GB/s':>7}{'B/el':>6}{'saved':>6}{'peak':>6}"] + [
        f"  {row['contender']:38}{row['steps']:3}  {row['dtype']:9}{row['forward']['ms']:8.3f}"
        f"{row['both']['ms']:9.3f}{row['forward_over_floor']:8.2f}{row['both_over_floor']:8.2f}"
        f"{row['both_gb_per_s']:7.0f}{row['both_bytes_per_element']:6.1f}"
        f"{row['saved_bytes_per_element'] or float('nan'):6.1f}{row['peak_bytes_per_element']:6.1f}"
        for row in rows
    ]


def _host(rows: list[Row]) -> list[str]:
    return [
        f"  {row['name']:36}forward {row['forward_us']:8.1f} us"
        + (f", with backward {row['both_us']:8.1f} us" if "both_us" in row else "")
        for row in rows
    ]


def _networks(rows: list[Row]) -> list[str]:
    head = f"  {'':64}{'images/s':>9}{'step ms':>9}{'host ms':>9}{'peak MiB':>10}{'first s':>9}"
    return [head] + [
        f"  {row['name']:64}{row['images_per_second']:9.0f}{row['step_ms']:9.2f}{row['host_ms']:9.2f}"
        f"{row['peak_mib']:10.0f}{row.get('first_step_s', float('nan')):9.1f}"
        for row in rows
    ]


def _learning(rows: list[Row]) -> list[str]:
    return [
        f"  {row['name']:40} "
        + (
            f"epoch {row['epoch']}/{row['epochs']}: loss {row['training_loss']:.3f}, validation "
            f"{row['validation_accuracy']:.4f}, {row['epoch_s']:.1f} s"
            if "epoch" in row
            else f"{row['data']}, {row['epochs']} epochs: test {row['test_accuracy']:.4f}, "
            f"CUDA graph {row['cuda_graph']}"
        )
        for row in rows
        if row.get("epoch") in (None, 1, row["epochs"])
    ]


def _profile(rows: list[Row]) -> list[str]:
    return [
        f"  {row['share']:6.1%}{row['us']:11.0f} us{row['calls']:6} × {row['kernel'][:90]}"
        for row in rows
        if row["share"] > 0.01
    ]


SHOWN: dict[str, Callable[[list[Row]], list[str]]] = {
    "floor": _floor,
    "tests": _tests,
    "neuron": _neuron,
    "host": _host,
    "spikformer": _networks,
    "resnets": _networks,
    "learn-spikformer": _learning,
    "learn-resnet": _learning,
    "profile": _profile,
}


def goals(content: Content) -> list[str]:
    return [*_neuron_goals(_rows(content, "neuron")), *_network_goals(_rows(content, "spikformer"))] or [
        "  nothing was measured that a goal is set for"
    ]


def _rows(content: Content, stage: str) -> list[Row]:
    rows = content["stages"].get(stage, {"rows": []})["rows"]
    return [row for row in rows if "failed" not in row]


def _neuron_goals(rows: list[Row]) -> list[str]:
    lines = []
    places = sorted({(row["steps"], row["dtype"]) for row in rows})
    for steps, dtype in places:
        here = {row["contender"]: row for row in rows if (row["steps"], row["dtype"]) == (steps, dtype)}
        peers = {name: row["both"]["ms"] for name, row in here.items() if name.startswith("SpikingJelly")}
        for name in ("ours, fixed", "ours, learned"):
            if name not in here:
                continue
            ratio = here[name]["both_over_floor"]
            lines.append(
                f"  {_met(ratio <= 1.15)} neuron ≤ 1.15 × copy: {ratio:.2f} ({name}, T={steps}, {dtype})"
            )
            if dtype == "bfloat16" and peers:
                best = min(peers, key=peers.__getitem__)
                faster = peers[best] / here[name]["both"]["ms"]
                lines.append(
                    f"  {_met(faster >= 1.5)} ≥ 1.5 × SpikingJelly in bf16: {faster:.2f} ({name}; {best})"
                )
    return lines


def _network_goals(rows: list[Row]) -> list[str]:
    peers = [row for row in rows if row["contender"].startswith("SpikingJelly")]
    own = [row for row in rows if row["contender"].startswith("ours")]
    if not peers or not own:
        return []
    best = max(peers, key=lambda row: row["images_per_second"])
    lines = [f"  SpikingJelly's best: {best['contender']}, {best['images_per_second']:.0f} images/s"]
    fastest = max(own, key=lambda row: row["images_per_second"])
    lean = [row for row in own if 2 * row["peak_mib"] <= best["peak_mib"]] or [
        min(own, key=lambda row: row["peak_mib"])
    ]
    for row in {id(r): r for r in (fastest, max(lean, key=lambda row: row["images_per_second"]))}.values():
        faster = row["images_per_second"] / best["images_per_second"]
        memory = row["peak_mib"] / best["peak_mib"] if best["peak_mib"] else float("nan")
        lines.append(
            f"  {_met(faster > 1 and memory <= 0.5)} faster than it in half its memory: "
            f"{faster:.2f} × its speed, {memory:.2f} × its memory ({row['contender']})"
        )
    return lines


def _met(is_met: bool) -> str:
    return "met   " if is_met else "missed"


if __name__ == "__main__":
    print(report(json.loads(Path(sys.argv[1]).read_text())))
