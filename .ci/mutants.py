"""Mutation testing: change one operator, number or condition at a time and see whether a test fails.

The script draws mutations at random from the package's Python code and makes each in a copy of the
checkout. It runs the tests that mirror the changed file, and if they pass, the tests of the whole part. A
mutation survives if no test fails. A survivor is either a gap in the tests or a change that no user could
notice: look at each.

Usage: ``make mutants`` or ``python .ci/mutants.py [--number 100] [--seed 0] [--part neurons ...]``. It takes
about half a minute per mutation and needs a checkout whose tests pass. It prints survivors with their diffs;
``--out`` writes the diffs of all mutations.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.plugins import get_operator, operator_names
from cosmic_ray.work_item import MutationSpec, TestOutcome

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "snntorch_asnn"
PARTS = {
    "neurons": (["neurons"], ["tests/neurons"]),
    "ops": (
        ["ops", "surrogate.py"],
        ["tests/ops", "tests/test_surrogate.py", "tests/layers/test_norm_leaky.py"],
    ),
    "codes": (
        ["spikegen", "encoding.py"],
        ["tests/test_spikegen*.py", "tests/test_encoding.py"],
    ),
    "layers": (["layers"], ["tests/layers", "tests/models"]),
    "models": (["models"], ["tests/models"]),
    "energy": (["energy"], ["tests/energy", "tests/test_cli_energy.py"]),
    "early_exit": (["early_exit.py"], ["tests/test_early_exit.py"]),
    "train": (["train"], ["tests/train", "tests/test_cli*.py"]),
}
"""By part: its files, and the tests that are to notice a change in them."""

COMPILED = "snntorch_asnn/ops/*/triton/*kernels.py"
"""Files that Triton compiles, which Python's operators say nothing of."""

TIMEOUT = 900  # seconds, after which a mutation has made something endless, or the machine is busy


class Drawn(NamedTuple):
    """A mutation and the part of the package that it is made in."""

    part: str
    mutation: MutationSpec


def operators() -> list[str]:
    """Every operator except those that change annotations or replace equality with identity."""
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


def draw(parts: Sequence[str], number: int, seed: int) -> list[Drawn]:
    """``number`` mutations, at most one a line, so that long expressions do not weigh more."""
    by_line: dict[tuple[Path, int], list[Drawn]] = {}
    for part in parts:
        for where in PARTS[part][0]:
            root = Path(PACKAGE, where)
            for path in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
                for mutation in [] if path.match(COMPILED) else mutations(path):
                    by_line.setdefault((path, mutation.start_pos[0]), []).append(Drawn(part, mutation))
    chance = random.Random(seed)
    lines = chance.sample(list(by_line.values()), min(number, len(by_line)))
    return [chance.choice(line) for line in lines]


def tests_of(drawn: Drawn) -> list[list[str]]:
    """The tests to run: first the tests most likely to fail, then the other tests that are not slow."""
    path = drawn.mutation.module_path
    near = {str(p) for p in Path("tests").rglob(f"test_*{path.stem.strip('_')}*.py")}
    roots = [p for pattern in PARTS[drawn.part][1] for p in Path().glob(pattern)]
    wide = {str(p) for root in roots for p in (root.rglob("test_*.py") if root.is_dir() else [root])} - near
    return [tests for tests in (sorted(near), ["-m", "not slow", *sorted(wide), str(path)]) if tests]


def outcome(drawn: Drawn) -> tuple[str, str]:
    """Whether tests noticed the mutation, and its diff."""
    diff = ""
    for tests in tests_of(drawn):
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests]
        result = mutate_and_test([drawn.mutation], shlex.join(command), TIMEOUT)
        diff = result.diff or ""
        if result.output == "timeout":
            return "timed out", diff
        if result.test_outcome is TestOutcome.KILLED:
            return "caught", diff
        if result.test_outcome is not TestOutcome.SURVIVED:
            raise RuntimeError(f"{drawn.mutation} could not be made: {result.output}")
    return "survived", diff


def copy_checkout(to: Path) -> None:
    """Copy the files that git tracks, with uncommitted changes."""
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
    options = parser.parse_args()
    out = options.out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as copy, out.open("w") as lines:
        copy_checkout(Path(copy))
        os.chdir(copy)
        os.environ |= {"PYTHONPATH": copy, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        todo = draw(options.part, options.number, options.seed)
        survivors = 0
        for index, drawn in enumerate(todo, 1):
            begun = time.monotonic()
            how, diff = outcome(drawn)
            survivors += how != "caught"
            place = f"{drawn.mutation.module_path}:{drawn.mutation.start_pos[0]}"
            print(f"{index}/{len(todo)} {how} {place} ({time.monotonic() - begun:.0f} s)", flush=True)
            lines.write(json.dumps({"outcome": how, "place": place, "diff": diff}) + "\n")
            lines.flush()
            if how != "caught":
                print(diff, flush=True)
    caught = len(todo) - survivors
    print(f"{caught} of {len(todo)} mutations caught ({caught / max(len(todo), 1):.0%}); all of them: {out}")


if __name__ == "__main__":
    main()
