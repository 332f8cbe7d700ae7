"""Compile the Triton kernels for GPUs that are not present, and report their use of resources.

The report has registers, spills, instructions and widths of loads. Arguments have the types of eager
launches and the types of ``torch.compile`` (64-bit floats, and 64-bit sizes if they are dynamic). Triton's
wheel includes the assembler that this needs::

    python benchmarks/triton_offline.py             # the main configurations, for an H100
    python benchmarks/triton_offline.py --sample    # every value of every option, on several GPUs
    python benchmarks/triton_offline.py --all       # the product of all options; takes hours
    python benchmarks/triton_offline.py --json benchmarks/results/triton_offline.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "0"

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
from snntorch_asnn.ops._adaptive_leaky.rule import RuleOptions
from snntorch_asnn.ops._adaptive_leaky.triton import affine as triton_affine
from snntorch_asnn.ops._adaptive_leaky.triton import kernels as triton_kernels
from snntorch_asnn.ops._adaptive_leaky.triton import operators as triton_ops
from snntorch_asnn.ops._adaptive_rleaky.triton import kernels as triton_recurrent_kernels
from snntorch_asnn.ops._adaptive_rleaky.triton import step as triton_recurrent
from snntorch_asnn.ops._batch_moments.triton import moments as norms
from snntorch_asnn.ops._triton.launch import Launch

ARCHITECTURES = (80, 90, 100, 120)
STYLES = ("eager", "compiled", "dynamic")
DYNAMIC = ("batch", "inner", "blocks_m", "x_step", "ds_step")
POINTERS = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16"}

SHARINGS = {
    "layer": (1, 1, 64 * 384 * 64),
    "channel": (64, 128, 1024),
    "channel, 7x7": (64, 512, 49),
    "neuron": (64, 384 * 64, 1),
}
"""``[B, C, M]`` of each way to share coefficients."""

SURROGATES = ("atan", "fast_sigmoid", "sigmoid", "triangular", "straight_through")
RESETS = [("none", "delayed"), *itertools.product(("subtract", "zero"), ("delayed", "immediate", "exact"))]


@dataclass(frozen=True)
class Case:
    """One kernel with all that it is compiled for."""

    name: str
    kernel: Any
    tensors: tuple[torch.dtype, ...]
    launch: Launch
    element_steps: int
    """Elements times steps of the part of the sequence that one thread unrolls."""
    style: str = "compiled"
    architecture: int = 90
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """Everything that the neuron's kernels are compiled for."""

    kernel: str = "forward"
    sharing: str = "layer"
    dtype: torch.dtype = torch.float32
    num_steps: int = 4
    learned: tuple[str, ...] = ()
    mechanism_and_reset: tuple[str, str] = ("subtract", "exact")
    surrogate: str = "sigmoid"
    cuts_reset: bool = False
    at_threshold: bool = False
    has_mem: bool = False
    has_shift: bool = False
    output_mem: bool = False
    keep_mem: bool = True
    keep_spikes: bool = True
    style: str = "compiled"
    architecture: int = 90

    def case(self) -> Case:
        """The kernel's launch as the package plans it."""
        plan = self._forward if self.kernel == "forward" else self._backward
        return plan(
            RuleOptions(
                *self.mechanism_and_reset,
                self.cuts_reset,
                self.cuts_reset,
                self.surrogate,
                4.0,
                self.at_threshold,
            )
        )

    def _varying(self) -> int:
        """Learned coefficients differ between columns; if none is learned, all coefficients do."""
        if self.sharing == "layer":
            return 0
        return sum((name in self.learned) << i for i, name in enumerate(Coefficients._fields)) or 0b111111

    def _folded(self) -> tuple[tuple[int, int, int], tuple[int, int]]:
        batch, channels, inner = SHARINGS[self.sharing]
        return (batch, channels, inner), (batch * channels * inner, channels * inner)

    def _forward(self, rule: RuleOptions) -> Case:
        folded, strides = self._folded()
        has = {"has_mem": self.has_mem, "has_shift": self.has_shift, "varying": self._varying()}
        launch = triton_ops.forward_launch(
            self.num_steps,
            folded,
            strides,
            self.dtype.itemsize,
            rule,
            output_mem=self.output_mem,
            keep_mem=self.keep_mem,
            keep_spikes=self.keep_spikes,
            needs_grad=True,
            **has,
        )
        x, state = self.dtype, torch.float32
        tensors = (x, state if self.has_mem else x, state, x, state, state)
        return self._named(triton_kernels.forward_kernel, tensors, launch, launch.constants["UNROLL"])

    def _backward(self, rule: RuleOptions) -> Case:
        folded, strides = self._folded()
        names = ("beta", "gain", "threshold", "previous_threshold", "scale", "shift")
        wants = [True, self.has_mem, *(name in self.learned for name in names)]
        incoming = triton_ops.Incoming(strides, False, self.output_mem)
        kept = triton_ops.kept_membranes(self.num_steps, True) > 0
        has = {
            "has_mem": self.has_mem,
            "has_shift": self.has_shift,
            "varying": self._varying(),
            "has_checkpoints": kept,
        }
        launch, _ = triton_ops.backward_launch(
            self.num_steps, folded, strides, self.dtype.itemsize, rule, incoming, wants, **has
        )
        x, state = self.dtype, torch.float32
        tensors = (
            x,
            state if self.has_mem else x,
            state,
            state,
            x,
            state if self.output_mem else x,
            x,
            state,
            state,
        )
        return self._named(triton_kernels.backward_kernel, tensors, launch, launch.constants["SEGMENT"])

    def _named(self, kernel: Any, tensors: tuple[torch.dtype, ...], launch: Any, steps: int) -> Case:
        tile = [launch.constants[name] for name in ("BB", "BC", "BM")]
        elements = tile[0] * tile[1] * tile[2] * steps // (32 * launch.constants["num_warps"])
        shown = {
            key: str(value).removeprefix("torch.") for key, value in asdict(self).items() if key != "kernel"
        }
        name = f"adaptive_leaky {self.kernel}"
        return Case(name, kernel, tensors, launch, elements, self.style, self.architecture, shown)


