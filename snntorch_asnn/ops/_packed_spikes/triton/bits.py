"""Spikes on a GPU at one bit each: one kernel that reads them, one that writes them again."""

from __future__ import annotations

import functools

import torch
import triton
from torch import Tensor

from snntorch_asnn.ops._packed_spikes.triton.kernels import pack_kernel, unpack_kernel
from snntorch_asnn.ops._triton.launch import Launch, Prepared

__all__ = ["pack", "unpack"]

_WORDS = 128
"""Words of 32 bits that one program packs or unpacks."""


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
    return Prepared(pack_kernel, _launch(elements))


@functools.lru_cache(maxsize=1024)
def _unpacking(elements: int, dtype: torch.dtype) -> Prepared:
    return Prepared(unpack_kernel, _launch(elements))
