"""Measure the host time of a call in microseconds, on tensors so small that the device waits for the host."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

import snntorch_asnn as asnn
from gpu_stages.child import Figure, Place, Row
from snntorch_asnn._timing import synchronise

STEPS = 4
SHAPES = {"kernels": (STEPS, 8, 32, 8, 8), "small": (STEPS, 2, 32, 4, 4)}
"""65,536 elements, for which the kernels run, and 4,096."""


def figures(place: Place) -> Iterator[Figure]:
    for size, shape in SHAPES.items():
        for name, build in _layers().items():
            yield Figure(f"{name}, {size}", lambda build=build, shape=shape: measured(place, build, shape))
    channels = SHAPES["kernels"][2]
    yield Figure("AdaptiveLeaky, one step", lambda: stepped(place, asnn.AdaptiveLeaky(0.9, num_steps=STEPS)))
    yield Figure(
        "NormLeaky in evaluation, kernels",
        lambda: measured(place, lambda: _norm_leaky(channels).eval(), SHAPES["kernels"], backward=False),
    )


def _layers() -> dict[str, Callable[[], nn.Module]]:
    channels = SHAPES["kernels"][2]
    return {
        "AdaptiveLeaky": lambda: asnn.AdaptiveLeaky(0.9, num_steps=STEPS, sequence=True),
        "NormLeaky": lambda: _norm_leaky(channels),
        "BatchNorm1d": lambda: nn.BatchNorm1d(channels),
    }


def _norm_leaky(channels: int) -> nn.Module:
    return asnn.NormLeaky(channels, asnn.AdaptiveLeaky(0.9, num_steps=STEPS, sequence=True))


def measured(
    place: Place, build: Callable[[], nn.Module], shape: tuple[int, ...], *, backward: bool = True
) -> Row:
    layer = build().to(place.device)
    x = torch.randn(shape, device=place.device, requires_grad=True)
    if isinstance(layer, nn.BatchNorm1d):
        x = x.detach().flatten(0, 1).flatten(2).requires_grad_()
    grad = torch.ones_like(x)

    def forward() -> Tensor:
        out = layer(x)
        spikes: Tensor = out[0] if isinstance(out, tuple) else out
        return spikes

    row: Row = {"elements": x.numel(), "forward_us": _microseconds(forward, place)}
    if backward:

        def both() -> None:
            x.grad = None
            forward().backward(grad)

        row["both_us"] = _microseconds(both, place)
    return row


def stepped(place: Place, neuron: nn.Module) -> Row:
    neuron.to(place.device)
    x = torch.randn(SHAPES["kernels"][1:], device=place.device)

    def steps() -> None:
        mem = neuron.reset_mem()  # type: ignore[operator]
        for _ in range(STEPS):
            _, mem = neuron(x, mem)

    return {"elements": x.numel(), "forward_us": _microseconds(steps, place) / STEPS}


def _microseconds(run: Callable[[], object], place: Place) -> float:
    """Median over rounds, each of calls in a row that wait for nothing."""
    count, rounds = (1, 1) if place.dry_run else (50, 9)
    for _ in range(3):
        run()
    times = []
    for _ in range(rounds):
        synchronise(place.device)
        start = time.perf_counter()
        for _ in range(count):
            run()
        times.append((time.perf_counter() - start) / count)
    synchronise(place.device)
    return round(1e6 * statistics.median(times), 2)
