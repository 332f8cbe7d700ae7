"""A process that dies while it writes a checkpoint leaves the previous one readable."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import snntorch_asnn
from snntorch_asnn.train.files import read_checkpoint

WRITE_FOR_EVER = """
import sys, torch
from pathlib import Path
from snntorch_asnn.train.files import write_checkpoint

file = Path(sys.argv[1])
epoch = 0
while True:
    write_checkpoint(file, {"epoch": epoch, "weights": torch.full((1_000_000,), float(epoch))})
    print(epoch, flush=True)
    epoch += 1
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_the_previous_checkpoint_stays_readable(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    root = Path(snntorch_asnn.__file__).parents[1]
    for delay in (0.0, 0.003, 0.007, 0.013):
        with subprocess.Popen(
            [sys.executable, "-c", WRITE_FOR_EVER, str(file)],
            env=os.environ | {"PYTHONPATH": str(root)},
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(delay)
            process.kill()
            written = process.stdout.read().split()
        checkpoint = read_checkpoint(file)
        assert checkpoint["epoch"] >= int(written[-1] if written else 0)
        assert torch.equal(checkpoint["weights"], torch.full((1_000_000,), float(checkpoint["epoch"])))
