"""Measure the host time of a layer in microseconds, forward and backward, without running kernels.

On a GPU, kernels run while the host continues, so a layer takes the longer of device time and host time.
This script runs on a CPU and stops every launch of a Triton kernel just before it. The remaining time is host
time: modules, checks, autograd, allocation and the preparation of launches. For comparison, it also times
``BatchNorm1d``, which does compute, and the C++ kernel on a small input.

Usage: ``python benchmarks/host_time.py [--rounds 40] [--calls 25] [--note TEXT] [--json FILE]``. Contenders
take turns. The results are the fastest and the median round of each in process time, which other processes
can only increase. ``--json`` adds the result to the results in the file.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from measuring import machine, write_json
from torch import Tensor, nn

import snntorch_asnn as asnn
from snntorch_asnn.layers import norm_leaky
from snntorch_asnn.ops._adaptive_leaky.triton import implementation as kernels
from snntorch_asnn.ops._batch_moments import moments as batch_moments

STEPS, BATCH, CHANNELS = 4, 8, 64
Run = Callable[[], Any]


class Stepwise(nn.Module):
    """One step of a new sequence."""

    def __init__(self, neuron: asnn.AdaptiveLeaky | asnn.AdaptiveSynaptic | asnn.AdaptiveRLeaky) -> None:
        super().__init__()
        self.neuron = neuron

    def forward(self, x: Tensor) -> Tensor:
        start = self.neuron.reset_mem()
        spikes: Tensor = self.neuron(x, *(start if isinstance(start, tuple) else (start,)))[0]
        return spikes


def layers(impl: Any) -> dict[str, nn.Module]:
    options: dict[str, Any] = {"num_steps": STEPS, "impl": impl}
    sequence = {**options, "sequence": True}
    return {
        "BatchNorm1d": nn.BatchNorm1d(CHANNELS),
        "AdaptiveLeaky, fixed": asnn.AdaptiveLeaky(0.9, learn_beta=False, learn_gain=False, **sequence),
        "AdaptiveLeaky, learned": asnn.AdaptiveLeaky(0.9, **sequence),
        "AdaptiveLeaky, learned per channel": asnn.AdaptiveLeaky(0.9, feature_shape=(CHANNELS,), **sequence),
        "NormLeaky": asnn.NormLeaky(nn.BatchNorm1d(CHANNELS), asnn.AdaptiveLeaky(0.9, **sequence)),
        "AdaptiveLeaky, one step": Stepwise(asnn.AdaptiveLeaky(0.9, **options)),
        "AdaptiveSynaptic, one step": Stepwise(asnn.AdaptiveSynaptic(0.8, 0.9, **options)),
        "AdaptiveRLeaky, one step": Stepwise(
            asnn.AdaptiveRLeaky(0.9, V=0.5, all_to_all=False, num_steps=STEPS)
        ),
    }


def passes(layer: nn.Module) -> tuple[Run, Run]:
    """The layer forward, and forward and backward."""
    shape = (STEPS, BATCH, CHANNELS) if not isinstance(layer, Stepwise) else (BATCH, CHANNELS)
    x = torch.randn(shape)
    x = (x.flatten(0, 1) if isinstance(layer, nn.BatchNorm1d) else x).requires_grad_()
    grad = torch.ones_like(x)

    def forward() -> Tensor:
        out = layer(x)
        spikes: Tensor = out[0] if isinstance(out, tuple) else out
        return spikes

    return forward, lambda: forward().backward(grad)


def microseconds(runs: dict[str, Run], rounds: int, calls: int) -> dict[str, tuple[float, float]]:
    """Of each contender in its fastest and in its median round, all of them once in every round."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        for _ in range(5):
            run()
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            for _ in range(calls):
                run()
            taken[name].append((time.process_time() - start) / calls * 1e6)
    return {name: (round(min(t), 1), round(statistics.median(t), 1)) for name, t in taken.items()}


@contextmanager
def no_launches() -> Iterator[None]:
    """The path of a GPU on tensors of the CPU, up to each launch."""
    from snntorch_asnn.ops._batch_moments.triton import moments as batch_moments_triton
    from snntorch_asnn.ops._triton.launch import Prepared

    # A function, since a mock with a return value takes longer than what is measured.
    def always(value: Any) -> Callable[..., Any]:
        return lambda *_: value

    with (
        mock.patch.object(Prepared, "__call__", always(None)),
        mock.patch.object(kernels, "missing", always(None)),
        mock.patch.object(kernels, "covers", always(True)),
        mock.patch.object(batch_moments, "gpu_kernels", always(batch_moments_triton)),
        mock.patch.object(norm_leaky, "gpu_kernels", always(batch_moments_triton)),
        mock.patch.object(norm_leaky, "_pays", always(True)),
    ):
        yield


def measured(impl: str, rounds: int, calls: int) -> dict[str, dict[str, float]]:
    both = {name: passes(layer) for name, layer in layers(impl).items()}
    if impl != "triton":
        del both["NormLeaky"]  # two layers on inputs of this size
    forward = microseconds({name: run for name, (run, _) in both.items()}, rounds, calls)
    whole = microseconds({name: run for name, (_, run) in both.items()}, rounds, calls)
    return {
        name: {
            "forward_us": forward[name][0],
            "both_us": whole[name][0],
            "median_forward_us": forward[name][1],
            "median_both_us": whole[name][1],
        }
        for name in both
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--calls", type=int, default=25)
    parser.add_argument("--note", default="", help="what is measured, such as a version")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with no_launches():
        mocked = measured("triton", arguments.rounds, arguments.calls)
    on_cpu = measured("cpp", arguments.rounds, arguments.calls)
    result = {
        "note": arguments.note,
        "machine": machine("cpu", 1),
        "shape": [STEPS, BATCH, CHANNELS],
        "triton, launches mocked": mocked,
        "cpp": on_cpu,
    }
    print(json.dumps(result, indent=2))
    if arguments.json is not None:
        known = json.loads(arguments.json.read_text())["results"] if arguments.json.exists() else []
        write_json(arguments.json, {"results": [*known, result]})


if __name__ == "__main__":
    main()
