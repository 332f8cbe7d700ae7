"""Codes that write a number bit by bit, one bit per step."""

from __future__ import annotations

import torch
from torch import Tensor

from snntorch_asnn._arguments import check_count
from snntorch_asnn.spikegen._checks import check_data, pixels_of
from snntorch_asnn.spikegen._levels import Levels, levels_for

MAX_BITS = 16  # Bit depth of the deepest images, which float32 represents exactly.
_MAX_PERIOD = 24  # Significant bits of float32.
_MAX_COMPARED = 16  # Up to this many levels, comparing with each is faster than a search, and fuses.


def significances(num_steps: int, device: torch.device) -> Tensor:
    """Return the int32 shifts 0, 1, ..., num_steps - 1 of a word's bits."""
    return torch.arange(num_steps, dtype=torch.int32, device=device)


def _bits(words: Tensor, shifts: Tensor, dtype: torch.dtype) -> Tensor:
    return (words >> shifts.view(-1, *(1,) * words.ndim)).bitwise_and_(1).to(dtype)


def _count_reached(pixels: Tensor, levels: Tensor) -> Tensor:
    if levels.numel() <= _MAX_COMPARED:
        reached = torch.zeros_like(pixels, dtype=torch.int32)
        for level in levels.unbind():
            reached = reached + (pixels >= level)
        return reached
    pixels = pixels.contiguous()  # bucketize warns about other layouts.
    return torch.bucketize(pixels, levels.flip(0), right=True, out_int32=True)


def binary_temporal(
    data: Tensor, num_steps: int, *, levels: Levels = "uniform", check: bool = True
) -> Tensor:
    r"""Binary temporal code: the number of the intensity bin, one bit per step.

    .. math:: s_t = \lfloor k / 2^t \rfloor \bmod 2, \qquad
        k = 1 + \sum_{i=1}^{2^T-2} (1 - H(p - \theta_i))

    The bins are numbered from 1 for the brightest to :math:`2^T - 1` for the darkest, and the least
    significant bit comes first. So 4 steps encode 15 bins, for which :func:`temporal` needs 15 steps.
    Every pixel fires at least once.

    Args:
        data: Pixels in [0, 1], any shape.
        num_steps: Number of steps T, in 1..16.
        levels: ``"uniform"``, ``"quantile"`` or a tensor ``[2**T - 2]``.
        check: Whether to raise ValueError for values outside [0, 1].

    Returns:
        Spikes ``[num_steps, *data.shape]`` in {0, 1}, without gradient.

    Raises:
        ValueError: ``num_steps`` is not in 1..16, ``data`` is outside [0, 1], or ``levels`` does not fit.

    Source: the input "embedding" of the ASNN reference code, arXiv 2408.12407.

    Example::

        >>> import torch
        >>> from snntorch_asnn import spikegen
        >>> spikegen.binary_temporal(torch.tensor([0.1, 0.5, 1.0]), 2)  # bins 3, 2, 1
        tensor([[1., 0., 1.],
                [1., 1., 0.]])
    """
    num_steps = check_count("num_steps", num_steps, most=MAX_BITS)
    check_data(data, check=check)
    num_bins = 2**num_steps - 1
    inner = levels_for(data, levels, num_bins, check=check)
    words = num_bins - _count_reached(pixels_of(data), inner)
    return _bits(words, significances(num_steps, data.device), data.dtype)


def phase(data: Tensor, num_steps: int, *, period: int | None = None, check: bool = True) -> Tensor:
    r"""Phase code: a spike in phase k of a period has weight :math:`2^{-(1+k)}`.

    .. math:: s_t = \lfloor n / 2^{K-1-k} \rfloor \bmod 2, \quad k = t \bmod K, \qquad
        n = \min(\lfloor 2^K p \rfloor, 2^K - 1)

    Spikes are chosen greedily from the phase with the largest weight on, and repeat every K steps.

    Args:
        data: Pixels in [0, 1], any shape.
        num_steps: Number of steps T, at least 1.
        period: Period K in 1..min(T, 24). None means T.
        check: Whether to raise ValueError for values outside [0, 1].

    Returns:
        Spikes ``[num_steps, *data.shape]`` in {0, 1}, without gradient.

    Raises:
        ValueError: ``num_steps`` is below 1, ``period`` is out of range, or ``data`` is outside [0, 1].

    Source: Kim et al., "Deep neural networks with weighted spikes", Neurocomputing 2018.

    Example::

        >>> import torch
        >>> from snntorch_asnn import spikegen
        >>> spikegen.phase(torch.tensor([0.25, 0.75, 1.0]), 2)
        tensor([[0., 1., 1.],
                [1., 1., 1.]])
    """
    num_steps = check_count("num_steps", num_steps)
    period = check_period(period, num_steps)
    check_data(data, check=check)
    pixels = pixels_of(data)
    words = (pixels * 2**period).to(torch.int32).clamp(max=2**period - 1)
    shifts = period - 1 - significances(num_steps, data.device) % period
    return _bits(words, shifts, data.dtype)


def check_period(period: int | None, num_steps: int) -> int:
    """Return the period, which is ``num_steps`` for None; refuse a period out of range."""
    period = num_steps if period is None else period
    return check_count("period", period, most=min(num_steps, _MAX_PERIOD))


def bit_plane(data: Tensor, num_steps: int, *, check: bool = True) -> Tensor:
    r"""Bit planes of the image, the most significant first.

    .. math:: s_t = \lfloor m / 2^{T-1-t} \rfloor \bmod 2, \qquad m = \mathrm{round}((2^T - 1) p)

    With T = 8 and p = pixel / 255, m is the 8-bit pixel, also in half precision.

    Args:
        data: Pixels in [0, 1], any shape.
        num_steps: Number of steps T, which is the number of bits, in 1..16.
        check: Whether to raise ValueError for values outside [0, 1].

    Returns:
        Spikes ``[num_steps, *data.shape]`` in {0, 1}, without gradient.

    Raises:
        ValueError: ``num_steps`` is not in 1..16, or ``data`` is outside [0, 1].

    Example::

        >>> import torch
        >>> from snntorch_asnn import spikegen
        >>> spikegen.bit_plane(torch.tensor([1 / 3, 2 / 3, 1.0]), 2)
        tensor([[0., 1., 1.],
                [1., 0., 1.]])
    """
    num_steps = check_count("num_steps", num_steps, most=MAX_BITS)
    check_data(data, check=check)
    pixels = pixels_of(data)
    words = (pixels * (2**num_steps - 1)).round().to(torch.int32)
    shifts = num_steps - 1 - significances(num_steps, data.device)
    return _bits(words, shifts, data.dtype)
