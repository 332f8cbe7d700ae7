"""Train a model of the zoo from a configuration, and evaluate what was trained."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from snntorch_asnn import models, plot
from snntorch_asnn.neurons.adaptive import AdaptiveNeuron
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data import ImageSplits, batches, load_images
from snntorch_asnn.train.extras import require
from snntorch_asnn.train.firing import FiringRates, record_firing_rates
from snntorch_asnn.train.loop import Score, evaluate, train_epoch
from snntorch_asnn.train.recipe import make_optimizer, make_schedule
from snntorch_asnn.train.run_folder import RunFolder, versions


@dataclass(frozen=True)
class RunResult:
    """What a training run reached, and where its files are."""

    out: Path
    test_accuracy: float
    test_loss: float
    val_accuracy: float
    best_epoch: int
    parameters: int
    firing_rate: float
    firing_rates: Mapping[str, tuple[float, ...]]
    images_per_second: float
    seconds: float
    metrics: tuple[Mapping[str, Any], ...]


class Reporter:
    """Receives the progress of a run. This one is silent; override what is of interest."""

    def started(self, config: TrainConfig, data: ImageSplits, device: torch.device, parameters: int) -> None:
        """Receive what is about to be trained."""

    def step(self, epoch: int, step: int, num_steps: int, loss: float, accuracy: float) -> None:
        """Receive the mean loss and accuracy of the epoch so far."""

    def evaluating(self, split: str) -> None:
        """Receive the split, ``"val"`` or ``"test"``, that is about to be evaluated."""

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        """Receive the epoch's line of ``metrics.jsonl``."""


def fit(config: TrainConfig, *, reporter: Reporter | None = None) -> RunResult:
    """Train, keep the epoch that is best on the validation images, and read the test images once.

    Writes ``config.json``, ``metrics.jsonl``, ``checkpoint.pt``, ``result.json`` and pictures to
    ``config.run_folder``. Two runs with one seed give the same numbers on one CPU. The caller's
    random state stays as it is.

    Args:
        config: the settings.
        reporter: receives the progress.

    Returns:
        RunResult: accuracies, firing rates, throughput, and the metrics of every epoch.

    Raises:
        ValueError: data not found, a name that the zoo does not know, no such device, or a run
            folder that is not empty. Nothing has been written then.
        NonFiniteLossError: the loss became NaN or infinite; the best checkpoint so far stays.
        ModuleNotFoundError: a package of the extra ``[train]`` is missing.

    Example::

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = fit(TrainConfig(data="digits", train_subset=200, epochs=2, out=folder))
        >>> result.best_epoch in (1, 2), result.parameters
        (True, 62334)
    """
    require("matplotlib")
    folder, device = RunFolder(config.run_folder), resolve_device(config.device)
    folder.check_free(overwrite=config.overwrite)
    with _seeded(config.seed, device), _on_threads(config.threads):
        data = load_images(config)
        model = build_model(config, data.classes, data.in_channels, data.image_size).to(device)
        folder.create()
        folder.write_json(folder.config, _describe(config, data, device))
        return _Run(config, data, model, device, folder, reporter or Reporter()).train()


def build_model(
    config: TrainConfig, classes: tuple[str, ...], in_channels: int, image_size: int
) -> nn.Module:
    """Create the model that a configuration names, for images of the given shape."""
    return models.create_model(
        config.model,
        num_classes=len(classes),
        num_steps=config.num_steps,
        neuron=config.neuron,
        encoding=config.encoding,
        readout=config.readout,
        in_channels=in_channels,
        image_size=image_size,
    )


