"""Checks of data and options that the spike codes share."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which data of ``dtype`` are compared: float32, or float64 for float64.

    A level rounded to half precision would move, and take pixels along into the next bin.
    """
    return torch.float64 if dtype == torch.float64 else torch.float32


def check_floating(data: object, name: str = "data") -> None:
    """Raise unless ``data`` is a tensor of floating-point numbers."""
    if not isinstance(data, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor; got {type(data).__name__}")
    if not data.is_floating_point():
        raise TypeError(
            f"{name} must be floating point; got {data.dtype}; for 8-bit images write {name}.float() / 255"
        )


def has_values_to_read(data: Tensor) -> bool:
    """Whether values can be read without waiting: traced and meta tensors have none, a GPU would wait."""
    return not torch.compiler.is_compiling() and data.device.type == "cpu" and data.numel() > 0


def check_range(
    data: Tensor, name: str = "data", advise: Callable[[float, float], str] | None = None
) -> None:
    """Raise unless all values lie in [0, 1], where they can be read without waiting.

    Args:
        data: The values.
        name: Of the argument.
        advise: Ends the message, from the lowest and the highest value.
    """
    if not has_values_to_read(data):
        return
    low, high = _ends(data)
    if low >= 0 and high <= 1:
        return
    if math.isnan(low):
        raise ValueError(f"{name} must lie in [0, 1]; got NaN")
    advice = "" if advise is None else f"; {advise(low, high)}"
    raise ValueError(f"{name} must lie in [0, 1]; got values from {low:g} to {high:g}{advice}")


def check_data(data: Tensor, *, check: bool) -> None:
    """Raise unless ``data`` are floating point and, where ``check`` asks, within [0, 1]."""
    check_floating(data)
    if check:
        check_range(data, advise=_how_to_reach_the_unit_range)


def check_analog(data: Tensor, *, check: bool, name: str = "data") -> None:
    """Raise unless what analog steps show is floating point and, where ``check`` asks, finite."""
    check_floating(data, name)
    if not (check and has_values_to_read(data)):
        return
    low, high = _ends(data)
    if not math.isfinite(high - low):
        found = "NaN" if math.isnan(low) else f"values from {low:g} to {high:g}"
        raise ValueError(f"{name} must be finite; got {found}")


def pixels_of(data: Tensor) -> Tensor:
    """Return the pixels that spikes are made of: within [0, 1], NaN as 0, in the dtype of comparisons."""
    pixels = data.detach().to(compute_dtype(data.dtype))
    return pixels.nan_to_num(nan=0.0, posinf=1.0, neginf=0.0).clamp(0.0, 1.0)


def _ends(data: Tensor) -> tuple[float, float]:
    """Lowest and highest value, both NaN where there is any NaN."""
    low, high = data.detach().to(compute_dtype(data.dtype)).aminmax()
    return low.item(), high.item()


def _how_to_reach_the_unit_range(low: float, high: float) -> str:
    if low >= 0 and 2 < high <= 255:
        return "for pixels of 8 bits divide by 255 first"
    seen = (
        "the images seem to be normalised, and spikes" if low < 0 and math.isfinite(high - low) else "spikes"
    )
    return (
        f"{seen} are made of pixels in [0, 1]: create_model and Encoder take such images with"
        " normalize=(mean, std), which normalises what the analog steps show, and normalised images with"
        " unnormalize=(mean, std), which makes the spikes of what they were before; check=False takes what"
        " is outside as 0 or 1"
    )
