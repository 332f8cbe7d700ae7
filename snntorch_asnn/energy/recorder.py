"""Record all products that a network computes, with weights or between activations, and their operands."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from snntorch_asnn._torch import storage_of, uncompiled_name

__all__ = ["Call", "Operand", "OperandStatistics", "record_calls"]

aten = torch.ops.aten


@dataclass(frozen=True)
class OperandStatistics:
    """Statistics of an operand for each entry of its first dimension, from which its operations follow."""

    nonzero: Tensor
    """Number of nonzero entries."""
    total: Tensor
    """Sum of the magnitudes."""
    smallest: Tensor
    """Smallest nonzero magnitude; infinite if all entries are 0."""
    largest: Tensor
    """Largest magnitude."""
    whole: Tensor
    """Whether all entries are integers."""
    size: int
    """Number of entries."""

    @staticmethod
    def of(x: Tensor) -> OperandStatistics:
        """Compute the statistics of ``x``."""
        values = x.detach().reshape(len(x), -1).abs()
        spikes = values != 0
        return OperandStatistics(
            nonzero=spikes.sum(1),
            total=values.sum(1, dtype=torch.float64),
            smallest=values.to(torch.float64).masked_fill(~spikes, math.inf).amin(1),
            largest=values.amax(1),
            whole=(values == values.round()).all(1),
            size=values.shape[1],
        )


@dataclass(frozen=True)
class Operand:
    """One side of a product."""

    lead: tuple[int, ...]
    """First one or two sizes, which hold time and batch."""
    statistics: OperandStatistics | None
    """Statistics of the values; None on the meta device, which has no values."""


@dataclass(frozen=True)
class Call:
    """One convolution, linear layer or matrix product that was computed."""

    module: str
    """Name of the innermost module that computed it."""
    kind: str
    """``"conv2d"``, ``"linear"``, ``"product"`` and so on."""
    weight: tuple[int, ...] | None
    """Shape of the weights; None for a product of two activations."""
    macs: int
    """Multiply-accumulates of all images and steps of this call, for inputs without zeros."""
    operands: tuple[Operand, ...]
    """The input, or both inputs of a product of activations."""


@contextmanager
def record_calls(net: nn.Module) -> Iterator[list[Call]]:
    """Record the products that ``net`` computes while the context is open, in inference mode.

    Only in inference mode, operations appear as they were written, with separate input and weight. Composite
    operations are decomposed.
    """
    calls: list[Call] = []
    path = [type(net).__name__]
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # The fast path would hide its products.
    handles = [handle for name, module in net.named_modules() for handle in _follow(module, name, path)]
    try:
        # Compiled code would hide its operations, and cannot be compiled inside a dispatch mode.
        with torch.compiler.set_stance("force_eager"), torch.inference_mode(), _Recorder(net, calls, path):
            yield calls
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)
        for handle in handles:
            handle.remove()


def _follow(module: nn.Module, name: str, path: list[str]) -> Iterator[Any]:
    """Register hooks that keep the name of the running module at the end of ``path``."""
    name = uncompiled_name(name) or type(module).__name__
    yield module.register_forward_pre_hook(lambda *_: path.append(name))
    yield module.register_forward_hook(lambda *_: _leave(path), always_call=True)


def _leave(path: list[str]) -> None:
    path.pop()


class _Recorder(TorchDispatchMode):
    """Dispatch mode that sees every operation before it runs, including operations called from C++."""

    supports_higher_order_operators = True

    def __init__(self, net: nn.Module, calls: list[Call], path: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls = calls
        self.path = path
        self.parameters = {storage_of(parameter) for parameter in net.parameters()}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        describe = _KNOWN.get(func.overloadpacket) if hasattr(func, "overloadpacket") else None
        if describe is None:
            with self:
                out = func.decompose(*args, **kwargs) if hasattr(func, "decompose") else NotImplemented
            return func(*args, **kwargs) if out is NotImplemented else out
        out = func(*args, **kwargs)
        for kind, left, right, macs in describe(*args, out=out, **kwargs):
            if macs:
                self._record(kind, left, right, macs)
        return out

    def _record(self, kind: str, left: Tensor, right: Tensor, macs: int) -> None:
        weight: tuple[int, ...] | None = None
        inputs: tuple[Tensor, ...] = (left, right)
        if kind != "product" or self._is_weight(right):
            weight, inputs = tuple(right.shape), (left,)
        elif self._is_weight(left):
            weight, inputs = tuple(left.shape), (right,)
        kind = "linear" if kind == "product" and weight else kind
        self.calls.append(Call(self.path[-1], kind, weight, macs, tuple(_operand(x, kind) for x in inputs)))

    def _is_weight(self, x: Tensor) -> bool:
        return storage_of(x) in self.parameters


def _operand(x: Tensor, kind: str) -> Operand:
    data_dims = {"linear": 1, "product": 2}.get(kind)
    lead = x.shape[:1] if data_dims is None else x.shape[: max(1, min(2, x.ndim - data_dims))]
    return Operand(tuple(lead), None if x.is_meta or x.numel() == 0 else OperandStatistics.of(x))


Described = list[tuple[str, Tensor, Tensor, int]]
"""Kind, input, weight or second input, and multiply-accumulates."""


def _convolution(x: Tensor, weight: Tensor, *args: Any, out: Tensor, **kwargs: Any) -> Described:
    dims = weight.ndim - 2
    return [(f"conv{dims}d", x, weight, out.numel() * math.prod(weight.shape[1:]))]


def _transposed(x: Tensor, weight: Tensor, *args: Any, out: Tensor, **kwargs: Any) -> Described:
    dims = weight.ndim - 2
    return [(f"conv_transpose{dims}d", x, weight, x.numel() * math.prod(weight.shape[1:]))]


def _general_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    *args: Any,
    out: Tensor,
) -> Described:
    return (_transposed if transposed else _convolution)(x, weight, out=out)


def _linear(x: Tensor, weight: Tensor, *args: Any, out: Tensor, **kwargs: Any) -> Described:
    return [("linear", x, weight, x.numel() * len(weight))]


def _product(a: Tensor, b: Tensor, *args: Any, out: Tensor, **kwargs: Any) -> Described:
    return [("product", a, b, out.numel() * a.shape[-1])]


def _added_product(c: Tensor, a: Tensor, b: Tensor, *args: Any, out: Tensor, **kwargs: Any) -> Described:
    return _product(a, b, out=out)


def _softmax_attention(q: Tensor, k: Tensor, v: Tensor, *args: Any, out: Tensor, **kwargs: Any) -> Described:
    weights = q.new_full((1,), 0.5).expand(*out.shape[:-1], k.shape[-2])  # Analog and never 0.
    mixed = out.numel() * k.shape[-2]
    return [("product", q, k, math.prod(weights.shape) * q.shape[-1]), ("product", weights, v, mixed)]


_KNOWN: dict[Any, Callable[..., Described]] = {
    aten.convolution: _general_convolution,
    aten.conv1d: _convolution,
    aten.conv2d: _convolution,
    aten.conv3d: _convolution,
    aten.conv_transpose1d: _transposed,
    aten.conv_transpose2d: _transposed,
    aten.conv_transpose3d: _transposed,
    aten.linear: _linear,
    aten.matmul: _product,
    aten.mm: _product,
    aten.bmm: _product,
    aten.mv: _product,
    aten.addmm: _added_product,
    aten.baddbmm: _added_product,
    aten.scaled_dot_product_attention: _softmax_attention,
}
