"""Run all tests and measurements that need a GPU: ``make gpu``, or ``python benchmarks/gpu.py``.

Each stage runs in its own process with its own time limit, so that a hang, a GPU fault or an out-of-memory
error loses one measurement, not the run. The JSON file is complete after every measurement: it is written
to a temporary file and renamed. A stage that dies or exceeds the time for one measurement continues with
the next.

``--list`` shows the stages. ``--dry-run`` runs all of them on the CPU with tiny sizes, to check that they
work. ``--wheels FOLDER`` installs the wheels in a folder for this run only, for machines without a network.
A stage marked as running beside another one compiles ahead for later stages while the other one runs.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gpu_stages.children import Child
from gpu_stages.plan import STAGES, Stage, chosen
from gpu_stages.provenance import about, card_slug
from gpu_stages.table import report

AHEAD = 0.3
"""Share of the limit that compiling ahead may take."""
RESULTS = Path(__file__).parent / "results"
CONSOLE = 11_000
"""Characters of the report at the end: more may not reach a caller who sees the end of the output only."""


class Run:
    """The stages so far, and their file."""

    def __init__(self, options: argparse.Namespace, file: Path) -> None:
        self.options, self.file = options, file
        self.end = time.monotonic() + options.limit
        self.content: dict[str, Any] = {"about": about(options), "stages": {}}
        self.children: list[Child] = []
        self.waiting: list[Child] = []
        self.write()

    def write(self) -> None:
        """Replace the file in one piece, so that whoever kills this process finds whole JSON."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        draft = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        draft.write_text(json.dumps(self.content, indent=1) + "\n")
        draft.replace(self.file)

    def groups(self, groups: list[list[Stage]]) -> None:
        """Run the groups of stages one after the other; the next group imports its modules meanwhile."""
        self.waiting = self._started(groups[0])
        for following in [*groups[1:], []]:
            self._release()
            self.waiting = self._started(following)
            self._follow()

    def _started(self, stages: list[Stage]) -> list[Child]:
        return [Child(stage, self.options) for stage in stages]

    def _release(self) -> None:
        """Let the stages that wait begin, if there is time left for them."""
        for child in self.waiting:
            left = self.end - time.monotonic()
            limit = min(child.stage.limit, left, *([AHEAD * self.options.limit] * bool(child.stage.beside)))
            self.content["stages"][child.stage.name] = child.kept
            self.children.append(child)
            if left < 5:
                child.stop("no time was left")
            else:
                print(f"-- {child.stage.name}: at most {limit:.0f} s", flush=True)
                child.release(limit)
        self.waiting = []
        self.write()

    def _follow(self) -> None:
        while self.children:
            time.sleep(0.1)
            changes = [child.is_done or child.follow() for child in self.children]
            if any(changes):
                self.write()
            self.children = [child for child in self.children if not child.is_done]

    @property
    def is_whole(self) -> bool:
        """Whether every stage got through, and every figure was made."""
        stages = self.content["stages"].values()
        return all(
            stage["status"] == "done" and not any("failed" in row for row in stage["rows"])
            for stage in stages
        )

    def stop(self) -> None:
        for child in self.waiting:
            child.kill()
        for child in self.children:
            child.stop("stopped from outside")
        self.write()


def main() -> int:
    options = parse()
    if options.child:
        from gpu_stages.child import run_stage

        return run_stage(options)
    if options.list:
        for stage in STAGES:
            print(
                f"{stage.name:18}{stage.limit:4} s  {stage.about}{'' if stage.is_default else ' (if named)'}"
            )
        return 0
    with tempfile.TemporaryDirectory(prefix="gpu_") as scratch:
        options.scratch = scratch
        if options.wheels:
            install(options.wheels, Path(scratch) / "site")
        run = Run(options, result_file(options))
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        try:
            run.groups(chosen(options.stages, options.dry_run))
        finally:
            run.stop()
        print(report(run.content)[-CONSOLE:])
        print(f"written: {run.file}")
    return int(options.dry_run and not run.is_whole)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stages", help="names with commas between them; by default those of --list")
    parser.add_argument("--limit", type=float, default=520, help="seconds for all of it")
    parser.add_argument(
        "--json", type=Path, help="file, or folder for it; default: benchmarks/results/gpu_CARD.json"
    )
    parser.add_argument("--wheels", type=Path, help="folder of wheels that this machine misses")
    parser.add_argument("--data", type=Path, help="npz of CIFAR-10 as JPEG, for the stage that trains")
    parser.add_argument("--commit", help="what is measured, where there is no git to ask")
    parser.add_argument("--dry-run", action="store_true", help="in miniature, on the CPU")
    parser.add_argument("--list", action="store_true", help="show the stages and stop")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--skip", type=json.loads, default=[], help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name in ("wheels", "data"):
        path = getattr(options, name)
        if path is not None and not path.exists():
            parser.error(f"--{name} must be there; got {path}")
    try:
        chosen(options.stages, options.dry_run)
    except ValueError as error:
        parser.error(str(error))
    return options


def result_file(options: argparse.Namespace) -> Path:
    name = "gpu_dry_run.json" if options.dry_run else f"gpu_{card_slug()}.json"
    if options.json is None:
        return (Path(tempfile.gettempdir()) if options.dry_run else RESULTS) / name
    path: Path = options.json
    return path if path.suffix == ".json" else path / name


def install(wheels: Path, site: Path) -> None:
    """Install wheels for the child processes, which find them before the packages of the machine."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    files = [str(wheel) for wheel in sorted(wheels.glob("*.whl"))]
    subprocess.run([*command, "--target", str(site), *files], check=True)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))


if __name__ == "__main__":
    sys.exit(main())
