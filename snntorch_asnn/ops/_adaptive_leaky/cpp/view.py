"""How the C++ kernels see tensors. Whatever depends on shapes alone is worked out once."""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Size, Tensor

from snntorch_asnn.ops._adaptive_leaky.coefficients import summed_to
from snntorch_asnn.ops._adaptive_leaky.layout import Folding, dense_inside, fold, is_dense_inside

__all__ = ["View"]

_SHORTEST_ROW = 64
"""Elements that share a coefficient, below which each of them gets a copy of its own."""


@dataclass(frozen=True)
class View:
    """How the kernels see the sequences of one shape and memory format."""

    folding: Folding
    steps: int
    features: int
    """C, with the copies."""
    copies: int
    """How often each coefficient stands there, if the elements that share one are too few for vectors."""
    per_element: bool
    is_dense: bool
    """Whether a result can have the strides of the sequence itself."""
    sizes: Any
    """T, B, C and M."""
    strides: Any
    """Strides of T and B; None if the kernels need a copy of the sequence."""

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

    def dense(self, x: Tensor) -> Tensor:
        """A sequence in one stretch of memory, in this view's order."""
        return self.folding.sequence(x).contiguous()

    def state(self, mem: Tensor) -> Tensor:
        """A state in one stretch of memory, in this view's order."""
        return (mem if self.folding.is_in_order else self.folding.state(mem)).contiguous()

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
        """A coefficient of several numbers a step as the kernels read it, and its strides of T and C."""
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
