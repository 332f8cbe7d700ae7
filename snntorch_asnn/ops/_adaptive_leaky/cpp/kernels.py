"""The kernels of ``adaptive_leaky.cpp``: how they see tensors, and what they are called with.

A call costs as much as some ten thousand elements, so that whatever depends on shapes alone is kept.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Size, Tensor

from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients, summed_to
from snntorch_asnn.ops._adaptive_leaky.layout import Folding, dense_inside, fold, is_dense_inside
from snntorch_asnn.ops._adaptive_leaky.rule import Rule
from snntorch_asnn.ops._cpp import build as cpp_build
from snntorch_asnn.ops._cpp.build import INPUTS, STATES
from snntorch_asnn.surrogate import Surrogate

__all__ = ["SOURCE", "Incoming", "View", "backward", "forward", "lack", "missing", "rule_macros"]

SOURCE = Path(__file__).with_name("adaptive_leaky.cpp")
_SHORTEST_ROW = 64
"""Elements that share a coefficient, below which each of them gets a copy of its own."""


@functools.cache
def missing() -> str | None:
    """What the kernels lack on this machine, or None if they can run."""
    try:
        _forward_kernel(torch.float32, torch.float32, rule_macros(Rule(Surrogate("atan"))), False)
    except cpp_build.BuildError as error:
        return str(error)
    return None


@functools.cache
def lack(
    dtype: torch.dtype, state: torch.dtype, macros: str, has_shift: bool, wanted: int | None
) -> str | None:
    """Why the kernels of a pass cannot be built, or None: forward, and backward unless ``wanted`` is None."""
    try:
        _forward_kernel(dtype, state, macros, has_shift)
        if wanted is not None:
            _backward_kernel(dtype, state, macros, has_shift, wanted)
    except cpp_build.BuildError as error:
        return str(error)
    return None


@functools.cache
def rule_macros(rule: Rule) -> str:
    """The rule as the kernels' macros; an option that makes no difference to them has one value."""
    surrogate = rule.spike_grad
    assert isinstance(surrogate, Surrogate)
    reset = "EXACT" if rule.exact_reset else "DELAYED" if rule.reset_delay else "IMMEDIATE"
    resets = rule.reset_mechanism != "none"
    macros = {
        "RESET": reset if resets else "DELAYED",
        "MECHANISM": rule.reset_mechanism.upper(),
        "SURROGATE": surrogate.kind.upper(),
        "FIRES_AT_THRESHOLD": int(surrogate.fires_at_threshold),
        "CUTS_PREVIOUS_RESET": int(rule.cuts_previous_reset or not resets or reset == "EXACT"),
        "CUTS_CURRENT_RESET": int(rule.cuts_current_reset or not resets or reset == "DELAYED"),
    }
    return " ".join(f"{name}={value}" for name, value in macros.items())


def _library(dtype: torch.dtype, state: torch.dtype, macros: str, has_shift: bool, *more: str) -> ctypes.CDLL:
    types = (f"INPUT={INPUTS[dtype]}", f"STATE={STATES[state]}", f"HAS_SHIFT={int(has_shift)}")
    return cpp_build.library(SOURCE, *types, *macros.split(), *more)


@functools.cache
def _forward_kernel(dtype: torch.dtype, state: torch.dtype, macros: str, has_shift: bool) -> Any:
    function = _library(dtype, state, macros, has_shift, "WANTED=0").adaptive_leaky_forward
    function.argtypes = [ctypes.c_void_p] * 9 + [ctypes.c_int]
    function.restype = None
    return function


@functools.cache
def _backward_kernel(
    dtype: torch.dtype, state: torch.dtype, macros: str, has_shift: bool, wanted: int
) -> Any:
    library = _library(dtype, state, macros, has_shift, f"WANTED={wanted}", "BACKWARD")
    pointer = ctypes.c_void_p
    size, function = library.adaptive_leaky_partial_size, library.adaptive_leaky_backward
    size.argtypes = [pointer, pointer]
    function.argtypes = [pointer] * 10 + [ctypes.c_double] + [pointer] * 4 + [ctypes.c_int]
    size.restype = function.restype = None
    return size, function


