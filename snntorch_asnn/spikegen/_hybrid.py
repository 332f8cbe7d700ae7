"""Hybrid codes: the image itself first, then spikes."""

from __future__ import annotations

import torch
from torch import Tensor

from snntorch_asnn._arguments import check_count
from snntorch_asnn.spikegen._bits import MAX_BITS, binary_temporal
from snntorch_asnn.spikegen._checks import check_analog, check_data, check_floating
from snntorch_asnn.spikegen._direct import direct
from snntorch_asnn.spikegen._levels import Levels, levels_for
from snntorch_asnn.spikegen._spike_time import first_crossings, temporal

__all__ = ["hybrid", "hybrid_binary", "single_spike_hybrid"]


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

    with d direct steps and the T - d levels of T - d + 1 bins. With d = 1, this is "mix time" of the ASNN
    reference code, in which pixels below 1/T never spike.

    Args:
        data: Pixels in [0, 1], any shape.
        num_steps: Number of steps T, direct steps included.
        direct_steps: Number of direct steps d in 1..T. With d = T, there are no spikes.
        levels: ``"uniform"``, ``"quantile"`` or a tensor ``[T - d]``.
        analog: Image that the direct steps show, finite and with the shape of ``data``. None shows ``data``.
        check: Whether to raise ValueError for values outside [0, 1].

    Returns:
        ``[num_steps, *data.shape]``. The first d steps are analog, and gradients flow through them to
        ``data``. The other steps are spikes in {0, 1} without gradient.

    Raises:
        ValueError: ``direct_steps`` is not in 1..T, ``data`` is outside [0, 1], or ``levels`` does not fit.

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
        levels_for(data, levels, 1, check=check)
        return direct(data if analog is None else analog, num_steps, check=check)
    check_data(data, check=check)
    analog = _analog_image(data, analog, check)
    spikes = first_crossings(data, levels_for(data, levels, num_planes + 1, check=check))
    return _after_analog(analog, direct_steps, spikes)


def single_spike_hybrid(
    data: Tensor,
    num_steps: int,
    *,
    levels: Levels = "uniform",
    analog: Tensor | None = None,
    check: bool = True,
) -> Tensor:
    r"""Single-spike hybrid code: the image itself, then exactly one spike per pixel.

    Step 0 is :math:`p`, and steps 1 to T - 1 are :func:`temporal` of T - 1 steps with ``last="remaining"``.
    Unlike in :func:`hybrid`, dark pixels also fire, in the last step.

    Args:
        data: Pixels in [0, 1], any shape.
        num_steps: Number of steps T, analog step included. With T = 1, there are no spikes.
        levels: ``"uniform"``, ``"quantile"`` or a tensor ``[T - 2]``.
        analog: Image that step 0 shows, finite and with the shape of ``data``. None shows ``data``.
        check: Whether to raise ValueError for values outside [0, 1].

    Returns:
        ``[num_steps, *data.shape]``; gradients flow to ``data`` through step 0.

    Raises:
        ValueError: ``num_steps`` is below 1, ``data`` is outside [0, 1], or ``levels`` does not fit.

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
    analog = _analog_image(data, analog, check)
    spikes = temporal(data, num_steps - 1, levels=levels, check=check)
    return _after_analog(analog, 1, spikes)


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

    Steps 0 to d - 1 are :math:`p`, and the other T - d steps are ``binary_temporal(p, T - d)``.
    With d = 1, this is "mix embedding" of the ASNN reference code.

    Args:
        data: Pixels in [0, 1], any shape.
        num_steps: Number of steps T, direct steps included.
        direct_steps: Number of direct steps d in 1..T, with T - d at most 16. With d = T, there are no
            spikes.
        levels: ``"uniform"``, ``"quantile"`` or a tensor ``[2**(T - d) - 2]``.
        analog: Image that the direct steps show, finite and with the shape of ``data``. None shows ``data``.
        check: Whether to raise ValueError for values outside [0, 1].

    Returns:
        ``[num_steps, *data.shape]``; gradients flow to ``data`` through the direct steps.

    Raises:
        ValueError: ``direct_steps`` is not in 1..T, T - d is above 16, ``data`` is outside [0, 1], or
            ``levels`` does not fit.

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
            f"{direct_steps + MAX_BITS}; got {num_steps}"
        )
    check_floating(data)
    analog = _analog_image(data, analog, check)
    spikes = binary_temporal(data, num_planes, levels=levels, check=check)
    return _after_analog(analog, direct_steps, spikes)


def _split_steps(num_steps: int, direct_steps: int) -> int:
    num_steps = check_count("num_steps", num_steps)
    return num_steps - check_count("direct_steps", direct_steps, most=num_steps)


def _analog_image(data: Tensor, analog: Tensor | None, check: bool) -> Tensor:
    """Return the image for the analog steps: ``analog`` after checks, or ``data`` for None."""
    if analog is None:
        return data
    check_analog(analog, check=check, name="analog")
    if analog.shape != data.shape:
        raise ValueError(
            f"analog must have the shape of data, {tuple(data.shape)}; got shape {tuple(analog.shape)}"
        )
    return analog


def _after_analog(analog: Tensor, direct_steps: int, spikes: Tensor) -> Tensor:
    return torch.cat((analog.expand(direct_steps, *analog.shape), spikes.to(analog.dtype)))
