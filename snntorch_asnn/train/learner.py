"""One step of training, everything that a step changes, and the search for the origin of a divergence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from snntorch_asnn.train.augment import make_mixup
from snntorch_asnn.train.batches import seed_everything
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data import to_unit_range
from snntorch_asnn.train.devices import synchronise_batch_norm
from snntorch_asnn.train.losses import training_loss
from snntorch_asnn.train.optimizer import in_current_order, make_optimizer, make_schedule

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Batch: TypeAlias = tuple[Tensor, Tensor]
_STEP = 3


class NonFiniteLossError(ArithmeticError):
    """The training loss or its gradient became infinite or NaN.

    Attributes:
        layer: The first layer to become infinite or NaN, None if it is not known.
    """

    def __init__(self, message: str, layer: str | None = None) -> None:
        super().__init__(message)
        self.layer = layer


@dataclass(frozen=True)
class Position:
    """A place in a run: its epoch, counted from 1, and the steps done in that epoch."""

    epoch: int
    step: int
    steps_per_epoch: int

    @property
    def total(self) -> int:
        """Steps done since the start."""
        return (self.epoch - 1) * self.steps_per_epoch + self.step


class Learner:
    """A model with its loss, optimizer, schedule and moving average, on a launched Fabric."""

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
        self.teacher = teacher
        self.mixup = make_mixup(config, num_classes)

    @property
    def judged(self) -> nn.Module:
        """The model that is evaluated and kept: the moving average, if there is one."""
        return self.average.module if self.average is not None else self.model

    def step(self, parts: Sequence[Batch], position: Position) -> tuple[float, Tensor]:
        """Change the weights once.

        Args:
            parts: Images ``[B, C, H, W]`` and labels ``[B]``, in as many parts as are accumulated.
            position: The position before this step.

        Returns:
            The mean loss over all processes, and the number of this process's images that were classified
            correctly, on the device. The correct class of a mixed image is the class of its larger part.

        Raises:
            NonFiniteLossError: The loss or a gradient is NaN or infinite. The weights are those before the
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

    def check_parameters(self, position: Position) -> None:
        """Refuse to go on with parameters that are infinite or NaN, before they are saved."""
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
        """Return everything that steps have changed."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "scaler": self.fabric.strategy.precision.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the state that :meth:`state_dict` returned.

        Raises:
            ValueError: The state belongs to another model.
        """
        try:
            self.model.load_state_dict(state["model"])
            saved = in_current_order(state["optimizer"], self.optimizer, self.model, list(state["model"]))
            self.optimizer.load_state_dict(saved)
            self.schedule.load_state_dict(state["schedule"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.fabric.strategy.precision.load_state_dict(state["scaler"])
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(
                f"last.pt must hold the state of model {self.config.model}; got another one: {error}"
            ) from error

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

    def _loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, position: Position
    ) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch, and the number of its images that are classified correctly."""
        images, targets = to_device(images, labels, self.fabric.device)
        if self.mixup is not None and position.epoch <= (self.config.mixup_until or position.epoch):
            images, targets = self.mixup(images, targets)
        images = self.fabric.strategy.precision.convert_input(images)
        steps = model(images, return_steps=True)
        classes = targets.argmax(dim=1) if targets.ndim == 2 else targets
        correct = (steps.detach().mean(dim=0).argmax(dim=1) == classes).sum()
        with torch.no_grad():
            teacher_logits = None if self.teacher is None else self.teacher(images)
        return training_loss(self.config, steps, targets, teacher_logits), correct

    @property
    def _is_scaled(self) -> bool:
        """Whether gradients are scaled; steps in which they overflow are then left out."""
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

    def _explain(self, event: str, parts: Sequence[Batch], position: Position) -> NonFiniteLossError:
        """Run the batches of the step again, watching every layer, and say where the event began."""

        def run() -> None:
            self._seed(position)
            for images, labels in parts:
                with self.fabric.autocast():
                    self._loss(self.model, images, labels, position)

        layer = first_non_finite(self.model, run) or first_bad_gradient(self.model)
        origin = f"it began in {layer}" if layer else "every layer is finite, so it began in the loss itself"
        return NonFiniteLossError(
            f"{event} at epoch {position.epoch}, step {position.step + 1}; {origin};"
            " try a lower lr or clip_grad",
            layer,
        )


def to_device(images: Tensor, labels: Tensor, device: torch.device) -> Batch:
    """Move a batch to a device, images as floats in [0, 1] and labels as ``int64``."""
    images = to_unit_range(images.to(device, non_blocking=True))
    return images, labels.to(device, torch.int64, non_blocking=True)


def _moving_average(model: nn.Module, decay: float | None) -> AveragedModel | None:
    if decay is None:
        return None
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    return average.requires_grad_(False)


def first_non_finite(model: nn.Module, run: Callable[[], Any]) -> str | None:
    """Run a model, and return the first parameter or output that is infinite or NaN.

    Example::

        >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        >>> _ = nn.init.constant_(model[0].bias, float("inf"))
        >>> first_non_finite(model, lambda: model(torch.rand(1, 2)))
        'the parameter bias of 0'
    """
    names = {module: name or "the model" for name, module in model.named_modules()}
    found: list[str] = []

    def check_parameters(module: nn.Module, args: Any) -> None:
        for name, value in module.named_parameters(recurse=False):
            if not value.isfinite().all():
                found.append(f"the parameter {name} of {names[module]}")

    def check_output(module: nn.Module, args: Any, output: Any) -> None:
        values = output if isinstance(output, tuple | list) else [output]
        tensors = [value for value in values if isinstance(value, Tensor) and value.is_floating_point()]
        if not all(value.isfinite().all() for value in tensors):
            found.append(f"the output of {names[module]}")

    handles = [module.register_forward_pre_hook(check_parameters) for module in names]
    handles += [module.register_forward_hook(check_output) for module in names]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def first_bad_gradient(model: nn.Module) -> str | None:
    """Return the parameter whose gradient was computed first of those that are infinite or NaN, or None.

    Example::

        >>> model = nn.Linear(2, 2)
        >>> model.bias.grad = torch.tensor([0.0, float("nan")])
        >>> first_bad_gradient(model)
        'the gradient of bias'
    """
    for name, parameter in reversed(list(model.named_parameters())):
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            return f"the gradient of {name}"
    return None
