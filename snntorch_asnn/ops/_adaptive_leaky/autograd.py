"""How autograd sees a sequence: the one wiring of every fused implementation.

Eagerly, :class:`Fused` is one step of autograd around a pair of kernels. For compilers, operators take all
coefficients as one list, and :func:`save` and :func:`gradients` are what PyTorch calls around them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients, aligned, summed_to
from snntorch_asnn.ops._first_derivative import first_derivative_only
from snntorch_asnn.ops._spike_origin import Worth

__all__ = [
    "Affine",
    "Fused",
    "Gradients",
    "Kernels",
    "Options",
    "by_coefficient",
    "gradients",
    "once",
    "register",
    "run_fused",
    "save",
    "through_affine",
]

Affine = tuple[Tensor, Tensor] | None
"""A factor and an offset of the input, ``[T, *features]`` or ``[1, *features]``."""

Gradients = Sequence[Tensor | None]

once = first_derivative_only("a fused run of the neuron", "impl='reference'")

_COUNT = len(Coefficients._fields)
_GAIN, _SHIFT = Coefficients._fields.index("gain"), Coefficients._fields.index("shift")
_SCALE = 2 + Coefficients._fields.index("scale")


class Options(NamedTuple):
    """The constants of a run."""

    key: str
    """The rule's."""
    output_mem: bool
    keep_mem: bool
    keep_spikes: bool
    grad_enabled: bool


class Kernels(Protocol):
    """A forward and a backward kernel that are called without PyTorch's dispatcher."""

    tells_worth: bool
    """Whether its spikes are to be known as such by their history, see ``_spike_origin.py``."""

    def forward(
        self,
        x: Tensor,
        mem: Tensor | None,
        own: Coefficients,
        affine: Affine,
        options: Options,
        wants: tuple[bool, ...] | None,
    ) -> tuple[Tensor, Tensor, tuple[Tensor | None, ...], Any]:
        """Spikes, membrane, tensors to keep for the backward pass, and whatever else that has to know.

        ``wants`` says for x, mem and each coefficient whether its gradient will be; None if none will.
        """

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
        """Gradients of x, mem, each coefficient (those of a whole run where shared), factor and offset."""


def run_fused(
    kernels: Kernels,
    x: Tensor,
    mem: Tensor | None,
    coefficients: Coefficients,
    affine: Affine,
    options: Options,
) -> tuple[Tensor, Tensor]:
    """Spikes and membrane of a sequence, by kernels that autograd knows how to go back through."""
    factor, offset = affine or (None, None)
    spikes, mem_out = Fused.apply(kernels, options, x, mem, factor, offset, *coefficients)
    return spikes, mem_out


