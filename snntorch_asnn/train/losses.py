"""Losses on the logits of every step and of the whole sequence.

With logits :math:`o_t` of step ``t``, as ``model(images, return_steps=True)`` returns them, and their mean
:math:`o`, the output. Targets are class indices ``[B]``, or probabilities ``[B, C]``, as mixup makes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["LOSSES", "Loss", "LossSettings", "cross_entropy", "distillation", "make_loss", "step_wise", "tet"]

LOSSES = ("cross-entropy", "tet", "step-wise")
"""Names of the losses."""


class LossSettings(Protocol):
    """What :func:`make_loss` reads of a :class:`~snntorch_asnn.train.TrainConfig`."""

    @property
    def loss(self) -> str:
        """One of :data:`LOSSES`."""

    @property
    def label_smoothing(self) -> float:
        """Part of the target that is spread over all classes."""

    @property
    def tet_lambda(self) -> float:
        """Weight of the regulariser of :func:`tet`."""

    @property
    def kd_alpha(self) -> float:
        """Weight of the teacher."""

    @property
    def kd_temperature(self) -> float:
        """Temperature of :func:`distillation`."""


def cross_entropy(outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    r"""Cross-entropy of the output, in nats.

    .. math:: L = -\sum_c q_c \log \operatorname{softmax}(o)_c, \quad q = (1 - \epsilon)\, y + \epsilon / C

    Args:
        outputs: ``[B, C]``.
        targets: ``[B]`` class indices, or ``[B, C]`` probabilities.
        label_smoothing: epsilon, in [0, 1).

    Returns:
        Mean over the batch, a scalar of at least float32.

    Raises:
        ValueError: shapes that do not fit, or ``label_smoothing`` out of its range.

    Example::

        >>> cross_entropy(torch.tensor([[0.0, 0.0]]), torch.tensor([1])).item()
        0.693...
    """
    _check_part("label_smoothing", label_smoothing, below_one=True)
    if outputs.ndim != 2:
        raise ValueError(f"outputs must be [B, C]; got shape {tuple(outputs.shape)}")
    _check_targets(targets, outputs.shape)
    logits = _at_least_float32(outputs)
    targets = targets.long() if targets.ndim == 1 else targets.to(logits.dtype)
    return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)


def tet(
    steps: Tensor, targets: Tensor, *, lam: float = 0.0, mean: float = 1.0, label_smoothing: float = 0.0
) -> Tensor:
    r"""Temporal efficient training: every step must classify by itself.

    .. math:: L = (1 - \lambda) \frac{1}{T} \sum_t \mathrm{CE}(o_t, y)
        + \lambda \frac{1}{T} \sum_t \mathrm{MSE}(o_t, \phi)

    Args:
        steps: ``[T, B, C]``.
        targets: ``[B]`` class indices, or ``[B, C]`` probabilities.
        lam: lambda, weight of the regulariser that keeps logits from outliers; 0.05 for CIFAR and
            0.001 for CIFAR10-DVS in the source.
        mean: phi, the threshold of the neurons in the source.
        label_smoothing: as in :func:`cross_entropy`.

    Returns:
        Mean over the batch, a scalar of at least float32.

    Raises:
        ValueError: shapes that do not fit, or ``lam`` or ``label_smoothing`` out of range.

    Source: "Temporal Efficient Training of Spiking Neural Network via Gradient Re-weighting",
    arXiv 2202.11946.

    Example::

        >>> steps = torch.tensor([[[2.0, 0.0]], [[0.0, 2.0]]])
        >>> tet(steps, torch.tensor([0])).item(), cross_entropy(steps.mean(0), torch.tensor([0])).item()
        (1.12..., 0.69...)
    """
    _check_part("lam", lam)
    entropy = _mean_over_steps(steps, targets, label_smoothing)
    if lam == 0:
        return entropy
    steps = _at_least_float32(steps)
    return (1 - lam) * entropy + lam * F.mse_loss(steps, torch.full_like(steps, mean))


def step_wise(
    steps: Tensor,
    targets: Tensor,
    *,
    weights: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    r"""Every answer counts that the network would give if it stopped after a step.

    .. math:: L = \frac{\sum_t w_t\, \mathrm{CE}(\bar o_t, y)}{\sum_t w_t}, \quad
        \bar o_t = \frac{1}{t + 1} \sum_{s \le t} o_s

    This is what :func:`snntorch_asnn.anytime` looks at after each step.

    Args:
        steps: ``[T, B, C]``.
        targets: ``[B]`` class indices, or ``[B, C]`` probabilities.
        weights: of the steps, at least 0 and not all 0; None for equal ones. ``[0, ..., 0, 1]`` gives
            the cross-entropy of the output.
        label_smoothing: as in :func:`cross_entropy`.

    Returns:
        Mean over the batch, a scalar of at least float32.

    Raises:
        ValueError: shapes that do not fit, or ``weights`` or ``label_smoothing`` out of range.

    The answers are those of "SEENN: Towards Temporal Spiking Early-Exit Neural Networks", arXiv 2304.01230.

    Example::

        >>> steps = torch.tensor([[[2.0, 0.0]], [[0.0, 2.0]]])
        >>> step_wise(steps, torch.tensor([0]), weights=[0, 1]).item()
        0.69...
    """
    _check_steps(steps)
    counts = torch.arange(1, len(steps) + 1, device=steps.device).view(-1, 1, 1)
    so_far = _at_least_float32(steps).cumsum(0) / counts
    if weights is None:
        return _mean_over_steps(so_far, targets, label_smoothing)
    if len(weights) != len(steps):
        raise ValueError(f"weights must be one for each of {len(steps)} steps; got {len(weights)}")
    if not (all(math.isfinite(w) and w >= 0 for w in weights) and sum(weights) > 0):
        raise ValueError(f"weights must be finite, at least 0, and not all 0; got {list(weights)}")
    used = [(w, logits) for w, logits in zip(weights, so_far, strict=True) if w > 0]
    losses = [w * cross_entropy(logits, targets, label_smoothing=label_smoothing) for w, logits in used]
    return torch.stack(losses).sum() / sum(weights)


def distillation(outputs: Tensor, teacher: Tensor, *, temperature: float = 4.0) -> Tensor:
    r"""How far the softened probabilities are from those of a teacher.

    .. math:: L = \tau^2\, \mathrm{KL}\big(\operatorname{softmax}(z / \tau) \,\|\,
        \operatorname{softmax}(o / \tau)\big)

    The factor keeps the size of the gradient the same at every temperature.

    Args:
        outputs: o, ``[B, C]``.
        teacher: z, logits of the teacher, ``[B, C]``; no gradient flows into them.
        temperature: tau, above 0.

    Returns:
        Mean over the batch, a scalar of at least float32.

    Raises:
        ValueError: the shapes differ, or ``temperature`` is not above 0.

    Source: "Distilling the Knowledge in a Neural Network", arXiv 1503.02531.

    Example::

        >>> logits = torch.tensor([[1.0, 2.0, 3.0]])
        >>> distillation(logits, logits + 5).item() < 1e-6
        True
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature must be above 0; got {temperature}")
    if outputs.shape != teacher.shape or outputs.ndim != 2:
        raise ValueError(
            f"teacher must give logits like those of the outputs, [B, C]; got shapes {tuple(teacher.shape)}"
            f" and {tuple(outputs.shape)}"
        )
    log_p = F.log_softmax(_at_least_float32(outputs) / temperature, dim=1)
    log_q = F.log_softmax(_at_least_float32(teacher.detach()) / temperature, dim=1)
    return temperature**2 * F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)


