"""The files of a run, read for its report."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.run_folder import RunFolder

_OF_RESULT = (
    "test_accuracy",
    "val_accuracy",
    "best_epoch",
    "parameters",
    "firing_rate",
    "images_per_second",
    "seconds",
)
_OF_ENERGY = (
    "mj",
    "mj_by_step",
    "macs",
    "acs",
    "ann_macs",
    "ann_mj",
    "images",
    "preset",
    "op_energy",
    "layers",
)


@dataclass(frozen=True)
class RunFiles:
    """What a run has written so far."""

    path: Path
    description: Mapping[str, Any]
    """``config.json``: settings, sizes of the splits, device, versions."""
    config: TrainConfig
    metrics: Sequence[Mapping[str, Any]]
    """One mapping an epoch."""
    result: Mapping[str, Any] | None
    """``result.json``; None while the run is not finished."""
    evaluation: Mapping[str, Any]
    """``evaluation.json``; empty if there is none."""
    energy: Mapping[str, Any] | None
    model: nn.Module | None
    """The network of the best epoch; None if there is no checkpoint."""


def read_run(path: Path) -> RunFiles:
    """Read the files of a run.

    Raises:
        ValueError: it is no folder of a run, holds no finished epoch, or a file is damaged.
    """
    folder = RunFolder(path)
    description, metrics = folder.read_description(), folder.read_lines(folder.metrics)
    if not metrics:
        raise ValueError(f"run must have finished an epoch; {path} has no metrics.jsonl or an empty one")
    return RunFiles(
        path=path,
        description=description,
        config=folder.read_config(),
        metrics=metrics,
        result=_read(folder, folder.result, needs=_OF_RESULT),
        evaluation=_read(folder, folder.evaluation) or {},
        energy=_read(folder, folder.energy, needs=_OF_ENERGY),
        model=_load_model(path),
    )


def _load_model(path: Path) -> nn.Module | None:
    from snntorch_asnn.train.evaluation import load_run

    return load_run(path)[1] if (path / "checkpoint.pt").is_file() else None


def _read(folder: RunFolder, file: Path, *, needs: Collection[str] = ()) -> dict[str, Any] | None:
    return folder.read_json(file, needs=needs) if file.is_file() else None
