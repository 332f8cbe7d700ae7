"""Checks of data that the spike codes share."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of comparisons: float32, or float64 for float64 data.

    In half precision, rounding would move levels, and pixels would change their bins.
    """
    return torch.float64 if dtype == torch.float64 else torch.float32


def check_floating(data: object, name: str = "data") -> None:
    """Raise unless ``data`` is a tensor of floating-point numbers."""
    if not isinstance(data, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor; got {type(data).__name__}")
    if not data.is_floating_point():
        raise TypeError(
            f"{name} must have a floating point dtype; got {data.dtype}; for 8-bit images, use "
            f"{name}.float() / 255"
        )


def has_values_to_read(data: Tensor) -> bool:
    """Whether a tensor has values that can be read without waiting for a GPU."""
    return not torch.compiler.is_compiling() and data.device.type == "cpu" and data.numel() > 0


def check_range(
    data: Tensor, name: str = "data", advise: Callable[[float, float], str] | None = None
) -> None:
    """Refuse values outside [0, 1], if they can be read without waiting.

    Args:
        data: The values.
        name: Name of the argument.
        advise: Returns the end of the message for the lowest and the highest value.
    """
    if not has_values_to_read(data):
        return
    low, high = _ends(data)
    if low >= 0 and high <= 1:
        return
    if math.isnan(low):
        raise ValueError(f"{name} must be in [0, 1]; got NaN")
    advice = "" if advise is None else f"; {advise(low, high)}"
    raise ValueError(f"{name} must be in [0, 1]; got values from {low:g} to {high:g}{advice}")


def check_data(data: Tensor, *, check: bool) -> None:
    """Refuse data without a floating point dtype and, with ``check``, values outside [0, 1]."""
    check_floating(data)
    if check:
        check_range(data, advise=_how_to_reach_the_unit_range)


def check_analog(data: Tensor, *, check: bool, name: str = "data") -> None:
    """Refuse analog data without a floating point dtype and, with ``check``, values that are not finite."""
    check_floating(data, name)
    if not (check and has_values_to_read(data)):
        return
    low, high = _ends(data)
    if not math.isfinite(high - low):
        found = "NaN" if math.isnan(low) else f"values from {low:g} to {high:g}"
        raise ValueError(f"{name} must be finite; got {found}")


def pixels_of(data: Tensor) -> Tensor:
    """Return the pixels for spikes: clamped to [0, 1], with 0 for NaN, in the dtype of comparisons."""
    pixels = data.detach().to(compute_dtype(data.dtype))
    return pixels.nan_to_num(nan=0.0, posinf=1.0, neginf=0.0).clamp(0.0, 1.0)


def _ends(data: Tensor) -> tuple[float, float]:
    """Return the lowest and the highest value, both NaN if any value is NaN."""
    low, high = data.detach().to(compute_dtype(data.dtype)).aminmax()
    return low.item(), high.item()


def _how_to_reach_the_unit_range(low: float, high: float) -> str:
    if low >= 0 and 2 < high <= 255:
        return "divide 8-bit pixels by 255 first"
    if low < 0 and math.isfinite(high - low):
        return (
            "the images seem to be normalised: pass unnormalize=(mean, std) to create_model or Encoder, or"
            " images in [0, 1] and normalize=(mean, std), or clamp the values with check=False"
        )
    return "scale the values to [0, 1], or clamp them with check=False"
