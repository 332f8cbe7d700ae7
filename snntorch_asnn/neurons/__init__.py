"""Spiking neurons in snnTorch's signatures whose parameters change with the time step."""

from snntorch_asnn.neurons.adapt import adapt, describe, freeze
from snntorch_asnn.neurons.lapicque import AdaptiveLapicque
from snntorch_asnn.neurons.leaky import AdaptiveLeaky
from snntorch_asnn.neurons.optim import optim_groups
from snntorch_asnn.neurons.reset import reset
from snntorch_asnn.neurons.rleaky import AdaptiveRLeaky
from snntorch_asnn.neurons.synaptic import AdaptiveSynaptic

__all__ = [
    "AdaptiveLapicque",
    "AdaptiveLeaky",
    "AdaptiveRLeaky",
    "AdaptiveSynaptic",
    "adapt",
    "describe",
    "freeze",
    "optim_groups",
    "reset",
]
