"""Count the memory traffic of norm and neuron in bytes per element, without a GPU.

The counts come from a trace of operations. They assume that every operation reads its inputs and writes its
outputs once. PyTorch's batch norm reads its input a second time for the statistics, and its backward pass
reads input and gradient a second time for the sums. Kernels do not run. Under ``torch.compile``, the
compiler gives the count, for inputs with four channels::

    python benchmarks/norm_traffic.py --json benchmarks/results/norm_traffic.json
"""

from __future__ import annotations

import argparse
import copy
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

os.environ["TRITON_INTERPRET"] = "1"

import torch
from measuring import machine
from torch import Tensor, nn
from torch._inductor import config, metrics
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import snntorch_asnn as asnn
from snntorch_asnn.layers import norm_leaky
from snntorch_asnn.layers.norm_leaky import normed, normed_spikes
from snntorch_asnn.ops._adaptive_leaky.triton import operators as triton_ops
from snntorch_asnn.ops._batch_moments import moments as batch_moments
from snntorch_asnn.ops._batch_moments.triton import moments as batch_moments_triton
from snntorch_asnn.ops._triton.launch import Prepared

SHAPES = {"maps": ((4, 32, 64, 32, 32), 2), "tokens": ((4, 128, 64, 384), 3)}
DTYPES = (torch.float32, torch.bfloat16)
FREE = ("empty", "new_empty", "detach", "_unsafe_view", "lift_fresh", "is_same_size")
TWICE = {
    "_batch_norm_with_update": (0,),
    "native_batch_norm": (0,),
    "native_batch_norm_backward": (0, 1),
    "batch_norm_backward": (0, 1),
}
"""Inputs that an operation reads a second time."""


class Traffic(TorchDispatchMode):
    """Counts the bytes that go through memory, by operation."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name.startswith(FREE) or _is_view(func):
            return out
        self.bytes[name] += sum(map(_size, {id(t): t for t in _tensors((args, kwargs))}.values()))
        self.bytes[name] += sum(map(_size, _tensors(out))) + sum(_size(args[i]) for i in TWICE.get(name, ()))
        return out

    def launch(self, kernel: Any, tensors: tuple[Tensor, ...]) -> None:
        """Count a kernel, which takes the same tensor for all that it does not look at."""
        name = getattr(kernel, "__name__", None) or kernel.fn.__name__
        self.bytes[name] += sum(map(_size, {t.data_ptr(): t for t in tensors}.values()))
        if name == "add_kernel":  # reads what it writes
            self.bytes[name] += _size(tensors[0])


def _is_view(func: Any) -> bool:
    aliases = [r.alias_info for r in func._schema.returns]
    return bool(aliases) and all(a is not None and not a.is_write for a in aliases)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _size(tensor: Tensor) -> int:
    count = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= size if stride else 1
    return count * tensor.element_size()


class _Nowhere:
    """A kernel whose launches do nothing."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        return lambda *args, **options: None


@contextmanager
def counted(traffic: Traffic | None, moments_in_kernels: bool) -> Iterator[None]:
    """The GPU's path on a CPU, its kernels counted in place of being run."""

    def launch(self: Any, *tensors: Tensor) -> None:
        if traffic is not None:
            traffic.launch(self.kernel, tensors)

    def kernels(_: Tensor) -> Any:
        in_graph = torch.compiler.is_compiling()
        return batch_moments_triton if moments_in_kernels and not in_graph else None

    patches = [
        mock.patch.object(Prepared, "__call__", launch),
        mock.patch.object(triton_ops, "wrap_triton", _Nowhere),
        mock.patch.object(batch_moments, "_is_for_kernels", return_value=False),
        mock.patch.object(norm_leaky, "FUSING_PAYS_FROM", 0),
        mock.patch.object(norm_leaky, "gpu_kernels", kernels),
        mock.patch.object(batch_moments, "gpu_kernels", kernels),
    ]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in reversed(patches):
            patch.stop()


def layers(kind: str) -> tuple[nn.Module, nn.Module]:
    (steps, *_), channel_dim = SHAPES[kind]
    norm = nn.BatchNorm2d if kind == "maps" else nn.BatchNorm1d
    neuron = asnn.AdaptiveLeaky(0.8, num_steps=steps, sequence=True, reset_delay=False, impl="triton")
    return norm(SHAPES[kind][0][channel_dim]), neuron


def step(run: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """One training step, from the current to its gradient."""
    spikes = run(x.detach().requires_grad_())
    spikes.backward(torch.empty_like(spikes))


def eager(kind: str, dtype: torch.dtype, form: str) -> dict[str, float]:
    """Bytes per element by operation, for operations above 0.01 bytes."""
    shape, channel_dim = SHAPES[kind]
    norm, neuron = layers(kind)
    x = torch.zeros(shape, dtype=dtype)

    def run(x: Tensor) -> Tensor:
        if form == "norm, then neuron":
            return neuron(normed(norm, x, channel_dim))[0]  # type: ignore[no-any-return]
        return normed_spikes(norm, neuron, x, channel_dim)[0]  # type: ignore[no-any-return]

    with counted(None, form == "fused"):
        step(run, x)  # whatever is prepared once
    traffic = Traffic()
    with counted(traffic, form == "fused"), traffic:
        step(run, x)
    return {name: round(n / x.numel(), 2) for name, n in traffic.bytes.most_common() if n / x.numel() > 0.01}


def compiled(kind: str, dtype: torch.dtype, form: str) -> float:
    """Bytes per element, as the compiler counts its own kernels and the neuron's."""
    shape, channel_dim = SHAPES[kind]
    norm, neuron = copy.deepcopy(layers(kind))
    x = torch.zeros((shape[0], 4, *shape[2:]), dtype=dtype)

    def run(x: Tensor) -> Tensor:
        return normed_spikes(norm, neuron, x, channel_dim, fused=form == "fused")[0]  # type: ignore[no-any-return]

    torch._dynamo.reset()
    torch._logging.set_logs(inductor_metrics=True)  # the compiler counts for its log only
    metrics.reset()
    with counted(None, moments_in_kernels=False), config.patch(force_disable_caches=True):
        step(torch.compile(run, fullgraph=True), x)
    return round(metrics.num_bytes_accessed / x.numel(), 2)


FORMS = ("norm, then neuron", "fused, norm in PyTorch's operations", "fused")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="where to write the counts")
    parser.add_argument("--eager-only", action="store_true", help="compile nothing")
    options = parser.parse_args()
    rows = []
    for kind in SHAPES:
        for dtype in DTYPES:
            for form in FORMS:
                parts = eager(kind, dtype, form)
                row: dict[str, Any] = {
                    "input": kind,
                    "dtype": str(dtype).removeprefix("torch."),
                    "form": form,
                }
                row |= {"bytes_per_element": round(sum(parts.values()), 1), "of_which": parts}
                if not options.eager_only and form != FORMS[1]:
                    row["compiled_bytes_per_element"] = compiled(kind, dtype, form)
                rows.append(row)
                print(json.dumps(row), flush=True)
    if options.json:
        shapes = {kind: shape for kind, (shape, _) in SHAPES.items()}
        result = {"machine": machine("cpu", torch.get_num_threads()), "shapes": shapes, "rows": rows}
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
