"""Checkpoint files that are whole or not there, and that run no code when they are read."""

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


def write_checkpoint(file: Path, values: Mapping[str, Any], *, keep: Path | None = None) -> None:
    """Write tensors and plain values, whole or not at all.

    Args:
        file: the file.
        values: what it is to hold.
        keep: where the file that is there now goes; it is replaced if None.
    """
    content = {"format": _FORMAT, "version": _FORMAT_VERSION, **values}
    write_atomically(file, lambda stream: torch.save(content, stream), keep=keep)


def read_checkpoint(file: Path, *, needs: Mapping[str, type] | None = None) -> dict[str, Any]:
    """Read a checkpoint, to the CPU.

    Args:
        file: the file.
        needs: names of values that it must hold, and their types.

    Raises:
        ValueError: the file is not there, it is damaged, it is no checkpoint of this package, or one of
            another kind, or a value has another type. The message names the file and the value.
    """
    if not file.is_file():
        raise ValueError(f"run must be a run folder; {file.parent} has no {file.name}")
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()  # torch.load does not look at the checksums
        if damaged is not None:
            raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (
        zipfile.BadZipFile,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        pickle.UnpicklingError,
    ) as error:
        raise ValueError(f"run must have a whole checkpoint; {file} is damaged: {error}") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f"run must have a checkpoint of snntorch-asnn; {file} is another file")
    if content.get("version") != _FORMAT_VERSION:
        raise ValueError(
            f"run must have a checkpoint of version {_FORMAT_VERSION}; {file} has {content.get('version')}"
        )
    needs = needs or {}
    missing = [name for name in needs if name not in content]
    if missing:
        raise ValueError(
            f"run must have its own files; {file} is a checkpoint of another kind,"
            f" without {', '.join(missing)}"
        )
    check_types(content, needs, where=str(file))
    return content


def check_types(values: Mapping[str, Any], types: Mapping[str, type], *, where: str) -> None:
    """Refuse values of a checkpoint that are missing or have another type.

    Args:
        values: by name.
        types: those that are wanted; an integer does where a float is.
        where: file, and where in it, for the message.

    Raises:
        ValueError: names the file and the value.
    """
    for name, kind in types.items():
        value = values.get(name)
        wanted = (int, float) if kind is float else kind
        if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
            raise ValueError(
                f"run must have whole files; {where}: {name} must be of type {kind.__name__}; got"
                f" {type(value).__name__}"
            )


def write_atomically(file: Path, write: Callable[[IO[bytes]], object], *, keep: Path | None = None) -> None:
    """Write a file whole or not at all: to a temporary one, flushed to disk, then renamed.

    Args:
        file: the file.
        write: writes the content to a stream.
        keep: where the file that is there now goes; it is replaced if None.
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


def _flush_folder(folder: Path) -> None:
    """Let the renaming survive a power cut, where the system can flush a folder."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
