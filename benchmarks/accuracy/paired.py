"""Means of runs, and differences between runs with the same seed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Mean:
    """Mean and standard deviation of ``count`` values; the deviation is None for a single value."""

    mean: float
    deviation: float | None
    count: int

    def __str__(self) -> str:
        spread = "" if self.deviation is None else f" ± {self.deviation:.2f}"
        return f"{self.mean:.2f}{spread}"


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences, with its 95 % t interval."""

    mean: float
    low: float | None
    high: float | None
    count: int

    @property
    def sign(self) -> int:
        """1 or -1 if the whole interval is above or below 0, else 0."""
        if self.low is None or self.high is None:
            return 0
        return (self.low > 0) - (self.high < 0)

    def __str__(self) -> str:
        if self.low is None:
            return f"{self.mean:+.2f}"
        text = f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"
        return f"**{text}**" if self.sign else text


def mean(values: Mapping[int, float]) -> Mean:
    """Mean of values by seed."""
    found = list(values.values())
    deviation = statistics.stdev(found) if len(found) > 1 else None
    return Mean(statistics.fmean(found), deviation, len(found))


def difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> Difference | None:
    """Paired difference over the seeds that both have; None if they share no seed."""
    pairs = [values[seed] - baseline[seed] for seed in sorted(values.keys() & baseline.keys())]
    if not pairs:
        return None
    centre = statistics.fmean(pairs)
    if len(pairs) == 1:
        return Difference(centre, None, None, 1)
    half = _t_975(len(pairs) - 1) * statistics.stdev(pairs) / len(pairs) ** 0.5
    return Difference(centre, centre - half, centre + half, len(pairs))


def _t_975(degrees: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, degrees))
