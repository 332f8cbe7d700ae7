"""Measure time and memory of a leaky neuron over whole sequences, forward and backward.

The contenders run in turns in one process. Each computes the gradient of its input:

- snnTorch's ``Leaky`` in a loop over ``x.unbind()``, the fastest form of its loop, plain and compiled;
- ``AdaptiveLeaky`` over the sequence, with fixed and with learned time parameters;
- SpikingJelly's multi-step ``LIFNode``, plain (on a GPU with its own kernels) and compiled, if it is
  installed;
- the floor: reading and writing the bytes that every implementation must move.

Usage: ``python benchmarks/neuron.py [--steps 4 16 64] [--shapes 64,64,32,32 128,512] [--threads 1 2]
[--dtypes float32] [--json FILE]``. Ratios are medians over the rounds, so they are valid even if single
times drift. Peak memory is the memory that a forward and backward pass allocates in addition to the input.
``--first-calls`` measures the time of a first call with T = 4, 64 and 1024 instead, each in a new process
with empty caches.

On Linux, glibc returns the memory of large tensors to the system after each call and maps it again in the
next call, which can cost more than the arithmetic. Put ``MALLOC_MMAP_MAX_=0
MALLOC_TRIM_THRESHOLD_=99999999999`` before the command to keep the memory, as a GPU's allocator does. The
table says whether this was set.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from measuring import has, machine, peak_bytes, write_json
from torch import Tensor

from snntorch_asnn._timing import (
    Contender,
    adaptive_layer,
    in_turns,
    seconds,
    snntorch_loop,
    times_faster,
    whole_pass,
)

BETA = 0.5
FAIR_LOOP = "snnTorch loop over unbind"
FIRST_CALLS = (4, 64, 1024)


def spikingjelly_lif() -> Contender:
    from spikingjelly.activation_based import functional, neuron, surrogate

    lif = neuron.LIFNode(
        tau=2.0,
        decay_input=False,
        v_reset=None,
        surrogate_function=surrogate.ATan(),
        detach_reset=True,
        step_mode="m",
    )

    def run(x: Tensor) -> Tensor:
        functional.reset_net(lif)
        out: Tensor = lif(x)
        return out

    return run


def spikingjelly_kernels() -> Contender:
    """The same with the membrane in float32, which lets half precision into SpikingJelly's kernels.

    Its layer gives the membrane the dtype of the input, for which in half precision it has no kernels.
    """
    from spikingjelly.activation_based import functional, surrogate

    spike = surrogate.ATan()

    def run(x: Tensor) -> Tensor:
        v = torch.zeros(x.shape[1:], device=x.device)
        out: Tensor = functional.lif_multi_step(x, v, 2.0, False, 1.0, None, spike, True)[0]
        return out

    return run


def floor() -> Contender:
    """Read x and write spikes; then read x and the spikes' gradient and write that of x."""

    class Copy(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x + 0

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Tensor:
            (x,) = ctx.saved_tensors
            return x + grads[0]

    def run(x: Tensor) -> Tensor:
        out: Tensor = Copy.apply(x)
        return out

    return run


def contenders(num_steps: int, device: str) -> dict[str, Contender]:
    found = {
        FAIR_LOOP: snntorch_loop(BETA, device),
        "snnTorch loop, compiled": torch.compile(snntorch_loop(BETA, device)),
        "AdaptiveLeaky, fixed": adaptive_layer(BETA, num_steps, device, learn=False, impl="auto"),
        "AdaptiveLeaky, learned": adaptive_layer(BETA, num_steps, device, learn=True, impl="auto"),
        "floor": floor(),
    }
    if has("spikingjelly"):
        found["SpikingJelly"] = spikingjelly_lif()
        found["SpikingJelly, compiled"] = torch.compile(spikingjelly_lif())
    return found


def saved_bytes(run: Contender, x: Tensor) -> int:
    """Bytes that autograd keeps for the backward pass, each storage once."""
    kept: dict[int, tuple[Tensor, int]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = (tensor, storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run(x.detach().requires_grad_())
    return sum(size for _, size in kept.values())


def measure(x: Tensor, rounds: int, device: str) -> list[dict[str, Any]]:
    grad = torch.rand_like(x)

    runs = contenders(len(x), device)
    passes = {name: whole_pass(run, x, grad) for name, run in runs.items()}
    first = {name: seconds(call, device) for name, call in passes.items()}
    for call in passes.values():
        call()
    times = in_turns(passes, rounds, device)
    return [
        {
            "name": name,
            "ms": 1e3 * statistics.median(times[name]),
            "times_faster": times_faster(times[FAIR_LOOP], times[name]),
            "of_floor": times_faster(times[name], times["floor"]),
            "first_call_s": first[name],
            "saved_bytes_per_element": saved_bytes(runs[name], x) / x.numel(),
            "peak_bytes_per_element": peak_bytes(passes[name], device) / x.numel(),
        }
        for name in runs
    ]


def show(table: dict[str, Any]) -> None:
    threads = "" if table["threads"] is None else f", {table['threads']} threads"
    print(f"\nT = {table['steps']}, one step {table['shape']}, {table['dtype']}{threads}")
    print(f"{'':28}{'ms':>9}{'× loop':>9}{'÷ floor':>9}{'saved':>8}{'peak':>8}   B/element")
    for row in table["rows"]:
        print(
            f"{row['name']:28}{row['ms']:9.2f}{row['times_faster']:9.2f}{row['of_floor']:9.2f}"
            f"{row['saved_bytes_per_element']:8.2f}{row['peak_bytes_per_element']:8.2f}"
        )


def tables(options: argparse.Namespace) -> list[dict[str, Any]]:
    found = []
    threads = options.threads if options.device == "cpu" else [None]
    for count in threads:
        if count is not None:
            torch.set_num_threads(count)
        for shape in options.shapes:
            for dtype in options.dtypes:
                for num_steps in options.steps:
                    torch.compiler.reset()
                    sizes = [min(shape[0], options.most // num_steps // math.prod(shape[1:])), *shape[1:]]
                    x = torch.randn(num_steps, *sizes, device=options.device).to(getattr(torch, dtype))
                    rows = measure(x, options.rounds, options.device)
                    place = {"steps": num_steps, "shape": sizes, "dtype": dtype, "threads": count}
                    found.append({**place, "rows": rows})
                    show(found[-1])
    return found


def first_call(impl: str, num_steps: int, device: str) -> None:
    """Print the seconds of a first call, and of a first call with another number of steps after it."""
    took = []
    for steps in (num_steps, num_steps + 1):
        run = adaptive_layer(BETA, steps, device, learn=True, impl=impl)
        x = torch.randn(steps, 64, 64, device=device, requires_grad=True)
        start = time.perf_counter()
        run(x).sum().backward()
        took.append(time.perf_counter() - start)
    print(json.dumps(took))


def first_calls(device: str) -> list[dict[str, Any]]:
    found = []
    for impl in ("triton" if device.startswith("cuda") else "cpp", "compile"):
        for num_steps in FIRST_CALLS:
            with tempfile.TemporaryDirectory() as empty:
                caches = ("SNNTORCH_ASNN_CACHE", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
                environment = {**os.environ, **{name: str(Path(empty) / name) for name in caches}}
                command = [sys.executable, __file__, "--first-call", impl, str(num_steps), "--device", device]
                result = subprocess.run(
                    command, env=environment, check=True, stdout=subprocess.PIPE, text=True
                )
            first, another = json.loads(result.stdout.splitlines()[-1])
            found.append(
                {
                    "impl": impl,
                    "steps": num_steps,
                    "first_call_s": first,
                    "another_number_of_steps_s": another,
                }
            )
            print(f"impl={impl!r}, T = {num_steps}: {first:.1f} s; then T = {num_steps + 1}: {another:.1f} s")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--shapes", type=_sizes, nargs="+", default=[[64, 64, 32, 32], [128, 512]])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, os.cpu_count()])
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument(
        "--most", type=int, default=1 << 26, help="elements of a sequence; longer ones get a smaller batch"
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="also write the tables there")
    parser.add_argument("--first-calls", action="store_true", help="measure first calls instead")
    parser.add_argument("--first-call", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.first_call:
        impl, num_steps = options.first_call
        return first_call(impl, int(num_steps), options.device)
    where = machine(options.device, max(options.threads))
    print(json.dumps(where, indent=2))
    key, result = (
        ("first_calls", first_calls(options.device)) if options.first_calls else ("tables", tables(options))
    )
    content = {"rounds": options.rounds, "machine": where, key: result}
    write_json(options.json, content)
    return None


def _sizes(text: str) -> list[int]:
    return [int(size) for size in text.split(",")]


if __name__ == "__main__":
    main()