def main_cases() -> Iterator[Case]:
    """The kernels that training a network of the zoo runs; none of them may spill."""
    for dtype, steps, sharing in itertools.product((torch.float32, torch.bfloat16), (4, 16), SHARINGS):
        common = {"dtype": dtype, "num_steps": steps, "sharing": sharing}
        yield Options(**common).case()
        for learned in ((), ("beta", "gain")) if sharing == "layer" else (("beta", "gain"),):
            yield Options(kernel="backward", learned=learned, **common).case()
        if sharing.startswith("channel"):
            yield Options(has_shift=True, **common).case()
            yield Options(kernel="backward", learned=("gain", "shift"), has_shift=True, **common).case()


NORMED = {
    "maps": (4, 64, 64, 1024),
    "maps, 7x7": (4, 64, 512, 49),
    "maps, 14x14": (4, 64, 256, 196),
    "tokens": (4, 4096, 384, 1),
}
"""Input shapes of batch norms, ``[T, B, C, M]``."""


def norm_cases() -> Iterator[Case]:
    """The kernels of a norm in training, and the kernels that merge it into a neuron."""
    wide = torch.float32
    for (name, shape), x in itertools.product(NORMED.items(), (torch.float32, torch.bfloat16)):
        _, batch, channels, inner = shape
        stride = (batch * channels * inner, channels * inner, inner, 1)
        plan = norms._Plan.of(torch.Size(shape), stride, x.itemsize, False)
        tile = [plan.constants[size] for size in ("BR", "BC", "BM", "UNROLL")]
        elements = math.prod(tile) // (32 * plan.constants["num_warps"])
        parameters = {"weight": wide, "bias": wide}
        kept = norms._joining(
            plan, (1e5, 0.1, 1e-5), running=wide, cumulative=False, affine=True, **parameters
        )
        for kind, prepared, tensors in (
            ("moments", norms._summing(plan, x), (x, wide)),
            ("moments joined", kept, (wide,) * 7),
            ("backward", norms._adding(plan, x, 1e-5, **parameters), (x, x, *(wide,) * 5)),
        ):
            options = {"input": name, "dtype": str(x).removeprefix("torch.")}
            yield Case(
                f"norm {kind}", prepared.kernel, tensors, prepared.how, elements, "eager", options=options
            )
    table = triton_affine._tabulating(4, 384, 0, (*((1, 0),) * 5, None))
    back = triton_affine._retracing(4, 384, 0, 1, 6, 1, 5)
    yield Case("norm merged", table.kernel, (wide,) * 9, table.how, 1, "eager")
    yield Case("norm merged, backward", back.kernel, (wide,) * 6, back.how, 1, "eager")


