"""Intensity levels, at which a spike code cuts the range from 0 to 1 into bins.

A code with ``n`` bins has ``n - 1`` levels in descending order. Bin 0 is the brightest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from snntorch_asnn._arguments import check_count, look_up
from snntorch_asnn.spikegen._checks import (
    check_floating,
    check_range,
    compute_dtype,
    has_values_to_read,
)

Levels: TypeAlias = Literal["uniform", "quantile"] | Tensor

_MAX_UNROLLED = 64


def constant(values: Sequence[float], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return ``values`` as a tensor on ``device`` without waiting for the device."""
    is_traced = torch.compiler.is_compiling()
    if (is_traced or device.type != "cpu") and 0 < len(values) <= _MAX_UNROLLED:
        # Values are filled on the device, because CUDA graphs do not allow a host tensor in the graph.
        return torch.stack([torch.full((), v, dtype=dtype, device=device) for v in values])
    return torch.tensor(values, dtype=dtype, device="cpu").to(device, non_blocking=True)


def levels_for(data: Tensor, levels: Levels, num_bins: int, *, check: bool) -> Tensor:
    """Return the ``num_bins - 1`` levels, in the dtype and on the device of comparisons with ``data``."""
    dtype, device = compute_dtype(data.dtype), data.device
    if isinstance(levels, Tensor):
        check_floating(levels, "levels")
        if levels.shape != (num_bins - 1,):
            raise ValueError(
                f"levels must have shape ({num_bins - 1},) for {num_bins} bins; "
                f"got shape {tuple(levels.shape)}"
            )
        if check:
            _check_descending(levels)
        return levels.detach().to(device, dtype, non_blocking=True)
    closed_form = look_up("levels", levels, _CLOSED_FORMS, other="a tensor")
    return closed_form(num_bins, dtype, device)


def _uniform(num_bins: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    # Unlike 1 - i / n, k / n is correctly rounded, so that a pixel k / n reaches its own level.
    return constant([k / num_bins for k in range(num_bins - 1, 0, -1)], dtype, device)


def _normal_quantile(num_bins: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.sigmoid(torch.special.ndtri(_uniform(num_bins, dtype, device)))


_CLOSED_FORMS = {"uniform": _uniform, "quantile": _normal_quantile}


def _check_descending(levels: Tensor) -> None:
    check_range(levels, "levels")
    if has_values_to_read(levels) and not bool((levels.diff() < 0).all()):
        raise ValueError(f"levels must be strictly decreasing; got {levels.tolist()}")


def quantile_levels(num_steps: int, *, data: Tensor | None = None) -> Tensor:
    r"""Return levels that split the pixels into ``num_steps`` bins with equally many pixels.

    Without ``data``, the levels have a closed form for pixels that were normalised and squashed,
    :math:`p = \sigma(z)` with :math:`z \sim N(0, 1)`:

    .. math:: \theta_i = \sigma(\Phi^{-1}(1 - i/T)), \quad i = 1, \dots, T - 1

    With ``data``, they are its quantiles: :math:`\lfloor iN/T \rfloor` of the :math:`N` values are at or
    above :math:`\theta_i`, or more if values repeat.

    Args:
        num_steps: Number of bins T, which is the number of steps of :func:`temporal`, and of :func:`hybrid`
            with one direct step.
        data: Values in [0, 1], any shape. They are copied and sorted.

    Returns:
        Levels ``[num_steps - 1]``, strictly decreasing. They are float64 if ``data`` is (or, without data,
        the default dtype), otherwise float32.

    Raises:
        TypeError: ``num_steps`` is not an integer, or ``data`` is not a floating point tensor.
        ValueError: ``num_steps`` is below 1, or ``data`` is outside [0, 1] or repeats values so often that
            some bins stay empty.

    Example::

        >>> from snntorch_asnn import spikegen
        >>> [round(level, 4) for level in spikegen.quantile_levels(4).tolist()]
        [0.6625, 0.5, 0.3375]
    """
    num_steps = check_count("num_steps", num_steps)
    if data is None:
        dtype = compute_dtype(torch.get_default_dtype())
        return _normal_quantile(num_steps, dtype, torch.get_default_device())
    check_floating(data)
    check_range(data)
    values = data.detach().flatten().to(compute_dtype(data.dtype)).sort().values
    count = values.numel()
    if count < num_steps:
        raise ValueError(f"data must have at least num_steps={num_steps} values; got {count}")
    levels = values[[count - count * i // num_steps for i in range(1, num_steps)]]
    steps_down = torch.cat((levels, values[:1])).diff()
    if not torch.compiler.is_compiling() and not bool((steps_down < 0).all()):
        raise ValueError(
            f"data must not repeat values so often that some of the num_steps={num_steps} bins stay "
            f"empty; got levels {levels.tolist()}; leave out the background, for example with "
            "data=images[images > 0]"
        )
    return levels
