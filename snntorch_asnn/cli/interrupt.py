"""Ctrl-C ends a command in one line that says how to go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class InterruptedRun(Exception):
    """The user has pressed Ctrl-C."""


@contextmanager
def interruptible(advice: str | Callable[[], str]) -> Iterator[None]:
    """Turn Ctrl-C into an error whose message ends with an advice, which may be a function's result."""
    try:
        yield
    except KeyboardInterrupt as error:
        text = advice if isinstance(advice, str) else advice()
        raise InterruptedRun(f"interrupted; {text}") from error