class Fused(torch.autograd.Function):
    """One step of autograd, whatever is done to the coefficients before kernels read them.

    A ``setup_context`` would have PyTorch inspect the signature of ``forward`` at every call, and operators'
    dispatch takes longer than a small layer's kernel.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        kernels, options, x, mem, factor, offset, *given = inputs
        own = Coefficients(*given)
        affine = None if factor is None else (factor, offset)
        needs = ctx.needs_input_grad
        wants = _wanted(needs[2:], affine is not None) if options.grad_enabled and any(needs) else None
        spikes, mem_out, kept, ctx.known = kernels.forward(x, mem, own, affine, options, wants)
        ctx.kernels, ctx.wants = kernels, wants
        ctx.set_materialize_grads(False)
        if kernels.tells_worth and not (wants is not None and wants[_SCALE]):
            scale = own.scale
            if scale.numel() == 1 or not any(scale.stride()):
                ctx.spike_worth = Worth(scale.detach(), x.dtype)
        ctx.save_for_backward(x, mem, factor, offset, *given, *kept)
        return spikes, mem_out

    @staticmethod
    @once
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        x, mem, factor, offset, *rest = ctx.saved_tensors
        own, kept = Coefficients(*rest[:_COUNT]), rest[_COUNT:]
        affine = None if factor is None else (factor, offset)
        grad_spikes, grad_mem = (None if grad is None else grad.resolve_neg() for grad in grad_outputs)
        grad_x, grad_start, of, of_factor, of_offset = ctx.kernels.backward(
            x, mem, own, affine, kept, ctx.known, (grad_spikes, grad_mem), ctx.wants
        )
        return None, None, grad_x, grad_start, of_factor, of_offset, *of


def _wanted(needs: Sequence[bool], has_affine: bool) -> tuple[bool, ...]:
    """Whether kernels are to compute the gradients of x, of mem and of each coefficient."""
    x, mem, factor, offset, *of = needs
    if has_affine:
        of[_GAIN] = of[_GAIN] or factor
        of[_SHIFT] = of[_SHIFT] or of[_GAIN] or offset
    return x, mem, *of


def through_affine(
    of: Gradients, own: Coefficients, affine: tuple[Tensor, Tensor]
) -> tuple[Gradients, Tensor | None, Tensor | None]:
    """Gradients of coefficients, factor and offset, from those ``[T, *features]`` of their products."""
    factor, offset = affine
    grads = list(of)
    grad_factor = grad_offset = None
    grad_product, grad_shift = grads[_GAIN], grads[_SHIFT]
    if grad_shift is not None:
        gain, wide_factor, wide_offset = (aligned(c, grad_shift.ndim) for c in (own.gain, factor, offset))
        grad_offset = summed_to(grad_shift * gain, factor.shape)
        if grad_product is not None:
            grad_factor = summed_to(grad_product * gain, factor.shape)
            grads[_GAIN] = torch.addcmul(grad_shift * wide_offset, grad_product, wide_factor)
    shaped = [
        None if grad is None or c is None else summed_to(grad, c.shape)
        for grad, c in zip(grads, own, strict=True)
    ]
    return shaped, grad_factor, grad_offset


def by_coefficient(rows: Iterable[Tensor], wants: Sequence[bool]) -> list[Tensor | None]:
    """The rows that a backward kernel has computed, each in the place of its coefficient."""
    remaining = iter(rows)
    return [next(remaining) if want else None for want in wants]


def save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """Keep what :func:`gradients` needs of a run: its tensors, and outputs behind spikes and membrane."""
    x, mem, coefficients, ctx.key, ctx.output_mem, *rest = inputs
    _, _, *kept = output
    ctx.count, ctx.others = len(coefficients), len(rest)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, mem, *coefficients, *kept)


def gradients(
    backward: Callable[..., tuple[Tensor, Tensor, Iterable[Tensor]]],
    ctx: Any,
    needs: tuple[bool, bool, Sequence[bool]],
    grad_spikes: Tensor | None,
    grad_mem: Tensor | None,
) -> tuple[Tensor | None, Tensor | None, list[Tensor | None]]:
    """Gradients of x, of mem and of the list of coefficients, for those that ``needs`` names."""
    x, mem, *rest = ctx.saved_tensors
    given, kept = rest[: ctx.count], rest[ctx.count :]
    # An output that was dropped is empty, and so is its gradient.
    grads = (g.resolve_neg() if g is not None and g.numel() else None for g in (grad_spikes, grad_mem))
    needs_x, needs_mem, needs_of = needs
    wants = [needs_x, needs_mem, *needs_of]
    wants += [False] * (2 + _COUNT - len(wants))
    grad_x, grad_start, rows = backward(x, mem, given, kept, *grads, ctx.key, ctx.output_mem, wants)
    of = by_coefficient(rows, needs_of)
    return grad_x if needs_x else None, grad_start if needs_mem else None, of


def register(
    name: str,
    backward: Callable[..., tuple[Tensor, Tensor, Tensor]],
    lib: torch.library.Library | None = None,
) -> None:
    """Tell autograd of an operator ``(x, mem, coefficients, key, output_mem, ...)``.

    ``backward`` takes x, mem, coefficients, what the operator returned behind spikes and membrane, their two
    gradients, key, output_mem and for x, mem and each coefficient whether its gradient is wanted.
    """

    def backward_rows(*arguments: Any) -> tuple[Tensor, Tensor, Iterable[Tensor]]:
        grad_x, grad_mem, rows = backward(*arguments)
        return grad_x, grad_mem, rows.unbind(0)

    def differentiate(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Any, ...]:
        found = gradients(backward_rows, ctx, ctx.needs_input_grad[:3], *grad_outputs[:2])
        return *found, *(None for _ in range(2 + ctx.others))

    torch.library.register_autograd(name, differentiate, setup_context=save, lib=lib)
