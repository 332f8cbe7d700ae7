"""The Triton kernels against the reference: interpreted on a CPU, compiled where there is a GPU."""

from __future__ import annotations

import functools
import importlib.util
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from snntorch_asnn import surrogate
from snntorch_asnn.ops import adaptive_leaky
from snntorch_asnn.ops._adaptive_leaky import engine, reference
from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
from snntorch_asnn.ops._adaptive_leaky.rule import Rule
from snntorch_asnn.ops._adaptive_leaky.triton import implementation as kernels

triton = pytest.importorskip("triton")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if lack := kernels.missing(DEVICE):
    pytest.skip(f"misses {lack}", allow_module_level=True)

from snntorch_asnn.ops._adaptive_leaky.triton import eager as triton_eager  # noqa: E402
from snntorch_asnn.ops._adaptive_leaky.triton import kernels as triton_kernels  # noqa: E402
from snntorch_asnn.ops._adaptive_leaky.triton import operators as triton_ops  # noqa: E402
from snntorch_asnn.ops._adaptive_leaky.triton import tiles as triton_tiles  # noqa: E402

without_gpu = pytest.mark.skipif(DEVICE == "cuda", reason="compiles or traces for a GPU that is not there")
cuda = pytest.mark.cuda

NAMES = ("x", "mem", *Coefficients._fields)
SURROGATES = [
    surrogate.atan(),
    surrogate.fast_sigmoid(3),
    surrogate.sigmoid(4),
    surrogate.triangular(1.5),
    surrogate.straight_through(),
    surrogate.sigmoid(4, fires_at_threshold=True),
]


