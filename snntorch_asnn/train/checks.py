"""What can be seen to be wrong with a run before its data are loaded."""

from __future__ import annotations

import torch

from snntorch_asnn.train.config import MACHINE_SETTINGS, TrainConfig
from snntorch_asnn.train.data import check_data, image_shape
from snntorch_asnn.train.devices import make_fabric
from snntorch_asnn.train.model import build_model
from snntorch_asnn.train.randomness import kept_random_state
from snntorch_asnn.train.run_folder import RunFolder
from snntorch_asnn.train.teacher import check_teacher


def check_run(config: TrainConfig) -> None:
    """Refuse a run that could not begin: its device, folder, data folder, teacher file or model.

    Raises:
        ValueError: names what is wrong; nothing has been written.
        TypeError: the model does not take a setting.
        ModuleNotFoundError: a package of the extra ``[train]`` is missing.
    """
    make_fabric(config)
    check_folder(config)
    check_data(config)
    if config.teacher is not None:
        check_teacher(config.teacher)
    in_channels, image_size = image_shape(config)
    with kept_random_state(torch.device("cpu")):
        build_model(config, 10, in_channels, image_size)


def check_folder(config: TrainConfig) -> None:
    """Refuse a folder that the run may not write to.

    Raises:
        ValueError: it holds files and is neither to be replaced nor continued, there is no run to be
            continued, or that has other settings or damaged ones.
    """
    folder = RunFolder(config.run_folder)
    if config.resume:
        folder.check_has_run()
        _check_same_settings(config, folder.read_config())
    else:
        folder.check_free(overwrite=config.overwrite)


def _check_same_settings(config: TrainConfig, of_run: TrainConfig) -> None:
    """Refuse to continue a run with settings that would change what it computes."""
    mine, theirs = config.to_dict(), of_run.to_dict()
    other = [name for name in mine if name not in MACHINE_SETTINGS and mine[name] != theirs[name]]
    if other:
        raise ValueError(
            f"resume must keep the settings of the run in {config.run_folder}; got "
            + ", ".join(f"{name}={mine[name]!r} where it has {theirs[name]!r}" for name in other)
        )
