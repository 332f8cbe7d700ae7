"""The folder of a run: its files, the checks before a run may write to it, and the versions it records."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import snntorch_asnn
from snntorch_asnn.train.config import MACHINE_SETTINGS, TrainConfig
from snntorch_asnn.train.files import check_types, read_checkpoint, write_checkpoint, write_text
from snntorch_asnn.train.run_lock import LOCK_NAME

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
_GIT_SECONDS = 10
_DESCRIPTION = ("config", "images", "device", "threads", "versions")
_CHECKPOINT = {"config": dict, "classes": list, "in_channels": int, "image_size": int, "model": dict}
_STATE = {
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
_TALLY = {"loss": float, "correct": int, "images": int, "seconds": float}
_BEST = {"epoch": int, "val_accuracy": float, "val_loss": float, "model": dict}


@dataclass(frozen=True)
class RunResult:
    """The results of a training run, and the folder with its files."""

    out: Path
    test_accuracy: float
    test_loss: float
    val_accuracy: float
    best_epoch: int
    parameters: int
    firing_rate: float
    firing_rates: Mapping[str, tuple[float, ...]]
    accuracy_by_step: tuple[float, ...]
    images_per_second: float
    seconds: float
    metrics: tuple[Mapping[str, Any], ...]


class RunFolder:
    """Paths, writers and readers of the files of one training run; :meth:`create` makes the folder."""

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

    def check(self, config: TrainConfig) -> None:
        """Refuse a configuration whose run may not write here.

        Raises:
            ValueError: The folder holds files that are neither to be replaced nor resumed; or there is no run
                to resume, or it has other settings or damaged ones.
        """
        if config.resume:
            self.check_has_run()
            self._check_same_settings(config)
        else:
            self._check_free(overwrite=config.overwrite)

    def check_has_run(self) -> None:
        """Refuse a folder without a run to resume."""
        if not self.config.is_file():
            raise ValueError(
                f"resume needs the folder of a run; {self.path}"
                f" {f'has no {self.config.name}' if self.path.is_dir() else 'is no folder'}."
                " Check out, or leave resume out to begin a new run"
            )

    def create(self) -> None:
        """Make the folder, and remove the files of an earlier run from it; other files stay."""
        self.path.mkdir(parents=True, exist_ok=True)
        for file in (*self.files, *self.path.glob(".*.tmp"), *self.tensorboard.glob("events.*")):
            file.unlink(missing_ok=True)

    def write_json(self, file: Path, values: Mapping[str, Any]) -> None:
        """Write values to a file of the folder, whole or not at all."""
        write_text(file, json.dumps(values, indent=2) + "\n")

    def read_json(self, file: Path, *, needs: Collection[str] = ()) -> dict[str, Any]:
        """Read a JSON file of the folder.

        Raises:
            ValueError: The file is damaged, or lacks one of the values in ``needs``.
        """
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"run folder is damaged: {file}: {error}") from error
        if not isinstance(values, dict):
            raise ValueError(f"run folder is damaged: {file} must hold a JSON object")
        missing = [name for name in needs if name not in values]
        if missing:
            raise ValueError(f"run folder is damaged: {file} lacks {', '.join(missing)}")
        return values

    def read_description(self) -> dict[str, Any]:
        """Read ``config.json``: settings, sizes of the splits, device, versions."""
        if not self.config.is_file():
            raise ValueError(f"run folder {self.path} is incomplete: {self.config.name} is missing")
        return self.read_json(self.config, needs=_DESCRIPTION)

    def read_config(self) -> TrainConfig:
        """Read the settings of the run."""
        settings = self.read_description()["config"]
        try:
            return TrainConfig.from_stored(settings)
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"run folder is damaged: {self.config}, config: {error}") from error

    def append(self, file: Path, values: Mapping[str, Any]) -> None:
        """Add one line to ``metrics.jsonl`` or ``steps.jsonl``."""
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(values) + "\n")

    def rewrite(self, file: Path, lines: Iterable[Mapping[str, Any]]) -> None:
        """Replace the lines of ``metrics.jsonl`` or ``steps.jsonl``, whole or not at all."""
        write_text(file, "".join(json.dumps(line) + "\n" for line in lines))

    def read_lines(self, file: Path) -> list[dict[str, Any]]:
        """Return the lines of ``metrics.jsonl`` or ``steps.jsonl``, without a last line that was cut off."""
        if not file.exists():
            return []
        try:
            text = file.read_text(encoding="utf-8")
            return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        except ValueError as error:
            raise ValueError(f"run folder is damaged: {file}: {error}") from error

    def write_result(self, result: RunResult) -> None:
        """Write ``result.json``; a run with a result is finished."""
        values = {name: v for name, v in vars(result).items() if name not in ("out", "metrics")}
        self.write_json(self.result, values)

    def read_result(self) -> RunResult:
        """Read the result of a finished run."""
        values, metrics = self.read_json(self.result), tuple(self.read_lines(self.metrics))
        try:
            values["firing_rates"] = {name: tuple(r) for name, r in values["firing_rates"].items()}
            values["accuracy_by_step"] = tuple(values["accuracy_by_step"])
            return RunResult(out=self.path, metrics=metrics, **values)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"run folder is damaged: {self.result}: {error}") from error

    def save_checkpoint(self, values: Mapping[str, Any]) -> None:
        """Write the best model to ``checkpoint.pt``, whole or not at all."""
        write_checkpoint(self.checkpoint, values)

    def load_checkpoint(self) -> dict[str, Any]:
        """Read ``checkpoint.pt`` to the CPU, without running code from it."""
        return read_checkpoint(self.checkpoint, needs=_CHECKPOINT)

    def save_state(self, values: Mapping[str, Any]) -> None:
        """Write the state of training to ``last.pt``; its earlier content becomes ``previous.pt``."""
        write_checkpoint(self.last, values, keep=self.previous)

    def load_state(self) -> tuple[dict[str, Any] | None, str | None]:
        """Read ``last.pt``, or ``previous.pt`` if ``last.pt`` is damaged or missing.

        Returns:
            The state, None if there is neither file; and the reason why ``last.pt`` was not used, if so.

        Raises:
            ValueError: Both files are damaged, or the only one.
        """
        reasons: list[str] = []
        for file in (self.last, self.previous):
            if not file.exists():
                continue
            try:
                state = read_checkpoint(file, needs=_STATE)
                check_types(state["tally"], _TALLY, where=f"{file}, tally")
                check_types(state["best"], _BEST, where=f"{file}, best")
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
        """Move ``previous.pt`` to the place of an unusable ``last.pt``.

        Otherwise the next :meth:`save_state` would move the unusable file over the only good state.
        """
        self.previous.replace(self.last)

    def _check_free(self, *, overwrite: bool) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"out must be a folder; {self.path} is a file")
        if not overwrite and self.path.is_dir() and any(map(_belongs_to_user, self.path.iterdir())):
            hint = "; --resume resumes the run in it" if self.config.exists() else ""
            raise ValueError(
                f"out must be an empty folder unless overwrite is set; {self.path} holds files{hint}"
            )

    def _check_same_settings(self, config: TrainConfig) -> None:
        """Refuse to resume the run with settings that would change the numbers that it computes."""
        mine, theirs = config.to_dict(), self.read_config().to_dict()
        other = [name for name in mine if name not in MACHINE_SETTINGS and mine[name] != theirs[name]]
        if other:
            raise ValueError(
                f"resume must keep the settings of the run in {config.run_folder}; got "
                + ", ".join(f"{name}={mine[name]!r} where it has {theirs[name]!r}" for name in other)
            )


def _belongs_to_user(file: Path) -> bool:
    """Return whether a file is neither a lock nor a leftover of a killed process."""
    return file.name != LOCK_NAME and not (file.name.startswith(".") and file.suffix == ".tmp")


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of the packages that it uses."""
    found = {"python": platform.python_version(), "snntorch-asnn": snntorch_asnn.__version__}
    found["torch"] = torch.__version__  # with the build, which metadata leaves out
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_state(folder: str | Path = ".") -> dict[str, Any] | None:
    """Return the commit and branch of a folder's repository, and whether its files differ from the commit.

    The result is ``{"commit": ..., "branch": ..., "dirty": ...}``, with the branch ``"HEAD"`` if no branch is
    checked out; None without a repository, a commit or git.

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
        done = subprocess.run(command, capture_output=True, timeout=_GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip()