@pytest.fixture(autouse=True)
def _poisoned() -> Iterator[None]:
    """Memory that a kernel leaves unwritten holds NaN."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(1).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


run: Any = functools.partial(engine.run, impl="triton")


class Case(NamedTuple):
    x: Tensor
    mem: Tensor | None
    coefficients: Coefficients
    rule: Rule
    output_mem: bool


def case(
    x: Tensor,
    feature_shape: tuple[int, ...] = (),
    rule: Rule | None = None,
    *,
    coarse: bool = False,
    mem: bool = True,
    shift: bool = True,
    output_mem: bool = False,
) -> Case:
    """Random coefficients for ``x``. ``coarse`` numbers add up exactly, so that membranes meet thresholds."""
    step = 0.25 if coarse else 2.0**-20

    def coefficient(lowest: float) -> Tensor:
        drawn = torch.rand(x.shape[0], *feature_shape, device=DEVICE) * 0.5 + lowest
        return (drawn / step).round() * step

    shifts = coefficient(-0.25) if shift else None
    # The interpreter cuts off what does not fit a half, the reference rounds: what a spike is worth fits.
    scale = (coefficient(0.5) * 64).round() / 64
    coefficients = Coefficients(*(coefficient(low) for low in (0.5, 0.75, 0.25, 0.25)), scale, shifts)
    start = torch.randn(x.shape[1:], device=DEVICE) if mem else None
    x = (x / step).round() * step if coarse else x
    return Case(x, start, coefficients, rule or Rule(), output_mem)


def results(sequence: Callable[..., tuple[Tensor, Tensor]], given: Case) -> dict[str, Tensor]:
    """Outputs, and the gradients of everything from a loss that weighs every output differently."""
    tensors = (given.x, given.mem, *given.coefficients)
    leaves = [None if t is None else t.detach().requires_grad_() for t in tensors]
    x, mem, *coefficients = leaves
    outputs = sequence(x, mem, Coefficients(*coefficients), given.rule, output_mem=given.output_mem)  # type: ignore[arg-type]
    weights = (torch.arange(o.numel(), device=DEVICE).reshape(o.shape).cos() for o in outputs)
    loss = torch.stack([(o.float() * w).sum() for o, w in zip(outputs, weights, strict=True)]).sum()
    grads = torch.autograd.grad(loss, [t for t in leaves if t is not None], allow_unused=True)
    named = dict(zip((n for n, t in zip(NAMES, leaves, strict=True) if t is not None), grads, strict=True))
    zeros = {n: torch.zeros_like(t) for n, t in zip(NAMES, leaves, strict=True) if t is not None}
    return {
        "spikes": outputs[0],
        "state": outputs[1],
        **{n: zeros[n] if g is None else g for n, g in named.items()},
    }


def assert_agrees(given: Case) -> None:
    got, expected = results(run, given), results(reference.sequence, given)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        if name in ("spikes", "state"):
            assert got[name].dtype == value.dtype
            assert torch.equal(got[name], value), name
            continue
        # Gradients are rounded to the dtype of x at most once, after sums in float32.
        tolerance = 1e-4 if value.dtype == torch.float32 else 1e-2
        scale = max(1.0, float(value.abs().max()) if value.numel() else 1.0)
        torch.testing.assert_close(
            got[name], value, rtol=tolerance, atol=tolerance * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


def images(steps: int, layout: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """A sequence ``[T, 2, 3, 2, 5]`` in one of several memory formats."""
    if layout == "channels last":
        stored = torch.randn(steps, 2, 2, 5, 3, device=DEVICE).permute(0, 1, 4, 2, 3)
    elif layout == "batch first":
        stored = torch.randn(2, steps, 3, 2, 5, device=DEVICE).transpose(0, 1)
    elif layout == "part of the channels":
        stored = torch.randn(steps, 2, 7, 2, 5, device=DEVICE)[:, :, 2:5]
    elif layout == "every other":
        stored = torch.randn(steps, 2, 3, 2, 10, device=DEVICE)[..., ::2]
    elif layout == "one step repeated":
        stored = torch.randn(2, 3, 2, 5, device=DEVICE).expand(steps, 2, 3, 2, 5)
    else:
        stored = torch.randn(steps, 2, 3, 2, 5, device=DEVICE)
    return stored.to(dtype)


LAYOUTS = [
    "contiguous",
    "channels last",
    "batch first",
    "part of the channels",
    "every other",
    "one step repeated",
]
RULES = st.builds(
    lambda spike_grad, mechanism, reset, detach: Rule(
        spike_grad, mechanism, reset == "delayed", reset == "exact", detach
    ),
    st.sampled_from(SURROGATES),
    st.sampled_from(["subtract", "zero", "none"]),
    st.sampled_from(["delayed", "immediate", "exact"]),
    st.sampled_from([True, False, None]),
)


@given(
    seed=st.integers(0, 2**16),
    steps=st.sampled_from([1, 2, 3, 4, 5, 8, 9]),
    layout=st.sampled_from(LAYOUTS),
    dtype=st.sampled_from([torch.float32, torch.float32, torch.bfloat16, torch.float16]),
    feature_shape=st.sampled_from([(), (3, 1, 1), (3, 2, 5), (2, 1), (3, 1, 5)]),
    rule=RULES,
    options=st.fixed_dictionaries(
        dict.fromkeys(["coarse", "mem", "shift", "output_mem"], st.booleans())  # type: ignore[arg-type]
    ),
)
# Interpreted, to shrink takes minutes; on a GPU each rule is compiled.
@settings(max_examples=20 if DEVICE == "cpu" else 6, phases=[Phase.explicit, Phase.generate])
def test_agrees_with_the_reference(
    seed: int,
    steps: int,
    layout: str,
    dtype: torch.dtype,
    feature_shape: tuple[int, ...],
    rule: Rule,
    options: dict[str, bool],
) -> None:
    torch.manual_seed(seed)
    assert_agrees(case(images(steps, layout, dtype), feature_shape, rule, **options))


@pytest.mark.parametrize("detach", [True, False, None])
@pytest.mark.parametrize("mechanism", ["subtract", "zero", "none"])
@pytest.mark.parametrize("reset", ["delayed", "immediate", "exact"])
def test_every_rule(reset: str, mechanism: Any, detach: bool | None) -> None:
    rule = Rule(surrogate.atan(), mechanism, reset == "delayed", reset == "exact", detach)
    assert_agrees(case(torch.randn(3, 4, 3, device=DEVICE), (3,), rule, output_mem=reset == "exact"))


@pytest.mark.parametrize("spike_grad", SURROGATES, ids=repr)
def test_every_surrogate(spike_grad: surrogate.Surrogate) -> None:
    rule = Rule(spike_grad, reset_delay=False, detach_reset=False)
    assert_agrees(case(torch.randn(2, 7, device=DEVICE), (), rule, coarse=spike_grad.fires_at_threshold))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("mechanism", ["subtract", "zero", "none"])
@pytest.mark.parametrize("reset", ["delayed", "immediate", "exact"])
def test_infinities_and_nan_pass_as_in_the_reference(reset: str, mechanism: Any) -> None:
    values = torch.tensor([math.inf, -math.inf, math.nan, 0.5, 2.0], device=DEVICE)
    x, mem = torch.cartesian_prod(values, values, values).T.contiguous(), values.repeat(25)
    numbers = (0.7, 1.5, 1.0, 1.0, 1.0)
    coefficients = Coefficients(*(torch.full((3, 125), number, device=DEVICE) for number in numbers))
    for spike_grad, detach in ((surrogate.triangular(1.5), True), (surrogate.atan(), False)):
        rule = Rule(spike_grad, mechanism, reset == "delayed", reset == "exact", detach)
        given = Case(x, mem, coefficients, rule, output_mem=False)
        got, expected = results(run, given), results(reference.sequence, given)
        # Autograd divides the reference's spikes by the scale: infinities cancel to NaN there.
        for name in expected.keys() - {"scale"}:
            torch.testing.assert_close(got[name], expected[name], rtol=1e-5, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("output_mem", [False, True])
def test_a_long_sequence_goes_back_to_saved_membranes(output_mem: bool) -> None:
    given = case(torch.randn(37, 2, 3, device=DEVICE), (3,), output_mem=output_mem)
    assert_agrees(given)


@pytest.mark.parametrize("steps", [3, 4])
@pytest.mark.parametrize("shape", [(41, 3, 8), (67, 30, 1), (53, 3, 7), (2600,)])
def test_sums_over_several_tiles_of_a_program(
    shape: tuple[int, ...], steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    launches = []

    def launched(*arguments: Any, **options: Any) -> Any:
        launches.append(backward_launch(*arguments, **options))
        return launches[-1]

    backward_launch = triton_ops.backward_launch
    monkeypatch.setattr(triton_tiles, "_PROGRAMS", 1)
    monkeypatch.setattr(triton_eager, "backward_launch", launched)
    triton_eager._backward_of.cache_clear()
    given = case(torch.randn(steps, *shape, device=DEVICE), (shape[1], 1) if len(shape) == 3 else ())
    wanted = (given.x, given.coefficients.gain, given.coefficients.shift)
    leaves = [t.detach().requires_grad_() for t in wanted if t is not None]
    coefficients = given.coefficients._replace(gain=leaves[1], shift=leaves[2])
    found = []
    for sequence in (run, reference.sequence):
        spikes, mem = sequence(leaves[0], given.mem, coefficients, given.rule, output_mem=False)
        weights = torch.arange(spikes.numel(), device=DEVICE).reshape(spikes.shape).cos()
        found.append(torch.autograd.grad((spikes * weights).sum() + mem.sin().sum(), leaves))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)
    ((launch, _),) = launches
    assert launch.numbers[2] > 2
    assert launch.constants["REPEATS"]


def test_sixteen_steps_at_a_time() -> None:
    assert_agrees(case(torch.randn(16, 2, 3, 5, device=DEVICE), (3, 1), mem=False))


def test_a_gradient_comes_without_saved_membranes_too() -> None:
    x = torch.randn(33, 3, device=DEVICE, requires_grad=True)
    ones = torch.ones(33, device=DEVICE)
    options = Rule().key, False, True, True
    grads = []
    for needs_grad in (True, False):
        spikes, mem, kept = triton_ops.forward(x, None, [ones * 0.9] * 5, *options, needs_grad)
        assert (kept.numel() > 0) == needs_grad
        grads.append(torch.autograd.grad(spikes.sum() + mem.sum(), x)[0])
    assert torch.equal(*grads)


@pytest.mark.parametrize("steps", [4, 5])
def test_a_membrane_that_is_dropped_is_not_written(steps: int) -> None:
    given = case(torch.randn(steps, 3, 7, device=DEVICE))
    expected, _ = reference.sequence(*given[:4], output_mem=False)
    spikes, mem = run(*given[:4], output_mem=False, keep_mem=False)
    assert torch.equal(spikes, expected)
    assert mem.numel() == 0
    x = given.x.requires_grad_()
    both = [
        torch.autograd.grad(run(x, *given[1:4], output_mem=False, **options)[0].sum(), x)[0]
        for run, options in ((run, {"keep_mem": False}), (reference.sequence, {}))
    ]
    torch.testing.assert_close(*both)


@pytest.mark.parametrize("steps", [1, 4, 5, 37])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_spikes_that_are_dropped_are_not_written(steps: int, dtype: torch.dtype) -> None:
    given = case(torch.randn(steps, 3, 7, device=DEVICE).to(dtype), (7,), output_mem=True)
    leaves = [given.x.requires_grad_(), *(c.requires_grad_() for c in given.coefficients[:4])]
    found = []
    for options in ({"keep_spikes": False}, {}):
        spikes, mem = run(*given[:4], output_mem=True, **options)
        assert spikes.numel() == (mem.numel() if not options else 0)
        found.append((mem, *torch.autograd.grad((mem * mem).sum(), leaves)))
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_an_operator_that_drops_spikes_keeps_the_rules_of_the_dispatcher() -> None:
    arguments = operator_arguments(images(2, "channels last"), (3, 1, 1), shift=False, output_mem=True)
    torch.library.opcheck(triton_ops.forward, (*arguments[:-2], False, True))


@pytest.mark.parametrize("feature_shape", [(), (5,)])
def test_empty_batch(feature_shape: tuple[int, ...]) -> None:
    given = case(torch.zeros(3, 0, 5, device=DEVICE), feature_shape)
    found = results(run, given)
    assert found["spikes"].shape == (3, 0, 5)
    assert found["state"].shape == (0, 5)
    assert torch.equal(found["beta"], torch.zeros(3, *feature_shape, device=DEVICE))


@pytest.mark.parametrize("layout", ["contiguous", "channels last", "batch first", "part of the channels"])
@pytest.mark.parametrize("feature_shape", [(), (3, 1, 1)])
def test_memory_formats_need_no_copy(layout: str, feature_shape: tuple[int, ...]) -> None:
    x = images(2, layout)
    folded = triton_ops.dense_samples(triton_ops.folding_of(x, feature_shape).sequence(x))
    assert folded.data_ptr() == x.data_ptr()


def test_channels_last_input_gives_channels_last_spikes() -> None:
    given = case(images(2, "channels last"), (3, 1, 1))
    found = results(run, given)
    for name in ("spikes", "x"):
        assert found[name].flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    assert found["state"].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize(
    "folded",
    [(1, 1, 1), (1, 1, 5000), (64, 512, 1), (8, 3, 49), (64, 64, 1024), (3, 100, 4), (7, 5, 196), (9, 1, 7)],
)
def test_tiles_cover_everything_and_are_powers_of_two(folded: tuple[int, int, int], itemsize: int) -> None:
    sizes = triton_tiles.geometry(folded, itemsize)
    assert sizes.batch * sizes.columns * sizes.inner == math.prod(folded)
    assert sizes.columns == folded[1] * (sizes.share or 1)
    for steps in (1, 4, 7, 16, 100):
        tiles = [triton_tiles.forward_tile(sizes, steps, itemsize)]
        tiles += [triton_tiles.backward_tile(sizes, steps, itemsize, rows) for rows in (0, 2)]
        for tile in tiles:
            for blocks, taken, size in zip(tile.blocks(sizes), tile[:3], sizes[:3], strict=True):
                assert blocks * taken >= size > (blocks - 1) * taken
            assert all(size & (size - 1) == 0 for size in tile)


def test_saves_nothing_but_the_input() -> None:
    x = torch.randn(32, 512, device=DEVICE, requires_grad=True)
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    coefficients = Coefficients(*torch.ones(5, 32, device=DEVICE))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run(x, None, coefficients, Rule(), output_mem=False)
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in saved}
    assert sum(storages.values()) < 1.05 * x.nbytes


def test_a_sequence_of_any_length_saves_a_membrane_every_so_often() -> None:
    intervals = {steps: triton_ops._interval(steps) for steps in (1, 4, 32, 33, 64, 256, 257, 1024)}
    assert intervals == {1: 32, 4: 32, 32: 32, 33: 16, 64: 16, 256: 16, 257: 24, 1024: 32}


def operator_arguments(x: Tensor, feature_shape: tuple[int, ...], *, shift: bool, output_mem: bool) -> Any:
    given = case(x, feature_shape, shift=shift)
    tensors = (given.x, given.mem, *given.coefficients.given)
    x, mem, *coefficients = (None if t is None else t.detach().requires_grad_() for t in tensors)
    rule = Rule(reset_delay=False, exact_reset=True)
    return x, mem, coefficients, rule.key, output_mem, True, True, True


@pytest.mark.parametrize(
    ("layout", "feature_shape", "output_mem"),
    [("contiguous", (), False), ("channels last", (3, 1, 1), True), ("batch first", (3, 2, 1), False)],
)
def test_operators_keep_the_rules_of_the_dispatcher(
    layout: str, feature_shape: tuple[int, ...], output_mem: bool
) -> None:
    arguments = operator_arguments(images(2, layout), feature_shape, shift=output_mem, output_mem=output_mem)
    torch.library.opcheck(triton_ops.forward, arguments)
    x, start, coefficients, key, *_ = arguments
    spikes, mem, checkpoints = (t.detach() for t in triton_ops.forward(*arguments))
    for wants in ([True] * 8, [False, True] * 4):
        wants[-1] = wants[-1] and len(coefficients) == 6
        tensors = x.detach(), start.detach(), [c.detach() for c in coefficients]
        backward_arguments = (*tensors, [checkpoints], spikes, mem, key, output_mem, wants)
        torch.library.opcheck(triton_ops.backward, backward_arguments)


def test_compiles_without_a_graph_break() -> None:
    x = torch.randn(3, 4, 5, device=DEVICE, requires_grad=True)
    beta = (torch.rand(3, 5, device=DEVICE) * 0.5).requires_grad_()
    rule = Rule(surrogate.sigmoid(4))

    def function(x: Tensor, beta: Tensor) -> Tensor:
        ones = torch.ones_like(beta)
        coefficients = Coefficients(beta * 2, ones, ones, ones, ones)
        spikes, mem = run(x * 1.5, None, coefficients, rule, output_mem=True)
        return (spikes * mem.cos()).sum()

    backend = "inductor" if DEVICE == "cuda" else "aot_eager"
    fused = torch.compile(function, fullgraph=True, backend=backend)
    expected, got = function(x, beta), fused(x, beta)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(torch.autograd.grad(got, (x, beta)), torch.autograd.grad(expected, (x, beta)))


def test_transforms_run_the_loops_instead_unless_kernels_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernels, "covers", lambda _: True)
    x, ones = torch.randn(3, 4, device=DEVICE), torch.ones(3, device=DEVICE)

    def loss(beta: Tensor, sequence: Callable[..., tuple[Tensor, Tensor]]) -> Tensor:
        spikes, mem = sequence(x, None, Coefficients(beta, *[ones] * 4), Rule(), output_mem=False)
        return spikes.sum() + mem.square().sum()

    beta = torch.rand(3, device=DEVICE)
    gradient = torch.func.grad(loss)
    expected = gradient(beta, reference.sequence)
    relaxed = functools.partial(engine.run, impl="auto")
    torch.testing.assert_close(gradient(beta, relaxed), expected)
    compiled = torch.compile(gradient, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(beta, relaxed), expected)
    with pytest.raises(RuntimeError, match=r"does not run under torch.func transforms"):
        gradient(beta, run)


def test_there_is_no_second_derivative() -> None:
    x = torch.randn(2, 3, device=DEVICE, requires_grad=True)
    beta = torch.full((2,), 0.5, device=DEVICE)
    _, mem = run(x, None, Coefficients(*[beta] * 5), Rule(), output_mem=False)
    (grad,) = torch.autograd.grad(mem.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        grad.sum().backward()


def test_inference_mode_saves_no_membranes() -> None:
    given = case(torch.randn(33, 2, device=DEVICE), mem=False)
    with torch.inference_mode():
        spikes, mem = run(*given[:4], output_mem=False)
    assert torch.equal(spikes, reference.sequence(*given[:4], output_mem=False)[0])
    assert mem.shape == (2,)


def test_the_public_function_takes_it() -> None:
    x = torch.randn(3, 4, device=DEVICE)
    for spikes, expected in zip(
        adaptive_leaky(x, 0.9, impl="triton"), adaptive_leaky(x, 0.9, impl="reference"), strict=True
    ):
        assert torch.equal(spikes, expected)


def test_what_cannot_run_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    ones = Coefficients(*torch.ones(5, 2, dtype=torch.float64, device=DEVICE))
    with pytest.raises(ValueError, match=r"takes x in float32, bfloat16, float16; got torch\.float64"):
        run(torch.zeros(2, 3, dtype=torch.float64, device=DEVICE), None, ones, Rule(), output_mem=False)
    monkeypatch.setattr(kernels, "missing", kernels.missing.__wrapped__)
    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    with pytest.raises(RuntimeError, match="impl='triton' needs a CUDA tensor; x is on 'cpu'"):
        adaptive_leaky(torch.zeros(2, 3), 0.9, impl="triton")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(RuntimeError, match="impl='triton' needs the package triton"):
        adaptive_leaky(torch.zeros(2, 3), 0.9, impl="triton")


def test_an_interpreter_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton.knobs.runtime, "interpret", True)
    monkeypatch.setattr(triton, "__version__", "3.6.0")
    assert "triton 3.7 or later" in str(kernels.missing.__wrapped__("cpu"))


def run_without_interpreter(tmp_path: Path, script: Path, *arguments: str) -> str:
    """What a script prints that needs Triton's compiler."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, str(script), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_kernels_compile_without_a_gpu_and_once_for_any_number_of_steps(tmp_path: Path) -> None:
    printed = run_without_interpreter(tmp_path, Path(__file__).with_name("compile_for_hopper.py"))
    assert json.loads(printed) == [[1, 1], [2, 2], *[[3, 3]] * 5]


