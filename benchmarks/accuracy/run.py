"""Run the unfinished cells of a table, and write one JSON line for each.

Usage: ``python benchmarks/accuracy/run.py TABLE [--data-dir FOLDER] [--seeds 0 1 2] [--most N]``.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import snntorch
import torch
from cell import Cell, run
from tables import TABLES

import snntorch_asnn

RESULTS = Path(__file__).parents[1] / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--data-dir", type=Path, help="where the data are, if not where Debian has them")
    parser.add_argument("--seeds", type=int, nargs="+", help="only these")
    parser.add_argument("--most", type=int, help="stop after so many runs")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda for the large networks")
    parser.add_argument("--keep", type=Path, help="folder for the trained weights, to profile them later")
    parser.add_argument(
        "--out", type=Path, help="JSON lines; default: benchmarks/results/accuracy_TABLE.jsonl"
    )
    arguments = parser.parse_args()
    if arguments.data_dir is not None and not arguments.data_dir.is_dir():
        parser.error(f"--data-dir must be a folder; got {arguments.data_dir}")
    out = arguments.out or RESULTS / f"accuracy_{arguments.table}.jsonl"
    torch.set_flush_denormal(True)
    finished = {Cell(**line["cell"]).key() for line in read(out)}
    cells = [
        cell
        for cell in TABLES[arguments.table]()
        if cell.key() not in finished and (arguments.seeds is None or cell.seed in arguments.seeds)
    ][: arguments.most]
    for number, cell in enumerate(cells, 1):
        result = run(cell, arguments.data_dir, arguments.keep, arguments.device)
        line = {"cell": dataclasses.asdict(cell), **result, **provenance(arguments.device)}
        with out.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        shown = f"{cell.model} {cell.neuron} {cell.code} T={cell.num_steps} {cell.change} seed {cell.seed}"
        print(f"{number}/{len(cells)} {shown}: {result['accuracy']:.2f} %", flush=True)


def read(file: Path) -> list[dict[str, Any]]:
    """The finished runs. A last line that was cut off by a kill does not count."""
    if not file.exists():
        return []
    text = file.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.write_text(whole)
    return [json.loads(line) for line in whole.splitlines()]


def provenance(device: str) -> dict[str, Any]:
    return {
        "versions": {
            "snntorch_asnn": snntorch_asnn.__version__,
            "snntorch": snntorch.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "commit": _commit(),
        "machine": _machine(device),
        "threads": torch.get_num_threads(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", "benchmarks/accuracy/run.py", *sys.argv[1:2]]),
    }


def _machine(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def _commit() -> str | None:
    command = ["git", "-C", str(RESULTS), "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


if __name__ == "__main__":
    main()
