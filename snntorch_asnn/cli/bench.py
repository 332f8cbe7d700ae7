"""The command ``snntorch-asnn bench``."""

from __future__ import annotations

import json
import statistics
from typing import Annotated, Any, Literal

import torch
from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.table import Table
from torch import Tensor

from snntorch_asnn._arguments import check_count
from snntorch_asnn._timing import adaptive_layer, in_turns, snntorch_loop, times_faster, whole_pass
from snntorch_asnn.train.devices import resolve_device

_LOOP = "snn.Leaky, step by step"
_IMPLS = ("auto", "reference", "cpp", "triton", "compile")
Dtype = Literal["float32", "bfloat16", "float16", "float64"]
_BETA = 0.9


def bench_command(
    *,
    shape: Annotated[str, Parameter(help="Shape of the input at one step, batch first.")] = "64,64,32,32",
    num_steps: Annotated[str, Parameter(help="Numbers of time steps T, with commas between them.")] = "4,16",
    dtype: Annotated[Dtype, Parameter(help="Dtype of the input.")] = "float32",
    learn: Annotated[bool, Parameter(help="Learn leak and gain of every step.")] = True,
    rounds: Annotated[int, Parameter(help="Times to run each.", validator=Number(gte=1))] = 9,
    device: Annotated[str, Parameter(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[
        int | None, Parameter(help="CPU threads; all cores if none.", validator=Number(gte=1))
    ] = None,
    as_json: Annotated[
        bool, Parameter(name="--json", negative="", help="Print JSON, with every measured time.")
    ] = False,
) -> None:
    """Time a layer of adaptive neurons on this machine, forward and backward, with each implementation.

    All implementations take turns in every round. The table shows the median time, and in brackets the
    speed-up over snnTorch's neuron in a loop, as the median of the rounds' ratios.
    """
    sizes, steps = _numbers("shape", shape), _numbers("num_steps", num_steps)
    if threads is not None:
        torch.set_num_threads(threads)
    where = str(resolve_device(device))
    results = []
    for count in steps:
        x = torch.randn(count, *sizes, device=where, dtype=getattr(torch, dtype))
        results.append({"num_steps": count, "shape": sizes, **_measured(x, learn, rounds, where)})
    if as_json:
        print(json.dumps({"device": where, "dtype": dtype, "results": results}, indent=2))
        return
    Console().print(_table(results, f"{tuple(sizes)} at each step, {dtype} on {where}"))


def _numbers(name: str, text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"{name} must be whole numbers with commas between them; got {text!r}") from error
    for number in numbers:
        check_count(name, number)
    return numbers


def _measured(x: Tensor, learn: bool, rounds: int, device: str) -> dict[str, Any]:
    """Return the times of every implementation that runs here, and the reasons why the others do not."""
    grad = torch.rand_like(x)

    runs, reasons = {_LOOP: whole_pass(snntorch_loop(_BETA, device), x, grad)}, {}
    for impl in _IMPLS:
        run = whole_pass(adaptive_layer(_BETA, len(x), device, learn=learn, impl=impl), x, grad)
        try:
            run()  # compiles the kernels
        except (RuntimeError, ValueError) as error:
            reasons[f'impl="{impl}"'] = str(error)
        else:
            runs[f'impl="{impl}"'] = run
    return {"seconds": in_turns(runs, rounds, device), "does_not_run": reasons}


def _table(results: list[dict[str, Any]], title: str) -> Table:
    table = Table(title=title)
    table.add_column("forward and backward")
    for result in results:
        table.add_column(f"T = {result['num_steps']}", justify="right")
    for name in (_LOOP, *(f'impl="{impl}"' for impl in _IMPLS)):
        table.add_row(name, *(_cell(result, name) for result in results))
    reasons = {name: why for result in results for name, why in result["does_not_run"].items()}
    table.caption = "\n".join(why for why in reasons.values()) or None
    return table


def _cell(result: dict[str, Any], name: str) -> str:
    times = result["seconds"]
    if name not in times:
        return "does not run"
    ratio = times_faster(times[_LOOP], times[name])
    return f"{1e3 * statistics.median(times[name]):.3g} ms ({ratio:.1f}×)"
