"""Progress and results on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from snntorch_asnn.train import (
    Cell,
    Evaluation,
    ImageSplits,
    Reporter,
    RunResult,
    StepReport,
    TrainConfig,
    list_recipes,
    load_recipe,
    mean_and_deviation,
)
from snntorch_asnn.train.evaluation import most_frequent_errors
from snntorch_asnn.train.files import readable_name

_MOST_CONFUSIONS = 5


class TerminalReporter(Reporter):
    """Shows a progress bar while an epoch runs, and leaves one line for each epoch."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.epochs = 0
        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
        columns += [TextColumn("{task.fields[state]}"), TimeRemainingColumn()]
        self.progress = Progress(*columns, console=console, transient=True)
        self.task = self.progress.add_task("", total=None, state="")

    def __enter__(self) -> TerminalReporter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.progress.stop()

    def started(self, config: TrainConfig, data: ImageSplits, device: torch.device, parameters: int) -> None:
        """Print the model, the device and the sizes of the data."""
        self.epochs = config.epochs
        self._wait("first steps")
        self.progress.start()
        sizes = data.sizes
        self.console.print(
            f"[bold]{config.model}[/], {config.encoding} code, {config.neuron} neurons, "
            f"{config.num_steps} steps, {parameters:,} parameters, on {device}"
        )
        self.console.print(
            f"[dim]{config.data}: {sizes['train']:,} training, {sizes['val']:,} validation "
            f"and {sizes['test']:,} test images[/]"
        )

    def message(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)

    def warning(self, text: str) -> None:
        """Print a line that stands out."""
        self.console.print(f"warning: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)

    def step(self, report: StepReport) -> None:
        """Move the progress bar."""
        state = f"loss {report.loss:.3f}  accuracy {report.accuracy:.1%}"
        if report.firing_rate is not None:
            state += f"  firing {report.firing_rate:.3f}"
        self.progress.update(
            self.task,
            description=f"epoch {report.epoch}/{self.epochs}",
            completed=report.step,
            total=report.steps_per_epoch,
            state=f"{state}  {report.images_per_second:,.0f} images/s",
        )

    def evaluating(self, split: str) -> None:
        """Show that the split is being evaluated."""
        self._wait(f"{split} images")

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        """Print the epoch's line."""
        self._wait("first steps")
        self.console.print(
            f"epoch {metrics['epoch']:>{len(str(self.epochs))}}/{self.epochs}"
            f"  loss {metrics['train_loss']:.3f}  train {metrics['train_accuracy']:6.1%}"
            f"  val {metrics['val_accuracy']:6.1%}  firing {metrics['firing_rate']:.3f}"
            f"  {metrics['images_per_second']:,.0f} images/s",
            highlight=False,
        )

    def _wait(self, description: str) -> None:
        """Show a new bar of unknown length; rich cannot take back the length of a task."""
        self.progress.remove_task(self.task)
        self.task = self.progress.add_task(description, total=None, state="")


def summary(result: RunResult) -> Table:
    """Return the results of a run as a table."""
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold")
    rows = {
        "test accuracy": f"[bold]{result.test_accuracy:.2%}[/] (read once, at the best epoch)",
        "validation": f"{result.val_accuracy:.2%} at epoch {result.best_epoch}",
        "parameters": f"{result.parameters:,}",
        "firing rate": f"{result.firing_rate:.3f} spikes per neuron and step, mean over layers",
        "training": f"{result.images_per_second:,.0f} images/s, {result.seconds:.1f} s in all",
        "files": readable_name(str(result.out)),
    }
    for name, value in rows.items():
        table.add_row(f"[dim]{name}[/]", value)
    return table


def comparison(results: Mapping[str, RunResult]) -> Table:
    """Return several runs side by side as a table."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("LeNet with", vertical="bottom", no_wrap=True)
    for heading in ("test\naccuracy", "parameters", "seconds", "firing\nrate"):
        table.add_column(heading, justify="right")
    for name, result in results.items():
        table.add_row(
            name,
            f"{result.test_accuracy:.1%}",
            f"{result.parameters:,}",
            f"{result.seconds:.1f}",
            f"{result.firing_rate:.3f}",
        )
    return table


def by_step(found: Evaluation) -> Table:
    """Return the accuracy after each time step as a table."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("stopped after step")
    row = ["accuracy"]
    for step, accuracy in enumerate(found.accuracy_by_step, start=1):
        table.add_column(str(step), justify="right")
        row.append(f"{accuracy:.1%}")
    table.add_row(*row)
    return table


def confusions(found: Evaluation) -> str:
    """Return a line with the most frequent confusions."""
    errors = most_frequent_errors(found.confusion, found.classes, _MOST_CONFUSIONS)
    pairs = ", ".join(f"{name} taken for {answer} ({count:,})" for name, answer, count in errors)
    return f"most frequent errors: {pairs or 'none'}"


def recipes() -> Table:
    """Return the recipes that come with the package as a table."""
    table = Table.grid(padding=(0, 2))
    for name in list_recipes():
        table.add_row(f"[bold]{name}[/]", load_recipe(name).description)
    return table


def sweep_table(cells: Sequence[Cell]) -> Table:
    """Return the cells of a sweep as a table."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in cells[0].settings:
        table.add_column(name, vertical="bottom")
    for heading in ("runs", "test\naccuracy", "validation\naccuracy", "firing\nrate", "parameters"):
        table.add_column(heading, justify="right", no_wrap=True)
    for cell in cells:
        runs = f"{len(cell.seeds)}" + (f", {len(cell.diverged)} diverged" if cell.diverged else "")
        table.add_row(
            *(str(value) for value in cell.settings.values()),
            runs,
            _spread(cell.test_accuracy, 100, 2),
            _spread(cell.val_accuracy, 100, 2),
            _spread(cell.firing_rate, 1, 3),
            f"{cell.parameters:,}" if cell.parameters is not None else "",
        )
    return table


def _spread(values: Sequence[float], factor: float, digits: int) -> str:
    """Return mean ± standard deviation."""
    if not values:
        return ""
    mean, deviation = mean_and_deviation([factor * value for value in values])
    text = f"{mean:.{digits}f}"
    return text if deviation is None else f"{text} ± {deviation:.{digits}f}"
