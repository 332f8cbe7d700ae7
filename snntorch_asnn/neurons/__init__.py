"""Spiking neurons in snnTorch's signatures whose parameters change with the time step."""

from snntorch_asnn.neurons.leaky import AdaptiveLeaky
from snntorch_asnn.neurons.reset import reset

__all__ = ["AdaptiveLeaky", "reset"]
