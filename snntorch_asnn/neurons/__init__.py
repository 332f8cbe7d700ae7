"""Spiking neurons in snnTorch's signatures whose parameters change with the time step."""

from snntorch_asnn.neurons._adapt import Sharing, adapt
from snntorch_asnn.neurons._describe import Description, LeaksAtBounds, describe, leaks_at_bounds
from snntorch_asnn.neurons._reset import reset
from snntorch_asnn.neurons._to_snntorch import freeze, to_snntorch
from snntorch_asnn.neurons.lapicque import AdaptiveLapicque
from snntorch_asnn.neurons.leaky import AdaptiveLeaky
from snntorch_asnn.neurons.optim import optim_groups
from snntorch_asnn.neurons.rleaky import AdaptiveRLeaky
from snntorch_asnn.neurons.synaptic import AdaptiveSynaptic

__all__ = [
    "AdaptiveLapicque",
    "AdaptiveLeaky",
    "AdaptiveRLeaky",
    "AdaptiveSynaptic",
    "Description",
    "LeaksAtBounds",
    "Sharing",
    "adapt",
    "describe",
    "freeze",
    "leaks_at_bounds",
    "optim_groups",
    "reset",
    "to_snntorch",
]
