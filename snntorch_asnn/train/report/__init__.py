"""One page on a run: ``report.html`` in its folder."""

from __future__ import annotations

from snntorch_asnn.train.report.page import ENERGY_IMAGES, write_energy, write_report

__all__ = ["ENERGY_IMAGES", "write_energy", "write_report"]
