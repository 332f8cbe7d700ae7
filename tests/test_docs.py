"""The pages of the documentation, and the README: their code runs, and their tables are up to date."""

from __future__ import annotations

import doctest
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from snntorch_asnn.models import registry

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NEEDS = {"training": ["sklearn", "lightning_fabric", "matplotlib"], "models": ["safetensors"]}

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="needs a checkout")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda page: page.stem)
def test_code_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in NEEDS.get(page.stem, []):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_BUILDERS", dict(registry._BUILDERS))  # a page registers a model
    names: dict[str, Any] = {"__name__": page.stem}
    for number, block in enumerate(blocks(page, "python"), 1):
        exec(compile(block, f"{page.name}, block {number}", "exec"), names)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "pycon")], ids=lambda page: page.stem)
def test_examples_print_what_they_show(page: Path) -> None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testfile(str(page), module_relative=False, optionflags=flags)
    assert result.attempted
    assert result.failed == 0


def test_tables_of_the_readme_are_those_of_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("scipy")
    if not (ROOT / "benchmarks").is_dir():
        pytest.skip("needs a checkout")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "accuracy"))
    try:
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        assert import_module("readme").filled(text) == text, "run: python benchmarks/readme.py"
    finally:
        for name in ("readme", "report", "paired", "changes", "tables", "cell", "data"):
            sys.modules.pop(name, None)
