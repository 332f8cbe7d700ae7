r"""Spike codes: pure functions from pixels to spikes, time first.

Every code takes ``data`` :math:`p \in [0, 1]` of any shape and floating dtype and returns
``[num_steps, *data.shape]`` in the same dtype on the same device. Below, :math:`H(x)` is 1
where :math:`x \ge 0` and 0 elsewhere, and steps count from 0. With ``levels="uniform"`` the
levels of ``n`` bins are :math:`\theta_i = 1 - i/n`, with ``"quantile"`` those of
:func:`quantile_levels`; a tensor holds ``n - 1`` levels of your own, strictly decreasing.

Shared behaviour:

- Spikes are comparisons and pass no gradient; an analog step passes it to ``data`` unchanged.
- Comparisons run in float32 (float64 for float64 data), whatever the dtype of the data.
- Spikes are made of pixels in [0, 1]. Analog steps show any finite value; ``analog`` gives them
  another image than ``data``, such as ``data`` normalised.
- ``check=True`` reads the values of tensors on the CPU, and raises ValueError outside these ranges
  or for NaN. ``check=False`` treats values below 0 and NaN as 0 and values above 1 as 1 in spikes,
  and shows them as they are in analog steps; tensors elsewhere and ``torch.compile`` imply it, and
  ``torch.func.vmap`` needs it.
- Wrong types raise TypeError, wrong values ValueError, each naming the argument.
"""

from snntorch_asnn.spikegen._bits import binary_temporal, bit_plane, phase
from snntorch_asnn.spikegen._decode import decode
from snntorch_asnn.spikegen._direct import direct
from snntorch_asnn.spikegen._hybrid import hybrid, hybrid_binary, single_spike_hybrid
from snntorch_asnn.spikegen._levels import Levels, quantile_levels
from snntorch_asnn.spikegen._registry import CODES, Code, get_code
from snntorch_asnn.spikegen._spike_time import latency, temporal

__all__ = [
    "CODES",
    "Code",
    "Levels",
    "binary_temporal",
    "bit_plane",
    "decode",
    "direct",
    "get_code",
    "hybrid",
    "hybrid_binary",
    "latency",
    "phase",
    "quantile_levels",
    "single_spike_hybrid",
    "temporal",
]
