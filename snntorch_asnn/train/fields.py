"""Fields of a dataclass that know their help and their range, and check their values."""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import types
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from snntorch_asnn._arguments import check_choice, did_you_mean

_KINDS: dict[type, tuple[Any, str]] = {
    str: (str, "a string"),
    bool: (bool, "True or False"),
    int: (Integral, "an integer"),
    float: (Real, "a number"),
    Path: (Path, "a path"),
}
"""The types of fields: which values they accept, NumPy's included, and their names in messages."""
_COMPARE = {"at least": operator.ge, "above": operator.gt, "at most": operator.le, "below": operator.lt}


def setting(
    default: Any,
    group: str,
    help: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> Any:
    """Return a dataclass field with the panel and the text of its help, and with the range of its numbers."""
    limits = {"at least": at_least, "above": above, "at most": at_most, "below": below}
    bounds = {word: limit for word, limit in limits.items() if limit is not None}
    return dataclasses.field(default=default, metadata={"group": group, "help": help, "bounds": bounds})


@functools.cache
def field_types(config: type) -> dict[str, tuple[Any, bool]]:
    """Return each field's type, a ``Literal`` for a choice, and whether the field may be None."""
    found = {}
    for name, hint in get_type_hints(config).items():
        optional = isinstance(hint, types.UnionType)
        found[name] = (get_args(hint)[0] if optional else hint, optional)
    return found


def check_fields(config: Any) -> None:
    """Check every field of a dataclass, and turn NumPy's numbers and names of paths into plain values.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: A field is out of its range.
    """
    for field in dataclasses.fields(config):
        object.__setattr__(config, field.name, _checked(type(config), field, getattr(config, field.name)))


def check_values(config: type, values: Mapping[str, Any]) -> None:
    """Check some values for a dataclass, each by itself.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: A name is not a field, or a value is out of its range.
    """
    check_names(config, values)
    for field in dataclasses.fields(config):
        if field.name in values:
            _checked(config, field, values[field.name])


def check_names(config: type, names: Iterable[str]) -> None:
    """Refuse names that are not fields of a dataclass, and suggest the field that was probably meant."""
    known = [field.name for field in dataclasses.fields(config)]
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f"unknown setting {', '.join(unknown)}{did_you_mean(unknown[0], known)}")


def parse_setting(config: type, name: str, text: str) -> Any:
    """Return the value that a text such as ``"0.1"`` or ``"none"`` stands for.

    Raises:
        ValueError: There is no such field, or the text cannot be read as its type.
    """
    check_names(config, [name])
    kind, optional = field_types(config)[name]
    if optional and text.lower() == "none":
        return None
    if kind is bool:
        check_choice(name, text.lower(), Literal["true", "false"])
        return text.lower() == "true"
    if get_origin(kind) is Literal:
        return text
    try:
        return kind(text)
    except ValueError as error:
        raise ValueError(f"{name} must be {_KINDS[kind][1]}; got {text!r}") from error


def _checked(config: type, field: dataclasses.Field[Any], value: Any) -> Any:
    kind, optional = field_types(config)[field.name]
    if value is None and optional:
        return None
    choices = kind if get_origin(kind) is Literal else None
    kind = str if choices is not None else kind
    if kind is Path and isinstance(value, str):
        value = Path(value)
    accepted, description = _KINDS[kind]
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{field.name} must be {description}; got {value!r}")
    if choices is not None:
        check_choice(field.name, value, choices)
    if kind in (int, float):
        _check_bounds(field.name, value, field.metadata["bounds"])
    return value if kind is float and isinstance(value, int) else kind(value)


def _check_bounds(name: str, value: float, bounds: Mapping[str, float]) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite; got {value}")
    if not all(_COMPARE[word](value, limit) for word, limit in bounds.items()):
        wanted = " and ".join(f"{word} {limit:g}" for word, limit in bounds.items())
        raise ValueError(f"{name} must be {wanted}; got {value}")
