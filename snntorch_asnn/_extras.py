"""Import packages that only an extra installs."""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["install", "require"]


def install(extra: str) -> str:
    """Return the command that installs an extra; snntorch-asnn is not in the package index yet.

    Example::

        >>> print(install("train"))
        pip install '.[train]' in a checkout of snntorch-asnn
    """
    return f"pip install '.[{extra}]' in a checkout of snntorch-asnn"


def require(module: str, *, extra: str) -> ModuleType:
    """Import a module from an extra; the error says how to install it.

    Raises:
        ModuleNotFoundError: The package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the package {error.name} is not installed; run {install(extra)}", name=error.name
        ) from error
