"""Times of runs that are compared with each other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

__all__ = ["Run", "in_turns", "seconds", "synchronise", "times_faster"]

Run = Callable[[], Any]


def synchronise(device: str) -> None:
    """Wait for a GPU; elsewhere nothing is in flight."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def seconds(run: Run, device: str) -> float:
    """How long one run takes, from an idle device to an idle one."""
    synchronise(device)
    start = time.perf_counter()
    run()
    synchronise(device)
    return time.perf_counter() - start


def in_turns(runs: Mapping[str, Run], rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of each contender, all of them once in every round, so that a drift of the machine hits all."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds(run, device))
    return times


def times_faster(baseline: list[float], own: list[float]) -> float:
    """Median over the rounds of the ratio within a round."""
    return statistics.median(slow / fast for slow, fast in zip(baseline, own, strict=True))
