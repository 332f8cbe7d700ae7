"""Operations and energy of a spiking network: multiply-accumulates, accumulates and their energy."""

from __future__ import annotations

from snntorch_asnn.energy.firing import FiringRates, record_firing_rates
from snntorch_asnn.energy.macs import LayerMacs, MacCount
from snntorch_asnn.energy.operations import PRESETS, OpEnergy
from snntorch_asnn.energy.profiler import count_macs, estimate, profile
from snntorch_asnn.energy.report import EnergyReport, LayerEnergy
from snntorch_asnn.energy.silence import (
    SilentLayersWarning,
    describe_silence,
    silent_layers,
    warn_of_silence,
)

__all__ = [
    "PRESETS",
    "EnergyReport",
    "FiringRates",
    "LayerEnergy",
    "LayerMacs",
    "MacCount",
    "OpEnergy",
    "SilentLayersWarning",
    "count_macs",
    "describe_silence",
    "estimate",
    "profile",
    "record_firing_rates",
    "silent_layers",
    "warn_of_silence",
]
