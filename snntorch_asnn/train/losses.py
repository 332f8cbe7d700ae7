"""Losses on the logits of every step and of the whole sequence.

With logits :math:`o_t` of step ``t``, as ``model(images, return_steps=True)`` returns them, and their mean
:math:`o`, the output. Targets are class indices ``[B]``, or probabilities ``[B, C]``, as mixup makes them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from snntorch_asnn.train.config import TrainConfig

__all__ = ["cross_entropy", "distillation", "make_loss", "step_wise", "tet", "training_loss"]


def training_loss(
    config: TrainConfig, steps: Tensor, targets: Tensor, teacher_logits: Tensor | None = None
) -> Tensor:
    """Return the loss that a configuration names.

    Args:
        config: ``loss``, ``label_smoothing`` and ``tet_lambda``; with a teacher ``kd_alpha`` and
            ``kd_temperature``.
        steps: ``[T, B, C]``.
        targets: ``[B]`` class indices, or ``[B, C]`` probabilities.
        teacher_logits: ``[B, C]``; the loss is then ``(1 - kd_alpha) * loss + kd_alpha * distillation``.

    Returns:
        Mean over the batch, a scalar.

    Raises:
        ValueError: The shapes do not fit.

    Example::

        >>> from snntorch_asnn.train import TrainConfig
        >>> config = TrainConfig(loss="tet", label_smoothing=0.1, tet_lambda=0.05)
        >>> training_loss(config, torch.zeros(4, 2, 10), torch.tensor([3, 5])).item()
        2.23...
    """
    smoothing = config.label_smoothing
    if config.loss == "tet":
        loss = tet(steps, targets, lam=config.tet_lambda, label_smoothing=smoothing)
    elif config.loss == "step-wise":
        loss = step_wise(steps, targets, label_smoothing=smoothing)
    else:
        loss = cross_entropy(steps.mean(dim=0), targets, label_smoothing=smoothing)
    if teacher_logits is None:
        return loss
    imitation = distillation(steps.mean(dim=0), teacher_logits, temperature=config.kd_temperature)
    return (1 - config.kd_alpha) * loss + config.kd_alpha * imitation


def cross_entropy(outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    r"""Cross-entropy of the output, in nats.

    .. math:: L = -\sum_c q_c \log \operatorname{softmax}(o)_c, \quad q = (1 - \epsilon)\, y + \epsilon / C

    Args:
        outputs: ``[B, C]``.
        targets: ``[B]`` class indices, or ``[B, C]`` probabilities.
        label_smoothing: Epsilon, in [0, 1).

    Returns:
        Mean over the batch, a scalar of at least float32.

    Raises:
        ValueError: The shapes do not fit, or ``label_smoothing`` is out of its range.

    Example::

        >>> cross_entropy(torch.tensor([[0.0, 0.0]]), torch.tensor([1])).item()
        0.693...
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must be in [0, 1); got {label_smoothing}")
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
        lam: Lambda, weight of the regulariser that keeps logits from outliers; 0.05 for CIFAR and 0.001 for
            CIFAR10-DVS in the source.
        mean: Phi, the threshold of the neurons in the source.
        label_smoothing: As in :func:`cross_entropy`.

    Returns:
        Mean over the batch, a scalar of at least float32.

    Raises:
        ValueError: The shapes do not fit, or ``lam`` or ``label_smoothing`` is out of its range.

    Source: "Temporal Efficient Training of Spiking Neural Network via Gradient Re-weighting",
    arXiv 2202.11946.

    Example::

        >>> steps = torch.tensor([[[2.0, 0.0]], [[0.0, 2.0]]])
        >>> tet(steps, torch.tensor([0])).item(), cross_entropy(steps.mean(0), torch.tensor([0])).item()
        (1.12..., 0.69...)
    """
    if not 0 <= lam <= 1:
        raise ValueError(f"lam must be in [0, 1]; got {lam}")
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
    r"""Cross-entropy of the output that the network would give if it stopped after each step.

    .. math:: L = \frac{\sum_t w_t\, \mathrm{CE}(\bar o_t, y)}{\sum_t w_t}, \quad
        \bar o_t = \frac{1}{t + 1} \sum_{s \le t} o_s

    :func:`snntorch_asnn.anytime` looks at the same outputs.

    Args:
        steps: ``[T, B, C]``.
        targets: ``[B]`` class indices, or ``[B, C]`` probabilities.
        weights: Weights of the steps, at least 0 and not all 0; None for equal weights. ``[0, ..., 0, 1]``
            gives the cross-entropy of the output.
        label_smoothing: As in :func:`cross_entropy`.

    Returns:
        Mean over the batch, a scalar of at least float32.

    Raises:
        ValueError: The shapes do not fit, or ``weights`` or ``label_smoothing`` is out of its range.

    Source: the outputs of "SEENN: Towards Temporal Spiking Early-Exit Neural Networks", arXiv 2304.01230.

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
        raise ValueError(f"weights must hold a number for each of {len(steps)} steps; got {len(weights)}")
    if not (all(math.isfinite(w) and w >= 0 for w in weights) and sum(weights) > 0):
        raise ValueError(f"weights must be finite, at least 0, and not all 0; got {list(weights)}")
    used = [(w, logits) for w, logits in zip(weights, so_far, strict=True) if w > 0]
    losses = [w * cross_entropy(logits, targets, label_smoothing=label_smoothing) for w, logits in used]
    return torch.stack(losses).sum() / sum(weights)


def distillation(outputs: Tensor, teacher: Tensor, *, temperature: float = 4.0) -> Tensor:
    r"""Kullback-Leibler divergence of the softened probabilities from the teacher's.

    .. math:: L = \tau^2\, \mathrm{KL}\big(\operatorname{softmax}(z / \tau) \,\|\,
        \operatorname{softmax}(o / \tau)\big)

    The factor keeps the size of the gradient the same at every temperature.

    Args:
        outputs: o, ``[B, C]``.
        teacher: z, logits of the teacher, ``[B, C]``; no gradient flows into them.
        temperature: Tau, above 0.

    Returns:
        Mean over the batch, a scalar of at least float32.

    Raises:
        ValueError: The shapes differ, or ``temperature`` is not above 0.

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
            f"teacher must have the shape [B, C] of outputs; got shapes {tuple(teacher.shape)}"
            f" and {tuple(outputs.shape)}"
        )
    log_p = F.log_softmax(_at_least_float32(outputs) / temperature, dim=1)
    log_q = F.log_softmax(_at_least_float32(teacher.detach()) / temperature, dim=1)
    return temperature**2 * F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)


def make_loss(config: TrainConfig, *, teacher: nn.Module | None = None) -> Callable[..., Tensor]:
    """Deprecated: call :func:`training_loss`."""
    message = "make_loss is deprecated; use training_loss(config, steps, targets, teacher_logits)"
    warnings.warn(message, DeprecationWarning, stacklevel=2)

    def loss(steps: Tensor, outputs: Tensor, targets: Tensor, images: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            logits = None if teacher is None else teacher(images)
        return training_loss(config, steps, targets, logits)

    return loss


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
        raise TypeError(f"class indices in targets must be integers; got {targets.dtype}")
