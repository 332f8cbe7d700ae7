"""Decode spikes back to the image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import pad

from snntorch_asnn._arguments import check_count, look_up
from snntorch_asnn.spikegen._bits import MAX_BITS, check_period, significances
from snntorch_asnn.spikegen._checks import (
    check_floating,
    compute_dtype,
)
from snntorch_asnn.spikegen._levels import Levels, levels_for


def _bin_middles(spikes: Tensor, levels: Levels, num_bins: int, check: bool) -> Tensor:
    inner = levels_for(spikes, levels, num_bins, check=check)
    bounds = pad(pad(inner, (1, 0), value=1.0), (0, 1), value=0.0)
    return (bounds[1:] + bounds[:-1]) / 2


def _silent_steps(spikes: Tensor) -> Tensor:
    """Count the steps before the first spike; T - 1 if there is no spike."""
    return (spikes[:-1] == 0).to(torch.int32).cumprod(0).sum(0)


def _read_word(spikes: Tensor, shifts: Tensor) -> Tensor:
    bits = (spikes != 0).to(torch.int32)
    return (bits << shifts.view(-1, *(1,) * (spikes.ndim - 1))).sum(0)


def _temporal(spikes: Tensor, levels: Levels, period: int | None, check: bool) -> Tensor:
    middles = _bin_middles(spikes, levels, spikes.shape[0], check)
    return middles[_silent_steps(spikes)]


def _latency(spikes: Tensor, levels: Levels, period: int | None, check: bool) -> Tensor:
    last = spikes.shape[0] - 1
    step = _silent_steps(spikes).to(compute_dtype(spikes.dtype))
    middle: Tensor = 1 - step / last if last else step + 0.5
    return middle


def _binary_temporal(spikes: Tensor, levels: Levels, period: int | None, check: bool) -> Tensor:
    num_steps = spikes.shape[0]
    check_count("spikes.shape[0]", num_steps, most=MAX_BITS)
    words = _read_word(spikes, significances(num_steps, spikes.device))
    if check and not bool((words > 0).all()):
        raise ValueError("spikes must hold at least one spike per pixel; got a pixel without a spike")
    return _bin_middles(spikes, levels, 2**num_steps - 1, check)[(words - 1).clamp(min=0)]


def _phase(spikes: Tensor, levels: Levels, period: int | None, check: bool) -> Tensor:
    period = check_period(period, spikes.shape[0])
    shifts = period - 1 - significances(period, spikes.device)
    words = _read_word(spikes[:period], shifts).to(compute_dtype(spikes.dtype))
    return words.add(0.5).div(2**period)


def _bit_plane(spikes: Tensor, levels: Levels, period: int | None, check: bool) -> Tensor:
    num_steps = spikes.shape[0]
    check_count("spikes.shape[0]", num_steps, most=MAX_BITS)
    shifts = num_steps - 1 - significances(num_steps, spikes.device)
    words = _read_word(spikes, shifts).to(compute_dtype(spikes.dtype))
    return words.div(2**num_steps - 1)


_Decoder: TypeAlias = Callable[[Tensor, Levels, int | None, bool], Tensor]

# None means that the first step is the image.
_DECODERS: Mapping[str, _Decoder | None] = MappingProxyType(
    {
        "direct": None,
        "temporal": _temporal,
        "hybrid": None,
        "single_spike_hybrid": None,
        "binary_temporal": _binary_temporal,
        "hybrid_binary": None,
        "latency": _latency,
        "phase": _phase,
        "bit_plane": _bit_plane,
    }
)


def decode(
    spikes: Tensor,
    code: str,
    *,
    levels: Levels = "uniform",
    period: int | None = None,
    check: bool = True,
) -> Tensor:
    r"""Reconstruct the image from its code, as far as the code allows.

    An analog first step is the image itself, so ``direct`` and the hybrid codes decode exactly. A spike code
    stores the bin of a pixel, which decodes to the middle of the bin:

    ================================ ===================================================
    code                             largest error :math:`|\hat p - p|`
    ================================ ===================================================
    ``temporal``                     half the widest bin; uniform: :math:`1/(2T)`
    ``binary_temporal``              half the widest bin; uniform: :math:`1/(2(2^T - 1))`
    ``latency``                      :math:`1/(2(T - 1))`; T = 1: 1/2
    ``phase``                        :math:`2^{-(K+1)}`
    ``bit_plane``                    :math:`1/(2(2^T - 1))`; 0 for T-bit images
    ================================ ===================================================

    Rounding to ``spikes.dtype`` adds to the error.

    Args:
        spikes: Spikes ``[T, ...]`` as the code returns them. ``temporal`` and ``latency`` read the first
            spike of each pixel, and a pixel without a spike is in the last bin.
        code: A key of :data:`CODES`.
        levels: The ``levels`` of the code.
        period: The ``period`` of :func:`phase`.
        check: Whether to raise ValueError for spikes other than 0 and 1, and for words that the code does
            not have.

    Returns:
        The image ``[...]``, in the dtype of ``spikes``.

    Raises:
        TypeError: An argument has a wrong type.
        ValueError: ``code`` is unknown, or another argument does not fit it.

    Example::

        >>> import torch
        >>> from snntorch_asnn import spikegen
        >>> image = torch.tensor([0.1, 0.5, 1.0])
        >>> spikegen.decode(spikegen.temporal(image, 4), "temporal")
        tensor([0.1250, 0.6250, 0.8750])
    """
    decoder = look_up("code", code, _DECODERS)
    check_floating(spikes, "spikes")
    if spikes.ndim == 0 or spikes.shape[0] == 0:
        raise ValueError(f"spikes must be [T, ...] with T >= 1; got shape {tuple(spikes.shape)}")
    if period is not None and code != "phase":
        raise ValueError(f"period must be None unless code='phase'; got {period!r}")
    if decoder is None:
        return spikes[0]
    check = check and not (torch.compiler.is_compiling() or spikes.is_meta)
    if check and not bool(((spikes == 0) | (spikes == 1)).all()):
        raise ValueError("spikes must be 0 or 1; got other values")
    return decoder(spikes, levels, period, check).to(spikes.dtype)
