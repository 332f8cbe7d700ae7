"""The progress of a run: sums over an epoch, the log in the run folder, and reports to the user."""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from snntorch_asnn.energy import SilentLayersWarning
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data import ImageSplits
from snntorch_asnn.train.run_folder import RunFolder

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Score:
    """The results of an epoch so far on the training images."""

    loss: float
    accuracy: float
    images: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        """Throughput, loading included."""
        return self.images / max(self.seconds, 1e-9)


class Tally:
    """Running sums over the steps of an epoch; the count of correct answers stays on the device.

    Args:
        fabric: Adds up the sums of all processes.
        saved: The :meth:`state_dict` of an earlier tally, to continue from.
    """

    def __init__(self, fabric: Fabric, saved: Mapping[str, Any] | None = None) -> None:
        saved = saved or {"loss": 0.0, "correct": 0, "images": 0, "seconds": 0.0}
        self.fabric = fabric
        self.loss: float = saved["loss"]
        self.images: int = saved["images"]
        here = saved["correct"] if fabric.is_global_zero else 0  # the counts of the processes are added up
        self.correct = torch.tensor(here, dtype=torch.int64, device=fabric.device)
        self.started = time.perf_counter() - saved["seconds"]

    def add(self, loss: float, correct: Tensor, images: int) -> None:
        """Count a step: the mean loss and the images of all processes, the correct answers of this one."""
        self.loss += loss * images
        self.correct += correct
        self.images += images

    def state_dict(self) -> dict[str, Any]:
        """Return the sums over all processes; each process must call this."""
        correct = cast(Tensor, self.fabric.all_reduce(self.correct.clone(), reduce_op="sum"))
        return {
            "loss": self.loss,
            "correct": int(correct.item()),
            "images": self.images,
            "seconds": time.perf_counter() - self.started,
        }

    def score(self) -> Score:
        """Return the means over all processes; each process must call this."""
        sums = self.state_dict()
        images = sums["images"]
        return Score(sums["loss"] / images, sums["correct"] / images, images, sums["seconds"])


class Journal:
    """The log of a run: ``metrics.jsonl`` by epoch, ``steps.jsonl`` by step, and TensorBoard if installed.

    Args:
        folder: The run folder.
        tensorboard: Whether to log for TensorBoard too.
        steps_done: Steps of the run so far; TensorBoard then hides later ones.
    """

    def __init__(self, folder: RunFolder, *, tensorboard: bool, steps_done: int) -> None:
        self.folder = folder
        self.board: Any = None
        if tensorboard and importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(folder.tensorboard, purge_step=steps_done or None)

    def rewind(self, metrics: Iterable[Mapping[str, Any]], *, epoch: int, step: int) -> None:
        """Drop the lines that a run had written after the state that it is resumed from."""
        steps = self.folder.read_lines(self.folder.steps)
        self.folder.rewrite(self.folder.metrics, metrics)
        kept = [line for line in steps if (line["epoch"], line["step"]) <= (epoch, step)]
        self.folder.rewrite(self.folder.steps, kept)

    def step(self, line: Mapping[str, Any], total: int) -> None:
        """Log a step, number ``total`` of the run."""
        self.folder.append(self.folder.steps, line)
        self._log("step", line, total)

    def epoch(self, line: Mapping[str, Any], total: int) -> None:
        """Log an epoch that ended with step number ``total`` of the run."""
        self.folder.append(self.folder.metrics, line)
        self._log("epoch", line, total)

    def close(self) -> None:
        """Write everything that is still in memory."""
        if self.board is not None:
            self.board.close()

    def _log(self, group: str, line: Mapping[str, Any], total: int) -> None:
        if self.board is not None:
            for name, value in line.items():
                if name not in ("epoch", "step") and isinstance(value, int | float):
                    self.board.add_scalar(f"{group}/{name}", value, total)


@dataclass(frozen=True)
class StepReport:
    """The progress of an epoch.

    Attributes:
        epoch: Number of the epoch, from 1 on.
        step: Steps done in the epoch.
        steps_per_epoch: Steps of an epoch.
        loss: Mean over the epoch so far.
        accuracy: Over the epoch so far; with mixup, the answer is compared with the larger part.
        images_per_second: Over the epoch so far.
        firing_rate: Spikes per neuron and time step, in this step; None if it was not recorded.
    """

    epoch: int
    step: int
    steps_per_epoch: int
    loss: float
    accuracy: float
    images_per_second: float
    firing_rate: float | None

    @property
    def num_steps(self) -> int:
        """Deprecated name of :attr:`steps_per_epoch`."""
        warnings.warn("num_steps is deprecated; use steps_per_epoch", DeprecationWarning, stacklevel=2)
        return self.steps_per_epoch


class Reporter:
    """Receives the progress of a run. This one stays silent except for warnings; override its methods."""

    def started(self, config: TrainConfig, data: ImageSplits, device: torch.device, parameters: int) -> None:
        """Receive the settings, data, device and number of parameters of the run that starts."""

    def message(self, text: str) -> None:
        """Receive a notice for the user, such as the checkpoint that a run is resumed from."""

    def warning(self, text: str) -> None:
        """Receive a likely fault of the run; this method warns of it."""
        warnings.warn(text, SilentLayersWarning, stacklevel=2)

    def step(self, report: StepReport) -> None:
        """Receive the progress of the epoch, every few steps."""

    def evaluating(self, split: str) -> None:
        """Receive the split, ``"val"`` or ``"test"``, that is about to be evaluated."""

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        """Receive the epoch's line of ``metrics.jsonl``."""
