"""Time-adaptive spiking neurons, hybrid spike coding and a model zoo for snnTorch."""

__version__ = "0.1.0"

__all__ = ["__version__"]
