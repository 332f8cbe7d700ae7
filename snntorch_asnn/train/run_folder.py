"""The files of a run, written so that a crash never leaves one half-written."""

from __future__ import annotations

import json
import os
import pickle
import platform
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import torch

import snntorch_asnn

_FORMAT = "snntorch-asnn checkpoint"
_FORMAT_VERSION = 1
_PACKAGES = ("snntorch", "torchvision", "numpy", "scikit-learn", "matplotlib", "triton")


class RunFolder:
    """Paths and writers of the files of one training run.

    Args:
        path: the folder; it is made by :meth:`create`, not here.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.metrics = path / "metrics.jsonl"
        self.result = path / "result.json"
        self.checkpoint = path / "checkpoint.pt"
        self.learning_curve = path / "learning_curve.png"
        self.time_parameters = path / "time_parameters.png"
        self.firing_rates = path / "firing_rates.png"

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that a run may write."""
        return tuple(value for value in vars(self).values() if value is not self.path)

    def check_free(self, *, overwrite: bool) -> None:
        """Refuse a folder that holds files, unless ``overwrite``.

        Raises:
            ValueError: the path is a file, or a folder that is not empty.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"out must be a folder; {self.path} is a file")
        if not overwrite and self.path.is_dir() and any(self.path.iterdir()):
            raise ValueError(f"out must be an empty folder unless overwrite is set; {self.path} holds files")

    def create(self) -> None:
        """Make the folder, without the files of an earlier run; other files in it stay."""
        self.path.mkdir(parents=True, exist_ok=True)
        for file in self.files:
            file.unlink(missing_ok=True)

    def write_json(self, file: Path, values: Mapping[str, Any]) -> None:
        """Write values to a file of the folder, whole or not at all."""
        text = json.dumps(values, indent=2) + "\n"
        write_atomically(file, lambda stream: stream.write(text.encode()))

    def append_metrics(self, values: Mapping[str, Any]) -> None:
        """Add one line to ``metrics.jsonl``."""
        with self.metrics.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(values) + "\n")

    def save_checkpoint(self, values: Mapping[str, Any]) -> None:
        """Write tensors and plain values to ``checkpoint.pt``, whole or not at all."""
        content = {"format": _FORMAT, "version": _FORMAT_VERSION, **values}
        write_atomically(self.checkpoint, lambda stream: torch.save(content, stream))

    def load_checkpoint(self) -> dict[str, Any]:
        """Read ``checkpoint.pt``, to the CPU, without running code from it.

        Raises:
            ValueError: there is none, it is damaged, or it is no checkpoint of this package.
        """
        if not self.checkpoint.is_file():
            raise ValueError(f"run must be a run folder; {self.path} has no {self.checkpoint.name}")
        try:
            content = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            raise ValueError(f"run must have a whole checkpoint; {self.checkpoint} is damaged") from error
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise ValueError(
                f"run must have a checkpoint of snntorch-asnn; {self.checkpoint} is another file"
            )
        if content["version"] != _FORMAT_VERSION:
            raise ValueError(
                f"run must have a checkpoint of version {_FORMAT_VERSION};"
                f" {self.checkpoint} has {content['version']}"
            )
        return content


def write_atomically(file: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file whole or not at all: to a temporary one, flushed to disk, then renamed."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def versions() -> dict[str, str]:
    """Return the versions of Python, this package and those that it stands on."""
    found = {"python": platform.python_version(), "snntorch-asnn": snntorch_asnn.__version__}
    found["torch"] = torch.__version__  # the build too, which metadata leaves out
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
