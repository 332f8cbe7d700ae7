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

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import pad

from snntorch_asnn._arguments import check_count
from snntorch_asnn._codes.bits import MAX_BITS, binary_temporal, bit_plane, phase
from snntorch_asnn._codes.checks import (
    check_analog,
    check_data,
    check_floating,
    compute_dtype,
    lookup,
    pixels_of,
)
from snntorch_asnn._codes.decode import decode
from snntorch_asnn._codes.levels import Levels, constant, quantile_levels, resolve

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

Code: TypeAlias = Callable[..., Tensor]
"""A code: called as ``code(data, num_steps)``, it returns planes ``[T, ...]``."""


def _levels_for(data: Tensor, levels: Levels, num_bins: int, check: bool) -> Tensor:
    return resolve(levels, num_bins, compute_dtype(data.dtype), data.device, check=check)


def _fire(data: Tensor, levels: Tensor) -> Tensor:
    """Spike in step t where level t is the first that the pixel reaches."""
    edges = pad(levels, (1, 0), value=math.inf)
    reached = pixels_of(data) >= edges.view(-1, *(1,) * data.ndim)
    return (reached[1:] ^ reached[:-1]).to(data.dtype)


def _split_steps(num_steps: int, direct_steps: int) -> int:
    num_steps = check_count("num_steps", num_steps)
    return num_steps - check_count("direct_steps", direct_steps, most=num_steps)


def _lead_with(analog: Tensor, direct_steps: int, spikes: Tensor) -> Tensor:
    return torch.cat((analog.expand(direct_steps, *analog.shape), spikes.to(analog.dtype)))


def _shown(data: Tensor, analog: Tensor | None, check: bool) -> Tensor:
    """Return what the analog steps show, checked unless it is ``data`` itself."""
    if analog is None:
        return data
    check_analog(analog, check=check, name="analog")
    if analog.shape != data.shape:
        raise ValueError(
            f"analog must have the shape of data, {tuple(data.shape)}, got {tuple(analog.shape)}"
        )
    return analog


def direct(data: Tensor, num_steps: int, *, check: bool = True) -> Tensor:
    r"""Direct code: every step is the image itself, :math:`x_t = p`.

    Args:
        data: The image, normalised or not, any shape.
        num_steps: T, at least 1.
        check: Whether to read the values and raise where one is infinite or NaN.

    Returns:
        ``[num_steps, *data.shape]``, a view that repeats ``data`` without a copy, so clone it
        before writing into it. Gradients flow to ``data``.

    Raises:
        ValueError: ``num_steps`` is below 1, or ``data`` is not finite.

    Example::

        >>> import torch
        >>> from snntorch_asnn import spikegen
        >>> spikegen.direct(torch.tensor([0.2, 0.9]), 2)
        tensor([[0.2000, 0.9000],
                [0.2000, 0.9000]])
    """
    num_steps = check_count("num_steps", num_steps)
    check_analog(data, check=check)
    return data.expand(num_steps, *data.shape)


def temporal(
    data: Tensor,
    num_steps: int,
    *,
    levels: Levels = "uniform",
    last: Literal["remaining", "all", "none"] = "remaining",
    check: bool = True,
) -> Tensor:
    r"""Temporal code: the brighter a pixel, the earlier its one spike.

    .. math:: s_t = H(p - \theta_{t+1}) - H(p - \theta_t), \quad \theta_0 = \infty,
        \quad t = 0, \dots, T - 2

    with the T - 1 levels of T bins; the last step takes :math:`s_{T-1} = 1 - \sum_{t<T-1} s_t`
    with ``last="remaining"`` (exactly one spike per pixel), 1 with ``"all"`` (as the ASNN
    reference code, where a pixel that has fired is 0 and so reaches the last threshold 0), and
    0 with ``"none"`` (pixels below the lowest level stay silent).

    Args:
        data: Pixels in [0, 1], any shape.
        num_steps: T, at least 1.
        levels: ``"uniform"``, ``"quantile"`` or a tensor ``[T - 1]``.
        last: Who fires in the last step: the remaining pixels, all, or none.
        check: Whether to read the values and raise outside [0, 1].

    Returns:
        Spikes ``[num_steps, *data.shape]`` in {0, 1}, without gradient.

    Raises:
        ValueError: ``num_steps`` is below 1, ``data`` leaves [0, 1], or ``levels`` or ``last``
            is none of the above.

    Example::

        >>> import torch
        >>> from snntorch_asnn import spikegen
        >>> spikegen.temporal(torch.tensor([0.1, 0.5, 1.0]), 3)
        tensor([[0., 0., 1.],
                [0., 1., 0.],
                [1., 0., 0.]])
    """
    num_steps = check_count("num_steps", num_steps)
    if last not in ("remaining", "all", "none"):
        raise ValueError(f"last must be 'remaining', 'all' or 'none', got {last!r}")
    check_data(data, check=check)
    floor = pad(_levels_for(data, levels, num_steps, check), (0, 1), value=-math.inf)
    spikes = _fire(data, floor)
    if last != "remaining":
        spikes[-1] = 1.0 if last == "all" else 0.0
    return spikes


