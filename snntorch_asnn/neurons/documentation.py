"""Signatures and docstrings of the neurons' classes, completed with the arguments that all of them share."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter, Signature
from typing import Annotated, Any, Required, Unpack, get_args, get_origin, get_type_hints

from snntorch_asnn.neurons.options import SNNTORCH_ARGUMENTS, Option

__all__ = ["complete_docstring", "complete_signature", "option_parameters", "shared_meanings"]


def option_parameters(init: Callable[..., None], defaults: Mapping[str, Any]) -> dict[str, Parameter]:
    """The keyword-only parameters that ``**options: Unpack[...]`` of a constructor stands for.

    Args:
        init: the constructor.
        defaults: defaults that replace those of the options.
    """
    found = {}
    for name, (annotation, option) in _options(init).items():
        default = defaults.get(name, option.default)
        found[name] = Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
    return found


def complete_signature(init: Callable[..., None], options: Mapping[str, Parameter]) -> Signature:
    """The signature of a constructor with ``options`` in the place of ``**options``."""
    signature = inspect.signature(init, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
    return signature.replace(parameters=[*own, *options.values()])


def shared_meanings(init: Callable[..., None]) -> dict[str, str]:
    """Meaning of every argument of a constructor that is documented for all neurons alike."""
    return SNNTORCH_ARGUMENTS | {name: option.meaning for name, (_, option) in _options(init).items()}


def complete_docstring(doc: str, names: Iterable[str], meanings: Mapping[str, str]) -> str:
    """A Google-style docstring whose ``Args`` lists all arguments, in the order of ``names``.

    Args:
        doc: the docstring. Its own entries take precedence; ``**options`` is left out.
        names: the arguments.
        meanings: the meaning of the arguments that ``doc`` does not have.
    """
    before, header, rest = inspect.cleandoc(doc).partition("\nArgs:\n")
    if not header:
        return doc
    section = re.match(r"(?: {4}.*\n|\n(?= {4}))*", rest)
    assert section is not None
    entries = _entries(section[0])
    listed = []
    for name in names:
        if name in entries:
            listed.append(entries[name])
        elif name in meanings:
            entry = f"    {name}: {meanings[name]}"
            listed.append(textwrap.fill(entry, 106, subsequent_indent=" " * 8, break_on_hyphens=False) + "\n")
    return before + header + "".join(dict.fromkeys(listed)) + rest[section.end() :]


def _entries(section: str) -> dict[str, str]:
    """The entries of an ``Args`` section by the names that each documents."""
    texts = re.split(r"^(?= {4}\S)", section, flags=re.MULTILINE)
    return {name: text for text in texts for name in text.partition(":")[0].strip().split(", ") if name}


def _options(init: Callable[..., None]) -> dict[str, tuple[Any, Option]]:
    """Type and :class:`Option` of each keyword argument in the ``Unpack[...]`` of a constructor."""
    hints = get_type_hints(init, include_extras=True).values()
    unpacked = [get_args(hint)[0] for hint in hints if get_origin(hint) is Unpack]
    found = {}
    for name, hint in (item for typed in unpacked for item in _hints(typed)):
        annotation, *metadata = get_args(hint)
        found[name] = annotation, next(m for m in metadata if isinstance(m, Option))
    return found


def _hints(typed_dict: type) -> Iterable[tuple[str, Any]]:
    for name, hint in get_type_hints(typed_dict, include_extras=True).items():
        hint = get_args(hint)[0] if get_origin(hint) is Required else hint
        if get_origin(hint) is Annotated:
            yield name, hint
