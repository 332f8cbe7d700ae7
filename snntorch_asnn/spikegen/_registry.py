"""Registry of all codes by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from torch import Tensor

from snntorch_asnn._arguments import look_up
from snntorch_asnn.spikegen._bits import binary_temporal, bit_plane, phase
from snntorch_asnn.spikegen._direct import direct
from snntorch_asnn.spikegen._hybrid import hybrid, hybrid_binary, single_spike_hybrid
from snntorch_asnn.spikegen._spike_time import latency, temporal

__all__ = ["CODES", "Code", "get_code"]

Code: TypeAlias = Callable[..., Tensor]
"""Function ``code(data, num_steps)`` that returns planes ``[T, ...]``."""

CODES: Mapping[str, Code] = MappingProxyType(
    {
        code.__name__: code
        for code in (
            direct,
            temporal,
            hybrid,
            single_spike_hybrid,
            binary_temporal,
            hybrid_binary,
            latency,
            phase,
            bit_plane,
        )
    }
)
"""All codes by name.

:meta hide-value:
"""


def get_code(code: str | Code) -> Code:
    """Return the code with a name; a callable is returned unchanged.

    Args:
        code: A key of :data:`CODES`, or a callable ``(data, num_steps, ...) -> [T, ...]``.

    Raises:
        TypeError: ``code`` is neither a string nor callable.
        ValueError: The name is unknown. The message suggests the nearest name.

    Example::

        >>> from snntorch_asnn import spikegen
        >>> spikegen.get_code("hybrid") is spikegen.hybrid
        True
    """
    if callable(code):
        return code
    return look_up("code", code, CODES)
