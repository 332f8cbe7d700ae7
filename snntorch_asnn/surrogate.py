r"""Surrogate gradients: a Heaviside step in the forward pass, a smooth derivative in the backward pass.

Every factory here returns a :class:`Surrogate` to pass as ``spike_grad``. Unlike the closures of
:mod:`snntorch.surrogate`, it can be pickled and compared, and it returns spikes in the dtype of its input. It
works under ``torch.compile(fullgraph=True)``, :func:`torch.func.vmap` and :func:`torch.func.grad`, and under
combinations of them. The fused implementations recognise it by name.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from snntorch_asnn._arguments import check_number
from snntorch_asnn._torch import leave_in_graph, tell_dynamo, transforms_active

__all__ = [
    "Surrogate",
    "atan",
    "fast_sigmoid",
    "sigmoid",
    "straight_through",
    "triangular",
]


# The order of operations in `_atan` and `_fast_sigmoid` is snnTorch's, so that gradients are bit-identical.
def _atan(u: Tensor, grad: Tensor, alpha: float) -> Tensor:
    return alpha / 2 / (1 + (torch.pi / 2 * alpha * u).square()) * grad


def _fast_sigmoid(u: Tensor, grad: Tensor, slope: float) -> Tensor:
    return grad / (slope * u.abs() + 1.0).square()


def _sigmoid(u: Tensor, grad: Tensor, slope: float) -> Tensor:
    s = torch.sigmoid(slope * u)
    return grad * (slope * s * (1 - s))


def _triangular(u: Tensor, grad: Tensor, width: float) -> Tensor:
    return grad * ((width - u.abs()).clamp(min=0) / (width * width))


def _straight_through(u: Tensor, grad: Tensor, _: float) -> Tensor:
    return grad.clone()


_BACKWARD: MappingProxyType[str, Callable[[Tensor, Tensor, float], Tensor]] = MappingProxyType(
    {
        "atan": _atan,
        "fast_sigmoid": _fast_sigmoid,
        "sigmoid": _sigmoid,
        "triangular": _triangular,
        "straight_through": _straight_through,
    }
)


def _heaviside(u: Tensor, fires_at_threshold: bool) -> Tensor:
    return (u >= 0 if fires_at_threshold else u > 0).to(u.dtype)


class _Spike(torch.autograd.Function):
    """Spike function without ``setup_context``, which would double the cost of every call."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, kind: str, shape: float, fires_at_threshold: bool) -> Tensor:
        ctx.kind, ctx.shape = kind, shape
        ctx.save_for_backward(u)
        return _heaviside(u, fires_at_threshold)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, None, None, None]:
        (u,) = ctx.saved_tensors
        return _BACKWARD[ctx.kind](u, grad_outputs[0], ctx.shape), None, None, None


class _SpikeUnderTransforms(torch.autograd.Function):
    """Spike function with ``setup_context``, which :mod:`torch.func` needs."""

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, kind: str, shape: float, fires_at_threshold: bool) -> Tensor:
        return _heaviside(u, fires_at_threshold)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        u, ctx.kind, ctx.shape, _ = inputs
        ctx.save_for_backward(u)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, None, None, None]:
        (u,) = ctx.saved_tensors
        return _BACKWARD[ctx.kind](u, grad_outputs[0], ctx.shape), None, None, None


@leave_in_graph
def _spike(u: Tensor, constants: str) -> Tensor:
    surrogate = of_constants(constants)
    spikes: Tensor
    if transforms_active():
        spikes = _SpikeUnderTransforms.apply(u, surrogate.kind, surrogate.shape, surrogate.fires_at_threshold)
    elif u.requires_grad and torch.is_grad_enabled():
        spikes = _Spike.apply(u, surrogate.kind, surrogate.shape, surrogate.fires_at_threshold)
    else:
        spikes = surrogate.spikes(u)
    return spikes


@dataclass(frozen=True, repr=False)
class Surrogate:
    r"""A spike function :math:`s = H(u)` with the derivative :math:`\sigma'(u)` in the backward pass.

    The factories of this module build it. ``u`` is the membrane minus the threshold.

    Args:
        kind: Name of the derivative, which is the name of its factory.
        shape: Parameter of the factory (slope, alpha or width).
        fires_at_threshold: Whether a membrane exactly at the threshold spikes, :math:`H(0) = 1`. In snnTorch,
            it does not.

    Raises:
        TypeError: ``shape`` is not a number.
        ValueError: ``kind`` is unknown or ``shape`` is not a positive, finite number.

    Example::

        >>> spike_grad = sigmoid(slope=4)
        >>> u = torch.tensor([-0.5, 0.0, 0.5], requires_grad=True)
        >>> spikes = spike_grad(u)
        >>> spikes.tolist()
        [0.0, 0.0, 1.0]
        >>> spikes.sum().backward()
        >>> u.grad
        tensor([0.4200, 1.0000, 0.4200])
    """

    kind: str
    shape: float = 1.0
    fires_at_threshold: bool = False
    constants: str = field(init=False, compare=False)
    """All fields as text. Dynamo would treat a number as dynamic, and kernels are built for constants."""

    def __post_init__(self) -> None:
        if self.kind not in _BACKWARD:
            raise ValueError(f"kind must be one of {', '.join(_BACKWARD)}; got {self.kind!r}")
        check_number("shape", self.shape)
        if not 0 < self.shape < math.inf:
            raise ValueError(
                f"the parameter of {self.kind} must be a positive, finite number; got {self.shape!r}"
            )
        text = f"{self.kind} {float(self.shape)!r} {bool(self.fires_at_threshold)}"
        object.__setattr__(self, "constants", text)
        tell_dynamo()

    def __reduce__(self) -> tuple[type[Surrogate], tuple[str, float, bool]]:
        return Surrogate, (self.kind, self.shape, self.fires_at_threshold)

    def __call__(self, u: Tensor) -> Tensor:
        """Return spikes of ``u``, the membrane minus the threshold, in the shape and dtype of ``u``."""
        spikes: Tensor = _spike(u, self.constants)
        return spikes

    def spikes(self, u: Tensor) -> Tensor:
        """Return spikes of ``u`` without a gradient."""
        return _heaviside(u, self.fires_at_threshold)

    def backward(self, u: Tensor, grad: Tensor) -> Tensor:
        r"""Return the vector-Jacobian product, ``grad`` times :math:`\sigma'(u)`."""
        return _BACKWARD[self.kind](u, grad, self.shape)

    def derivative(self, u: Tensor) -> Tensor:
        r"""Return the surrogate derivative :math:`\sigma'(u)`, for example to plot it.

        Example::

            >>> atan().derivative(torch.tensor([-1.0, 0.0, 1.0]))
            tensor([0.0920, 1.0000, 0.0920])
        """
        return self.backward(u, torch.ones_like(u))

    # torch.func names a transformed callable by its repr, and Dynamo cannot trace a dataclass's repr.
    def __repr__(self) -> str:
        closed = ", fires_at_threshold=True" if self.fires_at_threshold else ""
        return f"Surrogate({self.kind!r}, {self.shape}{closed})"


