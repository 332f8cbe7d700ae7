"""Readouts of the model zoo, by name."""

from __future__ import annotations

from snntorch_asnn._arguments import did_you_mean
from snntorch_asnn.layers import MeanReadout, TimeWeightedReadout

__all__ = ["READOUTS", "ReadoutLike", "build_readout"]

ReadoutLike = str | MeanReadout

READOUTS: dict[str, type[MeanReadout]] = {
    "time_weighted": TimeWeightedReadout,
    "mean": MeanReadout,
}


def build_readout(readout: ReadoutLike, num_steps: int) -> MeanReadout:
    """Return the readout of this name, or the given one if it fits ``num_steps``."""
    if isinstance(readout, MeanReadout):
        if readout.num_steps != num_steps:
            raise ValueError(f"readout must have num_steps={num_steps}; got num_steps={readout.num_steps}")
        return readout
    if not isinstance(readout, str):
        raise TypeError(f"readout must be a name or a MeanReadout; got {type(readout).__name__}")
    if readout not in READOUTS:
        names = ", ".join(map(repr, READOUTS))
        hint = did_you_mean(readout, READOUTS)
        raise ValueError(f"readout must be one of {names}; got {readout!r}{hint}")
    return READOUTS[readout](num_steps)
