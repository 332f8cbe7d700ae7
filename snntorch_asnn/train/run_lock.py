"""A lock file that keeps two processes from writing one run folder."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

LOCK_NAME = ".lock"
_SECONDS_TO_WRITE = 1.0
"""Time that a process has to write into its new lock file."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock file of a run folder, which names this process, inside the context.

    The lock of a process that has ended is taken over. A missing folder is made, and removed again if nothing
    was written to it.

    Raises:
        ValueError: Another process holds the lock.
    """
    made = _make(folder)
    lock = folder / LOCK_NAME
    try:
        _take(lock)
    except BaseException:
        _remove_empty(made)
        raise
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        _remove_empty(made)


def _take(lock: Path) -> None:
    """Create the lock file; only one of several processes succeeds."""
    with _one_at_a_time(lock.parent):
        if lock.exists():
            owner = _read(lock)
            if owner is not None and _is_alive(owner):
                raise ValueError(_refusal(lock, owner))
            lock.unlink(missing_ok=True)
        try:
            handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            message = "out must be a folder that no other process writes to; another process has just taken"
            raise ValueError(f"{message} {lock}") from None
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(_this_process(), stream)


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Let one process at a time read the lock file and take it over, if the system can."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems lock no folders
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _refusal(lock: Path, owner: dict[str, Any]) -> str:
    where = "" if owner["host"] == platform.node() else f" on {owner['host']}"
    elsewhere = f"; if it has ended, remove {lock}" if where else ""
    return (
        f"out must be a folder that no other process writes to; process {owner['pid']}{where} is training in"
        f" {lock.parent}{elsewhere}"
    )


def _read(lock: Path) -> dict[str, Any] | None:
    """Return the process that a lock file names; None if it died before it wrote anything."""
    waited_until = time.monotonic() + _SECONDS_TO_WRITE
    while True:
        try:
            owner = json.loads(lock.read_text(encoding="utf-8"))
            return {"pid": int(owner["pid"]), "host": str(owner["host"]), "start": owner.get("start")}
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError):
            if time.monotonic() > waited_until:
                return None
            time.sleep(_SECONDS_TO_WRITE / 20)


def _this_process() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": platform.node(), "start": _start_of(os.getpid())}


def _is_alive(owner: dict[str, Any]) -> bool:
    """Return whether a process still runs; a process on another machine counts as running."""
    if owner["host"] != platform.node() or sys.platform == "win32":
        return True
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    start = _start_of(owner["pid"])
    return start is None or owner["start"] is None or start == owner["start"]


def _start_of(pid: int) -> str | None:
    """Return the start time of a process, in the kernel's ticks; numbers of processes are used again."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *rest = stat.rpartition(")")[2].split()
    return "ended" if state == "Z" else rest[18]


def _make(folder: Path) -> list[Path]:
    """Make a folder, and return the folders that were missing, the innermost first."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out must be a folder; {folder} is a file")
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folders: list[Path]) -> None:
    with suppress(OSError):  # not empty: the run has written to it
        for folder in folders:
            folder.rmdir()
