r"""Spike codes: pure functions from pixels to spikes, time first.

Every code takes ``data`` :math:`p \in [0, 1]` of any shape and floating dtype, and returns
``[num_steps, *data.shape]`` in the same dtype on the same device. In the equations, :math:`H(x)` is 1
for :math:`x \ge 0` and 0 otherwise, and steps count from 0.

The argument ``levels`` cuts [0, 1] into ``n`` bins. ``"uniform"`` means :math:`\theta_i = 1 - i/n`, and
``"quantile"`` means :func:`quantile_levels`. A tensor holds ``n - 1`` own levels, strictly decreasing.

Shared behaviour:

- Spikes are comparisons and pass no gradient. An analog step passes the gradient to ``data`` unchanged.
- Comparisons run in float32, or in float64 for float64 data.
- Spikes are made from pixels in [0, 1]. Analog steps show any finite value; with ``analog``, they show
  another image than ``data``, such as ``data`` normalised.
- ``check=True`` reads the values of tensors on the CPU, and raises ValueError for NaN and for values
  outside these ranges. With ``check=False``, spikes treat NaN and values below 0 as 0 and values above 1
  as 1, and analog steps show all values unchanged. Tensors on other devices and ``torch.compile`` are
  never checked, and ``torch.func.vmap`` needs ``check=False``.
- Wrong types raise TypeError, and wrong values raise ValueError. The message names the argument.
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