@without_gpu
@pytest.mark.parametrize(
    "cases", [("--sample", "7"), ("--filter", "('gain', 'shift')")], ids=["sample", "main"]
)
def test_kernels_compile_with_the_types_of_every_caller_and_spill_nothing(
    tmp_path: Path, cases: tuple[str, ...]
) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "triton_offline.py"
    rows = [json.loads(line) for line in run_without_interpreter(tmp_path, script, *cases).splitlines()]
    assert len(rows) >= 8
    kernels_of = {row["kernel"] for row in rows}
    assert "adaptive_leaky backward" in kernels_of
    assert cases[0] != "--sample" or kernels_of >= {"recurrent forward", "recurrent backward"}


@without_gpu
def test_at_most_two_graphs_for_all_batch_sizes(tmp_path: Path) -> None:
    printed = run_without_interpreter(tmp_path, Path(__file__).with_name("trace_batches.py"))
    graphs = json.loads(printed.splitlines()[-1])
    assert len(graphs) == 7
    assert all(count <= 2 for counts in graphs.values() for count in counts), graphs


@cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("steps", [4, 16, 37])
@pytest.mark.parametrize("feature_shape", [(), (32, 1, 1), (32, 16, 16)], ids=["layer", "channel", "neuron"])
def test_large_tensors_on_a_gpu(steps: int, dtype: torch.dtype, feature_shape: tuple[int, ...]) -> None:
    x = torch.randn(steps, 16, 32, 16, 16, device=DEVICE).to(dtype)
    assert_agrees(case(x, feature_shape, Rule(surrogate.sigmoid(4), reset_delay=False, exact_reset=True)))


@cuda
def test_one_kernel_for_any_number_of_steps() -> None:
    def variants() -> list[int]:
        both = (triton_kernels.forward_kernel, triton_kernels.backward_kernel)
        return [len(kernel.device_caches[torch.cuda.current_device()][0]) for kernel in both]

    x = torch.randn(128, 64, device=DEVICE)
    assert_agrees(case(x[:33]))
    before = variants()
    for steps in (48, 64, 99, 128):
        assert_agrees(case(x[:steps]))
    assert variants() == before


@cuda
def test_gradients_are_deterministic_on_a_gpu() -> None:
    given = case(torch.randn(8, 64, 64, 16, 16, device=DEVICE), (64, 1, 1))
    first, second = results(run, given), results(run, given)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
