"""The kernels as two operators of PyTorch, on sequences that are folded to ``[T, B, C, M]``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from snntorch_asnn.ops._adaptive_leaky import autograd
from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
from snntorch_asnn.ops._adaptive_leaky.cpp import kernels
from snntorch_asnn.ops._adaptive_leaky.cpp.kernels import Incoming
from snntorch_asnn.ops._adaptive_leaky.cpp.view import View

__all__ = ["forward"]


def _forward(
    x: Tensor, mem: Tensor | None, coefficients: Sequence[Tensor], key: str, output_mem: bool
) -> tuple[Tensor, Tensor]:
    """Spikes ``[T, B, C, M]`` and the membrane after the last step or every step."""
    spikes, mem_out = _empty_outputs(x, mem, coefficients, key, output_mem)
    view = View.of_folded(x.shape, x.stride())
    kernels.forward(view, x, mem, Coefficients(*coefficients), key, spikes, mem_out, output_mem)
    return spikes, mem_out


def _backward(
    x: Tensor,
    mem: Tensor | None,
    coefficients: Sequence[Tensor],
    kept: Sequence[Tensor],
    grad_spikes: Tensor | None,
    grad_mem: Tensor | None,
    key: str,
    output_mem: bool,
    wants: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the input, of the first membrane, and of the wanted coefficients ``[rows, T, C, 1]``."""
    arguments = (x, mem, coefficients, kept, grad_spikes, grad_mem, key, output_mem, wants)
    grad_x, grad_start, grads = _empty_gradients(*arguments)
    view = View.of_folded(x.shape, x.stride())
    last, trace = (None, grad_mem) if output_mem else (grad_mem, None)
    start = None if mem is None else grad_start
    constants = key, Incoming(grad_spikes, last, trace), tuple(wants[2:])
    found = kernels.backward(view, x, mem, Coefficients(*coefficients), *constants, grad_x, start)
    for to, grad in zip(grads, found, strict=True):
        to.copy_(view.coefficient_gradient(grad, to.shape))
    return grad_x, grad_start, grads


def _empty_outputs(
    x: Tensor, mem: Tensor | None, coefficients: Sequence[Tensor], key: str, output_mem: bool
) -> tuple[Tensor, Tensor]:
    spikes = x.new_empty(x.shape)
    return spikes, x.new_empty(x.shape if output_mem else x.shape[1:], dtype=coefficients[0].dtype)


def _empty_gradients(
    x: Tensor, mem: Tensor | None, coefficients: Sequence[Tensor], *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    wants, beta = rest[-1], coefficients[0]
    start = beta.new_empty(0 if mem is None else mem.shape)
    return x.new_empty(x.shape), start, beta.new_empty((sum(wants[2:]), *beta.shape))


# As operators that a compiler leaves whole. torch.library.custom_op would look for aliases at every call,
# which takes longer than a small layer's kernel.
_OPERATORS = torch.library.Library("snntorch_asnn", "FRAGMENT")


def _operator(name: str, function: Callable[..., Any], fake: Callable[..., Any]) -> Any:
    """``function`` as an operator on a CPU, whose outputs ``fake`` tells a compiler the shapes of."""
    _OPERATORS.define(name + torch.library.infer_schema(function, mutates_args=()))
    _OPERATORS.impl(name, function, "CPU")
    torch.library.register_fake(f"snntorch_asnn::{name}", fake, lib=_OPERATORS)
    return getattr(torch.ops.snntorch_asnn, name).default


forward = _operator("adaptive_leaky_cpu", _forward, _empty_outputs)
_backward_operator = _operator("adaptive_leaky_cpu_backward", _backward, _empty_gradients)
autograd.register("snntorch_asnn::adaptive_leaky_cpu", _backward_operator, _OPERATORS)
