r"""Mean and variance of each channel of a sequence, for a norm whose output is never written.

With its statistics known, a batch norm is one factor and one offset per channel, which a neuron can apply
while it reads its input. What is left is the gradient that reaches the input through the statistics: with
:math:`N` elements per channel,

.. math::

    \frac{\partial L}{\partial x} \mathrel{+}= \frac{1}{N} \frac{\partial L}{\partial \mu}
        + \frac{2}{N} \frac{\partial L}{\partial \sigma^2} (x - \mu)

:func:`batch_moments` hands the input on beside its moments. The gradient of the input then arrives together
with theirs, and this sum is formed in its memory.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from snntorch_asnn._torch import transforms_active
from snntorch_asnn.ops._adaptive_leaky.layout import Folding, dense_inside, fold
from snntorch_asnn.ops._adaptive_leaky.triton import implementation as triton
from snntorch_asnn.ops._cpp import build as cpp_build
from snntorch_asnn.ops._first_derivative import first_derivative_only

__all__ = ["Moments", "batch_moments", "gpu_kernels"]

LEAST_TO_COMPILE_FOR = 1 << 14
"""Elements below which the C++ kernel is not worth being compiled."""

_SOURCE = Path(__file__).with_name("batch_moments.cpp")
_SHORTEST_STRETCH = 64
"""Elements that share three numbers in the backward pass, below which each of them gets its own."""


class Moments(NamedTuple):
    """A sequence and the moments of its channels, in float32 or better."""

    x: Tensor
    """The input itself: use it in place of the one passed in, so that its gradient is complete."""
    mean: Tensor
    """``[C]``, or ``[T, C]`` with ``each_step``."""
    variance: Tensor
    """Mean squared deviation, without Bessel's correction, of the same shape."""
    elements: float | Tensor
    """Number of elements behind each of them, over all processes."""


def batch_moments(
    x: Tensor, channel_dim: int, group: dist.ProcessGroup | None = None, *, each_step: bool = False
) -> Moments:
    """Mean and variance of each channel over all other dimensions, differentiable once.

    Args:
        x: ``[T, B, ...]``, floating point, not empty.
        channel_dim: which of its dimensions the channels are, from 2 on.
        group: processes whose batches count as one; None for this process alone.
        each_step: whether every step has moments of its own, ``[T, C]``, instead of one for all, ``[C]``.
    """
    if group is None and (torch.compiler.is_compiling() or transforms_active()):
        others = [d for d in range(int(each_step), x.ndim) if d != channel_dim]
        variance, mean = torch.var_mean(_widened(x), others, correction=0)
        return Moments(x, mean, variance, x.numel() / mean.numel())
    return Moments(*_Moments.apply(x.resolve_neg(), channel_dim, group, each_step))


class _Moments(torch.autograd.Function):
    """Saves the input, which the neuron behind it saves too, and one number per channel."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, channel_dim: int, group: dist.ProcessGroup | None, each_step: bool
    ) -> tuple[Any, ...]:
        folding = fold(x, (x.shape[channel_dim], *(1,) * (x.ndim - channel_dim - 1)))
        moments, add = _implementation(x)
        mean, variance = moments(folding.sequence(x), each_step)
        own = x.numel() / mean.numel()
        elements: float | Tensor = own
        if group is not None:
            mean, variance, elements = _joint_moments(mean, variance, own, group)
        ctx.folding, ctx.add, ctx.group, ctx.elements = folding, add, group, elements
        ctx.save_for_backward(x, mean)
        ctx.set_materialize_grads(False)
        return x, mean, variance, elements

    @staticmethod
    @first_derivative_only("a fused NormLeaky", "snntorch_asnn.layers.unfuse_norm(model)")
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, None, None, None]:
        grad_x, grad_mean, grad_variance, _ = grad_outputs
        x, mean = ctx.saved_tensors
        grad_mean = mean.new_zeros(()) if grad_mean is None else grad_mean
        grad_variance = mean.new_zeros(()) if grad_variance is None else grad_variance
        if ctx.group is not None:
            grads = torch.stack([grad_mean.expand_as(mean), grad_variance.expand_as(mean)])
            dist.all_reduce(grads, group=ctx.group)
            grad_mean, grad_variance = grads.unbind(0)
        offset, factor = grad_mean / ctx.elements, grad_variance * (2 / ctx.elements)
        folding: Folding = ctx.folding
        grad = folding.sequence(torch.zeros_like(x) if grad_x is None else grad_x.resolve_neg()).contiguous()
        ctx.add(grad, folding.sequence(x), mean, offset.expand_as(mean), factor.expand_as(mean))
        return folding.unfold(grad), None, None, None


def _implementation(x: Tensor) -> tuple[Callable[..., tuple[Tensor, Tensor]], Callable[..., None]]:
    """What computes moments, and what adds the gradient that comes through them."""
    kernels = gpu_kernels(x) or (_kernels(x.dtype) if _is_for_kernels(x) else None)
    return (_plain_moments, _plain_add) if kernels is None else (kernels.moments, kernels.add)


def gpu_kernels(x: Tensor) -> ModuleType | None:
    """The Triton kernels, if they take ``x``. Traced graphs have operators of PyTorch instead."""
    is_theirs = x.is_cuda and x.dtype in triton.dtypes and x.numel() and _is_real(x)
    if not is_theirs or torch.compiler.is_compiling() or triton.missing("cuda") is not None:
        return None
    from snntorch_asnn.ops._batch_moments.triton import moments as batch_moments_triton

    return batch_moments_triton


def _plain_moments(x: Tensor, each_step: bool) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel, or step and channel, of ``[T, B, C, M]``; float32 or wider."""
    # Meta tensors, of which only shapes are asked, have no kernel for the moments of a batch norm.
    if each_step or x.is_meta:
        variance, mean = torch.var_mean(_widened(x), (1, 3) if each_step else (0, 1, 3), correction=0)
        return mean, variance
    # Buffers of the wider dtype ask for moments in it, whatever the input's.
    zeros = torch.zeros(x.shape[2], device=x.device, dtype=_wide(x.dtype))
    mean, variance = torch.ops.aten.batch_norm_update_stats(x.flatten(0, 1), zeros, zeros.clone(), 0.0)
    return mean, variance


