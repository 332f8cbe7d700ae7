"""The gradient of a leak that stays in [0, 1], in one launch on a GPU instead of seven."""

from __future__ import annotations

import functools

import torch
import triton
from torch import Tensor

from snntorch_asnn.ops._leak_gradient.triton.kernels import led_back_kernel
from snntorch_asnn.ops._triton.launch import Launch, Prepared

__all__ = ["led_back"]

_BLOCK = 512


def led_back(raw: Tensor, grad: Tensor) -> Tensor:
    """``grad``, of the dtype and shape of ``raw``, without what leads ``raw`` further out of [0, 1]."""
    raw, grad = raw.contiguous(), grad.contiguous()
    to = torch.empty_like(grad)
    if grad.numel():
        _launch(grad.numel(), grad.dtype)(raw, grad, to)
    return to


@functools.lru_cache(maxsize=1024)
def _launch(elements: int, dtype: torch.dtype) -> Prepared:
    grid = (triton.cdiv(elements, _BLOCK),)
    return Prepared(led_back_kernel, Launch(grid, (elements,), {"BLOCK": _BLOCK, "num_warps": 4}))
