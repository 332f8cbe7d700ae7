"""Build the model of a configuration, load the trained model of a run, and evaluate it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from snntorch_asnn import models
from snntorch_asnn.energy import record_firing_rates, warn_of_silence
from snntorch_asnn.models.rebuilding import rebuild
from snntorch_asnn.train.batches import eval_loader
from snntorch_asnn.train.config import TrainConfig, moments_of
from snntorch_asnn.train.data import load_images
from snntorch_asnn.train.devices import make_fabric, resolve_device
from snntorch_asnn.train.learner import to_device
from snntorch_asnn.train.run_folder import RunFolder

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Evaluation:
    """The results of a model on validation or test images.

    Attributes:
        accuracy: Fraction of the images that are classified correctly.
        loss: Mean cross-entropy, in nats.
        images: Number of images.
        seconds: Time for all images, loading included.
        firing_rates: Mean spikes per neuron, of each layer at each step.
        accuracy_by_step: Accuracy of the mean of the logits up to and including each step.
        confusion: Numbers of images of each true class (row) by the class of the answer (column).
        classes: Names of the classes.
    """

    accuracy: float
    loss: float
    images: int
    seconds: float
    firing_rates: Mapping[str, tuple[float, ...]]
    accuracy_by_step: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]
    classes: tuple[str, ...]

    @property
    def images_per_second(self) -> float:
        """Throughput, loading included."""
        return self.images / max(self.seconds, 1e-9)

    @property
    def firing_rate(self) -> float:
        """Mean of the firing rates over layers and steps, 0 if there are none."""
        rates = [rate for layer in self.firing_rates.values() for rate in layer]
        return sum(rates) / len(rates) if rates else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the results as JSON types."""
        return dataclasses.asdict(self) | {"images_per_second": self.images_per_second}


