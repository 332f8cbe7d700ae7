"""Count the multiply-accumulates of each layer and time step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from snntorch_asnn.energy.call_steps import LayerCalls
from snntorch_asnn.energy.text import number, steps_as_text, table

__all__ = ["Attention", "LayerMacs", "MacCount", "ann_macs", "macs_by_step"]

Attention = Literal["as_run", "qk_first", "kv_first"]
"""Order of the products of spiking attention."""


@dataclass(frozen=True)
class LayerMacs:
    """Multiply-accumulates of one layer, for one image."""

    name: str
    """Name of the module, with ``.product1`` and so on for products of activations."""
    kind: str
    """``"conv2d"``, ``"linear"``, ``"product"`` and so on."""
    macs: tuple[int, ...]
    """Multiply-accumulates at each time step; 0 where the layer does not run."""


@dataclass(frozen=True)
class MacCount:
    """Multiply-accumulates of a network, for one image; see :func:`~snntorch_asnn.energy.count_macs`."""

    layers: tuple[LayerMacs, ...]
    num_steps: int
    attention: Attention = "as_run"
    """Order in which spiking attention was multiplied."""

    @property
    def per_step(self) -> tuple[int, ...]:
        """Multiply-accumulates of all layers at each time step."""
        return tuple(sum(layer.macs[t] for layer in self.layers) for t in range(self.num_steps))

    @property
    def ann(self) -> int:
        """Multiply-accumulates of the same network without time, in which every layer runs once."""
        return ann_macs([layer.macs for layer in self.layers])

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, with the totals."""
        layers = [{"name": x.name, "kind": x.kind, "macs": list(x.macs)} for x in self.layers]
        totals = {"per_step": list(self.per_step), "ann": self.ann}
        return totals | {"num_steps": self.num_steps, "attention": self.attention, "layers": layers}

    def __str__(self) -> str:
        """Return a table."""
        rows = []
        for layer in self.layers:
            counts = number(max(layer.macs)), number(sum(layer.macs))
            rows.append((layer.name, layer.kind, steps_as_text(layer.macs), *counts))
        rows.append(("total", "", "", number(max(self.per_step)), number(sum(self.per_step))))
        return table(["layer", "kind", "steps", "MACs/step", "MACs"], rows)


def macs_by_step(layer: LayerCalls, num_steps: int, batch: int) -> tuple[int, ...]:
    """Multiply-accumulates of a layer at each step, for one image."""
    macs = [0] * num_steps
    for timed in layer.calls:
        for step in range(timed.first, timed.first + timed.steps):
            macs[step] += timed.call.macs // (timed.steps * batch)
    return tuple(macs)


def ann_macs(layers: Sequence[Sequence[int]]) -> int:
    """Multiply-accumulates of the same network without time, in which every layer runs once.

    Layers of equal size that share the steps, such as the two copies of a hybrid-coded first layer, count as
    one layer.
    """
    num_steps = max(map(len, layers), default=1)
    steps: Counter[int] = Counter()
    for layer in layers:
        steps[max(layer)] += sum(macs > 0 for macs in layer)
    return sum(macs * -(-count // num_steps) for macs, count in steps.items())
