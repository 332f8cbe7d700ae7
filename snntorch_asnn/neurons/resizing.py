"""Parameters with one row for each step, resampled to another number of steps."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from snntorch_asnn.neurons.time_parameters import resample

__all__ = ["resize_parameter"]


def resize_parameter(module: nn.Module, name: str, num_steps: int) -> None:
    """Resample a parameter or buffer ``[T, ...]`` of a module in place, linearly in time.

    Where PyTorch's pruning or parametrization computes it, what it is computed from is resampled; a mask
    takes that of the nearest step. A tensor without dimensions is the same at every step and stays.
    """
    if parametrize.is_parametrized(module, name):
        parts = cast(nn.ModuleDict, module.parametrizations)[name]
        for part in [key for key, _ in parts.named_parameters(recurse=False)]:
            _replace(parts, part, num_steps)
    elif f"{name}_orig" in module._parameters:
        _replace(module, f"{name}_orig", num_steps)
        mask = getattr(module, f"{name}_mask")
        if mask.ndim:
            places = torch.linspace(0, len(mask) - 1, num_steps, device=mask.device).round().long()
            setattr(module, f"{name}_mask", mask[places])
        setattr(module, name, getattr(module, f"{name}_orig") * getattr(module, f"{name}_mask"))
    else:
        _replace(module, name, num_steps)


def _replace(module: nn.Module, name: str, num_steps: int) -> None:
    value: Tensor = getattr(module, name)
    if value.ndim == 0:
        return
    resampled = resample(value, num_steps)
    is_parameter = isinstance(value, nn.Parameter)
    setattr(module, name, nn.Parameter(resampled, value.requires_grad) if is_parameter else resampled)
