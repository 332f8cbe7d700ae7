"""Spikes that autograd keeps for the backward pass, at one bit each."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from snntorch_asnn._torch import storage_of, version_of
from snntorch_asnn.ops._spike_origin import spike_worth

__all__ = ["Kept", "Packed", "Packer", "pack_spikes", "unpack"]

LEAST_TO_PACK = 1 << 12
"""Elements below which packing takes more time than its memory is worth."""

_SAMPLE = 1 << 12
"""Elements that are looked at first: they tell most tensors that hold no spikes."""

MOST_REMEMBERED = 256
"""Entries above which those of freed bits are dropped."""

_MAGIC = 0x0102040810204080
_BITS_OF = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class Packed(NamedTuple):
    """A tensor of spikes: its elements in the order of memory, and how that memory is seen.

    On a CPU ``bits`` are bytes of zeros and ones, elsewhere words of zeros and spikes of one worth.
    """

    bits: Tensor
    dtype: torch.dtype
    shape: torch.Size
    stride: tuple[int, ...]


class Kept(NamedTuple):
    """A tensor as it is, and its version, since autograd does not look after those that hooks have kept."""

    tensor: Tensor
    version: int


class _Region(NamedTuple):
    """A stretch of memory in one state, which any number of views may see."""

    memory: int
    start: int
    elements: int
    dtype: torch.dtype
    version: int


@contextmanager
def pack_spikes() -> Iterator[None]:
    """Keep spikes at one bit each for the backward pass of what runs inside.

    A convolution or linear layer keeps its input to compute the gradient of its weight. Where that input is
    spikes it holds zeros and ones only, and 32 bits of float32 (16 of bfloat16) carry one. Inside this
    context whatever autograd keeps is packed if every element is exactly 0 or 1: spikes, and also what
    pooling or reshaping makes of them. It is unpacked when the backward pass comes to it, so that gradients
    are the same to the bit. Everything else is kept as it is. What several layers keep is packed once.

    On a CPU, packing looks at every element, which costs about as much as copying the tensor three times;
    ``benchmarks/training.py`` measures cost and savings. On a GPU a look would make the host wait for the
    device. There a tensor is packed if autograd's record proves that it comes from a neuron's kernel, with
    nothing in between but views, copies, one cast and max pooling; its ``graded_spikes_factor`` must be one
    number that is not learned. So nothing waits, and the whole can be captured in a CUDA graph. What a
    compiled model keeps has no such record, and stays as it is.

    Only the forward pass must run inside. It works with autocast, DistributedDataParallel and, on a CPU,
    compiled models; what gradient checkpointing computes again is not packed.

    Example::

        >>> import torch
        >>> import snntorch_asnn as asnn
        >>> model = asnn.models.create_model("lenet", num_classes=10, num_steps=4)
        >>> with asnn.pack_spikes():
        ...     loss = model(torch.rand(2, 3, 32, 32)).square().mean()
        >>> loss.backward()
    """
    with torch.autograd.graph.saved_tensors_hooks(Packer().pack, unpack):
        yield


class Packer:
    """Packs what is spikes, and knows what it has packed for as long as both live."""

    def __init__(self) -> None:
        self._known: dict[_Region, tuple[StorageWeakRef, weakref.ref[Tensor]]] = {}

    def pack(self, tensor: Tensor) -> Tensor | Kept | Packed:
        """``tensor`` as bits, or itself where it is anything but zeros and ones."""
        if torch.compiler.is_compiling() or not _has_memory(tensor):
            return tensor
        bits = self._seen_bits(tensor) if _values_decide(tensor) else self._known_bits(tensor)
        if bits is None:
            return Kept(tensor, version_of(tensor))
        return Packed(bits, tensor.dtype, tensor.shape, tensor.stride())

    def _seen_bits(self, tensor: Tensor) -> Tensor | None:
        if not _may_be_spikes(tensor):
            return None
        bits = self._find(tensor)
        if bits is None:
            bits = _pack_bits(tensor)
            if bits is not None:
                self._remember(tensor, bits)
        return bits

    def _known_bits(self, tensor: Tensor) -> Tensor | None:
        """The words of a dense tensor, if its history proves that it holds zeros and spikes only."""
        worth = spike_worth(tensor)
        if worth is None or not _may_be_spikes(tensor):
            return None
        bits = self._find(tensor)
        if bits is None:
            from snntorch_asnn.ops._packed_spikes.triton import bits as triton_bits

            bits = triton_bits.pack(tensor.detach(), *worth)
            self._remember(tensor, bits)
        return bits

    def _find(self, tensor: Tensor) -> Tensor | None:
        owner, bits = self._known.get(_region(tensor), (None, None))
        return None if owner is None or bits is None or owner.expired() else bits()

    def _remember(self, tensor: Tensor, bits: Tensor) -> None:
        if len(self._known) > MOST_REMEMBERED:
            self._known = {region: entry for region, entry in self._known.items() if entry[1]() is not None}
        self._known[_region(tensor)] = StorageWeakRef(tensor.untyped_storage()), weakref.ref(bits)


def unpack(kept: Tensor | Kept | Packed) -> Tensor:
    """The tensor that was packed, or kept as it was.

    Raises:
        RuntimeError: if it was kept and has been changed in place since.
    """
    if isinstance(kept, Tensor):
        return kept
    if isinstance(kept, Kept):
        if version_of(kept.tensor) != kept.version:
            raise RuntimeError(
                f"a tensor of shape {tuple(kept.tensor.shape)} that the gradient needs has been modified by "
                f"an inplace operation: it is at version {version_of(kept.tensor)}, expected {kept.version}"
            )
        return kept.tensor
    if kept.bits.dtype == torch.uint8:
        flat = _patterns(kept.dtype, kept.bits.device).index_select(0, kept.bits.int()).view(-1)
        return flat.as_strided(kept.shape, kept.stride)
    from snntorch_asnn.ops._packed_spikes.triton import bits as triton_bits

    spikes = torch.empty_strided(kept.shape, kept.stride, dtype=kept.dtype, device=kept.bits.device)
    triton_bits.unpack(kept.bits, spikes)
    return spikes


def _has_memory(tensor: Tensor) -> bool:
    """Whether ``tensor`` is no fake, or other, that stands for one."""
    return type(tensor) in (Tensor, nn.Parameter)


def _region(tensor: Tensor) -> _Region:
    memory, start = storage_of(tensor), int(tensor.storage_offset())
    return _Region(memory, start, tensor.numel(), tensor.dtype, version_of(tensor))


def _may_be_spikes(tensor: Tensor) -> bool:
    return (
        tensor.layout == torch.strided
        and tensor.is_floating_point()
        and tensor.element_size() in _BITS_OF
        and tensor.numel() >= LEAST_TO_PACK
        and _is_dense(tensor)
    )


def _is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill a stretch of memory, in any order, each once."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


def _in_memory(tensor: Tensor) -> Tensor:
    """The elements of a dense tensor in the order of memory, as integers of their bits."""
    flat = tensor.detach().as_strided((tensor.numel(),), (1,), tensor.storage_offset())
    return flat.view(_BITS_OF[tensor.element_size()])


def _values_decide(tensor: Tensor) -> bool:
    """Whether a look at the values costs no wait for a device."""
    return tensor.device.type == "cpu"


def _pack_bits(tensor: Tensor) -> Tensor | None:
    """A dense tensor of zeros and ones as bits; None if it holds anything else, be it a negative zero."""
    flat = _in_memory(tensor)
    one = _bits_of_one(tensor.dtype)
    # Most of what is not spikes is told by a few elements.
    if not _holds(flat[:_SAMPLE], flat[:_SAMPLE] == one):
        return None
    ones = flat.new_empty(-(-flat.numel() // 8) * 8, dtype=torch.bool)
    ones[flat.numel() :] = False
    torch.eq(flat, one, out=ones[: flat.numel()])
    return _eight_to_one(ones) if _holds(flat, ones) else None


def _holds(flat: Tensor, ones: Tensor) -> bool:
    """Whether every element that is not zero is a one."""
    return not bool(torch.count_nonzero(flat) - torch.count_nonzero(ones))


def _eight_to_one(ones: Tensor) -> Tensor:
    """Eight booleans, a byte each, to one byte: the product gathers their bits in the highest byte."""
    return (ones.view(torch.int64) * _MAGIC).bitwise_right_shift_(56).to(torch.uint8)


@functools.cache
def _bits_of_one(dtype: torch.dtype) -> int:
    one = torch.ones((), dtype=dtype)
    return int(one.view(_BITS_OF[one.element_size()]))


@functools.cache
def _patterns(dtype: torch.dtype, device: torch.device) -> Tensor:
    """The eight zeros and ones behind every byte, ``[256, 8]``."""
    numbers = torch.arange(256, device=device)
    ones = (numbers[:, None] >> torch.arange(8, device=device)) % 2 == 1
    table = torch.empty(256, 8, dtype=dtype, device=device)
    table[_eight_to_one(ones.flatten()).long()] = ones.to(dtype)
    return table
