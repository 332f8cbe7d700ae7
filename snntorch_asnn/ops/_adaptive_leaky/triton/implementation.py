"""The whole sequence as two Triton kernels, one forward and one backward, of any number of steps.

The forward kernel reads the input and writes the spikes. The backward kernel reads the input once more,
recomputes the membranes, and writes the gradient of the input and partial sums of those of the
coefficients. This module decides whether that can run, and imports Triton only when it does.
"""

from __future__ import annotations

import functools
import importlib.util

import torch
from torch import Tensor

from snntorch_asnn._torch import is_exporting, leave_in_graph
from snntorch_asnn.ops._adaptive_leaky import inductor as compiled
from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
from snntorch_asnn.ops._adaptive_leaky.rule import Rule

__all__ = ["DTYPES", "is_real", "missing", "sequence", "takes"]

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""Dtypes of the input that the kernels take; the state is float32 for all."""


def takes(x: Tensor) -> bool:
    """Whether ``x`` is on a GPU, and of a dtype for which there are kernels."""
    return x.device.type == "cuda" and x.dtype in DTYPES


def is_real(x: Tensor) -> bool:
    """Whether ``x`` has memory that a kernel can be given; a fake tensor has none."""
    return type(x) in (Tensor, torch.nn.Parameter)


@functools.cache
def missing(device_type: str) -> str | None:
    """What the kernels lack on this machine for a kind of device, or None if they can run."""
    if importlib.util.find_spec("triton") is None:
        return "the package triton, which comes with PyTorch's builds for GPUs"
    import triton

    # On a CPU there is only Triton's interpreter, which checks kernels and is slow.
    if triton.knobs.runtime.interpret:
        is_new = tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 7)
        return None if is_new else f"triton 3.7 or later, for its interpreter; it is {triton.__version__}"
    if device_type != "cuda":
        return f"a GPU: x is on {device_type!r} (TRITON_INTERPRET=1, set before Python starts, emulates one)"
    from torch.utils._triton import has_triton

    return None if has_triton() else "a GPU that Triton supports"


def sequence(
    x: Tensor,
    mem: Tensor | None,
    coefficients: Coefficients,
    rule: Rule,
    *,
    output_mem: bool,
    keep_mem: bool = True,
    keep_spikes: bool = True,
    strict: bool = True,
    affine: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """As :func:`..reference.sequence`, for a rule that is fusable and ``x`` of one of :data:`DTYPES`.

    With ``affine`` it is that of ``coefficients.after(*affine)``. Without ``keep_spikes`` nothing is promised
    of the first result, without ``keep_mem`` of the second: each spares the kernel a write.

    The kernels know nothing of :mod:`torch.func`, and an exported program would need this package. Unless
    ``strict``, the loops of ``inductor.py`` stand in for them there.

    Raises:
        RuntimeError: if the kernels cannot run here; it says what they miss.
        ValueError: if ``x`` is of another dtype.
    """
    if x.dtype not in DTYPES:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
        raise ValueError(f"impl='triton' takes x in {names}; got {x.dtype}; use 'auto' or 'reference'")
    if not torch.compiler.is_compiling() and (lack := missing(x.device.type)):
        raise RuntimeError(f"impl='triton' cannot run here: it misses {lack}")
    is_traced = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    if not is_traced and is_real(x):
        from snntorch_asnn.ops._adaptive_leaky.triton import eager as triton_eager

        return triton_eager.sequence(
            x,
            mem,
            coefficients,
            rule,
            output_mem=output_mem,
            keep_mem=keep_mem,
            keep_spikes=keep_spikes,
            affine=affine,
        )
    coefficients = coefficients if affine is None else coefficients.after(*affine)
    needs_grad = torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (x, mem, *coefficients)
    )
    keeps = output_mem, keep_mem, keep_spikes
    return _in_graph(x, mem, *coefficients, compiled.rule_key(rule), *keeps, needs_grad, strict)


# Dynamo cannot ask whether a transform is active; within its graph, this function can.
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
    keep_mem: bool,
    keep_spikes: bool,
    needs_grad: bool,
    strict: bool,
) -> tuple[Tensor, Tensor]:
    coefficients = Coefficients(beta, gain, threshold, previous_threshold, scale, shift)
    if torch._C._are_functorch_transforms_active() and strict:
        raise RuntimeError("impl='triton' does not run under torch.func transforms; use 'auto'")
    if torch._C._are_functorch_transforms_active() or (is_exporting() and not strict):
        return compiled.sequence_in_graph(x, mem, coefficients, key, output_mem)
    from snntorch_asnn.ops._adaptive_leaky.triton import operators as triton_ops

    keeps = output_mem, keep_mem, keep_spikes
    spikes, mem_out, _ = triton_ops.forward(
        x, mem, *coefficients, *compiled.rule_of(key).options, *keeps, needs_grad
    )
    return spikes, mem_out
