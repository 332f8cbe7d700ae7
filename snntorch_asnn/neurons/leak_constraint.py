r"""Leaks that stay in [0, 1]: the leak that a raw parameter gives, and the gradient that leads it back.

- ``"clamp"``: the raw value, clamped to [0, 1] as in snnTorch. On the bounds and beyond, the gradient passes
  where a descent step leads back into [0, 1], and is zero where it leads further out.
- ``"sigmoid"``: :math:`\sigma(10\, r)` of the raw value :math:`r`. The slope lets a step of :math:`r` move a
  leak between 0.05 and 0.95 by 0.5 to 2.5 times as much; without it a leak of 0.95 moves by a 20th.
- ``"none"``: the raw value.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from snntorch_asnn._torch import leave_in_graph, transforms_active
from snntorch_asnn.ops._adaptive_leaky.triton import implementation as triton

__all__ = ["SIGMOID_SLOPE", "BetaConstraint", "constrain", "unconstrain"]

BetaConstraint = Literal["clamp", "sigmoid", "none"]

SIGMOID_SLOPE = 10.0
"""Four times the slope of ``"sigmoid"`` at a leak of a half."""


def constrain(raw: Tensor, constraint: BetaConstraint) -> Tensor:
    """The leak that a raw parameter gives."""
    if constraint == "clamp":
        return _clamp(raw)
    return torch.sigmoid(SIGMOID_SLOPE * raw) if constraint == "sigmoid" else raw


def unconstrain(leak: Tensor, constraint: BetaConstraint, name: str = "beta") -> Tensor:
    """The raw parameter that gives ``leak``."""
    if constraint != "sigmoid":
        return leak
    if not leak.is_meta and not bool(((leak > 0) & (leak < 1)).all()):
        raise ValueError(
            f"{name} must lie strictly between 0 and 1 with beta_constraint='sigmoid'; got {leak}"
        )
    return torch.logit(leak) / SIGMOID_SLOPE


MOST_READ_ONE_BY_ONE = 64
"""The most leaks on a CPU that are compared in Python, which is faster than operators for a few."""


@leave_in_graph
def _clamp(raw: Tensor) -> Tensor:
    leak: Tensor
    if transforms_active():
        leak = _ClampUnderTransforms.apply(raw)
    elif raw.requires_grad and torch.is_grad_enabled():
        leak = _Clamp.apply(raw)
    else:
        leak = raw.clamp(0, 1)
    return leak


def _led_back(raw: Tensor, grad: Tensor) -> Tensor:
    """``grad``, with zeros where a descent step leads further out of [0, 1]."""
    outwards = torch.where(raw >= 1, grad < 0, (raw <= 0) & (grad > 0))
    return grad.masked_fill(outwards, 0)


def _is_inside(raw: Tensor) -> bool:
    """Whether all of ``raw`` is between 0 and 1, for a few values on a CPU; False if that is not checked.

    The check takes less time than one of the operators that lead a gradient back.
    """
    if raw.device.type != "cpu" or raw.numel() > MOST_READ_ONE_BY_ONE or not triton.is_real(raw):
        return False
    return all(0 < value < 1 for value in raw.flatten().tolist())


class _Clamp(torch.autograd.Function):
    """This function has no ``setup_context``, with which every call takes twice as long."""

    @staticmethod
    def forward(ctx: Any, raw: Tensor) -> Tensor:
        ctx.save_for_backward(raw)
        return raw.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (raw,) = ctx.saved_tensors
        (grad,) = grad_outputs
        if _is_inside(raw):
            return grad
        takes_kernel = triton.covers(raw) and triton.is_real(raw) and not torch.is_grad_enabled()
        if not takes_kernel or triton.missing(raw.device.type):
            return _led_back(raw, grad)
        from snntorch_asnn.ops._leak_gradient.triton import gradient as triton_leaks

        return triton_leaks.led_back(raw, grad)


class _ClampUnderTransforms(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(raw: Tensor) -> Tensor:
        return raw.clamp(0, 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (raw,) = ctx.saved_tensors
        return _led_back(raw, grad_outputs[0])
