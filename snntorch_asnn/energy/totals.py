"""Sum up the operations of a layer over batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from snntorch_asnn.energy.call_steps import LayerCalls, steps_in
from snntorch_asnn.energy.macs import LayerMacs, macs_by_step
from snntorch_asnn.energy.operations import (
    Activity,
    InputKind,
    Nonbinary,
    OpEnergy,
    StepOperations,
    activity_of,
    step_operations,
)
from snntorch_asnn.energy.recorder import Operand
from snntorch_asnn.energy.report import LayerEnergy

__all__ = ["LayerTotals", "price"]

_LEAST_BINARY_LAST: tuple[InputKind, ...] = ("none", "binary", "integer", "analog")


class LayerTotals:
    """Operations of one layer over all images seen so far.

    Args:
        calls: The layer's calls in its first batch.
        num_steps: Number of steps T.
        batch: Number of images in that batch.
    """

    def __init__(self, calls: LayerCalls, num_steps: int, batch: int) -> None:
        self.layer = LayerMacs(calls.name, calls.kind, macs_by_step(calls, num_steps, batch))
        self.num_steps = num_steps
        self.images = 0
        self.macs = [0.0] * num_steps
        self.acs = [0.0] * num_steps
        self.rates = [0.0] * num_steps
        self.kinds: list[InputKind] = ["none"] * num_steps

    def add(self, calls: LayerCalls, batch: int, nonbinary: Nonbinary) -> None:
        """Add the layer's calls in one batch."""
        self.images += batch
        for step, macs, operands in _by_step(calls, self.num_steps, batch):
            kind, rate, *operations = step_operations(macs, operands, nonbinary)
            self.macs[step] += operations[0]
            self.acs[step] += operations[1]
            self.rates[step] += (rate or 0.0) * batch
            self.kinds[step] = max(self.kinds[step], kind, key=_LEAST_BINARY_LAST.index)

    def close(self, costs: OpEnergy) -> LayerEnergy:
        """Return the mean operations and energy for one image."""
        steps = [
            StepOperations(
                kind=kind,
                rate=rate / self.images if kind in ("binary", "integer") else None,
                macs=macs / self.images,
                acs=acs / self.images,
            )
            for kind, rate, macs, acs in zip(self.kinds, self.rates, self.macs, self.acs, strict=True)
        ]
        return price(self.layer, steps, costs)


def price(layer: LayerMacs, steps: Sequence[StepOperations], costs: OpEnergy) -> LayerEnergy:
    """Return the operations of a layer at each step with their energy."""
    return LayerEnergy(
        name=layer.name,
        kind=layer.kind,
        dense_macs=layer.macs,
        inputs=tuple(step.kind for step in steps),
        rates=tuple(step.rate for step in steps),
        macs=tuple(step.macs for step in steps),
        acs=tuple(step.acs for step in steps),
        pj=tuple(costs.mac * step.macs + costs.ac * step.acs for step in steps),
    )


def _by_step(calls: LayerCalls, num_steps: int, batch: int) -> Iterator[tuple[int, float, list[Activity]]]:
    """Yield each step of the layer, with its multiply-accumulates and the activity of its operands."""
    for timed in calls.calls:
        for step in range(timed.steps):
            operands = [
                _activity_at(operand, step, timed.steps, num_steps, batch) for operand in timed.call.operands
            ]
            yield timed.first + step, timed.call.macs / timed.steps, operands


def _activity_at(operand: Operand, step: int, steps: int, num_steps: int, batch: int) -> Activity:
    assert operand.statistics is not None
    entries = len(operand.statistics.nonzero)
    part = slice(None)
    if steps > 1 and steps_in(operand.lead, num_steps, batch) == steps:
        size = entries // steps
        part = slice(step * size, (step + 1) * size)
    return activity_of(operand.statistics, part)
