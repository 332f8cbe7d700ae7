"""Progress and results on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from snntorch_asnn.train import ImageSplits, Reporter, RunResult, TrainConfig


class TerminalReporter(Reporter):
    """Shows a progress bar while an epoch runs, and leaves one line for each epoch behind.

    Args:
        console: where to write.
    """

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
        """Say what is about to be trained."""
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

    def step(self, epoch: int, step: int, num_steps: int, loss: float, accuracy: float) -> None:
        """Move the bar."""
        self.progress.update(
            self.task,
            description=f"epoch {epoch}/{self.epochs}",
            completed=step,
            total=num_steps,
            state=f"loss {loss:.3f}  accuracy {accuracy:.1%}",
        )

    def evaluating(self, split: str) -> None:
        """Show that the split is being evaluated."""
        self._wait(f"{split} images")

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        """Write the epoch's line."""
        self._wait("first steps")
        self.console.print(
            f"epoch {metrics['epoch']:>{len(str(self.epochs))}}/{self.epochs}"
            f"  loss {metrics['train_loss']:.3f}  train {metrics['train_accuracy']:6.1%}"
            f"  val {metrics['val_accuracy']:6.1%}  firing {metrics['firing_rate']:.3f}"
            f"  {metrics['images_per_second']:,.0f} images/s",
            highlight=False,
        )

    def _wait(self, description: str) -> None:
        """Show a bar of unknown length: a task's length cannot be taken away again."""
        self.progress.remove_task(self.task)
        self.task = self.progress.add_task(description, total=None, state="")


def summary(result: RunResult) -> Table:
    """Return the end of a run as a table."""
    table = Table.grid(padding=(0, 2))
    rows = {
        "test accuracy": f"[bold]{result.test_accuracy:.2%}[/] (read once, at the best epoch)",
        "validation": f"{result.val_accuracy:.2%} at epoch {result.best_epoch}",
        "parameters": f"{result.parameters:,}",
        "firing rate": f"{result.firing_rate:.3f} spikes per neuron and step",
        "training": f"{result.images_per_second:,.0f} images/s, {result.seconds:.1f} s in all",
        "files": str(result.out),
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
