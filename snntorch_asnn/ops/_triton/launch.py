"""Launches of the Triton kernels in eager mode, prepared once for all sequences of one shape.

Triton binds and specialises every argument at each launch, which takes the host longer than a small layer
takes the device. What depends on shapes and options alone is bound at the first launch, and kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

__all__ = ["Launch", "Prepared"]

_ALIGNED = 16
"""Bytes that the address of a tensor is a multiple of, where Triton compiles for wide loads."""


class Launch(NamedTuple):
    """A launch of a kernel, except for its tensors: it depends on shapes and options alone."""

    grid: tuple[int]
    numbers: tuple[Any, ...]
    constants: dict[str, Any]


class Prepared:
    """A kernel with everything but its tensors."""

    def __init__(self, kernel: Any, how: Launch) -> None:
        self.kernel = kernel
        self.how = how
        self._ready: dict[int, tuple[Callable[..., None], tuple[Any, ...]]] = {}
        """For each device, the compiled kernel for aligned tensors, and the arguments behind them."""

    def __call__(self, *tensors: Tensor) -> None:
        """Launch it on the device of ``tensors``, which have the dtypes of every other call."""
        device = tensors[0].get_device()
        if device < 0 or device == torch.cuda.current_device():
            self._launch(device, tensors)
        else:
            with torch.cuda.device(device):
                self._launch(device, tensors)

    def _launch(self, device: int, tensors: tuple[Tensor, ...]) -> None:
        addresses = 0
        for tensor in tensors:
            addresses |= tensor.data_ptr()
        is_aligned = addresses % _ALIGNED == 0
        ready = self._ready.get(device) if is_aligned else None
        if ready is not None:
            run, rest = ready
            run(*tensors, *rest)
            return
        grid, numbers, constants = self.how
        compiled = self.kernel[grid](*tensors, *numbers, **constants)
        if is_aligned and isinstance(compiled, triton.compiler.CompiledKernel) and torch.version.hip is None:
            names = self.kernel.arg_names[len(tensors) + len(numbers) :]
            self._ready[device] = compiled[(*grid, 1, 1)], (*numbers, *(constants[name] for name in names))
