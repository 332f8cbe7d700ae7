"""Files of one package folder do not import each other in a circle, imports inside of functions included."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import snntorch_asnn

ROOT = Path(snntorch_asnn.__file__).parents[1]
FOLDERS = ["cli", "encoding", "energy", "layers", "neurons", "ops", "spikegen", "train"]


def modules() -> dict[str, Path]:
    """All modules of the package by name."""
    found = {}
    for path in (ROOT / "snntorch_asnn").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of the package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            found |= {name if name in known else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & known.keys()


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_do_not_import_each_other_in_a_circle(folder: str) -> None:
    known = modules()
    graph = {name: imports(path, known) for name, path in known.items()}
    inside = {name for name in known if f"{name}.".startswith(f"snntorch_asnn.{folder}.")}
    assert inside
    try:
        TopologicalSorter({name: graph[name] & inside for name in inside}).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(error.args[1][::-1]))
