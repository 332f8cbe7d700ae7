"""Which version of the code a run was started from."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

__all__ = ["git_state"]

_SECONDS = 10


def git_state(folder: str | Path = ".") -> dict[str, Any] | None:
    """Return the commit and branch that a folder's repository is at, and whether files differ from it.

    Args:
        folder: in a working tree; the current folder by default.

    Returns:
        ``{"commit": ..., "branch": ..., "dirty": ...}`` with the branch ``"HEAD"`` where none is checked
        out; None where there is no repository with a commit, or no git.

    Example::

        >>> git_state("/") is None
        True
    """
    commit = _git(folder, "rev-parse", "HEAD")
    branch = _git(folder, "rev-parse", "--abbrev-ref", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if commit is None or branch is None or changes is None:
        return None
    return {"commit": commit, "branch": branch, "dirty": bool(changes)}


def _git(folder: str | Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip()
