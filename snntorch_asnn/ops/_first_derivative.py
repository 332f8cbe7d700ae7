"""Backward passes that cannot be differentiated once more, and say so."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["first_derivative_only"]

Backward = Callable[..., tuple[Any, ...]]


def first_derivative_only(name: str, instead: str) -> Callable[[Backward], Backward]:
    """Decorate an autograd.Function's ``backward``, so that a second derivative raises RuntimeError.

    Args:
        name: what has no second derivative.
        instead: what has one.

    :func:`torch.autograd.function.once_differentiable` does so where the incoming gradient has a history, and
    takes the result for a constant where it has none, although what was saved has one.
    """

    def decorate(backward: Backward) -> Backward:
        @functools.wraps(backward)
        def once(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Any, ...]:
            if not torch.is_grad_enabled():
                return backward(ctx, *grad_outputs)
            with torch.no_grad():
                grads = backward(ctx, *grad_outputs)
            sources = [t for t in (*grad_outputs, *ctx.saved_tensors) if t is not None and t.requires_grad]
            if not sources:
                return grads
            message = f"{name} has no second derivative; use {instead}"
            return tuple(_Final.apply(message, len(sources), *sources, *grads))

        return once

    return decorate


class _Final(torch.autograd.Function):
    """Gradients as they are, which depend on their sources in a way that is not known."""

    generate_vmap_rule = True

    @staticmethod
    def forward(message: str, count: int, *tensors: Tensor | None) -> tuple[Tensor | None, ...]:
        return tuple(t.clone() if isinstance(t, Tensor) else t for t in tensors[count:])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.message = inputs[0]

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise RuntimeError(ctx.message)
