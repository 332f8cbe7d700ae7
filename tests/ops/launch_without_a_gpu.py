"""Launch the Triton kernels of one sequence twice on a driver that records launches instead of running them.

Run as a script, since it needs Triton without its interpreter. Prints what every launch was given, tensors by
their shapes, as JSON: the first pass goes through Triton's own launch, the second through the prepared one.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import torch
from compile_for_hopper import Hopper
from torch import Tensor

LAUNCHES: list[list[Any]] = []


class Recorder:
    """What Triton makes of each compiled kernel, to be called with a grid, handles and its arguments."""

    def __init__(self, src: Any, metadata: Any) -> None:
        self.name = metadata.name

    def __call__(self, *arguments: Any) -> None:
        grid, given = arguments[:3], arguments[9:]
        shown = [list(a.shape) if isinstance(a, Tensor) else str(a) for a in given]
        LAUNCHES.append([self.name, list(grid), shown])


class RecordingHopper(Hopper):
    """A driver whose binaries are never loaded."""

    launcher_cls = Recorder
    utils = SimpleNamespace(
        get_device_properties=lambda _: {"max_shared_mem": 1 << 18},
        load_binary=lambda *_: (object(), object(), 32, 0, 1024),
        unload_module=lambda _: None,
    )


def main() -> None:
    import triton

    from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
    from snntorch_asnn.ops._adaptive_leaky.rule import Rule
    from snntorch_asnn.ops._adaptive_leaky.triton import eager as triton_eager

    triton.runtime.driver.set_active(RecordingHopper())
    x = torch.zeros(4, 8, 16, requires_grad=True)
    coefficients = Coefficients(*(torch.ones(4, requires_grad=True) for _ in range(5)))
    for _ in range(2):
        spikes, _ = triton_eager.sequence(x, None, coefficients, Rule(), output_mem=False)
        spikes.sum().backward()
    print(json.dumps(LAUNCHES))


if __name__ == "__main__":
    main()
