"""Errors on the command line: one line on standard error, and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

WRONG, FAILED, INTERRUPTED = 2, 1, 130
"""Exit statuses: of wrong arguments or files, of a run that failed, and of Ctrl-C."""


class InterruptedRun(Exception):
    """The user has pressed Ctrl-C."""


@contextmanager
def interruptible(advice: str | Callable[[], str]) -> Iterator[None]:
    """Turn Ctrl-C into one line with what to do next.

    Args:
        advice: the end of the line, or a function that returns it.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        text = advice if isinstance(advice, str) else advice()
        raise InterruptedRun(f"interrupted; {text}") from error


def fail(error: Exception, *, code: int, debug: bool) -> None:
    """Print an error and exit, or let it through with ``debug``."""
    if debug:
        raise error
    Console(stderr=True).print(
        f"snntorch-asnn: {_in_one_line(error)}", style="red", markup=False, highlight=False, soft_wrap=True
    )
    sys.exit(code)


def _in_one_line(error: Exception) -> str:
    """The message of an error; one that comes from a worker process is the end of its traceback."""
    text = str(error) or type(error).__name__
    if text.startswith("Caught ") and "Original Traceback" in text:
        return text.strip().splitlines()[-1].partition(": ")[2] or text
    return text
