"""Optimizer and learning rate schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    SequentialLR,
)

from snntorch_asnn.models.earlier_keys import current_key, is_pointwise
from snntorch_asnn.neurons import optim_groups
from snntorch_asnn.train.config import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return AdamW, which is Adam where ``config.weight_decay`` is 0, or SGD with momentum."""
    groups = optim_groups(model, config.lr, weight_decay=config.weight_decay)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    return torch.optim.AdamW(groups, lr=config.lr)


def in_current_order(
    state: dict[str, Any], optimizer: torch.optim.Optimizer, model: nn.Module, saved_keys: Sequence[str]
) -> dict[str, Any]:
    """Return the saved state of an optimizer for a model that now registers its parameters in another order.

    PyTorch identifies the parameters of a group by their order alone.

    Args:
        state: The saved state of the optimizer.
        optimizer: The optimizer to load it into.
        model: The model whose parameters the optimizer has.
        saved_keys: Keys of the model's ``state_dict`` that was saved with it, maybe by an earlier version.

    Raises:
        KeyError, ValueError: The state belongs to another model.
    """
    earlier: dict[str, str] = getattr(model, "earlier_keys", dict)()
    places = {current_key(earlier, key): place for place, key in enumerate(saved_keys)}
    places_of = {id(parameter): places[name] for name, parameter in model.named_parameters()}
    entries, groups = dict(state["state"]), []
    for group, saved in zip(optimizer.param_groups, state["param_groups"], strict=True):
        own = group["params"]
        in_order = sorted(own, key=lambda parameter: places_of[id(parameter)])
        numbers = {id(p): number for p, number in zip(in_order, saved["params"], strict=True)}
        groups.append(saved | {"params": [numbers[id(parameter)] for parameter in own]})
        for parameter in own:
            entry = entries.get(numbers[id(parameter)], {})
            entries[numbers[id(parameter)]] = {key: _shaped_like(v, parameter) for key, v in entry.items()}
    return state | {"state": {key: entry for key, entry in entries.items() if entry}, "param_groups": groups}


def _shaped_like(value: Any, parameter: Tensor) -> Any:
    """Reshape the moments of a convolution of kernel size 1 that is a linear layer now."""
    if isinstance(value, Tensor) and is_pointwise(value, parameter):
        return value.flatten(1)
    return value


def make_schedule(optimizer: torch.optim.Optimizer, config: TrainConfig, steps_per_epoch: int) -> LRScheduler:
    """Return the schedule, to be stepped after every training step.

    ``"cosine"`` rises from ``warmup_lr`` over the warm-up epochs, falls to ``min_lr`` along half a cosine,
    and stays there for the cooldown epochs. ``"one-cycle"`` leaves the momentum alone.
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
