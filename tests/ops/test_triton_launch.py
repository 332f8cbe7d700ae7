"""A prepared launch gives a kernel what Triton's own launch would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

triton = pytest.importorskip("triton")

from snntorch_asnn.ops._adaptive_leaky.triton.operators import Launch  # noqa: E402
from snntorch_asnn.ops._triton.launch import Prepared  # noqa: E402


class Kernel:
    """A kernel that counts the launches that Triton binds, and those that are bound already."""

    arg_names = ("x", "y", "n", "BLOCK")

    def __init__(self) -> None:
        self.bound: list[tuple[Any, ...]] = []
        self.prepared: list[tuple[Any, ...]] = []

    def __getitem__(self, grid: Any) -> Any:
        def launch(*arguments: Any, **constants: Any) -> Compiled:
            self.bound.append((grid, *arguments, constants))
            return Compiled(self)

        return launch


class Compiled:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def __getitem__(self, grid: Any) -> Any:
        return lambda *arguments: self.kernel.prepared.append((grid, *arguments))


def test_only_the_first_launch_on_aligned_tensors_is_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton.compiler, "CompiledKernel", Compiled)
    kernel = Kernel()
    launch = Prepared(kernel, Launch((7,), (5,), {"BLOCK": 32, "num_warps": 4}))
    x, y = torch.zeros(16), torch.zeros(16)
    launch(x, y)
    launch(x, y)
    launch(x[1:], y)
    assert [given[0] for given in kernel.bound] == [(7,), (7,)]
    assert kernel.bound[0][3:] == (5, {"BLOCK": 32, "num_warps": 4})
    assert len(kernel.prepared) == 1
    grid, first, second, *rest = kernel.prepared[0]
    assert grid == (7, 1, 1)
    assert first is x
    assert second is y
    assert rest == [5, 32]


def test_prepared_launches_are_those_of_triton(tmp_path: Path) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    script = Path(__file__).with_name("launch_without_a_gpu.py")
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    launches = json.loads(done.stdout)
    assert [name for name, *_ in launches] == ["forward_kernel", "backward_kernel"] * 2
    assert launches[2:] == launches[:2]
