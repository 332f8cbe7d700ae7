"""Import of packages that only the extra ``[train]`` brings."""

from __future__ import annotations

import importlib
from types import ModuleType

INSTALL = "pip install 'snntorch-asnn[train]'"


def require(module: str) -> ModuleType:
    """Import a module of the extra ``[train]``, or say how to install it.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"training needs the package {error.name}: {INSTALL}", name=error.name
        ) from error
