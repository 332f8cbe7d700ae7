"""Measure device time without host time."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

from snntorch_asnn._timing import Run, in_turns, synchronise

CYCLES = 2e9
"""Cycles of a GPU in a second, at most."""


def device_ms(run: Run, device: str, rounds: int = 5, least_s: float = 0.03) -> dict[str, Any]:
    """Median milliseconds of a run on the device.

    On a GPU, a kernel that only waits holds the queue up while the host fills it, so that events around the
    runs see no gaps, however slow the host is. ``host_ms`` is how long the host takes to queue one.
    """
    run()
    run()
    if not device.startswith("cuda"):
        times = in_turns({"": run}, rounds, device)[""]
        return _summary([1e3 * second for second in times])
    synchronise(device)
    start = time.perf_counter()
    run()
    host = time.perf_counter() - start
    synchronise(device)
    whole = time.perf_counter() - start
    count = max(2, min(50, round(least_s / whole)))
    times = []
    for _ in range(rounds):
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(int(CYCLES * (1.5 * host * count + 1e-3)))
        before.record()
        start = time.perf_counter()
        for _ in range(count):
            run()
        host = (time.perf_counter() - start) / count
        after.record()
        synchronise(device)
        times.append(before.elapsed_time(after) / count)
    return _summary(times) | {"host_ms": round(1e3 * host, 4)}


def _summary(times: list[float]) -> dict[str, Any]:
    return {"ms": statistics.median(times), "ms_low": min(times), "ms_high": max(times)}
