"""Time-adaptive spiking neurons, hybrid spike coding and a model zoo for snnTorch."""

from snntorch_asnn import ops, surrogate
from snntorch_asnn.neurons import AdaptiveLeaky, reset

__version__ = "0.1.0"

__all__ = ["AdaptiveLeaky", "__version__", "ops", "reset", "surrogate"]
