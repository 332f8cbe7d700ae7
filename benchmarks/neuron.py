"""Time of a leaky neuron over whole sequences, forward and backward, against peers and against the memory.

Contenders, interleaved in one run, each from an input that requires a gradient to that gradient:

- snnTorch's ``Leaky`` in a loop over ``x.unbind()``, the fair form of its loop, plain and compiled;
- ``AdaptiveLeaky`` over the sequence, with fixed and with learned time parameters;
- SpikingJelly's multi-step ``LIFNode``, plain and compiled, where it is installed;
- the floor: reading and writing the bytes that any implementation must move.

Usage: ``python benchmarks/neuron.py [--steps 4 16] [--shape 64 64 32 32] [--threads 1] [--json FILE]``.
Ratios are medians over the rounds, so they hold where single times drift.

On Linux, glibc gives large tensors back to the system after each call and pays for their pages anew at
the next, which can cost more than the arithmetic. Before the command, ``MALLOC_MMAP_MAX_=0
MALLOC_TRIM_THRESHOLD_=99999999999`` keeps them, as a GPU's allocator does; the table says if it was set.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import snntorch as snn
import torch
from torch import Tensor

import snntorch_asnn as asnn

Contender = Callable[[Tensor], Tensor]
FAIR_LOOP = "snnTorch loop over unbind"


def snntorch_loop(num_steps: int) -> Contender:
    lif = snn.Leaky(beta=0.5)

    def run(x: Tensor) -> Tensor:
        mem = torch.zeros_like(x[0])
        spikes = []
        for current in x.unbind(0):
            spk, mem = lif(current, mem)
            spikes.append(spk)
        return torch.stack(spikes)

    return run


def adaptive(num_steps: int, *, learn: bool) -> Contender:
    lif = asnn.AdaptiveLeaky(
        0.5, num_steps=num_steps, sequence=True, learn_beta=learn, learn_gain=learn, impl="compile"
    )

    def run(x: Tensor) -> Tensor:
        spikes, _ = lif(x)
        out: Tensor = spikes
        return out

    return run


def spikingjelly_lif(num_steps: int) -> Contender:
    from spikingjelly.activation_based import functional, neuron, surrogate

    lif = neuron.LIFNode(
        tau=2.0, decay_input=False, v_reset=None, surrogate_function=surrogate.ATan(), step_mode="m"
    )

    def run(x: Tensor) -> Tensor:
        functional.reset_net(lif)
        out: Tensor = lif(x)
        return out

    return run


def floor(num_steps: int) -> Contender:
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


def contenders(num_steps: int) -> dict[str, Contender]:
    found = {
        FAIR_LOOP: snntorch_loop(num_steps),
        "snnTorch loop, compiled": torch.compile(snntorch_loop(num_steps)),
        "AdaptiveLeaky, fixed": adaptive(num_steps, learn=False),
        "AdaptiveLeaky, learned": adaptive(num_steps, learn=True),
        "floor": floor(num_steps),
    }
    if importlib.util.find_spec("spikingjelly"):
        found["SpikingJelly"] = spikingjelly_lif(num_steps)
        found["SpikingJelly, compiled"] = torch.compile(spikingjelly_lif(num_steps))
    return found


def timed(run: Contender, x: Tensor, grad: Tensor) -> float:
    x = x.detach().requires_grad_()
    synchronise(x.device)
    start = time.perf_counter()
    run(x).backward(grad)
    synchronise(x.device)
    return time.perf_counter() - start


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def saved_bytes_per_element(run: Contender, x: Tensor) -> float:
    """Bytes that autograd keeps for the backward pass, each storage once."""
    kept: dict[int, tuple[Tensor, int]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = (tensor, storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run(x.detach().requires_grad_())
    return sum(size for _, size in kept.values()) / x.numel()


def measure(num_steps: int, shape: list[int], rounds: int, device: str) -> list[dict[str, Any]]:
    x = torch.randn(num_steps, *shape, device=device)
    grad = torch.rand_like(x)
    runs = contenders(num_steps)
    first = {name: timed(run, x, grad) for name, run in runs.items()}
    for run in runs.values():
        timed(run, x, grad)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(timed(run, x, grad))
    rows = []
    for name, run in runs.items():
        ratios = [loop / own for loop, own in zip(times[FAIR_LOOP], times[name], strict=True)]
        rows.append(
            {
                "name": name,
                "steps": num_steps,
                "shape": shape,
                "ms": 1e3 * statistics.median(times[name]),
                "times_faster": statistics.median(ratios),
                "first_call_s": first[name],
                "saved_bytes_per_element": saved_bytes_per_element(run, x),
            }
        )
    return rows


def report(rows: list[dict[str, Any]]) -> None:
    print(f"\nT = {rows[0]['steps']}, one step {rows[0]['shape']}")
    print(f"{'':28}{'ms':>9}{'× loop':>9}{'saved B/el.':>13}{'first call s':>14}")
    for row in rows:
        print(
            f"{row['name']:28}{row['ms']:9.1f}{row['times_faster']:9.2f}"
            f"{row['saved_bytes_per_element']:13.1f}{row['first_call_s']:14.1f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--shape", type=int, nargs="+", default=[64, 64, 32, 32])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="also write the table there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    machine = {
        "date": datetime.date.today().isoformat(),
        "command": f"python benchmarks/neuron.py --steps {' '.join(map(str, options.steps))} "
        f"--shape {' '.join(map(str, options.shape))} --threads {options.threads} --rounds {options.rounds}",
        "device": torch.cuda.get_device_name() if options.device == "cuda" else platform.processor() or "CPU",
        "cores": os.cpu_count(),
        "malloc": {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")},
        "threads": options.threads,
        "rounds": options.rounds,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "snntorch": snn.__version__,
        "snntorch_asnn": asnn.__version__,
    }
    print(json.dumps(machine, indent=2))
    tables = []
    for num_steps in options.steps:
        rows = measure(num_steps, options.shape, options.rounds, options.device)
        report(rows)
        tables.append(rows)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"machine": machine, "tables": tables}, indent=2) + "\n")


if __name__ == "__main__":
    main()
