"""Load what a run has trained, and evaluate it again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from snntorch_asnn.energy import warn_of_silence
from snntorch_asnn.models.rebuilding import rebuild
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data import load_images
from snntorch_asnn.train.devices import make_fabric, resolve_device
from snntorch_asnn.train.loader import eval_loader
from snntorch_asnn.train.loop import evaluate
from snntorch_asnn.train.model import build_model
from snntorch_asnn.train.run_folder import RunFolder


@dataclass(frozen=True)
class Evaluation:
    """What a trained model reaches on the test images.

    Attributes:
        accuracy: part of the images that are classified correctly.
        loss: mean cross-entropy, in nats.
        images: number of images.
        images_per_second: throughput, loading included.
        firing_rates: mean spikes per neuron, of each layer at each step.
        accuracy_by_step: accuracy of the mean of the logits up to and including each step.
        confusion: images of each true class (row) that were taken for each class (column).
        classes: names of the classes.
    """

    accuracy: float
    loss: float
    images: int
    images_per_second: float
    firing_rates: Mapping[str, tuple[float, ...]]
    accuracy_by_step: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]
    classes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the results as JSON types."""
        return dataclasses.asdict(self)


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
        Evaluation: accuracy, also by step, confusion matrix, loss, throughput and firing rates.

    Raises:
        ValueError: as :func:`load_run`; or the data or the device are not there, or the data have
            other classes.

    Warns:
        SilentLayersWarning: some layers of neurons fire at no step.

    Example::

        >>> evaluate_run("runs/quickstart/hybrid-asnn").accuracy  # doctest: +SKIP
        0.98
    """
    config, model, classes = _load(Path(run))
    config = dataclasses.replace(
        config,
        data_dir=config.data_dir if data_dir is None else Path(data_dir),
        batch_size=config.batch_size if batch_size is None else batch_size,
        accumulate=1,
        device=device,
        devices=1,
        nodes=1,
        precision="32" if resolve_device(device).type == "cpu" else config.precision,
    )
    fabric = make_fabric(config)
    data = load_images(config)
    if data.classes != classes:
        raise ValueError("data_dir must hold the classes that the run was trained on; got others")
    found = evaluate(
        fabric.setup_module(model).module,
        eval_loader(data.test, config, fabric.device),
        fabric,
        num_steps=config.num_steps,
        num_classes=len(classes),
    )
    warn_of_silence(found.firing_rates, "test images")
    return Evaluation(
        accuracy=found.accuracy,
        loss=found.loss,
        images=found.images,
        images_per_second=found.images_per_second,
        firing_rates=found.firing_rates,
        accuracy_by_step=found.accuracy_by_step,
        confusion=found.confusion,
        classes=classes,
    )


def _load(path: Path) -> tuple[TrainConfig, nn.Module, tuple[str, ...]]:
    """Return a run's configuration, its model, and the names of its classes."""
    folder = RunFolder(path)
    checkpoint, file = folder.load_checkpoint(), folder.checkpoint
    classes, weights = tuple(checkpoint["classes"]), checkpoint["model"]
    try:
        config = TrainConfig.from_stored(checkpoint["config"])
    except (ValueError, TypeError) as error:
        raise ValueError(f"run must have whole files; {file}, config: {error}") from error
    _check_weights(weights, file)
    sizes = {name: checkpoint[name] for name in ("in_channels", "image_size")} | {
        "num_steps": config.num_steps
    }
    for name, size in sizes.items():
        # No more can come out of the file than it holds, and no model is built that fills the memory.
        if not 0 < size <= file.stat().st_size:
            raise ValueError(f"run must have whole files; {file}: {name} cannot be {size}")
    in_channels, image_size = checkpoint["in_channels"], checkpoint["image_size"]
    try:
        model = rebuild(
            lambda: build_model(config, len(classes), in_channels, image_size),
            weights,
            file,
            keep_dtype=False,
        )
    except (ValueError, ArithmeticError) as error:
        raise ValueError(f"run must have a checkpoint of {config.model}; got {file}: {error}") from error
    return config, model.eval(), classes


def _check_weights(weights: Mapping[Any, Any], file: Path) -> None:
    """Refuse weights that are no tensors, or not finite: every accuracy would be that of chance."""
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"run must have whole files; {file}, model: {name!r} must name a tensor")
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"run must have finite weights; {file}, model: {name} holds NaN or infinity")
