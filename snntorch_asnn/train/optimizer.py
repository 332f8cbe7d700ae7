"""Optimizer and learning rate schedule."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    SequentialLR,
)

from snntorch_asnn.neurons import optim_groups
from snntorch_asnn.train.config import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return AdamW, which is Adam where ``config.weight_decay`` is 0, or SGD with momentum."""
    groups = optim_groups(model, config.lr, weight_decay=config.weight_decay)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    return torch.optim.AdamW(groups, lr=config.lr)


def make_schedule(optimizer: torch.optim.Optimizer, config: TrainConfig, steps_per_epoch: int) -> LRScheduler:
    """Return the schedule, to be stepped after every training step.

    ``"cosine"`` rises from ``warmup_lr`` over the warm-up epochs, falls to ``min_lr`` along half a cosine,
    and stays there for the cooldown epochs. ``"one-cycle"`` leaves the momentum as it is; where it has
    a single step, that is its peak.
    """
    total = config.epochs * steps_per_epoch
    if config.schedule == "one-cycle":
        if total == 1:
            return ConstantLR(optimizer, factor=1.0)
        return OneCycleLR(optimizer, max_lr=config.lr, total_steps=total, cycle_momentum=False)
    warmup, cooldown = config.warmup_epochs * steps_per_epoch, config.cooldown_epochs * steps_per_epoch
    lowest = min(config.min_lr, config.lr)
    parts: dict[int, LRScheduler] = {}  # by the step at which they end
    if warmup:
        start = min(1.0, config.warmup_lr / config.lr)
        parts[warmup] = LinearLR(optimizer, start_factor=start, total_iters=warmup)
    if config.schedule == "constant":
        parts[total] = ConstantLR(optimizer, factor=1.0)
    else:
        falls = total - warmup - cooldown
        parts[total - cooldown] = CosineAnnealingLR(optimizer, T_max=falls, eta_min=lowest)
        if cooldown:
            parts[total] = ConstantLR(optimizer, factor=lowest / config.lr, total_iters=total)
    return SequentialLR(optimizer, list(parts.values()), milestones=list(parts)[:-1])
