"""Pure functions over whole sequences: state in, state out."""

from snntorch_asnn.ops._adaptive_lapicque.api import adaptive_lapicque
from snntorch_asnn.ops._adaptive_leaky.api import adaptive_leaky
from snntorch_asnn.ops._adaptive_rleaky.api import adaptive_rleaky
from snntorch_asnn.ops._adaptive_synaptic.api import adaptive_synaptic
from snntorch_asnn.ops._packed_spikes.pack import pack_spikes

__all__ = ["adaptive_lapicque", "adaptive_leaky", "adaptive_rleaky", "adaptive_synaptic", "pack_spikes"]
