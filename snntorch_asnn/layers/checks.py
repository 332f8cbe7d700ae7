"""Checks of sizes that must divide each other."""

from __future__ import annotations

from snntorch_asnn.neurons.arguments import check_count

__all__ = ["check_divides", "check_image_size", "check_multiple"]


def check_divides(name: str, value: int, other_name: str, other: int) -> None:
    """Refuse a ``value`` that is no positive integer, or does not divide ``other``."""
    check_count(name, value)
    check_count(other_name, other)
    if other % value:
        raise ValueError(f"{name} must divide {other_name}={other}; got {value}")


def check_multiple(name: str, value: int, of: int) -> None:
    """Refuse a ``value`` that is no positive multiple of a number."""
    check_count(name, value)
    if value % of:
        raise ValueError(f"{name} must be a multiple of {of}; got {value}")


def check_image_size(image_size: tuple[int, int], stride: int) -> None:
    """Refuse images whose height or width the network's poolings, ``stride`` in all, do not divide."""
    if any(size % stride for size in image_size):
        raise ValueError(f"image_size must be divisible by {stride}; got {image_size}")
