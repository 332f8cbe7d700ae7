"""Fields of a configuration that say what they are and check what they get."""

from __future__ import annotations

import dataclasses
import math
import operator
import types
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, get_args, get_type_hints

from snntorch_asnn._arguments import did_you_mean

_KINDS = {
    str: "a string",
    bool: "True or False",
    int: "an integer",
    float: "a number",
    Path: "a path",
}
_ABSTRACT = {int: Integral, float: Real}
_COMPARE = {"at least": operator.ge, "above": operator.gt, "at most": operator.le, "below": operator.lt}


def setting(
    default: Any,
    group: str,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> Any:
    """Return a dataclass field with its range, and with the help and panel of its option.

    Args:
        default: the field's default.
        group: panel of the command line's help.
        help: one line for the command line; the choices are added to it.
        choices: the strings that are allowed; any if empty.
        at_least: smallest number that is allowed.
        above: number that all allowed ones are above.
        at_most: largest number that is allowed.
        below: number that all allowed ones are below.
    """
    metadata = {
        "group": group,
        "help": f"{help}: {', '.join(choices)}." if choices else help,
        "choices": choices,
        "bounds": {"at least": at_least, "above": above, "at most": at_most, "below": below},
    }
    return dataclasses.field(default=default, metadata=metadata)


def check_settings(config: Any) -> None:
    """Check every field of a dataclass made of :func:`setting`, and make paths and plain numbers of values.

    Raises:
        TypeError: a field has the wrong type.
        ValueError: a field is out of its range.
    """
    for field, kind, optional in _fields(type(config)):
        value = getattr(config, field.name)
        _check_value(field, kind, optional, value)
        object.__setattr__(config, field.name, _plain(value, kind))


def check_values(config: type, values: Mapping[str, Any]) -> None:
    """Check values for some fields of a dataclass made of :func:`setting`, each by itself.

    Raises:
        TypeError: a value has the wrong type.
        ValueError: a name is no field, or a value is out of its range.
    """
    check_names(config, values)
    for field, kind, optional in _fields(config):
        if field.name in values:
            _check_value(field, kind, optional, values[field.name])


def parse_setting(config: type, name: str, text: str) -> Any:
    """Return what a text such as ``"0.1"`` or ``"none"`` means for a field of a dataclass.

    Raises:
        ValueError: there is no such field, or the text cannot be read as its type.
    """
    check_names(config, [name])
    _, kind, optional = next(entry for entry in _fields(config) if entry[0].name == name)
    if optional and text.lower() == "none":
        return None
    if kind is bool:
        check_choice(name, text.lower(), ("true", "false"))
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError as error:
        raise ValueError(f"{name} must be {_KINDS[kind]}; got {text!r}") from error


def check_names(config: type, names: Iterable[str]) -> None:
    """Refuse names that are no fields of a dataclass.

    Raises:
        ValueError: names those, and a field that was probably meant.
    """
    known = [field.name for field in dataclasses.fields(config)]
    unknown = sorted(set(names) - set(known))
    if unknown:
        hint = did_you_mean(unknown[0], known)
        raise ValueError(f"config must hold only settings of a run; got {', '.join(unknown)}{hint}")


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Refuse a value that is not among the choices.

    Raises:
        ValueError: names the choices, and the one that was probably meant.
    """
    known = tuple(choices)
    if value not in known:
        raise ValueError(
            f"{name} must be one of {', '.join(known)}; got {value!r}{did_you_mean(value, known)}"
        )


def _fields(config: type) -> list[tuple[dataclasses.Field[Any], type, bool]]:
    """Return each field with its type, and whether it may be None."""
    hints = get_type_hints(config)
    found = []
    for field in dataclasses.fields(config):
        hint = hints[field.name]
        optional = isinstance(hint, types.UnionType)
        found.append((field, get_args(hint)[0] if optional else hint, optional))
    return found


def _check_value(field: dataclasses.Field[Any], kind: type, optional: bool, value: Any) -> None:
    if value is None and optional:
        return
    if kind is Path and isinstance(value, str):
        value = Path(value)
    _check_type(field.name, value, kind)
    if kind in (int, float):
        _check_bounds(field.name, value, field.metadata["bounds"])
    elif field.metadata["choices"]:
        check_choice(field.name, value, field.metadata["choices"])


def _plain(value: Any, kind: type) -> Any:
    """A value as a plain number or path, such as of a NumPy integer or the name of a path."""
    if value is None or kind is str:
        return value
    if kind is float and isinstance(value, int):
        return value
    return kind(value)


def _check_type(name: str, value: object, kind: type) -> None:
    wanted: Any = _ABSTRACT.get(kind, kind)
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{name} must be {_KINDS[kind]}; got {value!r}")


def _check_bounds(name: str, value: float, bounds: dict[str, float | None]) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite; got {value}")
    given = {word: bound for word, bound in bounds.items() if bound is not None}
    if not all(_COMPARE[word](value, bound) for word, bound in given.items()):
        wanted = " and ".join(f"{word} {bound:g}" for word, bound in given.items())
        raise ValueError(f"{name} must be {wanted}; got {value}")
