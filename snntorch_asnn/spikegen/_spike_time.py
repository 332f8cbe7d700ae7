"""Codes in which the time of a pixel's only spike encodes its intensity."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor
from torch.nn.functional import pad

from snntorch_asnn._arguments import check_choice, check_count
from snntorch_asnn.spikegen._checks import check_data, compute_dtype, pixels_of
from snntorch_asnn.spikegen._levels import Levels, constant, levels_for

__all__ = ["first_crossings", "latency", "temporal"]

Last = Literal["remaining", "all", "none"]


def temporal(
    data: Tensor,
    num_steps: int,
    *,
    levels: Levels = "uniform",
    last: Last = "remaining",
    check: bool = True,
) -> Tensor:
    r"""Temporal code: the brighter a pixel, the earlier its only spike.

    .. math:: s_t = H(p - \theta_{t+1}) - H(p - \theta_t), \quad \theta_0 = \infty,
        \quad t = 0, \dots, T - 2

    with the T - 1 levels of T bins. The last step depends on ``last``:

    - ``"remaining"``: :math:`s_{T-1} = 1 - \sum_{t<T-1} s_t`, so every pixel fires exactly once.
    - ``"all"``: :math:`s_{T-1} = 1`, as in the ASNN reference code. There, a pixel that has fired becomes 0,
      which reaches the last threshold 0.
    - ``"none"``: :math:`s_{T-1} = 0`, so pixels below the lowest level stay silent.

    Args:
        data: Pixels in [0, 1], any shape.
        num_steps: Number of steps T, at least 1.
        levels: ``"uniform"``, ``"quantile"`` or a tensor ``[T - 1]``.
        last: Which pixels fire in the last step: ``"remaining"``, ``"all"`` or ``"none"``.
        check: Whether to raise ValueError for values outside [0, 1].

    Returns:
        Spikes ``[num_steps, *data.shape]`` in {0, 1}, without gradient.

    Raises:
        ValueError: ``num_steps`` is below 1, ``data`` is outside [0, 1], ``levels`` does not fit, or ``last``
            is unknown.

    Example::

        >>> import torch
        >>> from snntorch_asnn import spikegen
        >>> spikegen.temporal(torch.tensor([0.1, 0.5, 1.0]), 3)
        tensor([[0., 0., 1.],
                [0., 1., 0.],
                [1., 0., 0.]])
    """
    num_steps = check_count("num_steps", num_steps)
    check_choice("last", last, Last)
    check_data(data, check=check)
    floor = pad(levels_for(data, levels, num_steps, check=check), (0, 1), value=-math.inf)
    spikes = first_crossings(data, floor)
    if last != "remaining":
        spikes[-1] = 1.0 if last == "all" else 0.0
    return spikes


def latency(data: Tensor, num_steps: int, *, check: bool = True) -> Tensor:
    r"""Linear latency code: one spike, at the step nearest to :math:`(T - 1)(1 - p)`.

    .. math:: s_t = 1 \iff |(T - 1)(1 - p) - t| \le \tfrac{1}{2}
        \quad \text{(the earlier of two equally near steps)}

    Args:
        data: Pixels in [0, 1], any shape.
        num_steps: Number of steps T, at least 1.
        check: Whether to raise ValueError for values outside [0, 1].

    Returns:
        Spikes ``[num_steps, *data.shape]`` in {0, 1}, without gradient.

    Raises:
        ValueError: ``num_steps`` is below 1, or ``data`` is outside [0, 1].

    Example::

        >>> import torch
        >>> from snntorch_asnn import spikegen
        >>> spikegen.latency(torch.tensor([0.1, 0.5, 1.0]), 3)
        tensor([[0., 0., 1.],
                [0., 1., 0.],
                [1., 0., 0.]])
    """
    num_steps = check_count("num_steps", num_steps)
    check_data(data, check=check)
    halves = 2 * (num_steps - 1)
    midway = [odd / halves for odd in range(halves - 1, 0, -2)]
    levels = constant([*midway, -math.inf], compute_dtype(data.dtype), data.device)
    return first_crossings(data, levels)


def first_crossings(data: Tensor, levels: Tensor) -> Tensor:
    """Fire at step t if level t is the first that the pixel reaches."""
    edges = pad(levels, (1, 0), value=math.inf)
    reached = pixels_of(data) >= edges.view(-1, *(1,) * data.ndim)
    return (reached[1:] ^ reached[:-1]).to(data.dtype)
