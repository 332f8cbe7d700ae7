"""Train a model of the zoo from a configuration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from snntorch_asnn._extras import require
from snntorch_asnn.train.batches import kept_random_state
from snntorch_asnn.train.config import FOLDER_DATA_NAMES, TrainConfig
from snntorch_asnn.train.data import check_data, check_images, image_shape
from snntorch_asnn.train.devices import is_main_process, make_fabric, on_threads
from snntorch_asnn.train.evaluation import build_model
from snntorch_asnn.train.progress import Reporter
from snntorch_asnn.train.report import write_report
from snntorch_asnn.train.run import Run
from snntorch_asnn.train.run_folder import RunFolder, RunResult
from snntorch_asnn.train.run_lock import locked
from snntorch_asnn.train.teacher import check_teacher


def fit(config: TrainConfig, *, reporter: Reporter | None = None) -> RunResult:
    """Train, keep the epoch that is best on the validation images, and read the test images once.

    Writes settings, metrics, checkpoints, pictures and a report to ``config.run_folder``. Images in folders
    are all decoded first, unless ``verify`` is off, so that a damaged image is named before anything begins.
    Two runs with one seed give the same numbers on one CPU, even if one of them was killed and resumed. The
    caller's random state stays as it is.

    With several ``devices`` every process calls this with the same configuration; the first process writes.

    Args:
        config: The settings.
        reporter: Receives the progress.

    Returns:
        RunResult: Accuracies, firing rates, throughput, and the metrics of every epoch. With ``resume`` a
        finished run returns its result.

    Raises:
        ValueError: The data are missing or cannot be read; the zoo does not know a name; there is no such
            device; the teacher does not fit; the run folder is not empty, or another process writes to it; or
            there is no run to resume, its settings or data are others, or its files are damaged. Nothing has
            been written then.
        NonFiniteLossError: A loss became NaN or infinite; the last good checkpoints stay.
        ModuleNotFoundError: A package of the extra ``[train]`` is missing.

    Example::

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = fit(TrainConfig(data="digits", train_subset=200, epochs=2, out=folder))
        >>> result.best_epoch in (1, 2), result.parameters
        (True, 62334)
    """
    require("matplotlib", extra="train")
    folder, fabric, reporter = RunFolder(config.run_folder), make_fabric(config), reporter or Reporter()
    folder.check(config)
    if config.resume and folder.result.exists():
        return _finished(folder)
    with _prepared(config, folder, reporter), kept_random_state(fabric.device), on_threads(config.threads):
        fabric.launch()
        torch.manual_seed(config.seed)
        return Run(config, fabric, folder, reporter).train()


def check_run(config: TrainConfig) -> None:
    """Refuse a run that could not begin, before its data are loaded.

    Raises:
        ValueError: The device, run folder, data folder, teacher file or model is wrong. Nothing has been
            written.
        TypeError: The model does not take a setting.
        ModuleNotFoundError: A package of the extra ``[train]`` is missing.
    """
    make_fabric(config)
    RunFolder(config.run_folder).check(config)
    check_data(config)
    if config.teacher is not None:
        check_teacher(config.teacher)
    with kept_random_state(torch.device("cpu")):
        build_model(config, 10, *image_shape(config))


@contextmanager
def _prepared(config: TrainConfig, folder: RunFolder, reporter: Reporter) -> Iterator[None]:
    """Hold the folder's lock and check the images, on the main process, before there are others."""
    if not is_main_process():
        yield
        return
    with locked(folder.path):
        folder.check(config)  # again: another process may just have ended its run
        check_data(config)
        if config.verify and config.data in FOLDER_DATA_NAMES:
            reporter.message("checking that every image can be read; --no-verify skips this")
            check_images(config)
        yield


def _finished(folder: RunFolder) -> RunResult:
    """Return the result of a run, and write its report if its process died right before that."""
    result = folder.read_result()
    if is_main_process():
        if not folder.report.exists():
            write_report(folder.path)
        folder.previous.unlink(missing_ok=True)
    return result