def resolve_device(name: str) -> torch.device:
    """Return the device that a name stands for; ``"auto"`` is CUDA where there is any, or the CPU.

    Raises:
        ValueError: not a CPU or CUDA device, or one that torch does not see.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N; got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N; got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device must be one that torch sees; got {name!r}, and there are"
            f" {torch.cuda.device_count()} CUDA devices"
        )
    return device


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from ``seed`` inside the context, and leave the caller's random state as it was."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def _on_threads(threads: int | None) -> Iterator[None]:
    """Compute on so many CPU threads inside the context, and on as many as before after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _describe(config: TrainConfig, data: ImageSplits, device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {
        "config": config.to_dict(),
        "images": data.sizes,
        "device": name,
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


class _Run:
    """One training run, from an initialised model to the files in its folder."""

    def __init__(
        self,
        config: TrainConfig,
        data: ImageSplits,
        model: nn.Module,
        device: torch.device,
        folder: RunFolder,
        reporter: Reporter,
    ) -> None:
        self.config, self.data, self.model, self.device = config, data, model, device
        self.folder, self.reporter = folder, reporter
        self.parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
        self.best: dict[str, Any] = {"val_accuracy": -1.0, "val_loss": float("inf"), "epoch": 0}
        self.metrics: list[dict[str, Any]] = []

    def train(self) -> RunResult:
        config = self.config
        loader = batches(self.data.train, config, train=True, device=self.device)
        optimizer = make_optimizer(self.model, config)
        schedule = make_schedule(optimizer, config, total_steps=config.epochs * len(loader))
        callee = cast(nn.Module, torch.compile(self.model)) if config.compile else self.model
        self.reporter.started(config, self.data, self.device, self.parameters)
        for epoch in range(1, config.epochs + 1):
            lr = optimizer.param_groups[0]["lr"]

            def on_step(step: int, loss: float, accuracy: float, epoch: int = epoch) -> None:
                self.reporter.step(epoch, step, len(loader), loss, accuracy)

            score = train_epoch(
                callee, loader, optimizer, schedule, self.device, epoch=epoch, on_step=on_step
            )
            self._end_epoch(epoch, lr, score)
        return self._finish()

    def _evaluate(self, split: str) -> tuple[Score, FiringRates]:
        self.reporter.evaluating(split)
        loader = batches(getattr(self.data, split), self.config, train=False, device=self.device)
        with record_firing_rates(self.model, self.config.num_steps) as rates:
            return evaluate(self.model, loader, self.device), rates

    def _end_epoch(self, epoch: int, lr: float, train: Score) -> None:
        val, rates = self._evaluate("val")
        line = {
            "epoch": epoch,
            "lr": lr,
            "train_loss": train.loss,
            "train_accuracy": train.accuracy,
            "val_loss": val.loss,
            "val_accuracy": val.accuracy,
            "firing_rate": rates.mean(),
            "seconds": train.seconds + val.seconds,
            "images_per_second": train.images_per_second,
        }
        self.metrics.append(line)
        self.folder.append_metrics(line)
        if (val.accuracy, -val.loss) > (self.best["val_accuracy"], -self.best["val_loss"]):
            self._save_best(epoch, val)
        self.reporter.epoch(line)

    def _save_best(self, epoch: int, val: Score) -> None:
        self.best = {"epoch": epoch, "val_accuracy": val.accuracy, "val_loss": val.loss}
        self.folder.save_checkpoint(
            {
                **self.best,
                "config": self.config.to_dict(),
                "classes": list(self.data.classes),
                "in_channels": self.data.in_channels,
                "image_size": self.data.image_size,
                "model": self.model.state_dict(),
            }
        )

    def _finish(self) -> RunResult:
        self.model.load_state_dict(self.folder.load_checkpoint()["model"])
        test, rates = self._evaluate("test")
        warm = self.metrics[1:] or self.metrics  # the first epoch compiles
        result = RunResult(
            out=self.folder.path,
            test_accuracy=test.accuracy,
            test_loss=test.loss,
            val_accuracy=self.best["val_accuracy"],
            best_epoch=self.best["epoch"],
            parameters=self.parameters,
            firing_rate=rates.mean(),
            firing_rates=rates.per_layer(),
            images_per_second=statistics.median(m["images_per_second"] for m in warm),
            seconds=sum(m["seconds"] for m in self.metrics),
            metrics=tuple(self.metrics),
        )
        reached = {k: v for k, v in vars(result).items() if k not in ("out", "metrics")}
        self.folder.write_json(self.folder.result, reached)
        self._draw(result)
        return result

    def _draw(self, result: RunResult) -> None:
        plot.learning_curve(self.metrics).savefig(self.folder.learning_curve)
        if any(isinstance(module, AdaptiveNeuron) for module in self.model.modules()):
            plot.time_parameters(self.model).savefig(self.folder.time_parameters)
        if result.firing_rates:
            figure = plot.firing_rates(result.firing_rates).get_figure(root=True)
            assert figure is not None
            figure.savefig(self.folder.firing_rates)
