"""The former module of :func:`heaviside`, which pickles of neurons without a surrogate gradient refer to."""

from snntorch_asnn.neurons.arguments import heaviside as _heaviside

__all__ = ["_heaviside"]
