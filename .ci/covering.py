"""Pytest plugin: record which test runs which line of the package, and how long each test takes.

It writes coverage files and ``durations.*.json`` into the folder that ``COVERING`` names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from coverage import Coverage

FOLDER = Path(os.environ["COVERING"])

# Begun at import, before anything imports the package.
coverage = Coverage(data_file=str(FOLDER / "coverage"), data_suffix=True, source=["snntorch_asnn"])
coverage.set_option("run:disable_warnings", ["no-data-collected"])  # by the controller of workers
coverage.start()
durations: dict[str, float] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Name the test as the context of all lines that run until it ends."""
    coverage.switch_context(item.nodeid)
    try:
        return (yield)
    finally:
        coverage.switch_context("")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up set-up, call and tear-down."""
    durations[report.nodeid] = durations.get(report.nodeid, 0.0) + report.duration


def pytest_sessionfinish() -> None:
    """Write both files, in each process of a parallel run."""
    coverage.stop()
    coverage.save()
    (FOLDER / f"durations.{os.getpid()}.json").write_text(json.dumps(durations))
