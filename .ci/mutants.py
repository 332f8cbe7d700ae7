"""Mutation testing: change one operator, number or condition at a time and see whether a test fails.

The script runs all tests that are not slow once, to learn which lines each test runs. It then draws mutations
at random from the package's Python code and makes each in a copy of the checkout. For each it runs the tests
of the changed lines, the quickest first. A mutation survives if no test fails. A survivor is either a gap in
the tests or a change that no user could notice: look at each.

Usage: ``make mutants`` or ``python .ci/mutants.py [--number 100] [--seed 0] [--part neurons ...]``. It needs
a checkout whose tests pass. It prints survivors with their diffs; ``--out`` holds the diffs of all mutations,
and a run that was cut off resumes from this file.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import coverage
from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.plugins import get_operator, operator_names
from cosmic_ray.work_item import MutationSpec, TestOutcome

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "snntorch_asnn"
PARTS = {
    "neurons": ["neurons"],
    "ops": ["ops", "surrogate.py"],
    "codes": ["spikegen", "encoding.py"],
    "layers": ["layers"],
    "models": ["models"],
    "energy": ["energy"],
    "early_exit": ["early_exit.py"],
    "train": ["train"],
}
"""The files of each part."""

COMPILED = "snntorch_asnn/ops/*/triton/*kernels.py"
"""Files that Triton compiles; the tests run them on a GPU or in processes of their own."""

BUDGET = 120  # seconds of tests for one mutation, as they took without it
TIMEOUT = 900  # seconds, after which a mutation has made something endless, or the machine is busy


def operators() -> list[str]:
    """Every operator but those that change annotations, or identity in place of equality."""
    skipped = ("BitOr_", "_Is", "_IsNot", "Is_", "IsNot_", "VariableReplacer", "VariableInserter")
    return [name for name in operator_names() if not any(part in name for part in skipped)]


def mutations(path: Path) -> Iterator[MutationSpec]:
    """Every mutation of one file."""
    nodes = list(ast_nodes(get_ast_from_path(path)))
    for name in operators():
        operator = get_operator(name)()
        positions = [position for node in nodes for position in operator.mutation_positions(node)]
        for occurrence, (start, end) in enumerate(positions):
            yield MutationSpec(path, name, occurrence, start, end)


def draw(parts: Sequence[str], number: int, seed: int) -> list[MutationSpec]:
    """``number`` mutations, at most one a line, so that long expressions do not weigh more."""
    by_line: dict[tuple[Path, int], list[MutationSpec]] = {}
    for part in parts:
        for where in PARTS[part]:
            root = Path(PACKAGE, where)
            for path in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
                for mutation in [] if path.match(COMPILED) else mutations(path):
                    by_line.setdefault((path, mutation.start_pos[0]), []).append(mutation)
    chance = random.Random(seed)
    lines = chance.sample(list(by_line.values()), min(number, len(by_line)))
    return [chance.choice(line) for line in lines]


class Coverage:
    """Which tests run which lines, as :mod:`covering` recorded it."""

    def __init__(self, folder: Path) -> None:
        files = [str(path) for path in folder.glob("coverage.*")]
        combined = coverage.Coverage(data_file=str(folder / "combined"))
        combined.combine(files, keep=True)
        self._data = combined.get_data()
        # The paths are those of the copy in which it was recorded.
        self._files = {
            Path(PACKAGE, name.rpartition(f"/{PACKAGE}/")[2]): name for name in self._data.measured_files()
        }
        self._durations: dict[str, float] = {}
        for path in folder.glob("durations.*.json"):
            for test, seconds in json.loads(path.read_text()).items():
                self._durations[test] = max(seconds, self._durations.get(test, 0.0))

    def tests_of(self, mutation: MutationSpec) -> list[str]:
        """The tests that run the mutated lines, the quickest first, up to :data:`BUDGET` seconds.

        A line that runs at import only, such as a default, is tested by whatever runs any line of its file.
        """
        file = self._files.get(mutation.module_path)
        by_line = {} if file is None else self._data.contexts_by_lineno(file)
        lines = range(mutation.start_pos[0], mutation.end_pos[0] + 1)
        found = {test for line in lines for test in by_line.get(line, ()) if test}
        found = found or {test for tests in by_line.values() for test in tests if test}
        chosen, spent = [], 0.0
        for test in sorted(found, key=lambda test: (self._durations.get(test, 0.0), test)):
            spent += self._durations.get(test, 0.0)
            if spent > BUDGET:
                break
            chosen.append(test)
        return chosen


def outcome(mutation: MutationSpec, tests: list[str]) -> tuple[str, str]:
    """Whether tests noticed the mutation, and its diff."""
    listed = Path("tests_to_run.txt")
    listed.write_text("\n".join(tests))
    command = f"{sys.executable} -m pytest -x -q -n 0 -p no:cacheprovider @{listed}"
    result = mutate_and_test([mutation], command, TIMEOUT)
    diff = result.diff or ""
    if result.output == "timeout":
        return "timed out", diff
    if result.test_outcome is TestOutcome.KILLED:
        return "caught", diff
    if result.test_outcome is not TestOutcome.SURVIVED:
        raise RuntimeError(f"{mutation} could not be made: {result.output}")
    return "survived", diff


def cover(folder: Path) -> None:
    """Run all tests once, to learn which lines each of them runs."""
    environment = os.environ | {"COVERING": str(folder), "PYTHONPATH": f".:{ROOT / '.ci'}"}
    command = [sys.executable, "-m", "pytest", "-p", "covering", "-q", "-n", "auto", "--dist", "worksteal"]
    subprocess.run([*command, "-m", "not slow", "tests"], env=environment, check=True)


def copy_checkout(to: Path) -> None:
    """Copy what git tracks, with changes that are not committed yet."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def main() -> None:
    """Draw, make and try mutations; print the survivors."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--number", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=Path("build/mutants.jsonl"), help="a line a mutation")
    parser.add_argument("--coverage", type=Path, help="folder that an earlier run has kept, or is to keep")
    options = parser.parse_args()
    out = options.out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    tried = [json.loads(line)["outcome"] for line in out.read_text().splitlines()] if out.exists() else []
    with tempfile.TemporaryDirectory() as temporary, out.open("a") as lines:
        root = Path(temporary, "checkout")
        copy_checkout(root)
        os.chdir(root)
        os.environ |= {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        folder = (options.coverage or Path(temporary, "coverage")).resolve()
        if not folder.exists():
            folder.mkdir(parents=True)
            cover(folder)
        covered = Coverage(folder)
        todo = draw(options.part, options.number, options.seed)
        for index, drawn in list(enumerate(todo, 1))[len(tried) :]:
            begun = time.monotonic()
            tests = covered.tests_of(drawn)
            how, diff = outcome(drawn, tests) if tests else ("never run", str(drawn))
            tried.append(how)
            place = f"{drawn.module_path}:{drawn.start_pos[0]}"
            print(f"{index}/{len(todo)} {how} {place} ({time.monotonic() - begun:.0f} s)", flush=True)
            record = {"outcome": how, "place": place, "tests": len(tests), "diff": diff}
            lines.write(json.dumps(record) + "\n")
            lines.flush()
            if how != "caught":
                print(diff, flush=True)
    caught = tried.count("caught")
    print(f"{caught} of {len(tried)} mutations caught ({caught / max(len(tried), 1):.0%}); diffs: {out}")


if __name__ == "__main__":
    main()
