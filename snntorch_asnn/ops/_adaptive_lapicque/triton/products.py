"""A tensor times three numbers in one pass on a GPU, each product rounded as PyTorch's operators round it."""

from __future__ import annotations

import functools
from typing import Any

import torch
import triton
from torch import Tensor

from snntorch_asnn.ops._adaptive_lapicque.triton.kernels import products_kernel
from snntorch_asnn.ops._first_derivative import first_derivative_only
from snntorch_asnn.ops._triton.launch import Launch, Prepared

__all__ = ["products"]

_BLOCK = 1024


def products(x: Tensor, first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    """``x.float() * first * second * third``, differentiable once in ``x``.

    Args:
        x: float32 or a half precision.
        first, second, third: one float32 each.
    """
    return _Products.apply(x, first, second, third)  # type: ignore[no-any-return]


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, first: Tensor, second: Tensor, third: Tensor) -> Tensor:
        ctx.dtype = x.dtype
        ctx.save_for_backward(first, second, third)
        return _product_of(x, first, second, third, torch.float32)

    @staticmethod
    @first_derivative_only("impl='triton', whose backward pass is a kernel,", "impl='reference'")
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        first, second, third = ctx.saved_tensors
        # In the order in which autograd would go back.
        return _product_of(grad_outputs[0], third, second, first, ctx.dtype), None, None, None


def _product_of(x: Tensor, first: Tensor, second: Tensor, third: Tensor, dtype: torch.dtype) -> Tensor:
    to = torch.empty_like(x, dtype=dtype)
    # Results have the strides of what is dense in any order, and only then.
    x = x.resolve_neg() if to.stride() == x.stride() else x.contiguous()
    to = to if to.stride() == x.stride() else torch.empty_like(x, dtype=dtype)
    if x.numel():
        _launch(x.numel(), x.dtype, dtype)(x, first, second, third, to)
    return to


@functools.lru_cache(maxsize=1024)
def _launch(elements: int, dtype: torch.dtype, to: torch.dtype) -> Prepared:
    grid = (triton.cdiv(elements, _BLOCK),)
    return Prepared(products_kernel, Launch(grid, (elements,), {"BLOCK": _BLOCK, "num_warps": 4}))
