"""The kernels of ``adaptive_leaky.cpp``: how they are built, and what they are called with.

A call costs as much as some ten thousand elements, so that the way to it is short.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
from snntorch_asnn.ops._adaptive_leaky.cpp.view import View
from snntorch_asnn.ops._adaptive_leaky.rule import Rule, options_of
from snntorch_asnn.ops._cpp import build
from snntorch_asnn.surrogate import atan

__all__ = ["SOURCE", "Incoming", "backward", "forward", "lack", "missing", "rule_macros"]

SOURCE = Path(__file__).with_name("adaptive_leaky.cpp")

_ADDRESSES = {count: ctypes.c_void_p * count for count in (5, 6)}
_STRIDES = {count: ctypes.c_int64 * (2 * count) for count in (5, 6)}


@functools.cache
def missing() -> str | None:
    """What the kernels lack on this machine, or None if they can run."""
    try:
        _forward_kernel(torch.float32, torch.float32, Rule(atan()).key, False)
    except build.BuildError as error:
        return str(error)
    return None


@functools.cache
def lack(
    dtype: torch.dtype, state: torch.dtype, key: str, has_shift: bool, wants: tuple[bool, ...] | None
) -> str | None:
    """Why the kernels of a pass cannot be built, or None: forward, and backward unless ``wants`` is None."""
    try:
        _forward_kernel(dtype, state, key, has_shift)
        if wants is not None:
            _backward_kernel(dtype, state, key, has_shift, wants)
    except build.BuildError as error:
        return str(error)
    return None


def rule_macros(key: str) -> tuple[str, ...]:
    """A rule as the kernels' macros; an option that makes no difference to them has one value."""
    rule = options_of(key)
    resets = rule.mechanism != "none"
    reset = rule.reset if resets else "delayed"
    return (
        f"RESET={reset.upper()}",
        f"MECHANISM={rule.mechanism.upper()}",
        f"SURROGATE={rule.surrogate.upper()}",
        f"FIRES_AT_THRESHOLD={int(rule.fires_at_threshold)}",
        f"CUTS_PREVIOUS_RESET={int(rule.cuts_previous_reset or not resets or reset == 'exact')}",
        f"CUTS_CURRENT_RESET={int(rule.cuts_current_reset or not resets or reset == 'delayed')}",
    )


def _library(dtype: torch.dtype, state: torch.dtype, key: str, has_shift: bool, *more: str) -> ctypes.CDLL:
    types = (f"INPUT={build.INPUTS[dtype]}", f"STATE={build.STATES[state]}", f"HAS_SHIFT={int(has_shift)}")
    return build.library(SOURCE, *types, *rule_macros(key), *more)


@functools.cache
def _forward_kernel(dtype: torch.dtype, state: torch.dtype, key: str, has_shift: bool) -> Any:
    function = _library(dtype, state, key, has_shift, "WANTED=0").adaptive_leaky_forward
    function.argtypes = [ctypes.c_void_p] * 9 + [ctypes.c_int]
    function.restype = None
    return function


@functools.cache
def _backward_kernel(
    dtype: torch.dtype, state: torch.dtype, key: str, has_shift: bool, wants: tuple[bool, ...]
) -> Any:
    bits = sum(want << i for i, want in enumerate(wants))
    library = _library(dtype, state, key, has_shift, f"WANTED={bits}", "BACKWARD")
    pointer = ctypes.c_void_p
    size, function = library.adaptive_leaky_partial_size, library.adaptive_leaky_backward
    size.argtypes = [pointer, pointer]
    function.argtypes = [pointer] * 10 + [ctypes.c_double] + [pointer] * 4 + [ctypes.c_int]
    size.restype = function.restype = None
    return size, function, options_of(key).surrogate_shape


class _Read(NamedTuple):
    """What both kernels read, as their first arguments; ``tensors`` own the memory."""

    tensors: list[Tensor | None]
    strides: Any
    arguments: tuple[Any, ...]


