"""Train a model of the zoo from a configuration."""

from __future__ import annotations

import json
from typing import Any

import torch

from snntorch_asnn._extras import require
from snntorch_asnn.train.config import MACHINE_SETTINGS, TrainConfig
from snntorch_asnn.train.devices import make_fabric, on_threads
from snntorch_asnn.train.randomness import kept_random_state
from snntorch_asnn.train.reporter import Reporter
from snntorch_asnn.train.result import RunResult, read_result
from snntorch_asnn.train.run import Run
from snntorch_asnn.train.run_folder import RunFolder


def fit(config: TrainConfig, *, reporter: Reporter | None = None) -> RunResult:
    """Train, keep the epoch that is best on the validation images, and read the test images once.

    Writes settings, metrics, checkpoints, pictures and a report to ``config.run_folder``. Two runs with one
    seed give the same numbers on one CPU, also if one of them was killed and continued with
    ``resume``. The caller's random state stays as it is.

    With several ``devices`` every process calls this with the same configuration; the first one writes.

    Args:
        config: the settings.
        reporter: receives the progress.

    Returns:
        RunResult: accuracies, firing rates, throughput, and the metrics of every epoch. With ``resume``
        that of a run that is finished already.

    Raises:
        ValueError: data not found, a name that the zoo does not know, no such device, a run folder that
            is not empty, or one to be continued whose settings are others or whose checkpoints are
            damaged. Nothing has been written then.
        NonFiniteLossError: the loss became NaN or infinite; the last good checkpoints stay.
        ModuleNotFoundError: a package of the extra ``[train]`` is missing.

    Example::

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = fit(TrainConfig(data="digits", train_subset=200, epochs=2, out=folder))
        >>> result.best_epoch in (1, 2), result.parameters
        (True, 62334)
    """
    require("matplotlib", extra="train")
    folder, fabric = RunFolder(config.run_folder), make_fabric(config)
    goes_on = config.resume and folder.config.exists()
    folder.check_free(overwrite=config.overwrite or goes_on)
    if goes_on:
        check_same_settings(config, json.loads(folder.config.read_text(encoding="utf-8"))["config"])
        if folder.result.exists():
            return read_result(folder)
    with kept_random_state(fabric.device), on_threads(config.threads):
        fabric.launch()
        torch.manual_seed(config.seed)
        return Run(config, fabric, folder, reporter or Reporter()).train()


def check_same_settings(config: TrainConfig, of_run: dict[str, Any]) -> None:
    """Refuse to continue a run with settings that would change what it computes.

    Raises:
        ValueError: names the settings that differ.
    """
    mine, theirs = config.to_dict(), TrainConfig.from_dict(of_run).to_dict()
    other = [name for name in mine if name not in MACHINE_SETTINGS and mine[name] != theirs[name]]
    if other:
        raise ValueError(
            "resume must keep the settings of the run; got "
            + ", ".join(f"{name}={mine[name]!r} where it has {theirs[name]!r}" for name in other)
        )
