"""Results of benchmarks/gpu.py as Markdown."""

from __future__ import annotations

from typing import Any

Content = dict[str, Any]
Row = dict[str, Any]


def neuron(content: Content) -> list[str]:
    rows = _rows(content, "neuron")
    lines = []
    for steps, dtype in sorted({(row["steps"], row["dtype"]) for row in rows}):
        here = [row for row in rows if (row["steps"], row["dtype"]) == (steps, dtype)]
        lines += [
            f"**A neuron over T = {steps} steps, {here[0]['elements']:,} elements, {dtype}**",
            "",
            "| | forward ms | forward + backward ms | ÷ copy | GB/s | B/element, moved / saved / peak |",
            "|---|---|---|---|---|---|",
        ]
        for row in here:
            saved = row["saved_bytes_per_element"]
            kept = "-" if saved is None else f"{saved:.1f}"
            lines.append(
                f"| {_label(row)} | {row['forward']['ms']:.3f} | {row['both']['ms']:.3f} "
                f"| **{row['both_over_floor']:.2f}** | {row['both_gb_per_s']:.0f} "
                f"| {row['both_bytes_per_element']:.1f} / {kept} / {row['peak_bytes_per_element']:.1f} |"
            )
        lines.append("")
    if not rows:
        return []
    told = (
        "÷ copy: the time divided by the time of a copy of the bytes that forward and backward must move. "
        "GB/s: these bytes divided by the time. Moved: the bytes that a copy would move in the same time."
    )
    return [*lines, told, "", *_machine(content)]


def networks(content: Content) -> list[str]:
    lines = []
    for stage in ("spikformer", "resnets"):
        rows = _rows(content, stage)
        for model in dict.fromkeys(row["model"] for row in rows):
            here = [row for row in rows if row["model"] == model]
            place = f"T = {here[0]['steps']}, batch {here[0]['batch']}, {here[0]['precision']} autocast"
            lines += [f"**{model}, {place}**", ""]
            lines += ["| | images/s | step ms | host ms | peak MiB |", "|---|---|---|---|---|"]
            lines += [
                f"| {_label(row)} | {row['images_per_second']:,.0f} | {row['step_ms']:.1f} "
                f"| {min(row['host_ms'], row['step_ms']):.1f} | {row['peak_mib']:,.0f} |"
                for row in here
            ]
            lines.append("")
    return [*lines, *_machine(content)] if lines else []


def host(content: Content) -> list[str]:
    rows = _rows(content, "host")
    if not rows:
        return []
    lines = ["| host time in microseconds | forward | forward + backward |", "|---|---|---|"]
    for row in rows:
        both = f"{row['both_us']:.0f}" if "both_us" in row else "-"
        lines.append(f"| {row['name']}, {row['elements']:,} elements | {row['forward_us']:.0f} | {both} |")
    return [*lines, "", *_machine(content)]


def learning(content: Content) -> list[str]:
    rows = [row for stage in ("learn-spikformer", "learn-resnet") for row in _rows(content, stage)]
    ends = [row for row in rows if "test_accuracy" in row]
    if not ends:
        return []
    lines = ["| | data | epochs | test accuracy | s per epoch |", "|---|---|---|---|---|"]
    for row in ends:
        epochs = [other["epoch_s"] for other in rows if other["name"] == row["name"] and "epoch" in other]
        lines.append(
            f"| {row['name']} | {row['data']} | {row['epochs']} | {row['test_accuracy']:.2%} "
            f"| {sum(epochs) / len(epochs):.1f} |"
        )
    return [*lines, "", "One seed and a short schedule; the page on accuracy has more.", ""]


def _label(row: Row) -> str:
    contender: str = row["contender"]
    return contender.replace("ours", "this package")


def _rows(content: Content, stage: str) -> list[Row]:
    rows: list[Row] = content["stages"].get(stage, {"rows": []})["rows"]
    return [row for row in rows if "failed" not in row]


def _machine(content: Content) -> list[str]:
    about = content["about"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return [
        f"`{about['command']}`, {about['date'][:10]}, {about['card']}, driver {about['driver']}, commit "
        f"{about['commit']}; {versions}.",
        "",
    ]
