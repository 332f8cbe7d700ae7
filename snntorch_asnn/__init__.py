"""Time-adaptive spiking neurons, hybrid spike coding and a model zoo for snnTorch."""

from snntorch_asnn import encoding, energy, layers, models, nir, ops, plot, spikegen, surrogate
from snntorch_asnn.early_exit import anytime
from snntorch_asnn.layers import NormLeaky, TimeWeightedReadout
from snntorch_asnn.neurons import (
    AdaptiveLapicque,
    AdaptiveLeaky,
    AdaptiveRLeaky,
    AdaptiveSynaptic,
    adapt,
    describe,
    freeze,
    optim_groups,
    reset,
    to_snntorch,
)
from snntorch_asnn.ops import pack_spikes

__version__ = "0.1.0"

__all__ = [
    "AdaptiveLapicque",
    "AdaptiveLeaky",
    "AdaptiveRLeaky",
    "AdaptiveSynaptic",
    "NormLeaky",
    "TimeWeightedReadout",
    "__version__",
    "adapt",
    "anytime",
    "describe",
    "encoding",
    "energy",
    "freeze",
    "layers",
    "models",
    "nir",
    "ops",
    "optim_groups",
    "pack_spikes",
    "plot",
    "reset",
    "spikegen",
    "surrogate",
    "to_snntorch",
]
