"""The kernels of norms compile for an H100 without one, spill nothing and load 16 bytes at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "triton_offline.py"


def test_kernels_of_norms_compile_without_a_gpu(tmp_path: Path) -> None:
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, str(SCRIPT), "--filter", "norm ", "--json", str(tmp_path / "found.json")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "found.json").read_text())["kernels"]
    assert {row["kernel"] for row in rows} >= {"norm moments", "norm moments joined", "norm backward"}
    for row in rows:
        assert row["spilled_bytes"] == 0
        if row["kernel"] == "norm moments":
            assert set(row["loads"]) == {"128"}, row
        if row["kernel"] == "norm backward":
            assert row["loads"]["128"] == 8, row
            assert row["stores"]["128"] == 4, row
