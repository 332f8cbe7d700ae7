"""Import of packages that only an extra brings."""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["install", "require"]


def install(extra: str) -> str:
    """The command that brings an extra; the package index has no snntorch-asnn yet.

    Example::

        >>> print(install("train"))
        pip install '.[train]' in a checkout of snntorch-asnn
    """
    return f"pip install '.[{extra}]' in a checkout of snntorch-asnn"


def require(module: str, *, extra: str) -> ModuleType:
    """Import a module that an extra brings, or say how to install it.

    Raises:
        ModuleNotFoundError: The package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the package {error.name} is needed here: {install(extra)}", name=error.name
        ) from error