@dataclass(frozen=True)
class View:
    """How the kernels see the sequences of one shape and memory format."""

    folding: Folding
    steps: int
    features: int
    """C, with the copies."""
    copies: int
    """Of each coefficient, where the elements that share one lie in stretches too short for vectors."""
    per_element: bool
    is_dense: bool
    """Whether a result can have the strides of the sequence itself."""
    sizes: Any
    """T, B, C and M."""
    strides: Any
    """Of T and B; None where the kernels need a copy of the sequence."""

    @staticmethod
    @functools.lru_cache(maxsize=4096)
    def of(shape: Size, strides: tuple[int, ...], feature_shape: tuple[int, ...]) -> View:
        """That of a sequence ``[T, ...]`` whose coefficients have ``feature_shape`` at each step."""
        like = torch.empty_strided(shape, strides, device="meta")
        folding = fold(like, feature_shape)
        permuted = like.permute(0, *(d + 1 for d in folding.order))
        try:
            folded = permuted.view(shape[0], *folding.folded)
        except RuntimeError:
            return View._of(folding, shape[0], None)
        return View._of(folding, shape[0], folded.stride() if is_dense_inside(folded) else None)

    @staticmethod
    @functools.lru_cache(maxsize=4096)
    def of_folded(shape: Size, strides: tuple[int, ...]) -> View:
        """That of what is ``[T, B, C, M]`` already, results included."""
        steps, outer, features, inner = shape
        each = (1, features, 1)
        folding = Folding(shape[1:], (0, 1, 2), each, each, (outer, features, inner))
        like = torch.empty_strided(shape, strides, device="meta")
        return View._of(folding, steps, strides if is_dense_inside(like) else None)

    @staticmethod
    def _of(folding: Folding, steps: int, strides: tuple[int, ...] | None) -> View:
        outer, features, inner = folding.folded
        copies = inner if 1 < inner < _SHORTEST_ROW and features > 1 else 1
        sizes = steps, outer, features * copies, inner // copies
        row = features * inner
        return View(
            folding,
            steps,
            features=sizes[2],
            copies=copies,
            per_element=sizes[3] == 1 and sizes[2] > 1,
            is_dense=strides is not None and strides[:2] == (outer * row, row),
            sizes=(ctypes.c_int64 * 4)(*sizes),
            strides=None if strides is None else (ctypes.c_int64 * 2)(*strides[:2]),
        )

    def sequence(self, x: Tensor) -> tuple[Tensor, Any]:
        """A sequence of this view, or a copy of it, and the strides of T and B."""
        return (x, self.strides) if self.strides is not None else self.other(x)

    def other(self, x: Tensor) -> tuple[Tensor, Any]:
        """The same for a sequence of the same shape and any strides."""
        folded = dense_inside(self.folding.sequence(x))
        return folded, (ctypes.c_int64 * 2)(*folded.stride()[:2])

    def dense(self, x: Tensor | None) -> Tensor | None:
        """A sequence in one stretch of memory, in this view's order."""
        return None if x is None else self.folding.sequence(x).contiguous()

    def state(self, mem: Tensor | None) -> Tensor | None:
        """A state in one stretch of memory, in this view's order."""
        if mem is None or self.folding.is_in_order:
            return None if mem is None else mem.contiguous()
        return self.folding.state(mem).contiguous()

    def empty_sequence(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Room for a result of the shape of ``x``, dense in this view's order."""
        if self.is_dense:
            return torch.empty_like(x, dtype=dtype)
        return self.folding.unfold(x.new_empty((self.steps, *self.folding.folded), dtype=dtype))

    def empty_state(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Room for a state, likewise."""
        if self.folding.is_in_order:
            return x.new_empty(x.shape[1:], dtype=dtype)
        return self.folding.unfold_state(x.new_empty(self.folding.folded, dtype=dtype))

    def coefficient(self, coefficient: Tensor) -> tuple[Tensor, int, int]:
        """A coefficient as the kernels read it, and its strides of T and C."""
        if coefficient.numel() == self.steps:
            return coefficient, coefficient.stride(0), 0
        folded = self.folding.parameter(coefficient).expand(-1, -1, self.copies)
        return folded.reshape(self.steps, self.features).contiguous(), self.features, 1

    def coefficient_gradient(self, grad: Tensor, shape: Size) -> Tensor:
        """The kernels' gradient ``[T, C]`` of a coefficient of this shape, which broadcasts to the view's."""
        if self.features == 1 and shape.numel() == self.steps:
            return grad.view(shape)
        if self.copies > 1:
            grad = grad.view(self.steps, -1, self.copies).sum(-1)
        full = self.folding.unfold_parameter_gradient(grad, self.folding.feature_shape)
        return summed_to(full, shape)


class _Read(NamedTuple):
    """What both kernels read, as their first arguments; ``tensors`` own the memory."""

    tensors: list[Tensor | None]
    strides: Any
    arguments: tuple[Any, ...]


def _read(view: View, x: Tensor, mem: Tensor | None, coefficients: Coefficients) -> _Read:
    x, x_strides = view.sequence(x)
    mem = view.state(mem)
    given = [view.coefficient(c) for c in coefficients if c is not None]
    tensors = [tensor for tensor, *_ in given]
    addresses = (ctypes.c_void_p * len(coefficients))(*(t.data_ptr() for t in tensors))
    strides = (ctypes.c_int64 * (2 * len(coefficients)))(*(stride for _, *both in given for stride in both))
    arguments = view.sizes, x_strides, x.data_ptr(), _address(mem), addresses, strides
    return _Read([x, mem, *tensors], x_strides, arguments)


def forward(
    view: View,
    x: Tensor,
    mem: Tensor | None,
    coefficients: Coefficients,
    rule: str,
    spikes: Tensor,
    last: Tensor | None,
    trace: Tensor | None,
) -> None:
    """Fill the spikes, and the membrane after the last step or after every one."""
    if x.numel() == 0:
        if last is not None:
            last.zero_() if mem is None else last.copy_(mem)
        return
    has_shift = coefficients.shift is not None
    kernel = _forward_kernel(x.dtype, coefficients.beta.dtype, rule, has_shift)
    read = _read(view, x, mem, coefficients)
    kernel(
        *read.arguments,
        spikes.data_ptr(),
        _address(last),
        _address(trace),
        torch.get_num_threads(),
    )


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
    rule: str,
    surrogate_shape: float,
    incoming: Incoming,
    wanted: int,
    grad_x: Tensor,
    grad_start: Tensor | None,
) -> Tensor:
    """Fill the gradients of the input and the first membrane; return the coefficients' ``[wanted, T, C]``.

    ``wanted`` has a bit for each of :class:`Coefficients`.
    """
    state_dtype = coefficients.beta.dtype
    grads = x.new_empty((wanted.bit_count(), view.steps, view.features), dtype=state_dtype)
    if x.numel() == 0:
        if grad_start is not None:
            grad_start.zero_() if incoming.last is None else grad_start.copy_(incoming.last)
        return grads.zero_()
    has_shift = coefficients.shift is not None
    sums_size, kernel = _backward_kernel(x.dtype, state_dtype, rule, has_shift, wanted)
    sums = None
    if wanted:
        size = (ctypes.c_int64 * 2)()
        sums_size(view.sizes, size)
        sums = x.new_zeros((*grads.shape[:2], *size), dtype=torch.float64)
    read = _read(view, x, mem, coefficients)
    grad_spikes, grad_strides = incoming.spikes, read.strides
    if grad_spikes is not None:
        is_alike = grad_spikes.stride() == x.stride()
        grad_spikes, grad_strides = (view.sequence if is_alike else view.other)(grad_spikes)
    grad_last, grad_trace = view.state(incoming.last), view.dense(incoming.trace)
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