def _read(view: View, x: Tensor, mem: Tensor | None, coefficients: Coefficients) -> _Read:
    x, x_strides = (x, view.strides) if view.strides is not None else view.other(x)
    mem = None if mem is None else view.state(mem)
    tensors, addresses = [x, mem], []
    strides: list[int] = []
    for given in coefficients:
        if given is None:
            continue
        if given.numel() == view.steps:
            coefficient, of_step, of_feature = given, given.stride(0), 0
        else:
            coefficient, of_step, of_feature = view.coefficient(given)
        tensors.append(coefficient)
        addresses.append(coefficient.data_ptr())
        strides += of_step, of_feature
    count = len(addresses)
    arguments = (
        view.sizes,
        x_strides,
        x.data_ptr(),
        None if mem is None else mem.data_ptr(),
        _ADDRESSES[count](*addresses),
        _STRIDES[count](*strides),
    )
    return _Read(tensors, x_strides, arguments)


def forward(
    view: View,
    x: Tensor,
    mem: Tensor | None,
    coefficients: Coefficients,
    key: str,
    spikes: Tensor,
    mem_out: Tensor,
    output_mem: bool,
) -> None:
    """Fill the spikes, and the membrane after the last step or after every one."""
    if x.numel() == 0:
        if not output_mem:
            mem_out.zero_() if mem is None else mem_out.copy_(mem)
        return
    kernel = _forward_kernel(x.dtype, coefficients.beta.dtype, key, coefficients.shift is not None)
    read = _read(view, x, mem, coefficients)
    last, trace = (None, mem_out.data_ptr()) if output_mem else (mem_out.data_ptr(), None)
    kernel(*read.arguments, spikes.data_ptr(), last, trace, torch.get_num_threads())


class Incoming(NamedTuple):
    """Gradients of what the forward pass returned."""

    spikes: Tensor | None
    last: Tensor | None
    trace: Tensor | None


def backward(
    view: View,
    x: Tensor,
    mem: Tensor | None,
    coefficients: Coefficients,
    key: str,
    incoming: Incoming,
    wants: tuple[bool, ...],
    grad_x: Tensor,
    grad_start: Tensor | None,
) -> Tensor:
    """Fill the gradients of the input and the first membrane; return the coefficients' ``[rows, T, C]``.

    ``wants`` says which of :class:`Coefficients` have a row.
    """
    state_dtype, rows = coefficients.beta.dtype, sum(wants)
    grads = x.new_empty((rows, view.steps, view.features), dtype=state_dtype)
    if x.numel() == 0:
        if grad_start is not None:
            grad_start.zero_() if incoming.last is None else grad_start.copy_(incoming.last)
        return grads.zero_()
    has_shift = coefficients.shift is not None
    sums_size, kernel, surrogate_shape = _backward_kernel(x.dtype, state_dtype, key, has_shift, wants)
    sums = None
    if rows:
        size = (ctypes.c_int64 * 2)()
        sums_size(view.sizes, size)
        sums = x.new_zeros((*grads.shape[:2], *size), dtype=torch.float64)
    read = _read(view, x, mem, coefficients)
    grad_spikes, grad_strides = incoming.spikes, read.strides
    if grad_spikes is not None:
        is_alike = grad_spikes.stride() == x.stride()
        grad_spikes, grad_strides = (view.sequence if is_alike else view.other)(grad_spikes)
    grad_last = None if incoming.last is None else view.state(incoming.last)
    grad_trace = None if incoming.trace is None else view.dense(incoming.trace)
    kernel(
        *read.arguments,
        grad_strides,
        _address(grad_spikes),
        _address(grad_last),
        _address(grad_trace),
        surrogate_shape,
        grad_x.data_ptr(),
        _address(grad_start),
        _address(sums),
        grads.data_ptr(),
        torch.get_num_threads(),
    )
    return grads


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
