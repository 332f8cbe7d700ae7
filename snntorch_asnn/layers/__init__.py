"""Building blocks over time: every tensor is ``[T, B, ...]``, time first."""

from __future__ import annotations

from snntorch_asnn.layers.hybrid_stem import HybridStem
from snntorch_asnn.layers.over_time import OverTime
from snntorch_asnn.layers.readout import MeanReadout, TimeWeightedReadout
from snntorch_asnn.layers.time_folded import TimeFolded, fold_time

__all__ = [
    "HybridStem",
    "MeanReadout",
    "OverTime",
    "TimeFolded",
    "TimeWeightedReadout",
    "fold_time",
]
