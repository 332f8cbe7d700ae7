"""Measure time and peak memory of a whole training step: forward, loss, backward, optimizer.

The contenders run in turns in one process. Each is the same Spikformer or ResNet-18 on 32×32 images with the
neurons of one library: a LIF of time constant 2 with decayed input, a hard reset that is detached from the
gradient, and the sigmoid surrogate of slope 4.

- snnTorch: ``Leaky`` over ``x.unbind()``, layer by layer, so that convolutions see all steps at once. The
  usual loop over the whole network, step by step, is slower.
- SpikingJelly: multi-step ``LIFNode``, plain and with the network compiled, if it is installed.
- This package: norm and neuron as two layers; fused in one layer (``fused=True``); fused with packed spikes
  (``pack_spikes``); and fused and packed with a leak and a gain learned for every step.
- This package with the network compiled, as two layers and fused.

Everything else (convolutions, norms, attention, initial weights, optimizer) is the same for all contenders.
Compiled contenders are left out if no compiler is available.

Usage: ``python benchmarks/training.py [--models spikformer_4_384 spiking_resnet18_cifar] [--batch 128]
[--precision float32 bfloat16] [--without compiled] [--json FILE]``. On a CPU, networks and batches are
smaller, and compilation takes most of the time. ``--quick`` checks that the script works, with a tiny
network and two rounds. Images per second are for the median step; ratios are medians over the rounds. Peak
memory is the memory that a step allocates in addition to weights and optimizer, measured by torch's
allocator on a GPU and by torch's profiler on a CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import snntorch as snn
import torch
from measuring import has, machine, peak_bytes, write_json
from torch import Tensor, nn
from torch.nn import functional

import snntorch_asnn as asnn
from snntorch_asnn._timing import Run, in_turns, seconds, times_faster
from snntorch_asnn.ops._adaptive_leaky.inductor import missing

BASELINE = "snnTorch"
NUM_CLASSES = 10


class SnnTorch(nn.Module):
    def __init__(self, threshold: float) -> None:
        super().__init__()
        spike_grad = snn.surrogate.sigmoid(slope=4)
        self.lif = snn.Leaky(
            0.5, threshold, spike_grad, reset_mechanism="zero", reset_delay=False, learn_beta=False
        )

    def forward(self, x: Tensor) -> Tensor:
        mem, spikes = torch.zeros_like(x[0]), []
        for current in x.unbind(0):
            spk, mem = self.lif(0.5 * current, mem)
            spikes.append(spk)
        return torch.stack(spikes)


class SpikingJelly(nn.Module):
    def __init__(self, threshold: float) -> None:
        super().__init__()
        from spikingjelly.activation_based import neuron, surrogate

        self.lif = neuron.LIFNode(
            tau=2.0,
            v_threshold=threshold,
            surrogate_function=surrogate.Sigmoid(4.0),
            detach_reset=True,
            step_mode="m",
        )

    def forward(self, x: Tensor) -> Tensor:
        self.lif.reset()
        spikes: Tensor = self.lif(x)
        return spikes


class SpikingJellyKernels(nn.Module):
    """The same with the membrane in float32, which lets half precision into SpikingJelly's kernels."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        from spikingjelly.activation_based import surrogate

        self.threshold = threshold
        self.spike = surrogate.Sigmoid(4.0)

    def forward(self, x: Tensor) -> Tensor:
        from spikingjelly.activation_based.functional import lif_multi_step

        v = torch.zeros(x.shape[1:], device=x.device)
        spikes: Tensor = lif_multi_step(x, v, 2.0, True, self.threshold, 0.0, self.spike, True)[0]
        return spikes


def contenders(device: str) -> dict[str, dict[str, Any]]:
    """By name: the model's settings, whether it is compiled and whether spikes are packed."""
    compiles = missing(device.partition(":")[0]) is None
    found: dict[str, dict[str, Any]] = {BASELINE: {"neuron": SnnTorch}}
    if has("spikingjelly"):
        found["SpikingJelly"] = {"neuron": SpikingJelly}
        found["SpikingJelly, compiled"] = {"neuron": SpikingJelly, "compiled": True}
    found["ours, two layers"] = {"neuron": "lif"}
    found["ours, in one"] = {"neuron": "lif", "fused": True}
    found["ours, in one, packed"] = {"neuron": "lif", "fused": True, "packed": True}
    found["ours, learned, in one, packed"] = {"neuron": "asnn", "fused": True, "packed": True}
    found["ours, two layers, compiled"] = {"neuron": "lif", "compiled": True}
    found["ours, in one, compiled"] = {"neuron": "lif", "fused": True, "compiled": True}
    return {name: spec for name, spec in found.items() if compiles or not spec.get("compiled")}


