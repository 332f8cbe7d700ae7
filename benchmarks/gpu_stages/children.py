"""Start and supervise the process of a stage."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gpu_stages.plan import Stage

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.py"
LOG = 4_000
"""Number of last characters of a stage's output that are kept if it fails."""
POISONED = 70
"""Status of a stage that asks to be started anew, because a fault of the GPU has spoilt its process."""


class Child:
    """Follows a stage; starts it anew, without the figure at fault, if it dies or takes too long over one.

    The process imports what it needs and then waits until it is released.
    """

    def __init__(self, stage: Stage, options: argparse.Namespace) -> None:
        self.stage, self.options = stage, options
        self.kept: dict[str, Any] = {"status": "waiting", "rows": []}
        self.is_done = False
        self._done: list[str] = []
        self._starts = 0
        self.begin = self.end = time.monotonic()
        self._start()

    def release(self, limit: float) -> None:
        """Let the stage begin, and give it so many seconds."""
        self.kept["status"] = "running"
        self.begin = time.monotonic()
        self.end = self.begin + limit
        self._go()

    def follow(self) -> bool:
        """Take in new figures; say whether there is anything to write down."""
        changed = self._read()
        now = time.monotonic()
        status = self._process.poll()
        if status is not None:
            changed = self._read() or changed
            if status == 0:
                self._finish("done")
            else:
                self._died(f"the process ended with status {status}", status)
            return True
        if now > self.end:
            self.stop(f"stopped at its limit of {self.end - self.begin:.0f} s")
            return True
        if self._current and now - self._since > self.stage.patience:
            self.kill()
            self._died(f"no figure within {self.stage.patience} s", None)
            return True
        return changed

    def stop(self, why: str) -> None:
        self.kill()
        self._read()
        if self._current:
            self.kept["rows"].append({"name": self._current, "failed": why})
        self._finish(why)

    def _start(self) -> None:
        self._starts += 1
        self._rows = Path(self.options.scratch) / f"{self.stage.name}_{self._starts}.jsonl"
        self._log = self._rows.with_suffix(".log")
        self._rows.touch()
        self._stream = self._rows.open()
        self._partial, self._current, self._since = "", None, time.monotonic()
        command = [sys.executable, str(SCRIPT), "--child", self.stage.name, "--rows", str(self._rows)]
        command += ["--skip", json.dumps(self._done)]
        command += ["--dry-run"] if self.options.dry_run else []
        command += ["--data", str(self.options.data)] if self.options.data else []
        # This checkout's package, installed or not. In miniature, threads only wait for each other.
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = {"PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"}
        environment |= {"OMP_NUM_THREADS": "1"} if self.options.dry_run else {}
        environment |= {"TORCHINDUCTOR_COMPILE_THREADS": "4"} if self.stage.beside else {}
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.PIPE,
                text=True,
                start_new_session=True,
                env=os.environ | environment,
            )

    def _go(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died: follow() will see that
            self._process.stdin.write(f"{self.end - time.monotonic():.1f}\n")
            self._process.stdin.close()
        self._since = time.monotonic()

    def _read(self) -> bool:
        *lines, self._partial = (self._partial + self._stream.read()).split("\n")
        for line in lines:
            row = json.loads(line)
            if "starts" in row:
                self._current, self._since = row["starts"], time.monotonic()
            elif "ends" in row:
                self._done.append(row["ends"])
                self._current = None
            else:
                self._keep(row)
        return bool(lines)

    def _keep(self, row: dict[str, Any]) -> None:
        rows = self.kept["rows"]
        if row.pop("updates", False):
            rows[:] = [other for other in rows if other["name"] != row["name"]]
        rows.append(row)

    def _died(self, why: str, status: int | None) -> None:
        if self._current:
            if status != POISONED:
                self.kept["rows"].append({"name": self._current, "failed": why, "log": self._log_tail()})
            self._done.append(self._current)
            if self.end - time.monotonic() > 10:
                self._close()
                self._start()
                return self._go()
        self.kept["log"] = self._log_tail()
        return self._finish(why)

    def _finish(self, status: str) -> None:
        self._close()
        self.kept["status"] = status
        self.kept["seconds"] = round(time.monotonic() - self.begin, 1)
        self.is_done = True
        failed = sum("failed" in row for row in self.kept["rows"])
        print(
            f"   {self.stage.name}: {status}, {self.kept['seconds']:.0f} s, {len(self.kept['rows'])} rows"
            + (f", {failed} of them failed" if failed else ""),
            flush=True,
        )

    def _close(self) -> None:
        self._stream.close()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def kill(self) -> None:
        """End the process and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-LOG:]