def build_model(config: TrainConfig, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """Create the model that a configuration names, for images of the given shape."""
    return models.create_model(
        config.model,
        num_classes=num_classes,
        num_steps=config.num_steps,
        neuron=config.neuron,
        sharing=config.sharing,
        encoding=config.encoding,
        carry=config.carry,
        norm_over_time=None if config.norm_over_time == "auto" else config.norm_over_time,
        readout=config.readout,
        in_channels=in_channels,
        image_size=image_size,
        normalize=moments_of(config),
    )


def load_run(run: str | Path) -> tuple[TrainConfig, nn.Module]:
    """Rebuild the model of a run, with the weights of its best epoch.

    Args:
        run: The folder of the run.

    Returns:
        tuple: The run's configuration, and the model in evaluation mode on the CPU.

    Raises:
        ValueError: The checkpoint is missing or damaged, or does not fit the model.

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
        run: The folder of the run.
        data_dir: Folder with the data, if they have moved.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        batch_size: Images per batch; as in training if None.

    Returns:
        Evaluation: Accuracy, also by step, confusion matrix, loss, throughput and firing rates.

    Raises:
        ValueError: As :func:`load_run`; or the data or the device are not there, or the data have other
            classes.

    Warns:
        SilentLayersWarning: Some layers of neurons fire at no step.

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
        raise ValueError("data_dir must hold the classes that the run was trained on; got other classes")
    found = evaluate(
        fabric.setup_module(model).module,
        eval_loader(data.test, config, fabric.device),
        fabric,
        num_steps=config.num_steps,
        classes=classes,
    )
    warn_of_silence(found.firing_rates, "test images")
    return found


@torch.no_grad()
def evaluate(
    model: nn.Module, loader: DataLoader[Any], fabric: Fabric, *, num_steps: int, classes: tuple[str, ...]
) -> Evaluation:
    """Evaluate a model, called as ``model(images, return_steps=True) -> logits [T, B, C]``.

    The loader yields this process's images; the result is that of all processes' images.
    """
    model.eval()
    device, num_classes, started = fabric.device, len(classes), time.perf_counter()
    loss = torch.zeros((), dtype=torch.float64, device=device)
    correct = torch.zeros(num_steps, dtype=torch.int64, device=device)
    confusion = torch.zeros(num_classes**2, dtype=torch.int64, device=device)
    counts = torch.arange(1, num_steps + 1, device=device).view(-1, 1, 1)
    with record_firing_rates(model, num_steps) as rates:
        for images, labels in loader:
            images, labels = to_device(images, labels, device)
            with fabric.autocast():
                steps = model(fabric.strategy.precision.convert_input(images), return_steps=True)
            so_far = steps.float().cumsum(dim=0) / counts
            answers = so_far.argmax(dim=2)
            loss += cross_entropy(so_far[-1], labels, reduction="sum").double()
            correct += (answers == labels).sum(dim=1)
            confusion += torch.bincount(labels * num_classes + answers[-1], minlength=num_classes**2)
    loss, correct, confusion = (_summed(fabric, values) for values in (loss, correct, confusion))
    count = int(confusion.sum().item())
    by_step = (correct.double() / count).tolist()
    return Evaluation(
        accuracy=by_step[-1],
        loss=loss.item() / count,
        images=count,
        seconds=time.perf_counter() - started,
        firing_rates=_mean_over_processes(fabric, rates.per_layer()),
        accuracy_by_step=tuple(by_step),
        confusion=tuple(map(tuple, confusion.view(num_classes, num_classes).tolist())),
        classes=classes,
    )


def most_frequent_errors(
    confusion: Sequence[Sequence[int]], classes: Sequence[str], most: int
) -> list[tuple[str, str, int]]:
    """Return class, answer and number of images of the most frequent confusions.

    Example::

        >>> most_frequent_errors([[5, 1], [2, 4]], ["cat", "dog"], 8)
        [('dog', 'cat', 2), ('cat', 'dog', 1)]
    """
    pairs = [
        (classes[row], classes[column], count)
        for row, counts in enumerate(confusion)
        for column, count in enumerate(counts)
        if row != column and count
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:most]


def _summed(fabric: Fabric, values: Tensor) -> Tensor:
    return cast(Tensor, fabric.all_reduce(values, reduce_op="sum"))


def _mean_over_processes(
    fabric: Fabric, rates: Mapping[str, tuple[float, ...]]
) -> dict[str, tuple[float, ...]]:
    if fabric.world_size == 1 or not rates:
        return dict(rates)
    table = _summed(fabric, torch.tensor(list(rates.values()), device=fabric.device)) / fabric.world_size
    return dict(zip(rates, map(tuple, table.tolist()), strict=True))


def _load(path: Path) -> tuple[TrainConfig, nn.Module, tuple[str, ...]]:
    """Return a run's configuration, its model, and the names of its classes."""
    folder = RunFolder(path)
    checkpoint, file = folder.load_checkpoint(), folder.checkpoint
    classes, weights = tuple(checkpoint["classes"]), checkpoint["model"]
    try:
        config = TrainConfig.from_stored(checkpoint["config"])
    except (ValueError, TypeError) as error:
        raise ValueError(f"run folder is damaged: {file}, config: {error}") from error
    _check_weights(weights, file)
    in_channels, image_size = checkpoint["in_channels"], checkpoint["image_size"]
    sizes = {"in_channels": in_channels, "image_size": image_size, "num_steps": config.num_steps}
    for name, size in sizes.items():
        # A size beyond that of the file is damaged, and such a model could fill the memory.
        if not 0 < size <= file.stat().st_size:
            raise ValueError(f"run folder is damaged: {file}: {name} cannot be {size}")
    try:
        model = rebuild(
            lambda: build_model(config, len(classes), in_channels, image_size),
            weights,
            file,
            keep_dtype=False,
        )
    except (ValueError, ArithmeticError) as error:
        raise ValueError(
            f"run folder is damaged: {file} does not fit the model {config.model}: {error}"
        ) from error
    return config, model.eval(), classes


def _check_weights(weights: Mapping[Any, Any], file: Path) -> None:
    """Refuse weights that are not tensors or not finite; their accuracy would be that of chance."""
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"run folder is damaged: {file}, model: {name!r} must name a tensor")
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"run folder is damaged: {file}, model: {name} holds NaN or infinity")
