"""Load what a run has trained, and evaluate it again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data import batches, load_images
from snntorch_asnn.train.firing import record_firing_rates
from snntorch_asnn.train.fit import build_model, resolve_device
from snntorch_asnn.train.loop import evaluate
from snntorch_asnn.train.run_folder import RunFolder


@dataclass(frozen=True)
class Evaluation:
    """What a trained model reaches on the test images."""

    accuracy: float
    loss: float
    images: int
    images_per_second: float
    firing_rates: Mapping[str, tuple[float, ...]]


def load_run(run: str | Path) -> tuple[TrainConfig, nn.Module]:
    """Rebuild the model of a run, with the weights of its best epoch.

    Args:
        run: the folder of the run.

    Returns:
        tuple: the run's configuration, and the model in evaluation mode on the CPU.

    Raises:
        ValueError: there is no checkpoint, or it is damaged or does not fit the model.

    Example::

        >>> config, model = load_run("runs/quickstart/hybrid-asnn")  # doctest: +SKIP
    """
    config, model, _ = _load(Path(run))
    return config, model


def evaluate_run(
    run: str | Path,
    *,
    data_dir: str | Path | None = None,
    device: str = "auto",
    batch_size: int | None = None,
) -> Evaluation:
    """Evaluate the best epoch of a run on the test images.

    Args:
        run: the folder of the run.
        data_dir: where the data are now, if not where they were.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        batch_size: images at a time; as in training if None.

    Returns:
        Evaluation: accuracy, loss, throughput and firing rates.

    Raises:
        ValueError: as :func:`load_run`; or the data or the device are not there, or the data have
            other classes.

    Example::

        >>> evaluate_run("runs/quickstart/hybrid-asnn").accuracy  # doctest: +SKIP
        0.98
    """
    config, model, classes = _load(Path(run))
    config = dataclasses.replace(
        config,
        data_dir=config.data_dir if data_dir is None else Path(data_dir),
        batch_size=config.batch_size if batch_size is None else batch_size,
    )
    target = resolve_device(device)
    data = load_images(config)
    if data.classes != classes:
        raise ValueError("data_dir must hold the classes that the run was trained on; got others")
    model = model.to(target)
    with record_firing_rates(model, config.num_steps) as rates:
        score = evaluate(model, batches(data.test, config, train=False, device=target), target)
    return Evaluation(score.accuracy, score.loss, score.images, score.images_per_second, rates.per_layer())


def _load(path: Path) -> tuple[TrainConfig, nn.Module, tuple[str, ...]]:
    """Return a run's configuration, its model, and the names of its classes."""
    folder = RunFolder(path)
    checkpoint = folder.load_checkpoint()
    config, classes = TrainConfig.from_dict(checkpoint["config"]), tuple(checkpoint["classes"])
    model = build_model(config, classes, checkpoint["in_channels"], checkpoint["image_size"])
    try:
        model.load_state_dict(checkpoint["model"])
    except RuntimeError as error:
        raise ValueError(
            f"run must have a checkpoint of {config.model}; got {folder.checkpoint}: {error}"
        ) from error
    return config, model.eval(), classes
