"""Time runs against each other, and build the layers of neurons for it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import snntorch as snn
import torch
from torch import Tensor

from snntorch_asnn.neurons import AdaptiveLeaky

__all__ = [
    "Contender",
    "Run",
    "adaptive_layer",
    "in_turns",
    "seconds",
    "snntorch_loop",
    "synchronise",
    "times_faster",
    "whole_pass",
]

Run = Callable[[], Any]
Contender = Callable[[Tensor], Tensor]
"""Function from a sequence ``[T, B, ...]`` to its spikes."""


def synchronise(device: str) -> None:
    """Wait until a GPU is idle; do nothing on other devices."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def seconds(run: Run, device: str) -> float:
    """Return the seconds of one run, from an idle device to an idle device."""
    synchronise(device)
    start = time.perf_counter()
    run()
    synchronise(device)
    return time.perf_counter() - start


def in_turns(runs: Mapping[str, Run], rounds: int, device: str) -> dict[str, list[float]]:
    """Return seconds of each run. Every round times all runs once, so that a drift affects all equally."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds(run, device))
    return times


def times_faster(baseline: list[float], own: list[float]) -> float:
    """Return the speed-up: the median over rounds of the ratio within a round."""
    return statistics.median(slow / fast for slow, fast in zip(baseline, own, strict=True))


def snntorch_loop(beta: float, device: str) -> Contender:
    """Build snnTorch's ``Leaky`` in a loop over ``x.unbind()``, for a fair comparison."""
    lif = snn.Leaky(beta=beta).to(device)

    def run(x: Tensor) -> Tensor:
        mem = torch.zeros_like(x[0])
        spikes = []
        for current in x.unbind(0):
            spk, mem = lif(current, mem)
            spikes.append(spk.to(x.dtype))
        return torch.stack(spikes)

    return run


def adaptive_layer(
    beta: float,
    num_steps: int,
    device: str,
    *,
    learn: bool,
    impl: Any,
    feature_shape: tuple[int, ...] = (),
) -> Contender:
    """Build an ``AdaptiveLeaky`` that takes the whole sequence."""
    lif = AdaptiveLeaky(
        beta,
        num_steps=num_steps,
        feature_shape=feature_shape,
        sequence=True,
        learn_beta=learn,
        learn_gain=learn,
        impl=impl,
    ).to(device)

    def run(x: Tensor) -> Tensor:
        spikes: Tensor = lif(x)[0]
        return spikes

    return run


def whole_pass(run: Contender, x: Tensor, grad: Tensor) -> Run:
    """Return a run of the forward pass and of the backward pass to the gradient of ``x``."""
    return lambda: run(x.detach().requires_grad_()).backward(grad)
