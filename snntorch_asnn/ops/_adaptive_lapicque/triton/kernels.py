"""The Triton kernel of ``products.py``."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["products_kernel"]


@triton.jit
def products_kernel(x, first, second, third, to, elements, BLOCK: tl.constexpr):
    """``x * first * second * third``, rounded after each product; the factors are one number each."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + at, at < elements, other=0).to(tl.float32)
    value = value * tl.load(first) * tl.load(second) * tl.load(third)
    tl.store(to + at, value, at < elements)
