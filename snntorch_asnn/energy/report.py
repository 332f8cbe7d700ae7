"""Result of a profile or an estimate."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from snntorch_asnn.energy.macs import Attention, ann_macs
from snntorch_asnn.energy.operations import InputKind, Nonbinary, OpEnergy
from snntorch_asnn.energy.silence import describe_silence, silent_layers
from snntorch_asnn.energy.text import joules, number, table

__all__ = ["EnergyReport", "LayerEnergy"]

_LONG = 8
"""Longer sequences are shown as the mean over their steps."""

_ORDERS = {
    "as_run": "in the order that each layer runs",
    "qk_first": "as (Q Kᵀ) V",
    "kv_first": "as Q (Kᵀ V)",
}


@dataclass(frozen=True)
class LayerEnergy:
    """Operations of one layer at each time step, for one image.

    Every tuple has one entry per time step.
    """

    name: str
    """Name of the module, with ``.product1`` and so on for products of activations."""
    kind: str
    """``"conv2d"``, ``"linear"``, ``"product"`` and so on."""
    dense_macs: tuple[int, ...]
    """Multiply-accumulates for analog input; 0 where the layer does not run."""
    inputs: tuple[InputKind, ...]
    """Kind of the input: ``"binary"``, ``"integer"``, ``"analog"``, or ``"none"`` if the layer is skipped."""
    rates: tuple[float | None, ...]
    """Firing rate of the input, in spikes per entry; None if it is analog or the layer does not run."""
    macs: tuple[float, ...]
    """Operations counted as multiply-accumulates."""
    acs: tuple[float, ...]
    """Operations counted as accumulates."""
    pj: tuple[float, ...]
    """Energy in picojoules."""


@dataclass(frozen=True)
class EnergyReport:
    """Operations and energy of a network, for one image.

    ``str(report)`` is a table, and :meth:`to_dict` returns plain values for JSON.
    """

    layers: tuple[LayerEnergy, ...]
    num_steps: int
    preset: str
    op_energy: OpEnergy
    nonbinary: Nonbinary | None
    """How integers were counted; None if the rates were given."""
    attention: Attention
    """Order in which spiking attention was multiplied."""
    images: int | None = None
    """Number of images over which the rates are means; None if the rates were given."""
    firing_rates: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Spikes per neuron at each step, for every layer of snnTorch neurons."""

    @property
    def silent_layers(self) -> tuple[str, ...]:
        """Layers of neurons that never fired."""
        return silent_layers(self.firing_rates)

    @property
    def macs(self) -> float:
        """Operations counted as multiply-accumulates."""
        return sum(sum(layer.macs) for layer in self.layers)

    @property
    def acs(self) -> float:
        """Operations counted as accumulates."""
        return sum(sum(layer.acs) for layer in self.layers)

    @property
    def mj(self) -> float:
        """Energy in millijoules."""
        return sum(sum(layer.pj) for layer in self.layers) * 1e-9

    @property
    def mj_by_step(self) -> tuple[float, ...]:
        """Energy of each time step in millijoules."""
        return tuple(sum(layer.pj[t] for layer in self.layers) * 1e-9 for t in range(self.num_steps))

    @property
    def ann_macs(self) -> int:
        """Multiply-accumulates of the same network without time or spikes, in which every layer runs once."""
        return ann_macs([layer.dense_macs for layer in self.layers])

    @property
    def ann_mj(self) -> float:
        """Energy of the same network without time or spikes, in millijoules."""
        return self.ann_macs * self.op_energy.mac * 1e-9

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, with the totals."""
        totals = {
            "macs": self.macs,
            "acs": self.acs,
            "mj": self.mj,
            "mj_by_step": list(self.mj_by_step),
            "ann_macs": self.ann_macs,
            "ann_mj": self.ann_mj,
            "silent_layers": list(self.silent_layers),
        }
        plain = dataclasses.asdict(self)
        plain["op_energy"] = {"mac_pj": self.op_energy.mac, "ac_pj": self.op_energy.ac}
        layers = [{k: list(v) if isinstance(v, tuple) else v for k, v in x.items()} for x in plain["layers"]]
        rates = {name: list(values) for name, values in self.firing_rates.items()}
        return totals | plain | {"layers": layers, "firing_rates": rates}

    def __str__(self) -> str:
        """Return a table, with its conventions above and a comparison below."""
        silence = describe_silence(self.firing_rates)
        warning = [] if silence is None else [f"Warning: {silence}."]
        return "\n\n".join([self._about(), self._table(), *warning, self._against_ann()])

    def _about(self) -> str:
        over = "given rates" if self.images is None else f"mean over {self.images:,} images"
        integers = {"mac": ", integers as MACs", "multi_ac": ", an integer n as n ACs", None: ""}
        lines = [
            f"One image, T = {self.num_steps} steps, {over}; {self.preset}:"
            f" {self.op_energy.mac:g} pJ per MAC, {self.op_energy.ac:g} pJ per AC.",
            f"Binary input counts as ACs at its rate{integers[self.nonbinary]}, analog input as MACs.",
        ]
        if any(layer.kind == "product" for layer in self.layers):
            lines.append(f"Spiking attention is computed {_ORDERS[self.attention]}.")
        return "\n".join(lines)

    def _table(self) -> str:
        rows = [
            (
                layer.name,
                layer.kind,
                number(max(layer.dense_macs)),
                _rates(layer),
                number(sum(layer.macs)),
                number(sum(layer.acs)),
                joules(sum(layer.pj)),
            )
            for layer in self.layers
        ]
        rows.append(("total", "", "", "", number(self.macs), number(self.acs), joules(self.mj * 1e9)))
        return table(["layer", "kind", "MACs/step", "input by step", "MACs", "ACs", "energy"], rows)

    def _against_ann(self) -> str:
        ann = f"{number(self.ann_macs)} MACs, {joules(self.ann_mj * 1e9)}"
        share = f" This network needs {self.mj / self.ann_mj:.1%} of that energy." if self.ann_mj else ""
        return f"The same network without time or spikes: {ann}.{share}"


def _rates(layer: LayerEnergy) -> str:
    """Format the input's firing rates, ``"analog 0.120 0.104"``; for many steps, the mean of each kind."""
    if len(layer.rates) <= _LONG:
        cells = [_rate(kind, rate) for kind, rate in zip(layer.inputs, layer.rates, strict=True)]
        return cells[0] if len(set(cells)) == 1 else " ".join(cells)
    parts = []
    for kind in dict.fromkeys(layer.inputs):
        rates = [rate for k, rate in zip(layer.inputs, layer.rates, strict=True) if k == kind]
        known = [rate for rate in rates if rate is not None]
        mean = _rate(kind, sum(known) / len(known) if known else None)
        parts.append(f"{len(rates)}×{mean}")
    return " ".join(parts)


def _rate(kind: InputKind, rate: float | None) -> str:
    if kind == "none":
        return "-"
    text = "analog" if rate is None else f"{rate:.3f}"
    return f"int:{text}" if kind == "integer" else text
