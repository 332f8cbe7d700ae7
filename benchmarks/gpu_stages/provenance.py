"""Describe machine, versions and command of a measurement, without a CUDA context in the calling process."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "triton", "snntorch", "snntorch-asnn", "spikingjelly", "numpy", "pytest")


def about(options: argparse.Namespace) -> dict[str, Any]:
    card, driver, memory = _card()
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "dry_run": options.dry_run,
        "card": card,
        "driver": driver,
        "memory": memory,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "commit": options.commit or _commit(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
    }


def card_slug() -> str:
    return re.sub(r"[^a-z0-9]+", "_", (_card()[0] or "none").lower()).strip("_")


def _card() -> tuple[str | None, str | None, str | None]:
    fields = "name,driver_version,memory.total"
    said = _output("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader")
    if said is None or said.count(",") < 2:
        return None, None, None
    name, driver, memory = (part.strip() for part in said.splitlines()[0].split(",")[:3])
    return name, driver, memory


def _commit() -> str | None:
    return _output("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12")


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _version(package: str) -> str | None:
    # From the children's path: --wheels installs for them, not for this process.
    for folder in [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), None]:
        places = {} if folder is None else {"path": [folder]}
        for found in importlib.metadata.distributions(name=package, **places):
            return found.version
    return None
