"""Train a model of the zoo from a configuration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from snntorch_asnn._extras import require
from snntorch_asnn.train.checks import check_folder
from snntorch_asnn.train.config import FOLDER_DATA_NAMES, TrainConfig
from snntorch_asnn.train.data import check_data, check_images
from snntorch_asnn.train.devices import is_main_process, make_fabric, on_threads
from snntorch_asnn.train.randomness import kept_random_state
from snntorch_asnn.train.report import write_report
from snntorch_asnn.train.reporter import Reporter
from snntorch_asnn.train.result import RunResult, read_result
from snntorch_asnn.train.run import Run
from snntorch_asnn.train.run_folder import RunFolder
from snntorch_asnn.train.run_lock import locked


def fit(config: TrainConfig, *, reporter: Reporter | None = None) -> RunResult:
    """Train, keep the epoch that is best on the validation images, and read the test images once.

    Every image of a folder of images is decoded first, unless ``verify`` is off, so that a damaged one is
    named before anything begins. Writes settings, metrics, checkpoints, pictures and a report to
    ``config.run_folder``. Two runs with one seed give the same numbers on one CPU, also if one of them was
    killed and continued with ``resume``. The caller's random state stays as it is.

    With several ``devices`` every process calls this with the same configuration; the first one writes.

    Args:
        config: the settings.
        reporter: receives the progress.

    Returns:
        RunResult: accuracies, firing rates, throughput, and the metrics of every epoch. With ``resume``
        that of a run that is finished already.

    Raises:
        ValueError: data not found, a name that the zoo does not know, no such device, a teacher that does
            not fit, an image that cannot be read, a run folder that is not empty or that another process
            writes to, or one to be continued that holds no run, or whose settings or data are others, or
            whose files are damaged. Nothing has been written then.
        NonFiniteLossError: a loss became NaN or infinite; the last good checkpoints stay.
        ModuleNotFoundError: a package of the extra ``[train]`` is missing.

    Example::

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = fit(TrainConfig(data="digits", train_subset=200, epochs=2, out=folder))
        >>> result.best_epoch in (1, 2), result.parameters
        (True, 62334)
    """
    require("matplotlib", extra="train")
    folder, fabric, reporter = RunFolder(config.run_folder), make_fabric(config), reporter or Reporter()
    check_folder(config)
    if config.resume and folder.result.exists():
        return _finished(folder)
    with _prepared(config, folder, reporter), kept_random_state(fabric.device), on_threads(config.threads):
        fabric.launch()
        torch.manual_seed(config.seed)
        return Run(config, fabric, folder, reporter).train()


@contextmanager
def _prepared(config: TrainConfig, folder: RunFolder, reporter: Reporter) -> Iterator[None]:
    """Hold the folder's lock and check the images, on the main process, before there are others."""
    if not is_main_process():
        yield
        return
    with locked(folder.path):
        check_folder(config)  # again: another process may just have ended its run
        check_data(config)
        if config.verify and config.data in FOLDER_DATA_NAMES:
            reporter.message("checking that every image can be read; --no-verify skips this")
            check_images(config)
        yield


def _finished(folder: RunFolder) -> RunResult:
    """Return the result of a run, and do what was left if its process died right after writing that."""
    result = read_result(folder)
    if is_main_process():
        if not folder.report.exists():
            write_report(folder.path)
        folder.previous.unlink(missing_ok=True)
    return result
