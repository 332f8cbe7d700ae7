"""A factor and an offset of the input that kernels apply while they read it: the way back through both."""

from __future__ import annotations

import torch
from torch import Tensor

from snntorch_asnn.ops._adaptive_leaky.coefficients import aligned, summed_to

__all__ = ["back_through_affine"]


def back_through_affine(
    grad_product: Tensor | None, grad_shift: Tensor | None, gain: Tensor, factor: Tensor, offset: Tensor
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of gain, factor and offset from those of their products ``[T, *features]``."""
    grad_gain = grad_factor = grad_offset = None
    if grad_shift is not None:
        shape = factor.shape
        gain, factor, offset = (aligned(c, grad_shift.ndim) for c in (gain, factor, offset))
        grad_offset = summed_to(grad_shift * gain, shape)
        if grad_product is not None:
            grad_factor = summed_to(grad_product * gain, shape)
            grad_gain = torch.addcmul(grad_shift * offset, grad_product, factor)
    return grad_gain, grad_factor, grad_offset
