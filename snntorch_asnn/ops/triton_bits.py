"""Triton kernels that keep spikes at one bit each: one pass that reads them, one that writes them again.

The last of the 32-bit words that hold the bits is the number that a spike is worth.
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from snntorch_asnn.ops.adaptive_leaky.triton_launch import Prepared
from snntorch_asnn.ops.adaptive_leaky.triton_ops import Launch

__all__ = ["pack", "unpack"]

_WORDS = 128
"""Words of 32 bits that one program packs or unpacks."""


@triton.jit
def _pack_kernel(flat, worth, like, words, elements, last, WORDS: tl.constexpr):
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
def _unpack_kernel(words, flat, elements, last, WORDS: tl.constexpr):
    word = tl.program_id(0).to(tl.int64) * WORDS + tl.arange(0, WORDS)
    bits = tl.load(words + word, word < last, other=0)
    at = word[:, None] * 32 + tl.arange(0, 32)[None, :]
    fired = ((bits[:, None] >> tl.arange(0, 32)[None, :]) & 1) != 0
    value = tl.load(words + last).to(tl.float32, bitcast=True)
    tl.store(flat + at, tl.where(fired, value, 0.0), at < elements)


def pack(flat: Tensor, worth: Tensor, written_as: torch.dtype) -> Tensor:
    """The words of ``flat``, spikes in the order of memory.

    Args:
        flat: zeros and spikes, float32, bfloat16 or float16.
        worth: the number that spikes were written with, float32.
        written_as: the dtype that it was rounded to, before ``flat`` was cast.
    """
    words = torch.empty(_count(flat) + 1, dtype=torch.int32, device=flat.device)
    like = flat if flat.dtype == written_as else torch.empty(1, dtype=written_as, device=flat.device)
    _packing(flat.numel(), flat.dtype, written_as)(flat, worth, like, words)
    return words


def unpack(words: Tensor, flat: Tensor) -> None:
    """Fill ``flat`` with the spikes that were packed."""
    _unpacking(flat.numel(), flat.dtype)(words, flat)


def _count(flat: Tensor) -> int:
    return -(-flat.numel() // 32)


def _launch(elements: int) -> Launch:
    last = -(-elements // 32)
    return Launch((triton.cdiv(last, _WORDS),), (elements, last), {"WORDS": _WORDS, "num_warps": 4})


@functools.lru_cache(maxsize=1024)
def _packing(elements: int, dtype: torch.dtype, written_as: torch.dtype) -> Prepared:
    return Prepared(_pack_kernel, _launch(elements))


@functools.lru_cache(maxsize=1024)
def _unpacking(elements: int, dtype: torch.dtype) -> Prepared:
    return Prepared(_unpack_kernel, _launch(elements))