def hybrid(
    data: Tensor,
    num_steps: int,
    *,
    direct_steps: int = 1,
    levels: Levels = "uniform",
    analog: Tensor | None = None,
    check: bool = True,
) -> Tensor:
    r"""Hybrid code: the image itself first, then at most one spike per pixel.

    .. math:: x_t = p, \quad t < d; \qquad
        x_t = H(p - \theta_{t-d+1}) - H(p - \theta_{t-d}), \quad t \ge d, \quad \theta_0 = \infty

    with d direct steps and the T - d levels of T - d + 1 bins. With d = 1 this is the ASNN
    reference code's "mix time": pixels below 1/T never spike.

    Args:
        data: Pixels in [0, 1], any shape.
        num_steps: T, direct steps included.
        direct_steps: d in 1..T. With d = T there are no spikes.
        levels: ``"uniform"``, ``"quantile"`` or a tensor ``[T - d]``.
        analog: What the direct steps show, finite, of the shape of ``data``; ``data`` itself if None.
        check: Whether to read the values and raise outside [0, 1].

    Returns:
        ``[num_steps, *data.shape]``, analog in the first d steps, through which gradients flow
        to ``data``, then spikes in {0, 1} without gradient.

    Raises:
        ValueError: ``direct_steps`` is not in 1..T, ``data`` leaves [0, 1], or ``levels`` is none
            of the above.

    Source: "Adaptive Spiking Neural Networks with Hybrid Coding", arXiv 2408.12407.

    Example::

        >>> import torch
        >>> from snntorch_asnn import spikegen
        >>> spikegen.hybrid(torch.tensor([0.25, 0.5, 1.0]), 3)
        tensor([[0.2500, 0.5000, 1.0000],
                [0.0000, 0.0000, 1.0000],
                [0.0000, 1.0000, 0.0000]])
    """
    num_planes = _split_steps(num_steps, direct_steps)
    if num_planes == 0:
        _levels_for(data, levels, 1, check)
        return direct(data if analog is None else analog, num_steps, check=check)
    check_data(data, check=check)
    analog = _shown(data, analog, check)
    spikes = _fire(data, _levels_for(data, levels, num_planes + 1, check))
    return _lead_with(analog, direct_steps, spikes)


def single_spike_hybrid(
    data: Tensor,
    num_steps: int,
    *,
    levels: Levels = "uniform",
    analog: Tensor | None = None,
    check: bool = True,
) -> Tensor:
    r"""Single-spike hybrid code: the image itself, then exactly one spike per pixel.

    Step 0 is :math:`p`, steps 1 to T - 1 are :func:`temporal` of T - 1 steps with
    ``last="remaining"``: unlike in :func:`hybrid`, dark pixels fire too, in the last step.

    Args:
        data: Pixels in [0, 1], any shape.
        num_steps: T, the analog step included. With T = 1 there are no spikes.
        levels: ``"uniform"``, ``"quantile"`` or a tensor ``[T - 2]``.
        analog: What step 0 shows, finite, of the shape of ``data``; ``data`` itself if None.
        check: Whether to read the values and raise outside [0, 1].

    Returns:
        ``[num_steps, *data.shape]``; gradients flow to ``data`` through step 0.

    Raises:
        ValueError: ``num_steps`` is below 1, ``data`` leaves [0, 1], or ``levels`` is none of
            the above.

    Source: the input code of Datta et al., IJCNN 2021.

    Example::

        >>> import torch
        >>> from snntorch_asnn import spikegen
        >>> spikegen.single_spike_hybrid(torch.tensor([0.25, 0.5]), 3)
        tensor([[0.2500, 0.5000],
                [0.0000, 1.0000],
                [1.0000, 0.0000]])
    """
    num_steps = check_count("num_steps", num_steps)
    if num_steps == 1:
        return direct(data if analog is None else analog, 1, check=check)
    check_floating(data)
    analog = _shown(data, analog, check)
    spikes = temporal(data, num_steps - 1, levels=levels, check=check)
    return _lead_with(analog, 1, spikes)