def recurrent_case(
    kernel: str, sharing: str, dtype: torch.dtype, rule: RuleOptions, learned: tuple[str, ...]
) -> Case:
    """One step of the recurrent neuron, with gradients of all that a training step asks for."""
    folded = SHARINGS[sharing]
    is_learned = [name in learned for name in Coefficients._fields[:5]]
    varying = 0 if sharing == "layer" else sum(flag << i for i, flag in enumerate(is_learned))
    common = folded, folded[1] * folded[2], dtype.itemsize, rule, varying
    state = torch.float32
    if kernel == "forward":
        launch = triton_recurrent.forward_launch(*common)
        tensors = dtype, dtype, state, state, dtype, state
    else:
        incoming, wants = (True, True), (True, True, True, *is_learned)
        launch, _ = triton_recurrent.backward_launch(*common, incoming, wants)
        tensors = dtype, dtype, state, state, dtype, state, dtype, dtype, state, state
    tile = math.prod(launch.constants[name] for name in ("BB", "BC", "BM"))
    options = {
        "sharing": sharing,
        "dtype": str(dtype).removeprefix("torch."),
        "learned": str(learned),
        "mechanism_and_reset": str((rule.mechanism, rule.reset)),
        "surrogate": rule.surrogate,
    }
    run = getattr(triton_recurrent_kernels, f"recurrent_{kernel}_kernel")
    elements = tile // (32 * launch.constants["num_warps"])
    return Case(f"recurrent {kernel}", run, tensors, launch, elements, "eager", options=options)


def recurrent_cases(is_sample: bool = False) -> Iterator[Case]:
    """Steps of a recurrent layer in training; as a sample, with every reset and surrogate."""
    if not is_sample:
        rule = RuleOptions("subtract", "delayed", True, False, "atan", 2.0, False)
        for sharing, dtype, kernel in itertools.product(
            ("layer", "channel", "neuron"), (torch.float32, torch.bfloat16), AXES["kernel"]
        ):
            yield recurrent_case(kernel, sharing, dtype, rule, ("beta", "gain"))
        return
    surrogates, sharings = itertools.cycle(SURROGATES), itertools.cycle(SHARINGS)
    for reset in RESETS:
        rule = RuleOptions(*reset, False, False, next(surrogates), 4.0, True)
        sharing = next(sharings)
        for kernel in AXES["kernel"]:
            yield recurrent_case(kernel, sharing, torch.float16, rule, Coefficients._fields[:5])


AXES: dict[str, tuple[Any, ...]] = {
    "kernel": ("forward", "backward"),
    "sharing": tuple(SHARINGS),
    "dtype": tuple(POINTERS),
    "num_steps": (1, 3, 4, 8, 16, 37),
    "learned": ((), ("beta", "gain"), ("threshold", "previous_threshold"), ("beta", "scale", "shift")),
    "mechanism_and_reset": tuple(RESETS),
    "surrogate": SURROGATES,
    "cuts_reset": (False, True),
    "at_threshold": (False, True),
    "has_mem": (False, True),
    "has_shift": (False, True),
    "output_mem": (False, True),
    "keep_mem": (False, True),
    "keep_spikes": (False, True),
    "style": STYLES,
    "architecture": ARCHITECTURES,
}


def all_cases() -> Iterator[Case]:
    """The product of :data:`AXES`."""
    for values in itertools.product(*AXES.values()):
        options = dict(zip(AXES, values, strict=True))
        if "shift" not in options["learned"] or options["has_shift"]:
            yield Options(**options).case()


