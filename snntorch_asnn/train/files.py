"""Files that are written whole or not at all; checkpoints run no code when they are read."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch

_FORMAT = "snntorch-asnn checkpoint"
_FORMAT_VERSION = 1
_READ_ERRORS = (
    zipfile.BadZipFile,
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
)
"""Errors that torch.load may raise for a damaged file."""


def write_atomically(file: Path, write: Callable[[IO[bytes]], object], *, keep: Path | None = None) -> None:
    """Write a file whole or not at all: to a temporary file, flushed to disk, then renamed.

    Args:
        file: The file.
        write: Writes the content to a stream.
        keep: New place of the file that is there now; it is replaced if None.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        if keep is not None and file.exists():
            file.replace(keep)
        temporary.replace(file)
        _flush_folder(file.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Write a text atomically, as UTF-8 under any locale.

    Under a locale such as C, Python escapes each byte of a file name beyond ASCII; the original bytes are
    written.
    """
    content = text.encode("utf-8", "surrogateescape")
    write_atomically(file, lambda stream: stream.write(content))


def readable_name(name: str) -> str:
    r"""Return the name of a file or folder as text that can be drawn and printed under any locale.

    Example::

        >>> readable_name("K\udcc3\udca4fer")
        'Käfer'
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def write_checkpoint(file: Path, values: Mapping[str, Any], *, keep: Path | None = None) -> None:
    """Write tensors and plain values atomically; the file that is there now goes to ``keep``."""
    content = {"format": _FORMAT, "version": _FORMAT_VERSION, **values}
    write_atomically(file, lambda stream: torch.save(content, stream), keep=keep)


def read_checkpoint(file: Path, *, needs: Mapping[str, type] | None = None) -> dict[str, Any]:
    """Read a checkpoint to the CPU.

    Args:
        file: The file.
        needs: Names of the values that it must hold, and their types.

    Raises:
        ValueError: The file is missing, damaged, or another kind of file, or a value has another type. The
            message names the file and the value.
    """
    if not file.is_file():
        raise ValueError(f"run folder {file.parent} is incomplete: {file.name} is missing")
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()  # torch.load does not look at the checksums
        if damaged is not None:
            raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
        content = torch.load(file, map_location="cpu", weights_only=True)
    except _READ_ERRORS as error:
        raise ValueError(f"run folder is damaged: {file}: {error}") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f"run folder is damaged: {file} is no checkpoint of snntorch-asnn")
    if content.get("version") != _FORMAT_VERSION:
        raise ValueError(
            f"{file} must have checkpoint version {_FORMAT_VERSION}, which this snntorch-asnn reads;"
            f" got version {content.get('version')}"
        )
    needs = needs or {}
    missing = [name for name in needs if name not in content]
    if missing:
        raise ValueError(f"run folder is damaged: {file} lacks {', '.join(missing)}")
    check_types(content, needs, where=str(file))
    return content


def check_types(values: Mapping[str, Any], types: Mapping[str, type], *, where: str) -> None:
    """Refuse values of a checkpoint, or of ``where`` in it, that are missing or have another type."""
    for name, kind in types.items():
        value = values.get(name)
        accepted = (int, float) if kind is float else kind
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            raise ValueError(
                f"run folder is damaged: {where}: {name} must be of type {kind.__name__};"
                f" got {type(value).__name__}"
            )


def _flush_folder(folder: Path) -> None:
    """Let the renaming survive a power cut, if the system can flush a folder."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
