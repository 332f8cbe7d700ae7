"""Command line options made from the fields of a dataclass."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from snntorch_asnn.train.settings import parse_setting

_METAVARS = {str: "str", int: "int", float: "float", Path: "path"}


def with_options_of(
    cls: type, act: Callable[..., None], *, without: Collection[str] = ()
) -> Callable[..., None]:
    """Return a function for typer whose options are the fields of a dataclass, after those of ``act``.

    Names, types and defaults are the fields'; help and panel are ``help`` and ``group`` of their
    metadata. Every switch can be turned on and off, and ``none`` stands for no value where a field may have
    none.

    Args:
        cls: the dataclass.
        act: called with a dict of those fields that the user has given, and with its other parameters
            by keyword; its docstring is the command's help.
        without: fields that are no options.
    """
    fields = [field for field in dataclasses.fields(cls) if field.name not in without]
    names = {field.name for field in fields}
    own = list(inspect.signature(act, eval_str=True).parameters.values())[1:]

    def command(context: typer.Context, **values: Any) -> None:
        given = {name: values[name] for name in names if _was_given(context, name)}
        act(given, **{parameter.name: values[parameter.name] for parameter in own})

    parameters = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    parameters += [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    parameters += [_parameter(cls, field) for field in fields]
    command.__doc__ = act.__doc__
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _parameter(cls: type, field: dataclasses.Field[Any]) -> inspect.Parameter:
    kind = get_type_hints(cls)[field.name]
    flag, about = f"--{field.name.replace('_', '-')}", field.metadata
    option: Any
    if isinstance(kind, types.UnionType):
        names = "|".join("none" if part is type(None) else _METAVARS[part] for part in get_args(kind))
        read = functools.partial(_read, cls, field.name)
        option = typer.Option(
            flag, parser=read, metavar=f"<{names}>", help=about["help"], rich_help_panel=about["group"]
        )
        kind = Any
    else:
        flags = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
        option = typer.Option(flags, help=about["help"], rich_help_panel=about["group"])
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=field.default,
        annotation=Annotated[kind, option],
    )


def _read(cls: type, name: str, text: str) -> Any:
    """Return the value that a text means for a field, None for ``none``."""
    try:
        return parse_setting(cls, name, text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
