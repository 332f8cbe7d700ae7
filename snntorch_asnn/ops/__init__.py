"""Pure functions over whole sequences: state in, state out."""

from snntorch_asnn.ops._adaptive_leaky.api import adaptive_leaky
from snntorch_asnn.ops._packed_spikes.pack import pack_spikes

__all__ = ["adaptive_leaky", "pack_spikes"]
