"""A norm's factor and offset merged into a neuron's coefficients, and the way back, one launch each.

Where these return None, PyTorch's operations have to do the same: they know the usual ways of sharing only.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import triton
from torch import Size, Tensor

from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
from snntorch_asnn.ops._adaptive_leaky.triton.affine_kernels import gradients_kernel, table_kernel
from snntorch_asnn.ops._triton.launch import Launch, Prepared

__all__ = ["merged_gradients", "merged_table"]

_BLOCK = 256
_GAIN, _SHIFT = Coefficients._fields.index("gain"), Coefficients._fields.index("shift")


def merged_table(own: Coefficients, factor: Tensor, offset: Tensor, channels: int) -> Tensor | None:
    """The table ``[T, 6, C]`` of ``own.multiplied(factor, offset)``, or None for kinds that it does not know.

    ``channels`` is ``C``: factor and offset have one number for each, at all steps or at every step.
    """
    steps = own.beta.shape[0]
    per_step = _per_step(factor, offset, steps, channels)
    strides = tuple(None if c is None else _strides(c.shape, c.stride(), channels) for c in own)
    if per_step is None or any(s == () for s in strides):
        return None
    table = factor.new_empty(steps, 6, channels)
    tensors = (factor if c is None else c for c in own)
    _tabulating(steps, channels, per_step, strides)(*tensors, factor, offset, table)
    return table


def merged_gradients(
    totals: Tensor, wants: Sequence[bool], own: Coefficients, factor: Tensor, offset: Tensor
) -> tuple[list[Tensor | None], Tensor, Tensor] | None:
    """Gradients of the coefficients, of factor and of offset, from those of the table ``[rows, T, C]``.

    ``wants`` says which coefficients have a row. None where gain or shift has none, or where channels do
    not share the coefficients.
    """
    rows, steps, channels = totals.shape
    per_step = _per_step(factor, offset, steps, channels)
    is_shared = own.shift is None and all(c is None or c.numel() == steps for c in own)
    if per_step is None or not is_shared or not (wants[_GAIN] and wants[_SHIFT]):
        return None
    slots = [sum(wants[:i]) if want else None for i, want in enumerate(wants)]
    shapes = [None if c is None else c.shape for c in own]
    found = totals.new_empty(rows, steps)
    outer = totals.new_empty(2, *factor.shape)
    numbers = steps, channels, per_step, own.gain.stride(0), rows, slots[_GAIN], slots[_SHIFT]
    _retracing(*numbers)(totals, own.gain, factor, offset, found, outer)
    remaining = iter(found.unbind())
    grads = [
        next(remaining).view(shape) if want and shape is not None else None
        for want, shape in zip(wants, shapes, strict=True)
    ]
    grad_factor, grad_offset = outer.unbind()
    return grads, grad_factor, grad_offset


def _per_step(factor: Tensor, offset: Tensor, steps: int, channels: int) -> int | None:
    """Stride of time of factor and offset; None for other forms of them."""
    if not (factor.is_contiguous() and offset.is_contiguous() and factor.shape == offset.shape):
        return None
    return {channels: 0, steps * channels: channels}.get(factor.numel())


@functools.lru_cache(maxsize=4096)
def _strides(shape: Size, stride: tuple[int, ...], channels: int) -> tuple[int, ...]:
    """Strides of time and of channels of a coefficient ``[T, *features]``; none if features are others."""
    features = [d for d in range(1, len(shape)) if shape[d] != 1]
    if not features:
        return stride[0], 0
    is_by_channel = len(features) == 1 and shape[features[0]] == channels
    return (stride[0], stride[features[0]]) if is_by_channel else ()


@functools.lru_cache(maxsize=4096)
def _tabulating(
    steps: int, channels: int, per_step: int, strides: tuple[tuple[int, int] | None, ...]
) -> Prepared:
    blocks = triton.cdiv(channels, _BLOCK)
    both = [s or (0, 0) for s in strides]
    constants = {f"AT{i}": at for i, (_, at) in enumerate(both)}
    constants |= {"HAS_SHIFT": strides[_SHIFT] is not None, "BC": _BLOCK}
    numbers = (channels, blocks, per_step, *(step for step, _ in both))
    return Prepared(table_kernel, Launch((steps * blocks,), numbers, constants | {"num_warps": 4}))


@functools.lru_cache(maxsize=4096)
def _retracing(
    steps: int, channels: int, per_step: int, gain_step: int, rows: int, gain: int, shift: int
) -> Prepared:
    blocks = triton.cdiv(channels, _BLOCK)
    constants = {"ROWS": rows, "GAIN": gain, "SHIFT": shift, "BC": _BLOCK, "num_warps": 4}
    numbers = (steps, channels, blocks, per_step, gain_step)
    return Prepared(gradients_kernel, Launch((blocks + steps,), numbers, constants))
