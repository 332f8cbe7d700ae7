"""Command line options made from the fields of a dataclass."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer


def with_options_of(cls: type, act: Callable[[Any], None]) -> Callable[..., None]:
    """Return a function for typer whose options are the fields of a dataclass.

    Names, types and defaults are the fields'; help and panel are ``help`` and ``group`` of their
    metadata.

    Args:
        cls: the dataclass.
        act: called with an instance of ``cls``; its docstring is the command's help.
    """
    types = get_type_hints(cls)

    def command(**values: Any) -> None:
        act(cls(**values))

    command.__doc__ = act.__doc__
    command.__annotations__ = {f.name: _annotated(f, types[f.name]) for f in dataclasses.fields(cls)}
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=command.__annotations__[field.name],
            )
            for field in dataclasses.fields(cls)
        ]
    )
    return command


def _annotated(field: dataclasses.Field[Any], kind: Any) -> Any:
    flags = [f"--{field.name.replace('_', '-')}"] if kind is bool else []
    option = typer.Option(*flags, help=field.metadata["help"], rich_help_panel=field.metadata["group"])
    return Annotated[kind, option]
