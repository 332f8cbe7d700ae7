"""The Triton kernel of ``gradient.py``."""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["led_back_kernel"]


@triton.jit
def led_back_kernel(raw, grad, to, elements, BLOCK: tl.constexpr):
    """``grad`` without what leads ``raw`` further out of [0, 1]."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(raw + at, at < elements, other=0)
    given = tl.load(grad + at, at < elements, other=0)
    outwards = ((value >= 1) & (given < 0)) | ((value <= 0) & (given > 0))
    tl.store(to + at, tl.where(outwards, 0.0, given), at < elements)
