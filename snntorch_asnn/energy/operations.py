"""Multiply-accumulates and accumulates that a layer needs at a step, and their energy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from snntorch_asnn.energy.recorder import OperandStatistics

__all__ = [
    "PRESETS",
    "Activity",
    "InputKind",
    "Nonbinary",
    "OpEnergy",
    "StepOperations",
    "activity_of",
    "op_energy",
    "step_operations",
]

Nonbinary = Literal["mac", "multi_ac"]
InputKind = Literal["binary", "integer", "analog", "none"]
"""Kind of a layer's input at one step; ``"none"`` where the layer does not run."""


class OpEnergy(NamedTuple):
    """Energy of one operation, in picojoules."""

    mac: float
    """Energy of a multiply-accumulate."""
    ac: float
    """Energy of an accumulate, an addition."""


PRESETS: dict[str, OpEnergy] = {
    "45nm-fp32": OpEnergy(4.6, 0.9),
    "45nm-fp16": OpEnergy(1.5, 0.4),
    "45nm-int8": OpEnergy(0.23, 0.03),
}
"""Energy of operations in 45 nm CMOS at 0.9 V, by number format.

Source: Horowitz, Computing's energy problem (and what we can do about it), ISSCC 2014.
"""


class Activity(NamedTuple):
    """Kind and firing rate of an operand at one step."""

    kind: InputKind
    rate: float
    """Spikes per entry: the fraction of nonzero entries or, for integers, the mean magnitude."""


class StepOperations(NamedTuple):
    """Input and operations of one layer at one step."""

    kind: InputKind
    rate: float | None
    """Spikes per entry of the input; None if it is analog or the layer does not run."""
    macs: float
    acs: float


def op_energy(preset: str | OpEnergy | tuple[float, float]) -> OpEnergy:
    """Return the energies for a preset's name or a pair of numbers."""
    if isinstance(preset, str):
        if preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(map(repr, PRESETS))}; got {preset!r}")
        return PRESETS[preset]
    try:
        mac, ac = (float(value) for value in preset)
    except (TypeError, ValueError):
        raise TypeError(
            f"preset must be a name or a pair of numbers (picojoules per MAC and per AC); got {preset!r}"
        ) from None
    if not (0 <= mac < float("inf") and 0 <= ac < float("inf")):
        raise ValueError(f"preset must hold finite numbers that are not negative; got {preset!r}")
    return OpEnergy(mac, ac)


def activity_of(statistics: OperandStatistics, part: slice) -> Activity:
    """Return the activity of one part of an operand.

    Entries are binary if they are 0 or plus or minus one constant, which can be multiplied into the weights.
    """
    size = len(statistics.nonzero[part]) * statistics.size
    largest = float(statistics.largest[part].amax())
    if largest == 0 or float(statistics.smallest[part].amin()) == largest:
        return Activity("binary", float(statistics.nonzero[part].sum()) / size)
    if bool(statistics.whole[part].all()):
        return Activity("integer", float(statistics.total[part].sum()) / size)
    return Activity("analog", 1.0)


def step_operations(macs: float, operands: Sequence[Activity], nonbinary: Nonbinary) -> StepOperations:
    """Return the operations of a product, which needs only additions if an operand is binary.

    If both operands are binary, the one with fewer spikes counts.
    """
    binary = [operand.rate for operand in operands if operand.kind == "binary"]
    integer = [operand.rate for operand in operands if operand.kind == "integer"]
    if binary:
        return StepOperations("binary", min(binary), 0.0, macs * min(binary))
    if integer and nonbinary == "multi_ac":
        return StepOperations("integer", min(integer), 0.0, macs * min(integer))
    if integer:
        return StepOperations("integer", min(integer), macs, 0.0)
    return StepOperations("analog", None, macs, 0.0)
