"""The files of a run, written so that a crash never leaves one half-written."""

from __future__ import annotations

import json
import platform
from collections.abc import Collection, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import snntorch_asnn
from snntorch_asnn.train.checkpoint import check_types, read_checkpoint, write_checkpoint
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.run_lock import LOCK_NAME
from snntorch_asnn.train.utf8 import write_text

_PACKAGES = (
    "snntorch",
    "lightning-fabric",
    "torchvision",
    "timm",
    "numpy",
    "scikit-learn",
    "matplotlib",
    "triton",
)
_OF_DESCRIPTION = ("config", "images", "device", "threads", "versions")
_OF_BEST = {"config": dict, "classes": list, "in_channels": int, "image_size": int, "model": dict}
_OF_STATE = {
    "data": dict,
    "epoch": int,
    "step": int,
    "steps_per_epoch": int,
    "lr": float,
    "tally": dict,
    "best": dict,
    "metrics": list,
    "learner": dict,
}
_OF_TALLY = {"loss": float, "correct": int, "images": int, "seconds": float}
_OF_BEST_SO_FAR = {"epoch": int, "val_accuracy": float, "val_loss": float, "model": dict}


class RunFolder:
    """Paths, writers and readers of the files of one training run.

    Args:
        path: the folder; it is made by :meth:`create`, not here.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.metrics = path / "metrics.jsonl"
        self.steps = path / "steps.jsonl"
        self.result = path / "result.json"
        self.evaluation = path / "evaluation.json"
        self.checkpoint = path / "checkpoint.pt"
        self.last = path / "last.pt"
        self.previous = path / "previous.pt"
        self.tensorboard = path / "tensorboard"
        self.energy = path / "energy.json"
        self.report = path / "report.html"
        self.learning_curve = path / "learning_curve.png"
        self.time_parameters = path / "time_parameters.png"
        self.firing_rates = path / "firing_rates.png"

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that a run may write."""
        return tuple(value for value in vars(self).values() if value not in (self.path, self.tensorboard))

    def check_free(self, *, overwrite: bool) -> None:
        """Refuse a folder that holds files, unless ``overwrite``.

        Raises:
            ValueError: the path is a file, or a folder that is not empty.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"out must be a folder; {self.path} is a file")
        if not overwrite and self.path.is_dir() and any(map(_is_of_a_user, self.path.iterdir())):
            hint = "; --resume continues the run in it" if self.config.exists() else ""
            raise ValueError(
                f"out must be an empty folder unless overwrite is set; {self.path} holds files{hint}"
            )

    def check_has_run(self) -> None:
        """Refuse to continue a run that is not there.

        Raises:
            ValueError: the folder holds no run, or is none.
        """
        if not self.config.is_file():
            raise ValueError(
                f"resume must be given for the folder of a run; {self.path}"
                f" {f'has no {self.config.name}' if self.path.is_dir() else 'is no folder'}:"
                " check out, or leave resume out to begin a run there"
            )

    def create(self) -> None:
        """Make the folder, without the files of an earlier run; other files in it stay."""
        self.path.mkdir(parents=True, exist_ok=True)
        for file in (*self.files, *self.path.glob(".*.tmp"), *self.tensorboard.glob("events.*")):
            file.unlink(missing_ok=True)

    def write_json(self, file: Path, values: Mapping[str, Any]) -> None:
        """Write values to a file of the folder, whole or not at all."""
        write_text(file, json.dumps(values, indent=2) + "\n")

    def read_json(self, file: Path, *, needs: Collection[str] = ()) -> dict[str, Any]:
        """Read a file that :meth:`write_json` has written.

        Args:
            file: the file.
            needs: names of values that it must hold.

        Raises:
            ValueError: it is damaged, or lacks a value.
        """
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"run must have whole files; {file} is damaged: {error}") from error
        missing = [name for name in needs if name not in values] if isinstance(values, dict) else list(needs)
        if missing or not isinstance(values, dict):
            lack = ", ".join(missing) or "names of values"
            raise ValueError(f"run must have whole files; {file} is without {lack}")
        return values

    def read_description(self) -> dict[str, Any]:
        """Read ``config.json``: settings, sizes of the splits, device, versions.

        Raises:
            ValueError: there is none, or it is damaged.
        """
        if not self.config.is_file():
            raise ValueError(f"run must be a run folder; {self.path} has no {self.config.name}")
        return self.read_json(self.config, needs=_OF_DESCRIPTION)

    def read_config(self) -> TrainConfig:
        """Read the settings of the run.

        Raises:
            ValueError: there are none, or they are damaged or not of this version of the package.
        """
        settings = self.read_description()["config"]
        try:
            return TrainConfig.from_stored(settings)
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"run must have settings of its own; {self.config}: {error}") from error

    def append(self, file: Path, values: Mapping[str, Any]) -> None:
        """Add one line to ``metrics.jsonl`` or ``steps.jsonl``."""
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(values) + "\n")

    def rewrite(self, file: Path, lines: Iterable[Mapping[str, Any]]) -> None:
        """Replace the lines of ``metrics.jsonl`` or ``steps.jsonl``, whole or not at all."""
        write_text(file, "".join(json.dumps(line) + "\n" for line in lines))

    def read_lines(self, file: Path) -> list[dict[str, Any]]:
        """Return the lines of ``metrics.jsonl`` or ``steps.jsonl``, less one that was cut off.

        Raises:
            ValueError: the file is damaged.
        """
        if not file.exists():
            return []
        try:
            text = file.read_text(encoding="utf-8")
            return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        except ValueError as error:
            raise ValueError(f"run must have whole files; {file} is damaged: {error}") from error

    def save_checkpoint(self, values: Mapping[str, Any]) -> None:
        """Write the best model to ``checkpoint.pt``, whole or not at all."""
        write_checkpoint(self.checkpoint, values)

    def load_checkpoint(self) -> dict[str, Any]:
        """Read ``checkpoint.pt``, to the CPU, without running code from it.

        Raises:
            ValueError: there is none, it is damaged, or it is something else.
        """
        return read_checkpoint(self.checkpoint, needs=_OF_BEST)

    def save_state(self, values: Mapping[str, Any]) -> None:
        """Write the state of training to ``last.pt``; what that held becomes ``previous.pt``."""
        write_checkpoint(self.last, values, keep=self.previous)

    def load_state(self) -> tuple[dict[str, Any] | None, str | None]:
        """Read ``last.pt``, or ``previous.pt`` if that is damaged or missing.

        Returns:
            The state, None if there is neither file; and why ``last.pt`` was not used, if it was not.

        Raises:
            ValueError: no file that is there can be read.
        """
        files = [file for file in (self.last, self.previous) if file.exists()]
        reasons: list[str] = []
        for file in files:
            try:
                state = read_checkpoint(file, needs=_OF_STATE)
                check_types(state["tally"], _OF_TALLY, where=f"{file}, tally")
                check_types(state["best"], _OF_BEST_SO_FAR, where=f"{file}, best")
            except ValueError as error:
                reasons.append(str(error))
                continue
            if file == self.previous and not reasons:
                reasons.append(f"{self.last} is missing")
            return state, reasons[0] if reasons else None
        if reasons:
            raise ValueError("; ".join(reasons))
        return None, None

    def restore_previous(self) -> None:
        """Put ``previous.pt`` in the place of a ``last.pt`` that could not be used.

        The next :meth:`save_state` would move that to ``previous.pt`` otherwise, over the only good state.
        """
        self.previous.replace(self.last)


def _is_of_a_user(file: Path) -> bool:
    """Whether a file is neither a lock nor what a process that was killed left half-written."""
    return file.name != LOCK_NAME and not (file.name.startswith(".") and file.suffix == ".tmp")


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