def hybrid_binary(
    data: Tensor,
    num_steps: int,
    *,
    direct_steps: int = 1,
    levels: Levels = "uniform",
    analog: Tensor | None = None,
    check: bool = True,
) -> Tensor:
    r"""Hybrid binary code: the image itself first, then :func:`binary_temporal`.

    Steps 0 to d - 1 are :math:`p`, the other T - d steps are ``binary_temporal(p, T - d)``.
    With d = 1 this is the ASNN reference code's "mix embedding".

    Args:
        data: Pixels in [0, 1], any shape.
        num_steps: T, direct steps included.
        direct_steps: d in 1..T, with T - d at most 16. With d = T there are no spikes.
        levels: ``"uniform"``, ``"quantile"`` or a tensor ``[2**(T - d) - 2]``.
        analog: What the direct steps show, finite, of the shape of ``data``; ``data`` itself if None.
        check: Whether to read the values and raise outside [0, 1].

    Returns:
        ``[num_steps, *data.shape]``; gradients flow to ``data`` through the direct steps.

    Raises:
        ValueError: ``direct_steps`` is not in 1..T, T - d is above 16, ``data`` leaves [0, 1],
            or ``levels`` is none of the above.

    Example::

        >>> import torch
        >>> from snntorch_asnn import spikegen
        >>> spikegen.hybrid_binary(torch.tensor([0.1, 0.5]), 3)
        tensor([[0.1000, 0.5000],
                [1.0000, 0.0000],
                [1.0000, 1.0000]])
    """
    num_planes = _split_steps(num_steps, direct_steps)
    if num_planes == 0:
        return direct(data if analog is None else analog, num_steps, check=check)
    if num_planes > MAX_BITS:
        raise ValueError(
            f"num_steps must be at most direct_steps + {MAX_BITS} = "
            f"{direct_steps + MAX_BITS}, got {num_steps}"
        )
    check_floating(data)
    analog = _shown(data, analog, check)
    spikes = binary_temporal(data, num_planes, levels=levels, check=check)
    return _lead_with(analog, direct_steps, spikes)


def latency(data: Tensor, num_steps: int, *, check: bool = True) -> Tensor:
    r"""Linear latency code: one spike, at the step nearest to :math:`(T - 1)(1 - p)`.

    .. math:: s_t = 1 \iff |(T - 1)(1 - p) - t| \le \tfrac{1}{2}
        \quad \text{(the earlier step where two are as near)}

    Args:
        data: Pixels in [0, 1], any shape.
        num_steps: T, at least 1.
        check: Whether to read the values and raise outside [0, 1].

    Returns:
        Spikes ``[num_steps, *data.shape]`` in {0, 1}, without gradient.

    Raises:
        ValueError: ``num_steps`` is below 1, or ``data`` leaves [0, 1].

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
    return _fire(data, levels)


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
"""Every code by its name.

:meta hide-value:
"""


def get_code(code: str | Code) -> Code:
    """Return the code of that name; a callable is returned as it is.

    Args:
        code: A key of :data:`CODES`, or a callable ``(data, num_steps, ...) -> [T, ...]``.

    Raises:
        TypeError: ``code`` is neither a string nor callable.
        ValueError: There is no code of that name; the message says which is nearest.

    Example::

        >>> from snntorch_asnn import spikegen
        >>> spikegen.get_code("hybrid") is spikegen.hybrid
        True
    """
    if callable(code):
        return code
    return lookup(CODES, code, "code")
