"""One step of training, and everything that a step changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from snntorch_asnn.train.augment import make_mixup
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data import to_unit_range
from snntorch_asnn.train.divergence import NonFiniteLossError, first_bad_gradient, first_non_finite
from snntorch_asnn.train.losses import make_loss
from snntorch_asnn.train.optimizer import in_todays_order, make_optimizer, make_schedule
from snntorch_asnn.train.randomness import seed_everything
from snntorch_asnn.train.sync_norm import synchronise_batch_norm

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Batch = tuple[Tensor, Tensor]
_STEP = 3


@dataclass(frozen=True)
class Position:
    """A step of a run: epoch from 1 on, steps that have been done in it, and in all."""

    epoch: int
    step: int
    steps_per_epoch: int

    @property
    def total(self) -> int:
        """Steps done since the start."""
        return (self.epoch - 1) * self.steps_per_epoch + self.step


class Learner:
    """A model with all that trains it: loss, optimizer, schedule, moving average, on a Fabric.

    Args:
        model: the model; it is moved to the Fabric's device, and its norms are synchronised if there
            are several processes.
        config: the settings.
        fabric: launched.
        steps_per_epoch: for the schedule.
        num_classes: for mixup.
        teacher: network to learn from as well, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        fabric: Fabric,
        *,
        steps_per_epoch: int,
        num_classes: int,
        teacher: nn.Module | None = None,
    ) -> None:
        self.config, self.fabric = config, fabric
        self.model = synchronise_batch_norm(model, fabric.device) if fabric.world_size > 1 else model
        self.optimizer = make_optimizer(self.model, config)
        self.schedule = make_schedule(self.optimizer, config, steps_per_epoch)
        callee = cast(nn.Module, torch.compile(self.model)) if config.compile else self.model
        self.callee, self.stepper = fabric.setup(callee, self.optimizer)
        self.average = _moving_average(self.model, config.ema)
        if teacher is not None:
            teacher = fabric.strategy.precision.convert_module(teacher.to(fabric.device))
        self.loss = make_loss(config, teacher=teacher)
        self.mixup = make_mixup(config, num_classes)

    @property
    def judged(self) -> nn.Module:
        """The model that is evaluated and kept: the moving average, if there is one."""
        return self.average.module if self.average is not None else self.model

    def step(self, parts: Sequence[Batch], position: Position) -> tuple[float, Tensor]:
        """Change the weights once.

        Args:
            parts: images ``[B, C, H, W]`` and labels ``[B]``, in as many parts as are accumulated.
            position: of this step.

        Returns:
            The mean loss over all processes, and how many of this process's images were classified
            correctly, on the device; of a mixed image, the class with the larger part is the correct one.

        Raises:
            NonFiniteLossError: the loss or a gradient is NaN or infinite. The weights are those before the
                step, on every process.
        """
        self.callee.train()
        loss, correct = self._forward_and_backward(parts, position)
        norm = self._gradient_norm()
        loss_value, norm_value = torch.stack([loss, norm.to(loss)]).tolist()
        if not math.isfinite(loss_value):
            raise self._explain(f"the loss became {loss_value}", parts, position)
        if not math.isfinite(norm_value):
            raise self._explain(f"the gradient became {norm_value}", parts, position)
        self._clip(norm)
        self.stepper.step()
        self.stepper.zero_grad(set_to_none=True)
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return loss_value, correct

    def _forward_and_backward(self, parts: Sequence[Batch], position: Position) -> tuple[Tensor, Tensor]:
        mean = torch.zeros((), device=self.fabric.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.fabric.device)
        self._seed(position)
        for number, (images, labels) in enumerate(parts, start=1):
            with self.fabric.no_backward_sync(self.callee, enabled=number < len(parts)):
                loss, right = self._loss(self.callee, images, labels, position)
                self.fabric.backward(loss / len(parts))
            mean += loss.detach() / len(parts)
            correct += right
        return cast(Tensor, self.fabric.all_reduce(mean, reduce_op="mean")), correct

    @property
    def _is_scaled(self) -> bool:
        """Whether gradients are scaled, which leaves out steps where they overflow."""
        return self.config.precision == "16"

    def _gradient_norm(self) -> Tensor:
        """Return the norm of the gradient, the same on every process; 0 if it is scaled."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        return torch.zeros(()) if self._is_scaled else get_total_norm(gradients)

    def _clip(self, norm: Tensor) -> None:
        limit = self.config.clip_grad
        if limit is None:
            return
        if self._is_scaled:
            self.fabric.clip_gradients(self.callee, self.stepper, max_norm=limit, error_if_nonfinite=False)
        else:
            clip_grads_with_norm_(self.model.parameters(), limit, norm)

    def _seed(self, position: Position) -> None:
        seed_everything(self.config.seed, _STEP, position.epoch, position.step, self.fabric.global_rank)

    def _loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, position: Position
    ) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch, and how many of its images are classified correctly."""
        images, targets = to_device(images, labels, self.fabric.device)
        if self.mixup is not None and position.epoch <= (self.config.mixup_until or position.epoch):
            images, targets = self.mixup(images, targets)
        images = self.fabric.strategy.precision.convert_input(images)
        steps = model(images, return_steps=True)
        outputs = steps.mean(dim=0)
        classes = targets.argmax(dim=1) if targets.ndim == 2 else targets
        correct = (outputs.detach().argmax(dim=1) == classes).sum()
        return self.loss(steps, outputs, targets, images), correct

    def _explain(self, what: str, parts: Sequence[Batch], position: Position) -> NonFiniteLossError:
        """Say where it began: run the step's batches again, watching every layer."""

        def run() -> None:
            self._seed(position)
            for images, labels in parts:
                with self.fabric.autocast():
                    self._loss(self.model, images, labels, position)

        layer = first_non_finite(self.model, run) or first_bad_gradient(self.model)
        first = f"; first was {layer}" if layer else "; every layer is finite, so it arose in the loss itself"
        return NonFiniteLossError(
            f"{what} at epoch {position.epoch}, step {position.step + 1}{first}; try a lower lr or clip_grad",
            layer,
        )

    def check_parameters(self, position: Position) -> None:
        """Refuse parameters that are not finite, before they are saved.

        Raises:
            NonFiniteLossError: names the first such parameter.
        """
        parameters = dict(self.model.named_parameters())
        finite = torch.stack([p.detach().isfinite().all() for p in parameters.values()])
        if finite.all():
            return
        name = next(name for name, fine in zip(parameters, finite.tolist(), strict=True) if not fine)
        raise NonFiniteLossError(
            f"the parameter {name} became infinite or NaN at epoch {position.epoch}, step {position.step};"
            " try a lower lr or clip_grad",
            name,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return all that steps have changed."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "scaler": self.fabric.strategy.precision.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned.

        Raises:
            ValueError: it is that of another model.
        """
        try:
            self.model.load_state_dict(state["model"])
            saved = in_todays_order(state["optimizer"], self.optimizer, self.model, list(state["model"]))
            self.optimizer.load_state_dict(saved)
            self.schedule.load_state_dict(state["schedule"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.fabric.strategy.precision.load_state_dict(state["scaler"])
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(
                f"run must have a checkpoint of {self.config.model}; got another: {error}"
            ) from error


def to_device(images: Tensor, labels: Tensor, device: torch.device) -> Batch:
    """Move a batch to a device, images as floats in [0, 1] and labels as ``int64``."""
    images = to_unit_range(images.to(device, non_blocking=True))
    return images, labels.to(device, torch.int64, non_blocking=True)


def _moving_average(model: nn.Module, decay: float | None) -> AveragedModel | None:
    if decay is None:
        return None
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    return average.requires_grad_(False)
