"""One pass over a data set, for training and for evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from snntorch_asnn.train.data import to_unit_range

# The loss is looked at every so many steps only: each look waits for the device.
_STEPS_PER_REPORT = 10

OnStep = Callable[[int, float, float], None]


class NonFiniteLossError(ArithmeticError):
    """The training loss became infinite or NaN."""


@dataclass(frozen=True)
class Score:
    """What one pass over a data set found."""

    loss: float
    accuracy: float
    images: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        """Throughput of the pass, loading included."""
        return self.images / self.seconds


class _Totals:
    """Running sums, kept on the device so that no step waits for it."""

    def __init__(self, device: torch.device) -> None:
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self.images = 0
        self.started = time.perf_counter()

    def add(self, logits: Tensor, labels: Tensor, loss: Tensor) -> None:
        self.loss += loss.detach().double() * len(labels)
        self.correct += (logits.detach().argmax(dim=1) == labels).sum()
        self.images += len(labels)

    def score(self) -> Score:
        loss, correct = self.loss.item() / self.images, self.correct.item() / self.images
        return Score(loss, correct, self.images, time.perf_counter() - self.started)


def train_epoch(
    model: nn.Module,
    loader: DataLoader[Any],
    optimizer: torch.optim.Optimizer,
    schedule: LRScheduler,
    device: torch.device,
    *,
    epoch: int,
    on_step: OnStep | None = None,
) -> Score:
    """Train for one pass over ``loader`` with cross-entropy.

    Args:
        model: called as ``model(images) -> logits [B, classes]``.
        loader: yields images ``[B, C, H, W]`` and labels ``[B]``.
        optimizer: updates the parameters.
        schedule: stepped after each training step.
        device: where the model is.
        epoch: number of this pass, for error messages.
        on_step: called every few steps with the step, and loss and accuracy so far.

    Raises:
        NonFiniteLossError: the loss is NaN or infinite; says at which step it first was.
    """
    model.train()
    totals, losses = _Totals(device), list[Tensor]()
    for step, (images, labels) in enumerate(loader, start=1):
        images, labels = _to_device(images, labels, device)
        logits = model(images)
        loss = cross_entropy(logits, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        totals.add(logits, labels, loss)
        losses.append(loss.detach())
        if step % _STEPS_PER_REPORT == 0 or step == len(loader):
            _check_finite(losses, last_step=step, epoch=epoch)
            losses.clear()
            if on_step is not None:
                score = totals.score()
                on_step(step, score.loss, score.accuracy)
    return totals.score()


@torch.no_grad()
def evaluate(model: nn.Module, loader: DataLoader[Any], device: torch.device) -> Score:
    """Return the model's loss and accuracy on ``loader``, in evaluation mode."""
    model.eval()
    totals = _Totals(device)
    for images, labels in loader:
        images, labels = _to_device(images, labels, device)
        logits = model(images)
        totals.add(logits, labels, cross_entropy(logits, labels))
    return totals.score()


def _to_device(images: Tensor, labels: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    images = to_unit_range(images.to(device, non_blocking=True))
    return images, labels.to(device, non_blocking=True)


def _check_finite(losses: list[Tensor], *, last_step: int, epoch: int) -> None:
    bad = torch.stack(losses).isfinite().logical_not().nonzero()
    if len(bad):
        first = int(bad[0])
        step = last_step - len(losses) + 1 + first
        raise NonFiniteLossError(
            f"the loss became {losses[first].item()} at epoch {epoch}, step {step}; try a lower lr"
        )
