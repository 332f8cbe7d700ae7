"""List the kernels in which a training step spends its time."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch

from gpu_stages.child import Figure, Place, Row
from gpu_stages.networks import TINY, _step
from snntorch_asnn._timing import synchronise

KERNELS = 25


def figures(place: Place) -> Iterator[Figure]:
    model = TINY["spikformer"][0] if place.dry_run else "spikformer_4_384"
    for name, spec in {"ours": {}, "ours, fused": {"fused": True}}.items():
        yield Figure(f"{model}: {name}", functools.partial(measured, place, model, {"neuron": "lif"} | spec))


def measured(place: Place, model: str, spec: dict[str, object]) -> list[Row]:
    step = _step(place, model, spec)
    for _ in range(3):
        step()
    synchronise(place.device)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if place.device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        step()
        synchronise(place.device)
    on_gpu = place.device == "cuda"
    events = [event for event in profiler.key_averages() if not on_gpu or event.device_type.name == "CUDA"]

    def micros(event: torch.autograd.profiler_util.FunctionEventAvg) -> float:
        return float(event.self_device_time_total if on_gpu else event.self_cpu_time_total)

    total = sum(map(micros, events))
    rows = [
        {
            "kernel": event.key[:120],
            "calls": event.count,
            "us": round(micros(event), 1),
            "share": round(micros(event) / total, 4) if total else 0.0,
        }
        for event in sorted(events, key=micros, reverse=True)[:KERNELS]
    ]
    return [
        {"kernel": "all", "calls": sum(e.count for e in events), "us": round(total, 1), "share": 1.0},
        *rows,
    ]
