"""The Triton kernels of ``bits.py``.

``words`` are 32 bits each; the last one is the float32 that a spike is worth.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["pack_kernel", "unpack_kernel"]


@triton.jit
def pack_kernel(flat, worth, like, words, elements, last, WORDS: tl.constexpr):
    """One bit for each element of ``flat`` that is not zero, and behind them what a spike is worth."""
    word = tl.program_id(0).to(tl.int64) * WORDS + tl.arange(0, WORDS)
    at = word[:, None] * 32 + tl.arange(0, 32)[None, :]
    spikes = tl.load(flat + at, at < elements, other=0) != 0
    bits = tl.sum(spikes.to(tl.int32) << tl.arange(0, 32)[None, :], axis=1)
    tl.store(words + word, bits, word < last)
    if tl.program_id(0) == 0:
        # Rounded as it was when the spikes were written, and once more if they were cast.
        value = tl.load(worth).to(like.dtype.element_ty).to(flat.dtype.element_ty).to(tl.float32)
        tl.store(words + last, value.to(tl.int32, bitcast=True))


@triton.jit
def unpack_kernel(words, flat, elements, last, WORDS: tl.constexpr):
    """Zeros, and what a spike is worth where a bit is set."""
    word = tl.program_id(0).to(tl.int64) * WORDS + tl.arange(0, WORDS)
    bits = tl.load(words + word, word < last, other=0)
    at = word[:, None] * 32 + tl.arange(0, 32)[None, :]
    fired = ((bits[:, None] >> tl.arange(0, 32)[None, :]) & 1) != 0
    value = tl.load(words + last).to(tl.float32, bitcast=True)
    tl.store(flat + at, tl.where(fired, value, 0.0), at < elements)
