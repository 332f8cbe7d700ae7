"""Every private name of PyTorch that the package uses, and its agreements with the compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch._C._functorch import is_batchedtensor, is_functorch_wrapped_tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

__all__ = [
    "HOOKS",
    "BatchNormBase",
    "ConvBase",
    "assert_without_waiting",
    "backward_pass",
    "has_hooks",
    "is_batchedtensor",
    "is_exporting",
    "is_functorch_wrapped_tensor",
    "is_view",
    "keep_out_of_graphs",
    "leave_in_graph",
    "storage_of",
    "tell_dynamo",
    "transforms_active",
    "uncompiled",
    "uncompiled_name",
    "version_of",
]

BatchNormBase = _BatchNorm
"""Base of all batch norms."""

ConvBase = _ConvNd
"""Base of all convolutions."""

_RUN_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")

HOOKS = (
    *_RUN_HOOKS,
    "_forward_hooks_always_called",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
    "_is_full_backward_hook",
)
"""Attributes in which a module keeps its hooks and their kinds."""


def has_hooks(module: nn.Module) -> bool:
    """Whether a module has hooks, which only its ``__call__`` runs."""
    return any(getattr(module, name) for name in _RUN_HOOKS)


def uncompiled(module: nn.Module) -> nn.Module:
    """Return the module that :func:`torch.compile` wrapped, or the module itself."""
    inner: nn.Module = getattr(module, "_orig_mod", module)
    return inner


def uncompiled_name(name: str) -> str:
    """Return the name that a module would have if no module around it had been compiled."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def storage_of(tensor: Tensor) -> int:
    """Return a number that tensors share if they share memory."""
    return int(tensor.untyped_storage()._cdata)


def version_of(tensor: Tensor) -> int:
    """Return how often a tensor has been changed in place."""
    return tensor._version


def is_view(tensor: Tensor) -> bool:
    """Whether a tensor is a view of another one."""
    return tensor._is_view()


def transforms_active() -> bool:
    """Whether a transform of :mod:`torch.func`, such as ``vmap`` or ``grad``, is running."""
    return bool(torch._C._are_functorch_transforms_active())


def backward_pass() -> int:
    """Return a number for the backward pass that runs on this thread; -1 if none runs, or in a graph."""
    return -1 if torch.compiler.is_compiling() else torch._C._current_graph_task_id()


def assert_without_waiting(condition: Tensor, message: str) -> None:
    """Raise RuntimeError if the condition is false, on a GPU without waiting for it."""
    torch._assert_async(condition, message)


def is_exporting() -> bool:
    """Whether :func:`torch.export.export` is running.

    In torch 2.11, :func:`torch.compiler.is_exporting` is true in every compiled graph.
    """
    return torch.compiler._is_exporting_flag


_Function = TypeVar("_Function", bound=Callable[..., Any])
_LEFT_IN_GRAPHS: list[Callable[..., Any]] = []


def leave_in_graph(function: _Function) -> _Function:
    """Let Dynamo put calls of ``function`` into its graphs untraced, once :func:`tell_dynamo` has run.

    Dynamo's own tracing of an autograd.Function under torch.func.grad drops the backward and returns zeros
    (torch 2.13); AOTAutograd then traces it correctly, and the compiler still fuses it.
    """
    _LEFT_IN_GRAPHS.append(function)
    return function


class _KeptOut:
    def __init__(self, method: Callable[..., Any], reason: str) -> None:
        self.method = method
        self.reason = reason

    def __set_name__(self, owner: type, name: str) -> None:
        setattr(owner, name, self.method)
        _KEPT_OUT_OF_GRAPHS.append((owner, name, self.reason))


_KEPT_OUT_OF_GRAPHS: list[tuple[type, str, str]] = []


def keep_out_of_graphs(reason: str) -> Callable[[_Function], _Function]:
    """Let Dynamo break its graph at a method and run it in Python, once :func:`tell_dynamo` has run.

    Args:
        reason: why, for the error message of ``fullgraph=True``.
    """

    def keep(method: _Function) -> _Function:
        return cast(_Function, _KeptOut(method, reason))

    return keep


def tell_dynamo() -> None:
    """Tell Dynamo which functions to leave in its graphs, and which to keep out of them.

    Every neuron and every surrogate calls it when it is built. It imports Dynamo, and with it Triton, which
    importing this package must not.
    """
    while _LEFT_IN_GRAPHS:
        torch.compiler.allow_in_graph(_LEFT_IN_GRAPHS.pop())
    while _KEPT_OUT_OF_GRAPHS:
        owner, name, reason = _KEPT_OUT_OF_GRAPHS.pop()
        setattr(owner, name, torch.compiler.disable(getattr(owner, name), reason=reason))
