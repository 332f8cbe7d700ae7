"""Images per second and peak memory of whole training steps in bf16 autocast (float32 in the dry run)."""

from __future__ import annotations

import argparse
import functools
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from measuring import has
from training import SpikingJelly, SpikingJellyKernels, training_step

from gpu_stages.capturing import capture
from gpu_stages.child import Figure, Place, Row
from snntorch_asnn._timing import Run, seconds, synchronise

MODELS = {"spikformer": ("spikformer_4_384",), "resnets": ("spiking_resnet18_cifar", "spiking_resnet19")}
TINY = {"spikformer": ("spikformer_tiny",), "resnets": ("spiking_resnet_tiny",)}
STEPS, BATCH = 4, 128

WARMED = ("ours, fused", "ours, learned, fused")
"""Contenders to warm up besides the compiled ones; all others use the same kernels."""

EAGER = ("spiking_resnet19",)
"""Models that no contender compiles, because this takes a minute for each contender."""
ALL = ()
FEWER = (
    "ours",
    "ours, fused",
    "ours, fused, packed",
    "ours, CUDA graph",
    "ours, fused, channels last, CUDA graph",
    "ours, fused, compiled",
    "SpikingJelly, float32 state",
    "SpikingJelly, float32 state, CUDA graph",
    "SpikingJelly, float32 state, channels last, CUDA graph",
    "SpikingJelly, float32 state, compiled",
)
MINIATURE = ("ours, fused, packed", "ours, CUDA graph", "ours, compiled", "SpikingJelly, float32 state")

Spec = dict[str, Any]


def figures(place: Place) -> Iterator[Figure]:
    """What is compiled comes last, since it takes longest."""
    family = next(name for name in MODELS if name in place.settings)
    contenders = sorted(_contenders(place, family).items(), key=lambda item: "compiled" in item[1])
    for (name, spec), model in itertools.product(contenders, (TINY if place.dry_run else MODELS)[family]):
        if model in EAGER and "compiled" in spec:
            continue
        build = functools.partial(_step, place, model, spec)
        yield Figure(
            f"{model}: {name}",
            functools.partial(measured, place, model, name, spec, build),
            functools.partial(_compiles, build) if spec.get("compiled") or name in WARMED else None,
        )


def _contenders(place: Place, family: str) -> dict[str, Spec]:
    lif, learned = {"neuron": "lif"}, {"neuron": "asnn"}
    fused, packed, captured, last = ({key: True} for key in ("fused", "packed", "captured", "channels_last"))
    compiled = {"compiled": True, "compiler": {"backend": "eager"} if place.dry_run else {}}
    found: dict[str, Spec] = {
        "ours": lif,
        "ours, fused": lif | fused,
        "ours, packed": lif | packed,
        "ours, fused, packed": lif | fused | packed,
        "ours, learned, fused": learned | fused,
        "ours, CUDA graph": lif | captured,
        "ours, fused, CUDA graph": lif | fused | captured,
        "ours, fused, packed, CUDA graph": lif | fused | packed | captured,
        "ours, fused, channels last, CUDA graph": lif | fused | last | captured,
        "ours, compiled": lif | compiled,
        "ours, fused, compiled": lif | fused | compiled,
    }
    if has("spikingjelly"):
        kernels = {"neuron": SpikingJellyKernels}
        found |= {
            "SpikingJelly": {"neuron": SpikingJelly},
            "SpikingJelly, float32 state": kernels,
            "SpikingJelly, float32 state, CUDA graph": kernels | captured,
            "SpikingJelly, float32 state, channels last, CUDA graph": kernels | last | captured,
            "SpikingJelly, float32 state, compiled": kernels | compiled,
        }
    if family == "spikformer":
        overhead = compiled if place.dry_run else compiled | {"compiler": {"mode": "reduce-overhead"}}
        found |= {"ours, learned": learned, "ours, packed, CUDA graph": lif | packed | captured}
        found |= {"ours, compiled, reduce-overhead": lif | overhead}
    chosen = MINIATURE if place.dry_run else ALL if family == "spikformer" else FEWER
    return {name: spec for name, spec in found.items() if chosen is ALL or name in chosen}


def _step(place: Place, model: str, spec: Spec) -> Run:
    torch.compiler.reset()
    on_gpu = place.device == "cuda"
    captured = on_gpu and spec.get("captured", False)
    options = argparse.Namespace(
        batch=2 if place.dry_run else BATCH,
        steps=STEPS,
        device=place.device,
        channels_last=spec.get("channels_last", False),
    )
    optimizer = {"fused": True, "capturable": captured} if on_gpu else {}
    step = training_step(
        model, options, _precision(place), spec | {"optimizer": optimizer, "autocast_cache": not captured}
    )
    return capture(step) if captured else step


def _precision(place: Place) -> str:
    """bf16 is so slow on most CPUs that the dry run leaves it out."""
    return "float32" if place.dry_run else "bfloat16"


def _compiles(build: Callable[[], Run]) -> None:
    build()()


def measured(place: Place, model: str, name: str, spec: Spec, build: Callable[[], Run]) -> Row:
    on_gpu = place.device == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    run = build()
    seconds(run, place.device)
    first = time.perf_counter() - start
    if on_gpu and not spec.get("captured"):
        run()
        torch.cuda.reset_peak_memory_stats()
    run()
    synchronise(place.device)
    # A captured step takes its memory while it is captured; the peak of that counts the warm-up too.
    peak = torch.cuda.max_memory_allocated() if on_gpu else 0
    rounds, count = (1, 1) if place.dry_run else (5, 4)
    times, queueing = [], []
    for _ in range(rounds):
        synchronise(place.device)
        start = time.perf_counter()
        for _ in range(count):
            run()
        queueing.append((time.perf_counter() - start) / count)
        synchronise(place.device)
        times.append((time.perf_counter() - start) / count)
    batch = 2 if place.dry_run else BATCH
    return {
        "contender": name,
        "model": model,
        "batch": batch,
        "steps": STEPS,
        "precision": _precision(place),
        "images_per_second": batch / statistics.median(times),
        "step_ms": 1e3 * statistics.median(times),
        "step_ms_low": 1e3 * min(times),
        "step_ms_high": 1e3 * max(times),
        "host_ms": 1e3 * statistics.median(queueing),
        "peak_mib": peak / 2**20,
        "first_step_s": first,
    }
