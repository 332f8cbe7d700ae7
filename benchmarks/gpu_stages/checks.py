"""The tests that are marked for CUDA."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpu_stages.child import Figure, Place, Row

ROOT = Path(__file__).parents[2]
WORKERS = 8
LINES = 12
"""Last lines of a failure that are kept."""


def figures(place: Place) -> Iterator[Figure]:
    yield Figure("pytest -m cuda", lambda: measured(place))


def measured(place: Place) -> Row:
    import pytest

    files = sorted(
        str(path)
        for path in ROOT.glob("tests/**/test_*.py")
        if path.parent.name == "cuda" or "mark.cuda" in path.read_text()
    )
    if place.dry_run:
        files = files[:2]
    workers = min(WORKERS, os.cpu_count() or 1)
    # Plugins that a machine happens to have may warn, and a warning is an error here.
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.chdir(ROOT)
    recorder = Recorder(place)
    options = ["-q", "-m", "cuda", "-p", "no:cacheprovider", "--tb=short", "-W", "default"]
    spread = [] if place.dry_run else ["-p", "xdist", "-n", str(workers), "--dist", "worksteal"]
    start = time.perf_counter()
    status = pytest.main([*options, *spread, *files], plugins=[recorder])
    return {
        "files": len(files),
        "workers": workers,
        "status": int(status),
        "seconds": round(time.perf_counter() - start, 1),
        "passed": recorder.counts["passed"],
        "failed_tests": recorder.counts["failed"],
        "errors": recorder.counts["error"],
        "skipped": recorder.counts["skipped"],
        "slowest": [f"{seconds:.1f} s {name}" for seconds, name in sorted(recorder.times, reverse=True)[:8]],
    }


class Recorder:
    """A plugin of pytest that hands on each failure as it comes."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.counts: Counter[str] = Counter()
        self.times: list[tuple[float, str]] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call":
            self.times.append((report.duration, report.nodeid))
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
