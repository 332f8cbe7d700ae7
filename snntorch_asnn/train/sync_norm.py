"""Batch norm whose statistics are those of all processes, on a CPU too."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from snntorch_asnn.layers import StepBatchNorm
from snntorch_asnn.ops._batch_moments.moments import Moments, batch_moments


class SyncBatchNorm(_BatchNorm):
    """Batch norm over all processes for any device; PyTorch's ``nn.SyncBatchNorm`` is for GPUs only."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``[B, C, ...]`` with the statistics of the batches of all processes."""
        if input.ndim < 2 or input.shape[1] != self.num_features:
            raise ValueError(f"input must be [B, {self.num_features}, ...]; got shape {tuple(input.shape)}")
        if not self.training:
            return nn.functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        moments = batch_moments(input.unsqueeze(0), 2, dist.group.WORLD)
        self._move_running_averages(moments)
        shape = (-1, *(1,) * (input.ndim - 2))
        factor = (moments.variance + self.eps).rsqrt() * self.weight
        centred = moments.x[0] - moments.mean.view(shape)
        return (centred * factor.view(shape) + self.bias.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _move_running_averages(self, moments: Moments) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = self.momentum if self.momentum is not None else 1 / int(self.num_batches_tracked)
        unbiased = moments.variance * (moments.elements / (moments.elements - 1))
        self.running_mean.lerp_(moments.mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)


def synchronise_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """Let the batch norms of a model take their statistics over all processes.

    Parameters, running averages and the keys of ``state_dict`` stay what they are.

    Args:
        model: its norms are replaced. On a CPU those with learned factors and running averages, and
            those with statistics of each step.
        device: where it will train.

    Returns:
        The model, or its replacement if it is itself a norm.
    """
    if device.type != "cpu":
        synchronised: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return synchronised
    for module in model.modules():
        if isinstance(module, StepBatchNorm):
            module.synchronised = True
        plain = type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
        if plain and module.affine and module.track_running_stats:
            module.__class__ = SyncBatchNorm
    return model
