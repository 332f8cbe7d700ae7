"""The Triton kernels in eager mode: one step of autograd that launches them without the dispatcher.

The operators of ``operators.py`` are for compilers. Called eagerly they would cost the host several times
what PyTorch's own layers do. Both take what a launch needs from the same functions there.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Size, Tensor

from snntorch_asnn._torch import storage_of
from snntorch_asnn.ops._adaptive_leaky.autograd import (
    Affine,
    Gradients,
    Options,
    by_coefficient,
    run_fused,
    through_affine,
)
from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
from snntorch_asnn.ops._adaptive_leaky.layout import Folding
from snntorch_asnn.ops._adaptive_leaky.rule import Rule, options_of
from snntorch_asnn.ops._adaptive_leaky.triton.affine import merged_gradients, merged_table
from snntorch_asnn.ops._adaptive_leaky.triton.kernels import backward_kernel, forward_kernel
from snntorch_asnn.ops._adaptive_leaky.triton.operators import (
    Incoming,
    backward_launch,
    dense_samples,
    folding_of,
    forward_launch,
    kept_membranes,
    sums_by_coefficient,
)
from snntorch_asnn.ops._adaptive_leaky.triton.operators import varying as varying_of
from snntorch_asnn.ops._triton.launch import Prepared

__all__ = ["View", "sequence", "varying_in"]

_SHARE = 64
"""The table of coefficients is kept for the backward pass where the input is so many times its size."""

_GAIN, _SHIFT = Coefficients._fields.index("gain"), Coefficients._fields.index("shift")


def sequence(
    x: Tensor,
    mem: Tensor | None,
    coefficients: Coefficients,
    rule: Rule,
    *,
    output_mem: bool,
    keep_mem: bool = True,
    keep_spikes: bool = True,
    affine: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """See :class:`~..implementation.Implementation`; a result that is not kept is empty.

    For real tensors, outside of graphs and transforms.
    """
    options = Options(rule.key, output_mem, keep_mem, keep_spikes, torch.is_grad_enabled())
    return run_fused(_KERNELS, x, mem, coefficients, affine, options)


@dataclass(frozen=True, eq=False)
class View:
    """How the kernels see the sequences of one shape and memory format."""

    shape: Size
    features: Size
    folding: Folding
    is_direct: bool
    """Whether they read a sequence where it lies; elsewhere they get a copy."""
    strides: tuple[int, ...]
    """Strides of T and B."""
    result_strides: tuple[int, ...]
    """Strides of spikes and gradients."""
    state_strides: tuple[int, ...]
    is_by_channel: bool
    """Whether coefficients differ along one dimension at most."""

    @staticmethod
    @functools.lru_cache(maxsize=4096)
    def of(shape: Size, strides: tuple[int, ...], features: Size) -> View:
        """That of sequences ``[T, B, ...]`` for coefficients ``[T, *features]``."""
        like = torch.empty_strided(shape, strides, device="meta")
        folding = folding_of(like, features)
        folded = folding.sequence(like)
        seen = dense_samples(folded)
        result = torch.empty(shape[0], *folding.folded, device="meta")
        return View(
            shape,
            features,
            folding,
            seen is folded and storage_of(folded) == storage_of(like),
            seen.stride()[:2],
            folding.unfold(result).stride(),
            folding.unfold_state(result[0]).stride(),
            sum(size != 1 for size in features) <= 1,
        )

    def sequence(self, x: Tensor) -> Tensor:
        """``x`` as the kernels read it."""
        return x if self.is_direct else dense_samples(self.folding.sequence(x))

    def gradient(self, grad: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """A gradient as the kernels read it, and its strides of T and B."""
        if grad.stride() == self.result_strides:
            _, *sample = self.folding.folded
            return grad, (self.folding.shape.numel(), math.prod(sample))
        seen = dense_samples(self.folding.sequence(grad))
        return seen, seen.stride()[:2]

    def dense(self, x: Tensor) -> Tensor:
        """``x`` in one stretch of memory, in the order of the results."""
        return x if x.stride() == self.result_strides else self.folding.sequence(x).contiguous()

    def state(self, mem: Tensor) -> Tensor:
        """A state in the order of memory of the results."""
        return mem if mem.stride() == self.state_strides else self.folding.state(mem).contiguous()

    def empty_sequence(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """A place for a result of every step."""
        return torch.empty_strided(self.shape, self.result_strides, dtype=dtype, device=device)

    def empty_state(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
        """A place for a result of one step."""
        return torch.empty_strided(self.shape[1:], self.state_strides, dtype=dtype, device=device)

    def empty_mem(self, device: torch.device, output_mem: bool, keep_mem: bool) -> Tensor:
        """A place for the membrane of every or of the last step, if it is wanted."""
        if not keep_mem:
            return torch.empty(0, dtype=torch.float32, device=device)
        return self.empty_sequence(torch.float32, device) if output_mem else self.empty_state(device)

    def table(self, coefficients: Sequence[Tensor]) -> Tensor:
        """The coefficients ``[T, 5 or 6, C]``, ``C`` left out where it is 1."""
        steps, channels = self.shape[0], self.folding.folded[1]
        if self.features.numel() == channels and self.is_by_channel:
            shape = (steps,) if channels == 1 else (steps, channels)
            flat = [c if c.shape == shape else c.reshape(shape) for c in coefficients]
            return torch.stack(flat, dim=1)
        given = [self.folding.parameter(c).squeeze(2) for c in coefficients]
        return torch.stack(given, dim=1)

    def totals(self, sums: Tensor) -> Tensor:
        """Sum ``[programs, T, rows, columns]`` to totals ``[rows, T, C]``."""
        sums = sums_by_coefficient(sums, self.folding)
        _, steps, rows, channels, _ = sums.shape
        totals = sums.new_empty(rows, steps, channels)
        torch.sum(sums, (0, 4), out=totals.transpose(0, 1))
        return totals

    def gradients(self, totals: Tensor) -> tuple[Tensor, ...]:
        """The same ``[T, *features]`` each."""
        rows, steps, channels = totals.shape
        if self.features.numel() == channels and (self.folding.is_in_order or self.is_by_channel):
            return totals.view(rows, steps, *self.features).unbind(0)
        return self.folding.unfold_parameter_gradient(totals, self.features).unbind(0)


@functools.lru_cache(maxsize=4096)
def _forward_of(
    view: View,
    dtype: torch.dtype,
    key: str,
    has_mem: bool,
    has_shift: bool,
    varying: int,
    output_mem: bool,
    keep_mem: bool,
    keep_spikes: bool,
    needs_grad: bool,
) -> Prepared:
    how = forward_launch(
        view.shape[0],
        view.folding.folded,
        view.strides,
        dtype.itemsize,
        options_of(key),
        has_mem=has_mem,
        has_shift=has_shift,
        varying=varying,
        output_mem=output_mem,
        keep_mem=keep_mem,
        keep_spikes=keep_spikes,
        needs_grad=needs_grad,
    )
    return Prepared(forward_kernel, how)


@functools.lru_cache(maxsize=4096)
def _backward_of(
    view: View,
    dtype: torch.dtype,
    key: str,
    incoming: Incoming,
    wants: tuple[bool, ...],
    has_mem: bool,
    has_shift: bool,
    varying: int,
    has_checkpoints: bool,
) -> tuple[Prepared, tuple[int, int, int, int]]:
    how, partials = backward_launch(
        view.shape[0],
        view.folding.folded,
        view.strides,
        dtype.itemsize,
        options_of(key),
        incoming,
        wants,
        has_mem=has_mem,
        has_shift=has_shift,
        varying=varying,
        has_checkpoints=has_checkpoints,
    )
    return Prepared(backward_kernel, how), partials


class _Known(NamedTuple):
    """What the backward pass has to know of the forward pass, but for its tensors."""

    view: View
    key: str
    output_mem: bool
    varying: int
    has_shift: bool


class _Kernels:
    """The kernels on tensors of any shape and memory format."""

    tells_worth = True

    def forward(
        self,
        x: Tensor,
        mem: Tensor | None,
        own: Coefficients,
        affine: Affine,
        options: Options,
        wants: tuple[bool, ...] | None,
    ) -> tuple[Tensor, Tensor, tuple[Tensor | None, ...], Any]:
        key, output_mem, keep_mem, keep_spikes, _ = options
        features = own.beta.shape[1:] if affine is None else own.features_after(affine[0])
        view = View.of(x.shape, x.stride(), features)
        table = _table(view, own, affine)
        varying = varying_in(view, own, affine)
        has_shift = affine is not None or own.shift is not None
        needs_grad = wants is not None
        spikes = view.empty_sequence(x.dtype, x.device) if keep_spikes else x.new_empty(0)
        mem_out = view.empty_mem(x.device, output_mem, keep_mem)
        kept = kept_membranes(x.shape[0], needs_grad)
        checkpoints = x.new_empty((kept, *view.folding.folded), dtype=torch.float32) if kept else None
        if x.numel():
            seen = view.sequence(x)
            has = mem is not None, has_shift
            launch = _forward_of(
                view, x.dtype, key, *has, varying, output_mem, keep_mem, keep_spikes, needs_grad
            )
            state = seen if mem is None else view.state(mem)
            launch(seen, state, table, spikes, mem_out, seen if checkpoints is None else checkpoints)
        is_small = table.numel() * _SHARE <= x.numel()
        known = _Known(view, key, output_mem, varying, has_shift)
        return spikes, mem_out, (table if is_small else None, checkpoints), known

    def backward(
        self,
        x: Tensor,
        mem: Tensor | None,
        own: Coefficients,
        affine: Affine,
        kept: Sequence[Tensor | None],
        known: Any,
        incoming: tuple[Tensor | None, Tensor | None],
        wants: tuple[bool, ...],
    ) -> tuple[Tensor | None, Tensor | None, Gradients, Tensor | None, Tensor | None]:
        table, checkpoints = kept
        view: View = known.view
        table = _table(view, own, affine) if table is None else table
        grad_x, grad_mem, totals = _launch_backward(known, x, mem, table, checkpoints, incoming, wants)
        if affine is not None and totals is not None and view.is_by_channel:
            merged = merged_gradients(totals, wants[2:], own, *affine)
            if merged is not None:
                return grad_x, grad_mem, *merged
        of = by_coefficient(() if totals is None else view.gradients(totals), wants[2:])
        if affine is None:
            return grad_x, grad_mem, of, None, None
        return grad_x, grad_mem, *through_affine(of, own, affine)


_KERNELS = _Kernels()


def _launch_backward(
    known: _Known,
    x: Tensor,
    mem: Tensor | None,
    table: Tensor,
    checkpoints: Tensor | None,
    grads: tuple[Tensor | None, Tensor | None],
    wants: tuple[bool, ...],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of the input, of the first membrane, and ``[rows, T, C]`` of the coefficients with one."""
    view, key, output_mem, varying, has_shift = known
    grad_spikes, grad_mem_out = grads
    spikes_strides = None
    if grad_spikes is not None:
        grad_spikes, spikes_strides = view.gradient(grad_spikes)
    has_grad_mem = grad_mem_out is not None
    incoming = Incoming(spikes_strides, has_grad_mem and not output_mem, has_grad_mem and output_mem)
    if grad_mem_out is not None:
        grad_mem_out = view.dense(grad_mem_out) if output_mem else view.state(grad_mem_out)
    has = mem is not None, has_shift, varying, checkpoints is not None
    launch, partials = _backward_of(view, x.dtype, key, incoming, wants, *has)
    grad_x = view.empty_sequence(x.dtype, x.device) if wants[0] else None
    grad_mem = view.empty_state(x.device) if wants[1] else None
    sums = x.new_empty(partials, dtype=torch.float32) if any(wants[2:]) else None
    if x.numel():
        seen = view.sequence(x)
        state = seen if mem is None else view.state(mem)
        optional = (checkpoints, grad_spikes, grad_mem_out, grad_x, grad_mem, sums)
        launch(seen, state, table, *(seen if t is None else t for t in optional))
    return grad_x, grad_mem, None if sums is None else view.totals(sums)


def _table(view: View, own: Coefficients, affine: Affine) -> Tensor:
    if affine is None:
        return view.table(own.given)
    channels = view.folding.folded[1]
    table = merged_table(own, *affine, channels) if view.is_by_channel else None
    return view.table(own.multiplied(*affine).given) if table is None else table


def varying_in(view: View, own: Coefficients, affine: Affine = None) -> int:
    """As :func:`.operators.varying`, of what the table holds."""
    if view.folding.folded[1] == 1:
        return 0
    bits = varying_of(own.given)
    return bits | (1 << _GAIN | 1 << _SHIFT if affine is not None and varying_of(affine[:1]) else 0)
