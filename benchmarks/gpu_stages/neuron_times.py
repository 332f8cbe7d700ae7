"""Device time, memory traffic and memory of a leaky neuron, for a sequence much larger than the cache."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from measuring import has, peak_bytes
from neuron import (
    BETA,
    floor,
    saved_bytes,
    snntorch_loop,
    spikingjelly_kernels,
    spikingjelly_lif,
)
from torch import Tensor

from gpu_stages.child import Figure, Place, Row
from gpu_stages.timing import device_ms
from snntorch_asnn._timing import Contender, adaptive_layer, whole_pass

CHANNELS, SIZE = 256, 32
ELEMENTS = 1 << 28
"""1 GB of float32, 20 times the L2 cache of an H100."""
FORWARD, BOTH = 2, 5
"""Tensors that a forward pass, and a forward and a backward pass, must read or write."""


class Setting(NamedTuple):
    steps: int
    dtype: torch.dtype
    device: str
    shape: tuple[int, ...]


def figures(place: Place) -> Iterator[Figure]:
    lengths = (2,) if place.dry_run else (4, 16)
    settings = [
        _setting(place, steps, dtype) for steps in lengths for dtype in (torch.bfloat16, torch.float32)
    ]
    for setting in settings:
        for name, build in _contenders(setting).items():
            yield _figure(name, setting, functools.partial(build, setting), is_compiled=False)
    for setting in settings[:1] if place.dry_run else settings[:2]:
        for name, build in _compiled(place).items():
            yield _figure(name, setting, functools.partial(build, setting), is_compiled=True)


def _setting(place: Place, steps: int, dtype: torch.dtype) -> Setting:
    channels, size = (4, 4) if place.dry_run else (CHANNELS, SIZE)
    batch = 2 if place.dry_run else ELEMENTS // (steps * channels * size * size)
    return Setting(steps, dtype, place.device, (steps, batch, channels, size, size))


def _contenders(setting: Setting) -> dict[str, Callable[[Setting], Contender]]:
    found: dict[str, Callable[[Setting], Contender]] = {
        "ours, fixed": functools.partial(_ours, learn=False),
        "ours, learned": functools.partial(_ours, learn=True),
        "ours, learned per channel": functools.partial(_ours, learn=True, per_channel=True),
        "ours, fixed per channel": functools.partial(_ours, learn=False, per_channel=True),
    }
    if has("spikingjelly"):
        found["SpikingJelly"] = lambda _: spikingjelly_lif()
        if setting.dtype != torch.float32:
            found["SpikingJelly, float32 state"] = lambda _: spikingjelly_kernels()
            if setting.device != "cpu":
                found["SpikingJelly, bf16 state"] = lambda _: _spikingjelly_stored_in_half()
    return found


def _compiled(place: Place) -> dict[str, Callable[[Setting], Contender]]:
    compiler: dict[str, Any] = {"backend": "eager"} if place.dry_run else {}
    found = {
        "ours, learned, compiled": lambda setting: torch.compile(_ours(setting, learn=True), **compiler),
        "snnTorch loop, compiled": lambda setting: torch.compile(
            snntorch_loop(BETA, setting.device), **compiler
        ),
    }
    if has("spikingjelly"):
        found["SpikingJelly, float32 state, compiled"] = lambda _: torch.compile(
            spikingjelly_kernels(), **compiler
        )
    return found


def _figure(name: str, setting: Setting, build: Callable[[], Contender], *, is_compiled: bool) -> Figure:
    def warm() -> None:
        torch.compiler.reset()
        steps, batch, *sizes = setting.shape
        # The kernels do not depend on the batch, but a graph that is compiled does.
        batch = batch if is_compiled else max(1, batch // 8)
        x = torch.randn(steps, batch, *sizes, device=setting.device).to(setting.dtype)
        whole_pass(build(), x, torch.ones_like(x))()

    return Figure(
        f"{name}, T={setting.steps}, {_name(setting.dtype)}",
        lambda: measured(name, setting, build, is_compiled=is_compiled),
        None if setting.device == "cpu" and not is_compiled else warm,
    )


def measured(name: str, setting: Setting, build: Callable[[], Contender], *, is_compiled: bool) -> Row:
    torch.compiler.reset()
    x = torch.randn(setting.shape, device=setting.device).to(setting.dtype)
    grad = torch.rand_like(x)
    run = build()
    with torch.no_grad():
        firing_rate = float(run(x).mean(dtype=torch.float32))
    times, floors = _times(run, x, grad, setting.device), _floors(setting)
    both, size, both_floor = times["both"]["ms"], setting.dtype.itemsize, floors["both"]["ms"]
    return {
        "contender": name,
        "steps": setting.steps,
        "dtype": _name(setting.dtype),
        "elements": x.numel(),
        "forward": times["forward"],
        "both": times["both"],
        "backward_ms": both - times["forward"]["ms"],
        "forward_over_floor": times["forward"]["ms"] / floors["forward"]["ms"],
        "both_over_floor": both / both_floor,
        "both_floor_ms": both_floor,
        "both_gb_per_s": BOTH * size * x.numel() / both / 1e6,
        "forward_bytes_per_element": FORWARD * size * times["forward"]["ms"] / floors["forward"]["ms"],
        "both_bytes_per_element": BOTH * size * both / both_floor,
        "saved_bytes_per_element": None if is_compiled else saved_bytes(run, x) / x.numel(),
        "peak_bytes_per_element": peak_bytes(whole_pass(run, x, grad), setting.device) / x.numel(),
        "firing_rate": firing_rate,
    }


def _times(run: Contender, x: Tensor, grad: Tensor, device: str) -> dict[str, Row]:
    return {
        "forward": device_ms(lambda: run(x.detach().requires_grad_()), device),
        "both": device_ms(whole_pass(run, x, grad), device),
    }


@functools.cache
def _floors(setting: Setting) -> dict[str, Row]:
    """Times of a copy of the bytes that must move, once in a process for each size and dtype."""
    x = torch.randn(setting.shape, device=setting.device).to(setting.dtype)
    return _times(floor(), x, torch.rand_like(x), setting.device)


def _ours(setting: Setting, *, learn: bool, per_channel: bool = False) -> Contender:
    feature_shape = (setting.shape[2], 1, 1) if per_channel else ()
    return adaptive_layer(
        BETA, setting.steps, setting.device, learn=learn, impl="auto", feature_shape=feature_shape
    )


def _spikingjelly_stored_in_half() -> Contender:
    """SpikingJelly's own setting for half precision, which stores the membrane in bf16 too."""
    from spikingjelly.activation_based import functional, neuron, surrogate
    from spikingjelly.activation_based.precision import PrecisionConfig, prepare_model_for_precision

    lif = neuron.LIFNode(2.0, False, 1.0, None, surrogate.ATan(), True, step_mode="m")
    config = PrecisionConfig(mode="bf16", neuron_storage="bf16")
    prepared = prepare_model_for_precision(lif, "cuda", config)

    def run(x: Tensor) -> Tensor:
        functional.reset_net(prepared.model)
        out: Tensor = prepared.model(x)
        return out

    return run


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