class Loss:
    """A loss with its settings, as :func:`make_loss` makes it.

    Args:
        settings: which loss, and its numbers.
        teacher: network in evaluation mode whose answers are imitated, or None.
    """

    def __init__(self, settings: LossSettings, teacher: nn.Module | None = None) -> None:
        if settings.loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}; got {settings.loss!r}")
        _check_part("label_smoothing", settings.label_smoothing, below_one=True)
        _check_part("tet_lambda", settings.tet_lambda)
        _check_part("kd_alpha", settings.kd_alpha)
        self.settings, self.teacher = settings, teacher

    def __call__(
        self, steps: Tensor, outputs: Tensor, targets: Tensor, images: Tensor | None = None
    ) -> Tensor:
        """Return the loss, a scalar.

        Args:
            steps: ``[T, B, C]``, of ``model(images, return_steps=True)``.
            outputs: ``[B, C]``, their mean over the steps.
            targets: ``[B]`` class indices, or ``[B, C]`` probabilities.
            images: what the model was given; the teacher is given the same.

        Raises:
            ValueError: shapes that do not fit, or no ``images`` for a teacher.
        """
        settings = self.settings
        loss = self._of_targets(steps, outputs, targets)
        if self.teacher is None:
            return loss
        if images is None:
            raise ValueError("images must be given where a teacher is to see them; got None")
        with torch.no_grad():
            answers = self.teacher(images)
        imitation = distillation(outputs, answers, temperature=settings.kd_temperature)
        return (1 - settings.kd_alpha) * loss + settings.kd_alpha * imitation

    def _of_targets(self, steps: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        smoothing = self.settings.label_smoothing
        if self.settings.loss == "tet":
            return tet(steps, targets, lam=self.settings.tet_lambda, label_smoothing=smoothing)
        if self.settings.loss == "step-wise":
            return step_wise(steps, targets, label_smoothing=smoothing)
        return cross_entropy(outputs, targets, label_smoothing=smoothing)


def make_loss(config: LossSettings, *, teacher: nn.Module | None = None) -> Loss:
    """Return the loss that a configuration names.

    Args:
        config: ``loss``, ``label_smoothing``, ``tet_lambda``, and for a teacher ``kd_alpha`` and
            ``kd_temperature``.
        teacher: network to learn from as well, see :func:`~snntorch_asnn.train.teacher.load_teacher`:
            ``(1 - kd_alpha) * loss + kd_alpha * distillation``.

    Returns:
        Loss: called as ``loss(steps, outputs, targets)``, with ``images`` for a teacher.

    Raises:
        ValueError: the loss is unknown, or a number out of its range.

    Example::

        >>> from types import SimpleNamespace
        >>> config = SimpleNamespace(
        ...     loss="tet", label_smoothing=0.1, tet_lambda=0.05, kd_alpha=0.5, kd_temperature=4.0
        ... )
        >>> steps = torch.zeros(4, 2, 10)
        >>> make_loss(config)(steps, steps.mean(0), torch.tensor([3, 5])).item()
        2.23...
    """
    return Loss(config, teacher)


def _mean_over_steps(steps: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
    """Return the mean cross-entropy of ``[T, B, C]`` logits, as one batch of ``T * B``."""
    _check_steps(steps)
    _check_targets(targets, steps.shape[1:])
    repeated = targets.expand(len(steps), *targets.shape).flatten(0, 1)
    return cross_entropy(steps.flatten(0, 1), repeated, label_smoothing=label_smoothing)


def _at_least_float32(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _check_steps(steps: Tensor) -> None:
    if steps.ndim != 3 or len(steps) == 0:
        raise ValueError(f"steps must be [T, B, C] with T of at least 1; got shape {tuple(steps.shape)}")


def _check_targets(targets: Tensor, shape: torch.Size) -> None:
    if targets.shape not in (shape, shape[:1]):
        raise ValueError(
            f"targets must be [{shape[0]}] class indices or {list(shape)} probabilities;"
            f" got shape {tuple(targets.shape)}"
        )
    if targets.ndim == 1 and (targets.is_floating_point() or targets.is_complex()):
        raise TypeError(f"targets must be integers where they are class indices; got {targets.dtype}")


def _check_part(name: str, value: float, *, below_one: bool = False) -> None:
    if not (0 <= value < 1 or (value == 1 and not below_one)):
        raise ValueError(f"{name} must be in [0, 1{')' if below_one else ']'}; got {value}")
