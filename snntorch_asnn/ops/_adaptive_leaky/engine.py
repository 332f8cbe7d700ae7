"""The table of implementations, and which of them runs a sequence."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from snntorch_asnn._arguments import check_choice
from snntorch_asnn._torch import is_exporting, leave_in_graph, transforms_active
from snntorch_asnn.ops._adaptive_leaky import inductor, reference
from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
from snntorch_asnn.ops._adaptive_leaky.cpp import implementation as cpp
from snntorch_asnn.ops._adaptive_leaky.implementation import Implementation, Unavailable
from snntorch_asnn.ops._adaptive_leaky.rule import Rule
from snntorch_asnn.ops._adaptive_leaky.triton import implementation as triton

__all__ = ["IMPLEMENTATIONS", "Impl", "check_impl", "choose", "run", "run_step", "takes_steps"]

IMPLEMENTATIONS: tuple[Implementation, ...] = (triton, cpp, inductor, reference)
"""``impl="auto"`` takes the first that covers an input, or else the reference."""

Impl = Literal["auto", "triton", "cpp", "compile", "reference"]

LEAST_TO_COMPILE_FOR = 1 << 14
"""Elements of a sequence on a CPU below which ``impl="auto"`` does not ask for anything to be compiled."""

GRAPH_FUSES_ELEMENTS, GRAPH_FUSES_STEPS = 1 << 17, 4
"""Below so many elements and up to so many steps, a surrounding graph fuses loops into its own kernels, on a
CPU: calling a kernel from it takes longer than the neuron. Compile time grows with the steps."""

_BY_NAME = {implementation.name: implementation for implementation in IMPLEMENTATIONS}


def run(
    x: Tensor,
    mem: Tensor | None,
    coefficients: Coefficients,
    rule: Rule,
    *,
    output_mem: bool,
    keep_mem: bool = True,
    keep_spikes: bool = True,
    impl: Impl,
    affine: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """:func:`~.api.adaptive_leaky` for arguments that are known to fit.

    ``affine`` is a factor and an offset of the input, ``[T, *features]`` or ``[1, *features]``, in the dtype
    of the state. Without ``keep_mem`` the caller drops the membrane, without ``keep_spikes`` the spikes: an
    implementation need not compute them.
    """
    chosen = choose(impl, x, rule)
    mem = None if mem is None else mem.to(coefficients.beta.dtype)
    if torch.compiler.is_compiling() or not triton.is_real(x):
        coefficients = coefficients if affine is None else coefficients.after(*affine)
        if chosen.in_graph is None:
            return chosen.sequence(x, mem, coefficients, rule, output_mem=output_mem)
        given = coefficients.given
        tensors = (x, *given) if mem is None else (x, mem, *given)
        needs_grad = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
        keeps = output_mem, keep_mem, keep_spikes, needs_grad
        return _in_graph(x, mem, list(given), rule.key, *keeps, chosen.name, impl == "auto")
    try:
        # Kernels read the memory, where a lazy negation (of an imaginary part, say) has not happened yet.
        return chosen.sequence(
            x.resolve_neg(),
            None if mem is None else mem.resolve_neg(),
            coefficients,
            rule,
            output_mem=output_mem,
            keep_mem=keep_mem,
            keep_spikes=keep_spikes,
            affine=affine,
        )
    except Unavailable as error:
        if impl != "auto":
            raise RuntimeError(f"impl={impl!r} {error}") from None
        _warn_of_the_reference(str(error))
    return reference.sequence(x, mem, coefficients, rule, output_mem=output_mem, affine=affine)


def takes_steps(impl: Impl, x: Tensor, rule: Rule) -> bool:
    """Whether one step ``x`` runs faster as a sequence of one than as a chain of operations.

    On a GPU that chain is a dozen launches. A graph fuses it with its neighbours.
    """
    if impl not in ("auto", "triton") or not triton.covers(x) or torch.compiler.is_compiling():
        return False
    return _fastest(x, rule) is triton


def run_step(
    x: Tensor,
    mem: Tensor,
    coefficients: Coefficients,
    rule: Rule,
    feature_shape: tuple[int, ...],
    *,
    impl: Impl,
) -> tuple[Tensor, Tensor]:
    """One step ``x`` ``[B, ...]`` as a sequence of one; coefficients broadcast to ``feature_shape``."""
    row = coefficients.map(lambda c: c.expand(1, *feature_shape))
    spikes, mem = run(x[None], mem, row, rule, output_mem=False, impl=impl)
    return spikes[0], mem


def check_impl(impl: Impl, only_loop: str | None = None) -> None:
    """Refuse an unknown ``impl``, or any that is fused for options that only a loop over the steps covers.

    Raises:
        ValueError: with ``only_loop``, the options in words.
    """
    check_choice("impl", impl, Impl)
    if only_loop is not None and impl not in ("auto", "reference"):
        raise ValueError(f"impl={impl!r} does not cover {only_loop}; use 'auto' or 'reference'")


def choose(impl: Impl, x: Tensor, rule: Rule) -> Implementation:
    """The implementation that runs: the one asked for, or the fastest that can.

    Raises:
        ValueError: if ``impl`` is unknown, or covers neither the neuron's options nor the dtype of ``x``.
        RuntimeError: if the implementation asked for cannot run on this machine.
    """
    if impl == "auto":
        return _fastest(x, rule)
    check_impl(impl)
    chosen = _BY_NAME[impl]
    if chosen is reference:
        return chosen
    if not rule.is_fusable:
        raise ValueError(
            f"impl={impl!r} needs spike_grad from snntorch_asnn.surrogate, and neither inhibition nor "
            "state_quant; use impl='auto' or 'reference'"
        )
    if chosen.dtypes is not None and x.dtype not in chosen.dtypes:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in chosen.dtypes)
        raise ValueError(f"impl={impl!r} takes x in {names}; got {x.dtype}; use 'auto' or 'reference'")
    if not torch.compiler.is_compiling():
        if lack := chosen.missing(x.device.type):
            raise RuntimeError(f"impl={impl!r} needs {lack}")
        if transforms_active():
            raise RuntimeError(f"impl={impl!r} does not run under torch.func transforms; use 'auto'")
    return chosen


def _fastest(x: Tensor, rule: Rule) -> Implementation:
    if not rule.key or x.numel() == 0 or x.is_meta:
        return reference
    for first in IMPLEMENTATIONS:
        if first.covers(x):
            break
    if torch.compiler.is_compiling():
        return first
    # On a GPU launches count, not elements.
    if (x.numel() < LEAST_TO_COMPILE_FOR and first is not triton) or transforms_active():
        return reference
    lack = first.missing(x.device.type)
    if lack is None:
        return first
    _warn_of_the_reference(f"needs {lack}")
    return reference


@functools.cache
def _warn_of_the_reference(reason: str) -> None:
    warnings.warn(
        f"adaptive neurons run as slow reference loops: their fast implementation {reason}", stacklevel=2
    )


# Dynamo can ask neither whether a transform is active nor for a compiler; within its graph this function can.
@leave_in_graph
def _in_graph(
    x: Tensor,
    mem: Tensor | None,
    coefficients: Sequence[Tensor],
    key: str,
    output_mem: bool,
    keep_mem: bool,
    keep_spikes: bool,
    needs_grad: bool,
    name: str,
    is_auto: bool,
) -> tuple[Tensor, Tensor]:
    chosen = _BY_NAME[name]
    is_brief = x.shape[0] <= GRAPH_FUSES_STEPS and x.numel() < GRAPH_FUSES_ELEMENTS
    # An exported program is to run where this package is not.
    leaves_it = is_auto and (is_exporting() or (chosen is cpp and is_brief))
    runs = inductor.in_graph if leaves_it or chosen.in_graph is None else chosen.in_graph
    options = {
        "output_mem": output_mem,
        "keep_mem": keep_mem,
        "keep_spikes": keep_spikes,
        "needs_grad": needs_grad,
    }
    try:
        return runs(x, mem, coefficients, key, **options)
    except Unavailable as error:
        if not is_auto:
            raise RuntimeError(f"impl={name!r} {error}") from None
    return inductor.in_graph(x, mem, coefficients, key, **options)
