"""The table of models in the documentation."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"

pytest.importorskip("sphinx")
pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="needs a checkout")


@pytest.fixture
def model_table(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    yield pytest.importorskip("model_table")
    sys.modules.pop("model_table")


def test_counts_parameters_and_multiply_accumulates(model_table):
    """Stem, blocks and head as published; attention in the order that is linear in tokens."""
    row = model_table.describe("spikformer_4_384")
    attention = 2 * 64 * 32 * 32 * 12
    assert row.macs == 468_467_712 + 4 * (113_246_208 + attention) + 3840
    assert (row.parameters, row.images, row.num_classes) == (9_324_730, (3, 32, 32), 10)


def test_names_sources(model_table):
    row = model_table.describe("spikformer_tiny")
    assert row.summary == "Spikformer with one block at width 64, for tests and tutorials."
    assert model_table.source(row.family).endswith("ICLR 2023.")


def test_lists_every_model(model_table, monkeypatch):
    names = ["lenet", "qkformer_tiny", "spikformer_tiny", "spikformer_dvs_tiny"]
    monkeypatch.setattr(model_table, "list_models", lambda: names)
    table = model_table.table()
    assert all(f"| `{name}` |" in table for name in names)
    assert table.count("| name |") == 3