def sampled_cases(count: int) -> Iterator[Case]:
    """Every value of every axis at least once in either kernel, combined at random, always the same way."""
    shuffled = random.Random(0)
    for kernel in AXES["kernel"]:
        columns = {}
        for name, values in AXES.items():
            # The longest axis decides how often the others come round.
            repeated = list(values) * (-(-count // len(values)))
            shuffled.shuffle(repeated)
            columns[name] = [*values, *repeated][:count] if len(values) <= count else repeated[:count]
            shuffled.shuffle(columns[name])
        for row in range(count):
            options = {name: column[row] for name, column in columns.items()} | {"kernel": kernel}
            options["has_shift"] |= "shift" in options["learned"]
            yield Options(**options).case()


def source(case: Case) -> ASTSource:
    """The kernel with its arguments' types, as :attr:`Case.style` passes them."""
    kernel, launch = case.kernel, case.launch
    signature: dict[str, str] = {}
    constants: dict[tuple[int, ...], Any] = {}
    attributes: dict[tuple[int, ...], Any] = {}
    arguments = (*(POINTERS[dtype] for dtype in case.tensors), *launch.numbers)
    for at, parameter in enumerate(kernel.params):
        name = parameter.name
        if parameter.is_constexpr:
            signature[name], constants[(at,)] = "constexpr", launch.constants[name]
            continue
        value = arguments[at]
        is_kept_open = case.style == "eager" and parameter.do_not_specialize
        if isinstance(value, str):
            signature[name] = value
        elif isinstance(value, float):
            signature[name] = "fp32" if case.style == "eager" else "fp64"
        elif case.style == "dynamic" and name in DYNAMIC:
            signature[name], is_kept_open = "i64", True
        elif value == 1 and not is_kept_open:
            signature[name], constants[(at,)] = "constexpr", 1
            continue
        else:
            signature[name] = "i32" if abs(value) < 1 << 31 else "i64"
        if isinstance(value, str) or (isinstance(value, int) and value % 16 == 0 and not is_kept_open):
            attributes[(at,)] = [["tt.divisibility", 16]]
    return ASTSource(kernel, signature, constants, attributes)


def compiled(case: Case) -> dict[str, Any]:
    """Registers, bytes spilled, and instructions per element and step of a compiled kernel."""
    options = {"num_warps": case.launch.constants["num_warps"]}
    target = GPUTarget("cuda", case.architecture, 32)
    binary = triton.compile(source(case), target=target, options=options).asm["cubin"]
    usage, code = disassembled(binary)
    counts: dict[str, int] = {}
    for line in code.splitlines():
        if match := re.search(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z0-9_.]+)", line):
            counts[match[1]] = counts.get(match[1], 0) + 1
    real = sum(n for name, n in counts.items() if name != "NOP")
    return {
        "kernel": case.name,
        **case.options,
        "warps": options["num_warps"],
        "registers": int(re.search(r"REG:(\d+)", usage)[1]),  # type: ignore[index]
        "spilled_bytes": int(re.search(r"LOCAL:(\d+)", usage)[1]) + int(re.search(r"STACK:(\d+)", usage)[1]),  # type: ignore[index]
        "instructions": real,
        "instructions_per_element": round(real / case.element_steps, 1),
        "loads": widths(counts, "LDG"),
        "stores": widths(counts, "STG"),
    }


def widths(counts: dict[str, int], kind: str) -> dict[str, int]:
    """Global loads or stores by the bits that each moves."""
    found: dict[str, int] = {}
    for name, count in counts.items():
        if name.split(".")[0] == kind:
            width = next(
                (part.lstrip("US") for part in name.split(".") if re.fullmatch(r"[US]?(8|16|64|128)", part)),
                "32",
            )
            found[width] = found.get(width, 0) + count
    return dict(sorted(found.items()))


def disassembled(binary: bytes) -> tuple[str, str]:
    """Resource usage and code of a binary, by the tools in Triton's wheel."""
    tool = triton.knobs.nvidia.cuobjdump.path
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        usage, code = (
            subprocess.run(
                [tool, option, file.name], check=True, capture_output=True, text=True, env=_environment()
            ).stdout
            for option in ("--dump-resource-usage", "-sass")
        )
    return usage, code


def _environment() -> dict[str, str]:
    """With NVIDIA's disassembler, which cuobjdump calls, on the PATH."""
    folder = str(Path(triton.knobs.nvidia.nvdisasm.path).parent)
    return {**os.environ, "PATH": os.pathsep.join((folder, os.environ.get("PATH", "")))}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sample", type=int, nargs="?", const=12, metavar="N", help="N samples of each kernel"
    )
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--filter", default="", help="only cases whose options contain this text")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cases = (
        all_cases()
        if arguments.all
        else itertools.chain(sampled_cases(arguments.sample), recurrent_cases(is_sample=True))
        if arguments.sample
        else itertools.chain(main_cases(), norm_cases(), recurrent_cases())
    )
    rows = []
    for case in cases:
        if arguments.filter in f"{case.name} {case.options}":
            rows.append(compiled(case))
            print(json.dumps(rows[-1]), flush=True)
    if arguments.json:
        lines = ",\n  ".join(json.dumps(row) for row in rows)
        arguments.json.write_text(f'{{"triton": "{triton.__version__}", "kernels": [\n  {lines}\n]}}\n')
    if spilling := [
        row for row in rows if row["spilled_bytes"] and not arguments.sample and not arguments.all
    ]:
        sys.exit(f"{len(spilling)} of the main configurations spill registers: {json.dumps(spilling)}")


if __name__ == "__main__":
    main()
