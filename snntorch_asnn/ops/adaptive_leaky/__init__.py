"""The adaptive leaky integrate-and-fire neuron over a whole sequence."""

from snntorch_asnn.ops.adaptive_leaky.api import adaptive_leaky
from snntorch_asnn.ops.adaptive_leaky.rule import Rule

__all__ = ["Rule", "adaptive_leaky"]
