"""The command ``snntorch-asnn``. Needs the extra ``[train]``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from snntorch_asnn._extras import install

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 after success, 1 after a failed run, 2 after wrong arguments.

    Args:
        args: The arguments after the program's name; the arguments of the process if None.
    """
    try:
        from snntorch_asnn.cli.app import run_command_line
    except ModuleNotFoundError as error:
        if error.name not in ("cyclopts", "rich"):
            raise
        message = f"the command line needs the package {error.name}"
        sys.exit(f"snntorch-asnn: {message}: {install('train')}")
    run_command_line(args)