@functools.cache
def of_constants(constants: str) -> Surrogate:
    """Return the surrogate with these :attr:`Surrogate.constants`."""
    kind, shape, fires_at_threshold = constants.split()
    return Surrogate(kind, float(shape), fires_at_threshold == "True")


def sigmoid(slope: float = 25.0, *, fires_at_threshold: bool = False) -> Surrogate:
    r"""Derivative of a logistic function, :math:`\sigma'(u) = k\,\sigma(ku)\,(1-\sigma(ku))`.

    It is finite for every membrane; snnTorch's formula overflows below about :math:`-88/k`.

    Args:
        slope: Slope :math:`k`, per unit of membrane. The adaptive neuron's published code uses 4.
        fires_at_threshold: See :class:`Surrogate`.

    Source: Zenke and Ganguli, SuperSpike, Neural Computation 2018.

    Example::

        >>> sigmoid(slope=4).derivative(torch.tensor(0.0))
        tensor(1.)
    """
    check_number("slope", slope)
    return Surrogate("sigmoid", slope, fires_at_threshold)


def atan(alpha: float = 2.0, *, fires_at_threshold: bool = False) -> Surrogate:
    r"""Derivative of an arc tangent, :math:`\sigma'(u) = \frac{\alpha/2}{1+(\frac{\pi}{2}\alpha u)^2}`.

    This is the default of snnTorch and of this package.

    Args:
        alpha: Width parameter :math:`\alpha`, per unit of membrane.
        fires_at_threshold: See :class:`Surrogate`.

    Source: Fang et al., Incorporating Learnable Membrane Time Constants, ICCV 2021.

    Example::

        >>> atan(alpha=2.0).derivative(torch.tensor(0.0))
        tensor(1.)
    """
    check_number("alpha", alpha)
    return Surrogate("atan", alpha, fires_at_threshold)


def fast_sigmoid(slope: float = 25.0, *, fires_at_threshold: bool = False) -> Surrogate:
    r"""Derivative of a fast sigmoid, :math:`\sigma'(u) = \frac{1}{(1+k|u|)^2}`.

    Args:
        slope: Slope :math:`k`, per unit of membrane.
        fires_at_threshold: See :class:`Surrogate`.

    Source: Zenke and Ganguli, SuperSpike, Neural Computation 2018.

    Example::

        >>> fast_sigmoid(slope=1).derivative(torch.tensor(1.0))
        tensor(0.2500)
    """
    check_number("slope", slope)
    return Surrogate("fast_sigmoid", slope, fires_at_threshold)


def triangular(width: float = 1.0, *, fires_at_threshold: bool = False) -> Surrogate:
    r"""Triangle of unit area, :math:`\sigma'(u) = \max(0, w - |u|)/w^2`.

    This differs from :func:`snntorch.surrogate.triangular`, whose gradient is a constant that turns negative
    above the threshold. If you need that one, pass it as ``spike_grad``.

    Args:
        width: Distance :math:`w` from the threshold at which the gradient ends, in units of membrane.
        fires_at_threshold: See :class:`Surrogate`.

    Source: Bellec et al., Long short-term memory and learning-to-learn in networks of spiking neurons,
    NeurIPS 2018.

    Example::

        >>> triangular().derivative(torch.tensor([-1.0, -0.5, 0.0]))
        tensor([0.0000, 0.5000, 1.0000])
    """
    check_number("width", width)
    return Surrogate("triangular", width, fires_at_threshold)


def straight_through(*, fires_at_threshold: bool = False) -> Surrogate:
    r"""Straight-through estimator, :math:`\sigma'(u) = 1`.

    Args:
        fires_at_threshold: See :class:`Surrogate`.

    Source: Bengio et al., Estimating or Propagating Gradients Through Stochastic Neurons, 2013.

    Example::

        >>> straight_through().derivative(torch.tensor([-3.0, 3.0]))
        tensor([1., 1.])
    """
    return Surrogate("straight_through", 1.0, fires_at_threshold)
