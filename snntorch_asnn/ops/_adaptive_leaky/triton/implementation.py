"""The whole sequence as two Triton kernels, one forward and one backward, of any number of steps.

The forward kernel reads the input and writes the spikes. The backward kernel reads the input once more,
recomputes the membranes, and writes the gradient of the input and partial sums of those of the
coefficients. This module decides whether that can run, and imports Triton only when it does.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence

import torch
from torch import Tensor

from snntorch_asnn._torch import transforms_active
from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
from snntorch_asnn.ops._adaptive_leaky.implementation import Unavailable
from snntorch_asnn.ops._adaptive_leaky.rule import Rule

__all__ = ["covers", "dtypes", "in_graph", "is_real", "missing", "name", "sequence"]

name = "triton"

dtypes = (torch.float32, torch.bfloat16, torch.float16)
"""Dtypes of the input that the kernels take; the state is float32 for all."""


def covers(x: Tensor) -> bool:
    """Whether ``x`` is on a GPU, and of a dtype for which there are kernels."""
    return x.device.type == "cuda" and x.dtype in dtypes


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
        return (
            f"a CUDA tensor; x is on {device_type!r} (start Python with TRITON_INTERPRET=1 to emulate a GPU)"
        )
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
    affine: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """See :class:`~..implementation.Implementation`; a result that is not kept is empty."""
    from snntorch_asnn.ops._adaptive_leaky.triton import eager

    return eager.sequence(
        x,
        mem,
        coefficients,
        rule,
        output_mem=output_mem,
        keep_mem=keep_mem,
        keep_spikes=keep_spikes,
        affine=affine,
    )


def in_graph(
    x: Tensor,
    mem: Tensor | None,
    coefficients: Sequence[Tensor],
    key: str,
    *,
    output_mem: bool,
    keep_mem: bool = True,
    keep_spikes: bool = True,
    needs_grad: bool = True,
) -> tuple[Tensor, Tensor]:
    """The kernels as an operator that compilers trace into."""
    if transforms_active():
        raise Unavailable("does not run under torch.func transforms; use 'auto'")
    from snntorch_asnn.ops._adaptive_leaky.triton import operators

    options = output_mem, keep_mem, keep_spikes, needs_grad
    spikes, mem_out, _ = operators.forward(x, mem, coefficients, key, *options)
    return spikes, mem_out
