"""The tests that are marked for CUDA."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpu_stages.child import Figure, Place, Row

NAME = "pytest -m cuda"
ROOT = Path(__file__).parents[2]
WORKERS = 12
MARKS = ("mark.cuda", "device: str", 'DEVICE = "cuda"')
"""Files without any of these hold nothing for a GPU, and importing all takes long."""
LINES = 12
"""Last lines of a failure that are kept."""


def figures(place: Place) -> Iterator[Figure]:
    yield Figure(NAME, lambda: measured(place))


def measured(place: Place) -> Row:
    import pytest

    found = [path for path in ROOT.glob("tests/**/test_*.py") if any(map(path.read_text().count, MARKS))]
    # Whole networks take longest: they start first.
    files = [str(path) for path in sorted(found, key=lambda path: (path.name != "test_networks.py", path))]
    if place.dry_run:
        files = files[:2]
    workers = max(1, min(WORKERS, (os.cpu_count() or 1) - 2))
    # Plugins that a machine happens to have may warn, and a warning is an error here.
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.chdir(ROOT)
    recorder = Recorder(place)
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "3"
    options = ["-q", "-m", "cuda", "-p", "no:cacheprovider", "--tb=short", "-W", "default"]
    options += ["-k", "not without_a_gpu"]
    # One test at a time for each, since some take a hundred times as long as others.
    spread = ["-p", "xdist", "-n", str(workers), "--dist", "load", "--maxschedchunk", "1"]
    spread = [] if place.dry_run else spread
    status = pytest.main([*options, *spread, *files], plugins=[recorder])
    return recorder.summary() | {"files": len(files), "workers": workers, "status": int(status)}


class Recorder:
    """A plugin of pytest that hands on counts and failures as they come."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.counts: Counter[str] = Counter()
        self.times: list[tuple[float, str]] = []
        self.start = self.told = time.perf_counter()

    def summary(self) -> Row:
        """Replace the earlier counts with the counts so far."""
        return {
            "name": NAME,
            "updates": True,
            "seconds": round(time.perf_counter() - self.start, 1),
            "passed": self.counts["passed"],
            "failed_tests": self.counts["failed"],
            "errors": self.counts["error"],
            "skipped": self.counts["skipped"],
            "slowest": [f"{seconds:.1f} s {name}" for seconds, name in sorted(self.times, reverse=True)[:8]],
        }

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.times.append((report.duration, f"{report.nodeid} ({report.when})"))
        if time.perf_counter() - self.told > 1:
            self.place.tell(self.summary())
            self.told = time.perf_counter()
        if report.failed:
            self.counts["failed" if report.when == "call" else "error"] += 1
            lines = str(report.longreprtext).splitlines()[-LINES:]
            self.place.tell({"name": report.nodeid, "failed": "\n".join(lines)})
        elif report.skipped:
            self.counts["skipped"] += 1
        elif report.when == "call":
            self.counts["passed"] += 1

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.counts["error"] += 1
            lines = str(report.longreprtext).splitlines()[-LINES:]
            self.place.tell({"name": report.nodeid, "failed": "\n".join(lines)})
