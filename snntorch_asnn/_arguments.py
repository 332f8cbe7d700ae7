"""Checks of arguments, whose errors name the argument, what it must be and what it got."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from numbers import Real
from typing import Any, TypeVar, get_args

import numpy as np

Entry = TypeVar("Entry")

__all__ = [
    "check_choice",
    "check_count",
    "check_divides",
    "check_flags",
    "check_image_size",
    "check_integer",
    "check_multiple",
    "check_number",
    "check_shape",
    "check_step",
    "did_you_mean",
    "look_up",
]


def check_count(name: str, value: object, most: int | None = None) -> int:
    """Return an integer in 1..``most``, Python's or NumPy's, as ``int``; refuse anything else."""
    count = check_integer(name, value)
    if count < 1 or (most is not None and count > most):
        wanted = "at least 1" if most is None else f"in 1..{most}"
        raise ValueError(f"{name} must be {wanted}; got {count}")
    return count


def check_integer(name: str, value: object) -> int:
    """Return an integer, Python's or NumPy's, as ``int``; refuse anything else."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer; got {value!r}")
    return int(value)


def check_number(name: str, value: object) -> None:
    """Refuse a value that is not a real number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a real number; got {value!r}")


def check_step(step: object) -> int:
    """Return a time step, an integer of at least 0, as ``int``; refuse anything else."""
    number = check_integer("step", step)
    if number < 0:
        raise ValueError(f"step must not be negative; got {number}")
    return number


def check_shape(name: str, value: object) -> tuple[int, ...]:
    """Return a sequence of positive integers as a tuple of ``int``; refuse anything else."""
    if not isinstance(value, Sequence) or not all(
        isinstance(size, int | np.integer) and not isinstance(size, bool) for size in value
    ):
        raise TypeError(f"{name} must be a sequence of integers; got {value!r}")
    sizes = tuple(int(size) for size in value)
    if any(size < 1 for size in sizes):
        raise ValueError(f"{name} must hold positive integers; got {sizes}")
    return sizes


def check_choice(name: str, value: str, choices: Any) -> None:
    """Refuse a value that is not among the choices, a ``Literal`` or a sequence of strings."""
    known = get_args(choices) or tuple(choices)
    if value not in known:
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, known))}; got {value!r}{did_you_mean(value, known)}"
        )


def look_up(name: str, value: object, table: Mapping[str, Entry], *, other: str = "") -> Entry:
    """Return the entry of a table under a name; the error for an unknown name suggests the nearest.

    Args:
        name: Name of the argument.
        value: Value of the argument.
        table: Entries by name.
        other: Other types that the argument accepts, such as ``"a tensor"``, for the message.
    """
    wanted = f"{name} must be one of {', '.join(map(repr, table))}{other and f', or {other}'}"
    if not isinstance(value, str):
        raise TypeError(f"{wanted}; got {type(value).__name__}")
    if value not in table:
        raise ValueError(f"{wanted}; got {value!r}{did_you_mean(value, table)}")
    return table[value]


def did_you_mean(
    name: object, known: Iterable[str], *, other_names: Mapping[str, str] | None = None, count: int = 1
) -> str:
    """Return the end of an error message that suggests the nearest known names, or an empty string.

    Args:
        name: Unknown name.
        known: Known names.
        other_names: Names in other packages, with the known names that they correspond to.
        count: Maximum number of suggestions.

    Example::

        >>> did_you_mean("img_size", ["image_size", "num_steps"])
        "; did you mean 'image_size'?"
    """
    if not isinstance(name, str):
        return ""
    nearest = get_close_matches(name, list(known), n=count)
    if other_names and name in other_names:
        nearest = [other_names[name]]
    if not nearest:
        return ""
    *others, last = map(repr, nearest)
    names = f"{', '.join(others)} or {last}" if others else last
    return f"; did you mean {names}?"


def check_flags(**flags: bool) -> None:
    """Refuse flags that are not bools, such as a number in the wrong position."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be a bool; got {value!r}")


def check_divides(name: str, value: int, other_name: str, other: int) -> None:
    """Refuse a ``value`` that is not a positive integer or does not divide ``other``."""
    check_count(name, value)
    check_count(other_name, other)
    if other % value:
        raise ValueError(f"{name} must divide {other_name}={other}; got {value}")


def check_multiple(name: str, value: int, of: int) -> None:
    """Refuse a ``value`` that is not a positive multiple of ``of``."""
    check_count(name, value)
    if value % of:
        raise ValueError(f"{name} must be a multiple of {of}; got {value}")


def check_image_size(image_size: tuple[int, int], stride: int) -> None:
    """Refuse images whose height or width is not divisible by ``stride``, the network's total stride."""
    if any(size % stride for size in image_size):
        raise ValueError(f"image_size must be divisible by {stride}; got {image_size}")
