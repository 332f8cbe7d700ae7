"""Who is told of the progress of a run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from snntorch_asnn.energy import SilentLayersWarning
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data import ImageSplits


@dataclass(frozen=True)
class StepReport:
    """How an epoch goes.

    Attributes:
        epoch: from 1 on.
        step: steps done in it.
        num_steps: steps of an epoch.
        loss: mean over the epoch so far.
        accuracy: over the epoch so far; with mixup, how often the larger part was named.
        images_per_second: over the epoch so far.
        firing_rate: spikes per neuron and time step, in this step; None where it was not recorded.
    """

    epoch: int
    step: int
    num_steps: int
    loss: float
    accuracy: float
    images_per_second: float
    firing_rate: float | None


class Reporter:
    """Receives the progress of a run. This one is silent but for warnings; override what is of interest."""

    def started(self, config: TrainConfig, data: ImageSplits, device: torch.device, parameters: int) -> None:
        """Receive what is about to be trained."""

    def message(self, text: str) -> None:
        """Receive what the user should know, such as from where a run is continued."""

    def warning(self, text: str) -> None:
        """Receive what is probably wrong with the run; this one warns of it."""
        warnings.warn(text, SilentLayersWarning, stacklevel=2)

    def step(self, report: StepReport) -> None:
        """Receive how the epoch goes, every few steps."""

    def evaluating(self, split: str) -> None:
        """Receive the split, ``"val"`` or ``"test"``, that is about to be evaluated."""

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        """Receive the epoch's line of ``metrics.jsonl``."""
