"""Helpers of the benchmarks: peak memory, and a description of the machine."""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

from snntorch_asnn._timing import Run

PEERS = ("torch", "snntorch", "snntorch-asnn", "spikingjelly", "triton")


def peak_bytes(run: Run, device: str) -> int:
    """Peak bytes of tensors that ``run`` allocates, in addition to the tensors that existed before."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        run()
    live = peak = 0
    events = profiler.profiler.kineto_results.events()
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def machine(device: str, threads: int) -> dict[str, Any]:
    """Describe the machine and the versions of a measurement."""
    return {
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", *sys.argv]),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "malloc": {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")},
        "python": platform.python_version(),
        **{name: version for name in PEERS if (version := _version(name))},
    }


def has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def write_json(path: Path | None, content: dict[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        if models:
            return models[0].partition(":")[2].strip()
    return platform.processor() or "CPU"


def _version(package: str) -> str | None:
    if package == "torch":
        return torch.__version__
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
