"""Compile the Triton kernels for a GPU that is not there, through the operators' own launches.

Run as a script, since it needs Triton without its interpreter. Prints how many kernels were compiled after
each sequence, forward and backward, as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch


class Hopper:
    """As much of a driver as compiling takes."""

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, _: int) -> int:
        return 0


class Compiled:
    """A kernel whose launches end before the launch."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel

    def __getitem__(self, grid: Any) -> Callable[..., Any]:
        return lambda *args, **options: self.kernel.warmup(*args, grid=grid, **options)


def launch(
    steps: int, dtype: torch.dtype, feature_shape: tuple[int, ...], rule: str, wants: list[bool]
) -> None:
    """One sequence forward and backward, for nothing but its compilation."""
    from snntorch_asnn.ops._adaptive_leaky.triton import operators as triton_ops

    x, mem = torch.zeros(steps, 4, 8, 4, 4, dtype=dtype), torch.zeros(4, 8, 4, 4)
    inputs = (x, mem, list(torch.zeros(6, steps, *feature_shape)))
    _, state, checkpoints = triton_ops._forward(*inputs, rule, False, True, True, True)
    triton_ops._backward(*inputs, [checkpoints], x, state, rule, False, wants)


def main() -> None:
    import triton

    from snntorch_asnn.ops._adaptive_leaky.triton import kernels as triton_kernels
    from snntorch_asnn.ops._adaptive_leaky.triton import operators as triton_ops

    triton.runtime.driver.set_active(Hopper())
    triton_ops.wrap_triton = Compiled  # type: ignore[assignment]
    counts = []

    def count(*arguments: Any) -> None:
        launch(*arguments)
        kernels = (triton_kernels.forward_kernel, triton_kernels.backward_kernel)
        counts.append([len(kernel.device_caches[0][0]) for kernel in kernels])

    everything = "zero immediate False False atan 2.0 True"
    count(1, torch.bfloat16, (8, 1, 1), everything, [True] * 8)
    count(2, torch.float32, (8, 4, 4), "subtract exact False False sigmoid 4.0 False", [True] * 8)
    little = "none delayed True False straight_through 1.0 False"
    for steps in (33, 34, 48, 100, 1024):
        count(steps, torch.float32, (), little, [True, False, True, *[False] * 5])
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
