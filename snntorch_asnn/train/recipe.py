"""Optimiser and learning rate schedule."""

from __future__ import annotations

from typing import Any

import snntorch
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR

from snntorch_asnn.train.config import TrainConfig


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split a model's parameters into those that decay and those that do not.

    Only weight matrices and convolution kernels decay. Pulling leaks, gains, thresholds or norms
    towards zero would change what a neuron is, not regularise it.
    """
    of_neurons = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, snntorch.SpikingNeuron)
        for parameter in module.parameters(recurse=False)
    }
    learned = [p for p in model.parameters() if p.requires_grad]
    decays = [p for p in learned if p.ndim >= 2 and id(p) not in of_neurons]
    rest = [p for p in learned if p.ndim < 2 or id(p) in of_neurons]
    return [{"params": decays, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW, which is Adam where ``config.weight_decay`` is 0."""
    return torch.optim.AdamW(parameter_groups(model, config.weight_decay), lr=config.lr)


def make_schedule(optimizer: torch.optim.Optimizer, config: TrainConfig, total_steps: int) -> LRScheduler:
    """Return the schedule, to be stepped after every training step."""
    if config.schedule == "one-cycle":
        return OneCycleLR(optimizer, max_lr=config.lr, total_steps=total_steps)
    return CosineAnnealingLR(optimizer, T_max=total_steps, eta_min=min(1e-5, config.lr))
