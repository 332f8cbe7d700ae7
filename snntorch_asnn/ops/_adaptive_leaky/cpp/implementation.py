"""The whole sequence in one C++ kernel on a CPU: one call forward, one backward, for any number of steps.

Autograd keeps nothing but the input: the backward kernel recomputes the membranes of a tile while it stays
in the cache. The arithmetic is that of ``adjoint.py``; see ``adaptive_leaky.cpp``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Size, Tensor

from snntorch_asnn._torch import is_exporting, transforms_active
from snntorch_asnn.ops._adaptive_leaky.autograd import (
    Affine,
    Gradients,
    Options,
    by_coefficient,
    run_fused,
    through_affine,
)
from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
from snntorch_asnn.ops._adaptive_leaky.cpp import kernels
from snntorch_asnn.ops._adaptive_leaky.cpp.kernels import Incoming
from snntorch_asnn.ops._adaptive_leaky.cpp.operators import forward as forward_operator
from snntorch_asnn.ops._adaptive_leaky.cpp.view import View
from snntorch_asnn.ops._adaptive_leaky.implementation import Unavailable
from snntorch_asnn.ops._adaptive_leaky.layout import fold
from snntorch_asnn.ops._adaptive_leaky.rule import Rule
from snntorch_asnn.ops._cpp.build import INPUTS

__all__ = ["covers", "dtypes", "in_graph", "missing", "name", "sequence"]

name = "cpp"
dtypes = INPUTS


def covers(x: Tensor) -> bool:
    """Whether there is a kernel for tensors such as ``x``."""
    return x.device.type == "cpu" and x.dtype in dtypes


def missing(device_type: str = "cpu") -> str | None:
    """What the kernels lack for tensors on such a device, or None if they can run."""
    if device_type != "cpu":
        return f"an input on the CPU; x is on {device_type!r}"
    return kernels.missing()


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
    """See :class:`~..implementation.Implementation`; nothing is left out of the results."""
    options = Options(rule.key, output_mem, True, True, torch.is_grad_enabled())
    return run_fused(_KERNELS, x, mem, coefficients, affine, options)


class _Kernels:
    """The kernels on tensors of any shape and memory format."""

    tells_worth = False

    def forward(
        self,
        x: Tensor,
        mem: Tensor | None,
        own: Coefficients,
        affine: Affine,
        options: Options,
        wants: tuple[bool, ...] | None,
    ) -> tuple[Tensor, Tensor, tuple[Tensor | None, ...], Any]:
        key, output_mem = options.key, options.output_mem
        features, whole = own.beta.shape[1:], own
        if affine is not None:
            features, whole = own.features_after(affine[0]), own.multiplied(*affine)
        of = None if wants is None else wants[2:]
        state_dtype = own.beta.dtype
        # Both kernels are built before either runs, so that the backward pass cannot fail for lack of one.
        if lack := kernels.lack(x.dtype, state_dtype, key, whole.shift is not None, of):
            raise Unavailable(f"needs {lack}")
        view = View.of(x.shape, x.stride(), features)
        spikes = view.empty_sequence(x, x.dtype)
        mem_out = (view.empty_sequence if output_mem else view.empty_state)(x, state_dtype)
        kernels.forward(view, x, mem, whole, key, spikes, mem_out, output_mem)
        return spikes, mem_out, (), (view, key, output_mem)

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
        view, key, output_mem = known
        grad_spikes, grad_mem = incoming
        last, trace = (None, grad_mem) if output_mem else (grad_mem, None)
        whole = own if affine is None else own.multiplied(*affine)
        grad_x = view.empty_sequence(x, x.dtype)
        grad_start = None if mem is None else view.empty_state(x, own.beta.dtype)
        constants = key, Incoming(grad_spikes, last, trace), wants[2:]
        rows = kernels.backward(view, x, mem, whole, *constants, grad_x, grad_start).unbind(0)
        of = by_coefficient(rows, wants[2:])
        if affine is None:
            shaped = [
                None if grad is None or c is None else view.coefficient_gradient(grad, c.shape)
                for grad, c in zip(of, own, strict=True)
            ]
            return grad_x, grad_start, shaped, None, None
        full = Size((view.steps, *view.folding.feature_shape))
        of = [None if grad is None else view.coefficient_gradient(grad, full) for grad in of]
        return grad_x, grad_start, *through_affine(of, own, affine)


_KERNELS = _Kernels()


def in_graph(
    x: Tensor,
    mem: Tensor | None,
    coefficients: Sequence[Tensor],
    key: str,
    *,
    output_mem: bool,
    keep_mem: bool = True,
    keep_spikes: bool = True,
    needs_grad: bool = True,
) -> tuple[Tensor, Tensor]:
    """The kernels as one operator, which a compiler leaves whole."""
    # An exported program is to run where this package is not, and a transform has to see the arithmetic.
    if is_exporting() or transforms_active():
        raise Unavailable("runs neither in an exported program nor under torch.func")
    tensors = (x, *(() if mem is None else (mem,)), *coefficients)
    learns = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    needs = (*(c.requires_grad for c in coefficients), False)[: len(Coefficients._fields)]
    wants = needs if learns else None
    state_dtype = coefficients[0].dtype
    if lack := missing("cpu") or kernels.lack(x.dtype, state_dtype, key, len(coefficients) > 5, wants):
        raise Unavailable(f"needs {lack}")
    folding = fold(x, coefficients[0].shape[1:])
    state = None if mem is None else folding.state(mem)
    folded = folding.sequence(x), state, [folding.parameter(c) for c in coefficients]
    spikes, mem_out = forward_operator(*folded, key, output_mem)
    unfold = folding.unfold if output_mem else folding.unfold_state
    return folding.unfold(spikes), unfold(mem_out)
