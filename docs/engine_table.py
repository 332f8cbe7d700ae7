"""The directive ``engine-table``: results of the benchmarks of speed and memory as tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpu_table
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
Content = dict[str, Any]
CONTENDERS = {
    "ours, two layers": "this package",
    "ours, two layers, compiled": "this package, compiled",
    "ours, in one": "this package, `fused=True`",
    "ours, in one, compiled": "this package, `fused=True`, compiled",
    "ours, in one, packed": "this package, `fused=True` and `pack_spikes`",
    "ours, learned, in one, packed": "the same with learned time parameters",
}


def neuron_times(content: Content) -> list[str]:
    lines = []
    places = {_place(table) for table in content["tables"]}
    for shape, dtype, threads in sorted(places, key=lambda place: (place[2] or 0, -len(place[0]), place[1])):
        tables = [table for table in content["tables"] if _place(table) == (shape, dtype, threads)]
        on = "" if threads is None else f", {threads} thread{'s' if threads > 1 else ''}"
        lines += [f"**`[T, {', '.join(map(str, shape))}]`, {dtype}{on}**", ""]
        lines += _by_steps(
            tables,
            "forward + backward",
            lambda row: f"{row['ms']:.3g} ms, **{row['times_faster']:.1f}×**, {row['of_floor']:.2f}",
        )
        lines.append("")
    lines += [
        "Each cell gives the median time, the speed-up over snnTorch's loop over `x.unbind()` (bold), and "
        "the time divided by the floor: the time of a copy of the bytes that must move.",
        "",
    ]
    return lines + _machine(content)


def neuron_memory(content: Content) -> list[str]:
    place = _place(content["tables"][0])
    return _by_steps(
        [table for table in content["tables"] if _place(table) == place],
        "bytes per element, saved / peak",
        lambda row: f"{row['saved_bytes_per_element']:.2f} / {row['peak_bytes_per_element']:.2f}",
    )


def _place(table: dict[str, Any]) -> tuple[tuple[int, ...], str, int | None]:
    return tuple(table["shape"]), table["dtype"], table["threads"]


def _by_steps(tables: list[dict[str, Any]], title: str, cell: Callable[[dict[str, Any]], str]) -> list[str]:
    head = [f"| {title} |" + "".join(f" T = {table['steps']} |" for table in tables)]
    lines = [*head, "|---|" + "---|" * len(tables)]
    for name in [row["name"] for row in tables[0]["rows"]]:
        rows = [next(row for row in table["rows"] if row["name"] == name) for table in tables]
        lines.append(f"| {name} | {' | '.join(map(cell, rows))} |")
    return lines


def first_calls(content: Content) -> list[str]:
    lines = ["| | first call | first call with another T |", "|---|---|---|"]
    for row in content["first_calls"]:
        seconds = f"{row['first_call_s']:.1f} s | {row['another_number_of_steps_s']:.2f} s"
        lines.append(f'| `impl="{row["impl"]}"`, T = {row["steps"]} | {seconds} |')
    return [*lines, "", *_machine(content)]


def training(content: Content) -> list[str]:
    lines = []
    for rows in content["tables"]:
        place = rows[0]
        title = f"{place['model']}, T = {place['steps']}, batch {place['batch']}, {place['precision']}"
        lines += [f"**{title}**", "", "| | images/s | × snnTorch | peak MiB |", "|---|---|---|---|"]
        for row in rows:
            cells = f"does not run: {row['failed']} | | " if "failed" in row else _training_cells(row)
            lines.append(f"| {CONTENDERS.get(row['name'], row['name'])} | {cells} |")
        lines.append("")
    return [*lines, *_machine(content)]


def _training_cells(row: dict[str, Any]) -> str:
    return f"{row['images_per_second']:.3g} | **{row['times_faster']:.2f}** | {row['peak_mib']:.0f}"


def _machine(content: Content) -> list[str]:
    machine = dict(content["machine"])
    command, date, device = machine.pop("command"), machine.pop("date"), machine.pop("device")
    malloc = [f"{name}={value}" for name, value in machine.pop("malloc").items()]
    rounds = machine.pop("rounds", content.get("rounds"))
    cores, threads = machine.pop("cores"), machine.pop("threads")
    versions = ", ".join(f"{name} {version}" for name, version in machine.items())
    in_turns = f"{rounds} interleaved rounds, " if rounds else ""
    return [
        f"`{' '.join([*malloc, command])}`, {in_turns}{date}, {device}, {cores} cores, "
        f"up to {threads} threads; {versions}."
    ]


TABLES: dict[str, tuple[str, Callable[[Content], list[str]]]] = {
    "neuron-times": ("neuron.json", neuron_times),
    "neuron-memory": ("neuron.json", neuron_memory),
    "first-calls": ("first_calls.json", first_calls),
    "training": ("training.json", training),
    "gpu-neuron": ("gpu_*.json", gpu_table.neuron),
    "gpu-networks": ("gpu_*.json", gpu_table.networks),
    "gpu-host": ("gpu_*.json", gpu_table.host),
    "gpu-learning": ("gpu_*.json", gpu_table.learning),
}
NOT_YET = ["*Not measured yet: this needs a run of `make gpu` on a machine with a GPU.*"]


class EngineTable(SphinxDirective):
    """The table of this name."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make Markdown of the results, and parse it in place."""
        pattern, table = TABLES[self.arguments[0]]
        lines = []
        for file in sorted(RESULTS.glob(pattern)):
            self.env.note_dependency(str(file))
            lines += table(json.loads(file.read_text()))
        return self.parse_text_to_nodes("\n".join(lines or NOT_YET))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("engine-table", EngineTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
