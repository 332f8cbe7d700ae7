"""Any dense tensor as ``[T, B, C, M]``: the one shape that the fused implementations see.

``C`` counts the time parameters of one step (1 for a layer, channels, or neurons), ``B`` gathers what lies
outside of them in memory and ``M`` what lies inside. Dimensions are taken in the order in which they lie in
memory, so that a channels-last tensor is folded without a copy and results come back in its format.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Size, Tensor

from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients

__all__ = ["Folding", "dense_inside", "fold", "is_dense_inside"]


@dataclass(frozen=True)
class Folding:
    """How to fold tensors of one shape and memory format, and to undo it."""

    shape: Size
    order: tuple[int, ...]
    feature_shape: tuple[int, ...]
    expanded_features: tuple[int, ...]
    folded: tuple[int, int, int]

    is_in_order: bool = field(init=False)
    """Whether dimensions lie in memory as they are numbered."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_in_order", self.order == tuple(range(len(self.order))))

    def sequence(self, x: Tensor) -> Tensor:
        """``[T, ...]`` to ``[T, B, C, M]``; a view wherever ``x`` is dense."""
        if not self.is_in_order:
            x = x.permute(0, *(d + 1 for d in self.order))
        return x.reshape(x.shape[0], *self.folded)

    def state(self, mem: Tensor) -> Tensor:
        """``[...]`` to ``[B, C, M]``."""
        return mem.permute(self.order).reshape(self.folded)

    def parameter(self, parameter: Tensor) -> Tensor:
        """``[T, *feature_shape]``, or what broadcasts against it, to ``[T, C, 1]``."""
        steps, *own = parameter.shape
        if parameter.numel() == steps:
            return parameter.reshape(steps, 1, 1).expand(steps, self.folded[1], 1)
        missing = (1,) * (len(self.feature_shape) - len(own))
        aligned = parameter.reshape(steps, *missing, *own).expand(steps, *self.expanded_features)
        if self.is_in_order:
            return aligned.reshape(steps, self.folded[1], 1)
        return aligned.permute(0, *(d + 1 for d in self.order)).reshape(steps, self.folded[1], 1)

    def unfold_parameter_gradient(self, grads: Tensor, feature_shape: Sequence[int]) -> Tensor:
        """Gradients ``[..., T, C]`` of :meth:`parameter`'s result as those of its argument."""
        in_memory = [self.expanded_features[d] for d in self.order]
        steps = math.prod(grads.shape[:-1])
        unfolded = grads.reshape(steps, *in_memory).permute(0, *(d + 1 for d in _inverse(self.order)))
        return unfolded.sum_to_size(steps, *self.feature_shape).reshape(*grads.shape[:-1], *feature_shape)

    def coefficients(self, coefficients: Coefficients) -> Coefficients:
        """Every coefficient as :meth:`parameter` folds it."""
        return coefficients.map(self.parameter)

    def unfold(self, folded: Tensor) -> Tensor:
        """``[T, B, C, M]`` back to the original shape and memory format."""
        if self.is_in_order:
            return folded.reshape(folded.shape[0], *self.shape)
        in_memory = folded.reshape(folded.shape[0], *(self.shape[d] for d in self.order))
        return in_memory.permute(0, *(d + 1 for d in _inverse(self.order)))

    def unfold_state(self, folded: Tensor) -> Tensor:
        """``[B, C, M]`` back to the original shape and memory format of one step."""
        if self.is_in_order:
            return folded.reshape(self.shape)
        return folded.reshape([self.shape[d] for d in self.order]).permute(_inverse(self.order))


def fold(x: Tensor, feature_shape: tuple[int, ...]) -> Folding:
    """The folding of a sequence ``x`` ``[T, ...]`` whose parameters have ``feature_shape`` per step.

    ``feature_shape`` broadcasts against the last dimensions of ``x``.
    """
    shape, strides = x.shape[1:], x.stride()[1:]
    order = tuple(sorted(range(len(shape)), key=lambda d: (-strides[d], d)))
    aligned = (1,) * (len(shape) - len(feature_shape)) + tuple(feature_shape)
    varying = [i for i, d in enumerate(order) if aligned[d] != 1]
    # Where one value is for all, B takes up the dimensions that no one stride can run through with the rest.
    gap = _outside_of_dense(shape, strides, order)
    first, last = (varying[0], varying[-1] + 1) if varying else (gap, gap)
    between = {order[i] for i in range(first, last)}
    expanded = tuple(shape[d] if d in between else 1 for d in range(len(shape)))
    sizes = [shape[d] for d in order]
    folded = (math.prod(sizes[:first]), math.prod(sizes[first:last]), math.prod(sizes[last:]))
    return Folding(shape, order, aligned, expanded, folded)


def dense_inside(x: Tensor) -> Tensor:
    """``x`` ``[T, B, C, M]`` with ``C`` and ``M`` in one stretch of memory; a copy only if they are not."""
    return x if is_dense_inside(x) else x.contiguous()


def is_dense_inside(x: Tensor) -> bool:
    """Whether ``C`` and ``M`` of ``x`` ``[T, B, C, M]`` lie in one stretch of memory."""
    *_, features, inner = x.shape
    *_, outer_stride, inner_stride = x.stride()
    return (inner == 1 or inner_stride == 1) and (features == 1 or outer_stride == inner)


def _outside_of_dense(shape: Sequence[int], strides: Sequence[int], order: Sequence[int]) -> int:
    """How many of the dimensions, outermost first, lie outside of what is dense in memory."""
    dense = 1
    for i in reversed(range(len(order))):
        if shape[order[i]] != 1 and strides[order[i]] != dense:
            return i + 1
        dense *= shape[order[i]]
    return 0


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(order)), key=order.__getitem__))
