"""What a run has reached, and the files that tell of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from snntorch_asnn import plot
from snntorch_asnn.neurons.adaptive import AdaptiveNeuron
from snntorch_asnn.train.loop import Evaluated
from snntorch_asnn.train.run_folder import RunFolder


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
    accuracy_by_step: tuple[float, ...]
    images_per_second: float
    seconds: float
    metrics: tuple[Mapping[str, Any], ...]


def write_result(folder: RunFolder, result: RunResult) -> None:
    """Write ``result.json``: what is there is a finished run."""
    reached = {k: v for k, v in vars(result).items() if k not in ("out", "metrics")}
    folder.write_json(folder.result, reached)


def read_result(folder: RunFolder) -> RunResult:
    """Read the result of a finished run.

    Raises:
        ValueError: it cannot be read.
    """
    reached, metrics = folder.read_json(folder.result), tuple(folder.read_lines(folder.metrics))
    try:
        reached["firing_rates"] = {name: tuple(r) for name, r in reached["firing_rates"].items()}
        reached["accuracy_by_step"] = tuple(reached["accuracy_by_step"])
        return RunResult(out=folder.path, metrics=metrics, **reached)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"run must be a finished run; {folder.result} cannot be read: {error}") from error


def write_evaluation(folder: RunFolder, test: Evaluated, classes: Sequence[str]) -> None:
    """Write ``evaluation.json``: accuracy by step, confusion matrix and firing rates on the test images."""
    folder.write_json(
        folder.evaluation,
        {
            "accuracy": test.accuracy,
            "loss": test.loss,
            "images": test.images,
            "accuracy_by_step": test.accuracy_by_step,
            "firing_rates": dict(test.firing_rates),
            "classes": list(classes),
            "confusion": test.confusion,
        },
    )


def draw(folder: RunFolder, result: RunResult, model: nn.Module) -> None:
    """Draw the learning curve, the learned time parameters and the firing rates."""
    plot.learning_curve(list(result.metrics)).savefig(folder.learning_curve)
    if any(isinstance(module, AdaptiveNeuron) for module in model.modules()):
        plot.time_parameters(model).savefig(folder.time_parameters)
    if result.firing_rates:
        figure = plot.firing_rates(result.firing_rates).get_figure(root=True)
        assert figure is not None
        figure.savefig(folder.firing_rates)
