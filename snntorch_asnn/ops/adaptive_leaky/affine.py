"""A factor and an offset of the input that kernels apply while they read it: the way back through both."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["back_through_affine"]


def back_through_affine(
    grad_product: Tensor | None, grad_shift: Tensor | None, gain: Tensor, factor: Tensor, offset: Tensor
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of gain, factor and offset from those of their products ``[T, *features]``."""
    grad_gain = grad_factor = grad_offset = None
    if grad_shift is not None:
        steps, *own = gain.shape
        gain = gain.reshape(steps, *(1,) * (grad_shift.ndim - gain.ndim), *own)
        grad_offset = (grad_shift * gain).sum_to_size(offset.shape)
        if grad_product is not None:
            grad_factor = (grad_product * gain).sum_to_size(factor.shape)
            grad_gain = torch.addcmul(grad_shift * offset, grad_product, factor)
    return grad_gain, grad_factor, grad_offset
