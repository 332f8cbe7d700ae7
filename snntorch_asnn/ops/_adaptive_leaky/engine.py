"""Which implementation runs a sequence."""

from __future__ import annotations

import functools
import warnings
from typing import Literal, get_args

import torch
from torch import Tensor

from snntorch_asnn._torch import leave_in_graph
from snntorch_asnn.ops._adaptive_leaky import inductor as compiled
from snntorch_asnn.ops._adaptive_leaky import reference
from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
from snntorch_asnn.ops._adaptive_leaky.cpp import implementation as cpp
from snntorch_asnn.ops._adaptive_leaky.rule import Rule
from snntorch_asnn.ops._adaptive_leaky.triton import implementation as triton

__all__ = ["Impl", "choose", "run", "run_step", "takes_steps"]

Impl = Literal["auto", "reference", "compile", "cpp", "triton"]
Runnable = Literal["reference", "compile", "cpp", "triton"]

SMALL = 1 << 14
"""Elements of a sequence on a CPU below which ``impl="auto"`` does not ask for anything to be compiled."""

SHORT, FEW = 1 << 17, 4
"""Elements and steps below which a surrounding graph fuses loops into its own kernels, on a CPU: calling a
kernel from it takes longer than the neuron. With the steps grows the time that it takes to compile."""


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
    if not torch.compiler.is_compiling():
        # Kernels read the memory, where a lazy negation (of an imaginary part, say) has not happened yet.
        x, mem = x.resolve_neg(), None if mem is None else mem.resolve_neg()
    if chosen == "cpp" and not torch.compiler.is_compiling():
        lack = cpp.lack(x, mem, coefficients, rule, affine)
        if lack is None:
            return cpp.sequence(x, mem, coefficients, rule, output_mem=output_mem, affine=affine)
        chosen = _instead_of_cpp(impl, lack)
    if chosen == "triton":
        strict = impl == "triton"
        return triton.sequence(
            x,
            mem,
            coefficients,
            rule,
            output_mem=output_mem,
            keep_mem=keep_mem,
            keep_spikes=keep_spikes,
            strict=strict,
            affine=affine,
        )
    coefficients = coefficients if affine is None else coefficients.after(*affine)
    if chosen == "reference":
        return reference.sequence(x, mem, coefficients, rule, output_mem=output_mem)
    if torch.compiler.is_compiling():
        return _in_graph(x, mem, *coefficients, compiled.rule_key(rule), output_mem, impl)
    return compiled.sequence(x, mem, coefficients, rule, output_mem=output_mem)


def takes_steps(impl: Impl, x: Tensor, rule: Rule) -> bool:
    """Whether one step ``x`` runs faster as a sequence of one than as a chain of operations.

    On a GPU that chain is a dozen launches. A graph fuses it with its neighbours.
    """
    if impl not in ("auto", "triton") or not triton.takes(x) or torch.compiler.is_compiling():
        return False
    return _fastest(x, rule) == "triton"


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


def choose(impl: Impl, x: Tensor, rule: Rule) -> Runnable:
    """The implementation that runs: the one asked for, or the fastest that can.

    Raises:
        ValueError: if ``impl`` is unknown or does not cover the neuron's options.
        RuntimeError: if the implementation asked for cannot run on this machine.
    """
    if impl == "reference":
        return "reference"
    if impl == "auto":
        return _fastest(x, rule)
    if impl not in get_args(Impl):
        raise ValueError(f"impl must be one of {', '.join(map(repr, get_args(Impl)))}; got {impl!r}")
    if not rule.is_fusable:
        raise ValueError(
            f"impl={impl!r} needs spike_grad from snntorch_asnn.surrogate, and neither inhibition nor "
            "state_quant; use impl='auto' or 'reference'"
        )
    if impl == "cpp" and not cpp.covers(x):
        raise ValueError(
            f"impl='cpp' takes float32, float64 and bfloat16 tensors on the CPU; got {x.dtype} on {x.device}"
        )
    if not torch.compiler.is_compiling():
        if lack := _missing(impl, x):
            raise RuntimeError(f"impl={impl!r} cannot run here: it misses {lack}")
        if _under_transform():
            raise RuntimeError(f"impl={impl!r} does not run under torch.func transforms; use 'auto'")
    return impl


def _missing(impl: Runnable, x: Tensor) -> str | None:
    if impl == "cpp":
        return cpp.missing()
    return triton.missing(x.device.type) if impl == "triton" else compiled.missing(x.device.type)


def _fastest(x: Tensor, rule: Rule) -> Runnable:
    if not rule.is_fusable or x.numel() == 0 or x.is_meta:
        return "reference"
    on_gpu = triton.takes(x)
    if torch.compiler.is_compiling():
        return "triton" if on_gpu else "compile"
    # On a GPU launches count, not elements.
    if (x.numel() < SMALL and not on_gpu) or _under_transform():
        return "reference"
    candidates: list[Runnable] = ["compile"]
    if on_gpu:
        candidates = ["triton", "compile"]
    elif cpp.covers(x):
        candidates = ["cpp"]
    lacks = {impl: _missing(impl, x) for impl in candidates}
    able = next((impl for impl, lack in lacks.items() if lack is None), None)
    if able is None:
        _warn_of_the_reference(str(lacks[candidates[-1]]))
    return able or "reference"


def _instead_of_cpp(impl: Impl, lack: str) -> Runnable:
    """What runs where a kernel cannot be built; asked for by name, that is an error."""
    if impl == "cpp":
        raise RuntimeError(f"impl='cpp' cannot run here: it misses {lack}")
    _warn_of_the_reference(lack)
    return "reference"


@functools.cache
def _warn_of_the_reference(lack: str) -> None:
    warnings.warn(
        f"adaptive neurons run as slow reference loops, because this machine misses {lack}",
        stacklevel=2,
    )


def _under_transform() -> bool:
    return bool(torch._C._are_functorch_transforms_active())


# Dynamo can ask neither whether a transform is active nor for a compiler; within its graph this function can.
@leave_in_graph
def _in_graph(
    x: Tensor,
    mem: Tensor | None,
    beta: Tensor,
    gain: Tensor,
    threshold: Tensor,
    previous_threshold: Tensor,
    scale: Tensor,
    shift: Tensor | None,
    key: compiled.RuleKey,
    output_mem: bool,
    impl: Impl,
) -> tuple[Tensor, Tensor]:
    coefficients = Coefficients(beta, gain, threshold, previous_threshold, scale, shift)
    lack: str | None
    if not cpp.covers(x):
        lack = "a CPU"
    # An exported program is to run where this package is not, and a transform has to see the arithmetic.
    elif torch.compiler.is_exporting() or _under_transform():
        lack = "a program that is neither exported nor under torch.func"
    else:
        lack = cpp.missing() or cpp.lack(x, mem, coefficients, compiled.rule_of(key))
    if impl == "cpp" and lack:
        raise RuntimeError(f"impl='cpp' cannot run here: it misses {lack}")
    if impl == "compile" or lack or (impl == "auto" and x.shape[0] <= FEW and x.numel() < SHORT):
        return compiled.sequence_in_graph(x, mem, coefficients, key, output_mem)
    return cpp.sequence(x, mem, coefficients, compiled.rule_of(key), output_mem=output_mem)