def training_step(name: str, options: argparse.Namespace, precision: str, spec: dict[str, Any]) -> Run:
    torch.manual_seed(0)
    model = asnn.models.create_model(
        name,
        num_classes=NUM_CLASSES,
        num_steps=options.steps,
        neuron=spec["neuron"],
        fused=spec.get("fused", False),
        encoding="direct",
        readout="mean",
        image_size=32,
    ).to(options.device)
    if options.channels_last:
        model = model.to(memory_format=torch.channels_last)
    network = torch.compile(model, **spec.get("compiler", {})) if spec.get("compiled") else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, **spec.get("optimizer", {}))
    images = torch.rand(options.batch, 3, 32, 32, device=options.device)
    labels = torch.randint(NUM_CLASSES, (options.batch,), device=options.device)
    half = torch.autocast(
        options.device.partition(":")[0],
        torch.bfloat16,
        enabled=precision == "bfloat16",
        cache_enabled=spec.get("autocast_cache", True),
    )
    packing: Callable[[], Any] = asnn.pack_spikes if spec.get("packed") else contextlib.nullcontext

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with half, packing():
            loss = functional.cross_entropy(network(images).float(), labels)
        loss.backward()
        optimizer.step()

    return step


def measure(name: str, options: argparse.Namespace, precision: str) -> list[dict[str, Any]]:
    runs: dict[str, Run] = {}
    first: dict[str, float] = {}
    failed: dict[str, str] = {}
    # Before all contenders, not before each: a reset throws away what the others have compiled.
    torch.compiler.reset()
    for contender, spec in contenders(options.device).items():
        if any(part in contender for part in options.without):
            continue
        run = training_step(name, options, precision, spec)
        try:
            first[contender] = seconds(run, options.device)
            run()
        except Exception as error:  # a peer that cannot run this is told of, not hidden
            failed[contender] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            continue
        runs[contender] = run
    peaks = {contender: peak_bytes(run, options.device) for contender, run in runs.items()}
    times = in_turns(runs, options.rounds, options.device)
    place = {"model": name, "precision": precision, "batch": options.batch, "steps": options.steps}
    rows = [
        place
        | {
            "name": contender,
            "images_per_second": options.batch / statistics.median(own),
            "times_faster": times_faster(times[BASELINE], own),
            "peak_mib": peaks[contender] / 2**20,
            "first_step_s": first[contender],
        }
        for contender, own in times.items()
    ]
    return rows + [place | {"name": contender, "failed": why} for contender, why in failed.items()]


def report(rows: list[dict[str, Any]]) -> None:
    where = rows[0]
    print(f"\n{where['model']}, {where['precision']}, batch {where['batch']}, T = {where['steps']}")
    print(f"{'':32}{'images/s':>10}{'× snnTorch':>12}{'peak MiB':>10}{'first step s':>14}")
    for row in rows:
        if "failed" in row:
            print(f"{row['name']:32}{row['failed']}")
            continue
        print(
            f"{row['name']:32}{row['images_per_second']:10.1f}{row['times_faster']:12.2f}"
            f"{row['peak_mib']:10.1f}{row['first_step_s']:14.1f}"
        )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", help="names from the zoo; by default what the device bears")
    parser.add_argument("--batch", type=int, help="images in a batch; 128 on a GPU, 2 on a CPU")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--precision", nargs="+", help="default: float32, and on a GPU bfloat16 too")
    parser.add_argument("--channels-last", action="store_true", help="keep channels last in memory")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--without", nargs="+", default=[], help="leave out contenders with this in their name"
    )
    parser.add_argument("--quick", action="store_true", help="a tiny network, to see that it works")
    parser.add_argument("--json", type=Path, help="also write the table there")
    options = parser.parse_args()
    on_gpu = options.device.startswith("cuda")
    options.batch = options.batch or (128 if on_gpu else 2)
    options.models = options.models or (
        ["spikformer_4_384", "spiking_resnet18_cifar"]
        if on_gpu
        else ["spikformer_2_256", "spiking_resnet_tiny"]
    )
    options.precision = options.precision or ["float32", *(["bfloat16"] if on_gpu else [])]
    if options.quick:
        options.models, options.rounds, options.precision = ["spikformer_tiny"], 2, ["float32"]
    return options


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    about = machine(options.device, options.threads) | {"rounds": options.rounds}
    print(json.dumps(about, indent=2))
    tables = []
    for name in options.models:
        for precision in options.precision:
            rows = measure(name, options, precision)
            report(rows)
            tables.append(rows)
    write_json(options.json, {"machine": about, "tables": tables})


if __name__ == "__main__":
    main()