def _plain_add(grad: Tensor, x: Tensor, mean: Tensor, offset: Tensor, factor: Tensor) -> None:
    """Add ``offset + factor * (x - mean)`` to ``grad`` ``[T, B, C, M]``; each ``[C]`` or ``[T, C]``."""
    mean, offset, factor = (p.view(-1, 1, p.shape[-1], 1) for p in (mean, offset, factor))
    deviation = _widened(x) - mean
    grad.copy_(deviation.mul_(factor).add_(offset).add_(grad))


class _Kernels(NamedTuple):
    """The same in C++, see ``batch_moments.cpp``."""

    partial_size: Callable[..., int]
    moments_of: Callable[..., None]
    add_to: Callable[..., None]

    def moments(self, x: Tensor, each_step: bool) -> tuple[Tensor, Tensor]:
        """:func:`_plain_moments`."""
        x = dense_inside(x)
        steps, outer, channels, inner = x.shape
        at_once = (ctypes.c_int64 * 4)(1 if each_step else steps, outer, channels, inner)
        partial = x.new_empty(2 * self.partial_size(at_once), dtype=torch.float64)
        shape = (steps, channels) if each_step else (channels,)
        mean, variance = x.new_empty(2, *shape, dtype=_wide(x.dtype)).unbind(0)
        outputs = (partial.data_ptr(), mean.data_ptr(), variance.data_ptr())
        sizes = (ctypes.c_int64 * 4)(*x.shape)
        self.moments_of(sizes, _strides(x), x.data_ptr(), *outputs, each_step, torch.get_num_threads())
        return mean, variance

    def add(self, grad: Tensor, x: Tensor, mean: Tensor, offset: Tensor, factor: Tensor) -> None:
        """:func:`_plain_add`."""
        x = dense_inside(x)
        steps, outer, channels, inner = x.shape
        parameters = [p.contiguous() for p in (mean, offset, factor)]
        if 1 < inner < _SHORTEST_STRETCH:
            parameters = [p.repeat_interleave(inner, -1) for p in parameters]
            channels, inner = channels * inner, 1
        self.add_to(
            (ctypes.c_int64 * 4)(steps, outer, channels, inner),
            _strides(x),
            x.data_ptr(),
            (ctypes.c_void_p * 3)(*(p.data_ptr() for p in parameters)),
            channels if mean.ndim == 2 else 0,
            _strides(grad),
            grad.data_ptr(),
            torch.get_num_threads(),
        )


@functools.cache
def _kernels(dtype: torch.dtype) -> _Kernels | None:
    """None on a machine without a compiler."""
    types = (f"INPUT={cpp_build.INPUTS[dtype]}", f"STATE={cpp_build.STATES[_wide(dtype)]}")
    try:
        library = cpp_build.library(_SOURCE, *types)
    except cpp_build.BuildError:
        return None
    pointer = ctypes.c_void_p
    size, moments, add = (
        library.batch_moments_partial_size,
        library.batch_moments,
        library.batch_moments_add,
    )
    size.argtypes, size.restype = [pointer], ctypes.c_int64
    moments.argtypes, moments.restype = [pointer] * 6 + [ctypes.c_int] * 2, None
    add.argtypes, add.restype = [pointer] * 4 + [ctypes.c_int64] + [pointer] * 2 + [ctypes.c_int], None
    return _Kernels(size, moments, add)


def _is_for_kernels(x: Tensor) -> bool:
    is_large = x.device.type == "cpu" and x.dtype in cpp_build.INPUTS and x.numel() >= LEAST_TO_COMPILE_FOR
    return is_large and _is_real(x)


def _is_real(x: Tensor) -> bool:
    # A fake tensor, or any other that stands for one, has no memory that a kernel could be given.
    return type(x) in (Tensor, torch.nn.Parameter)


def _strides(x: Tensor) -> Any:
    return (ctypes.c_int64 * 2)(*x.stride()[:2])


def _joint_moments(
    mean: Tensor, variance: Tensor, elements: float, group: dist.ProcessGroup
) -> tuple[Tensor, Tensor, Tensor]:
    """Moments over the batches of all processes, from those of each: stable where means are large."""
    own = torch.cat([mean.flatten(), variance.flatten(), mean.new_tensor([elements])])
    gathered = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(gathered, own, group=group)
    means, variances, counts = torch.stack(gathered).split([mean.numel(), mean.numel(), 1], dim=1)
    total = counts.sum()
    share = counts / total
    middle = (share * means).sum(0)
    variance = (share * (variances + (means - middle).square())).sum(0)
    return middle.view_as(mean), variance.view_as(mean), total


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _widened(x: Tensor) -> Tensor:
    return x.to(_wide(x.dtype))
