"""The C++ kernel against the reference, and what becomes of machines without a compiler."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd

from snntorch_asnn import surrogate
from snntorch_asnn.ops import adaptive_leaky
from snntorch_asnn.ops._adaptive_leaky import engine, reference
from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
from snntorch_asnn.ops._adaptive_leaky.cpp import implementation as cpp
from snntorch_asnn.ops._adaptive_leaky.cpp import kernels as cpp_kernels
from snntorch_asnn.ops._adaptive_leaky.cpp.operators import forward as forward_operator
from snntorch_asnn.ops._adaptive_leaky.rule import Rule
from snntorch_asnn.ops._cpp import build as cpp_build

# Each rule is a compilation of its own. Together they hold every value of every option, and most pairs.
RULES = [
    Rule(surrogate.atan()),
    Rule(surrogate.fast_sigmoid(3), "zero", detach_reset=False),
    Rule(surrogate.sigmoid(4), detach_reset=False),
    Rule(surrogate.triangular(1.5), "none"),
    Rule(surrogate.sigmoid(4), reset_delay=False),
    Rule(surrogate.straight_through(fires_at_threshold=True), "zero", reset_delay=False),
    Rule(surrogate.atan(1), "zero", reset_delay=False, detach_reset=False),
    Rule(surrogate.triangular(1.5), reset_delay=False, detach_reset=True),
    Rule(surrogate.sigmoid(4, fires_at_threshold=True), reset_delay=False, exact_reset=True),
    Rule(surrogate.sigmoid(2), "zero", reset_delay=False, exact_reset=True, detach_reset=True),
]
NAMES = ("beta", "gain", "threshold", "previous_threshold", "scale", "shift")
BOUNDS = ((0.2, 1.0), (0.5, 1.5), (0.3, 1.2), (0.3, 1.2), (0.5, 1.0), (-0.2, 0.2))
ALL = (True,) * 6

pytestmark = pytest.mark.skipif(cpp.missing() is not None, reason="needs a C++ compiler")


def gradients(
    sequence: Any, x: Tensor, mem: Tensor | None, given: list[Tensor], **options: Any
) -> dict[str, Tensor]:
    leaves = {"x": x, **dict(zip(NAMES, given, strict=False))} | ({} if mem is None else {"mem": mem})
    leaves = {name: leaf.detach().requires_grad_(name in options["learned"]) for name, leaf in leaves.items()}
    coefficients = Coefficients(*(leaves[name] for name in NAMES[: len(given)]))
    spikes, state = sequence(
        leaves["x"], leaves.get("mem"), coefficients, options["rule"], output_mem=options["output_mem"]
    )
    outputs = {"spikes": spikes, "state": state}
    loss = sum(
        (o * torch.cos(torch.arange(o.numel(), dtype=o.dtype)).view(o.shape)).sum() for o in outputs.values()
    )
    wanted = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
    grads = torch.autograd.grad(loss, list(wanted.values()), materialize_grads=True)  # type: ignore[arg-type]
    return outputs | dict(zip(wanted, grads, strict=True))


def assert_agree(got: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert (got[name].shape, got[name].dtype) == (value.shape, value.dtype), name
        size = max(value.abs().max().item(), 1.0) if value.numel() else 1.0
        torch.testing.assert_close(
            got[name], value, rtol=0, atol=tolerance * size, msg=lambda m, n=name: f"{n}: {m}"
        )


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    steps = draw(st.sampled_from([1, 2, 5, 16, 37]))
    sample = draw(st.sampled_from([(3,), (70,), (5, 3), (2, 4, 3), (3, 9, 8), (1100,)]))
    features = [(), sample, (sample[0], *(1 for _ in sample[1:])), sample[-1:], (1,) * len(sample)]
    return {
        "shape": (steps, draw(st.sampled_from([0, 1, 3, 17])), *sample),
        "features": draw(st.sampled_from(features)),
        "layout": draw(st.sampled_from(["contiguous", "features outermost", "strided", "batch first"])),
        "with_mem": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**31)),
        "rule": draw(st.integers(0, len(RULES) - 1)),
        "output_mem": draw(st.booleans()),
    }


def tensors(case: dict[str, Any], dtype: torch.dtype) -> tuple[Tensor, Tensor | None, list[Tensor]]:
    generator = torch.Generator().manual_seed(case["seed"])

    def uniform(shape: tuple[int, ...], low: float, high: float, dtype: torch.dtype) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator, dtype=dtype)

    shape, state_dtype = case["shape"], torch.promote_types(dtype, torch.float32)
    if case["layout"] == "features outermost":
        x = uniform((shape[0], *shape[2:], shape[1]), -1, 2, dtype).movedim(-1, 1)
    elif case["layout"] == "strided":
        x = uniform((*shape[:-1], 2 * shape[-1]), -1, 2, dtype)[..., ::2]
    elif case["layout"] == "batch first":
        x = uniform((shape[1], shape[0], *shape[2:]), -1, 2, dtype).transpose(0, 1)
    else:
        x = uniform(shape, -1, 2, dtype)
    given = [
        uniform((shape[0], *case["features"]), low, high, state_dtype)
        for low, high in BOUNDS[: 5 + case["rule"] % 2]
    ]
    return x, uniform(shape[1:], -1, 2, state_dtype) if case["with_mem"] else None, given


@given(cases())
@settings(max_examples=300)
def test_agrees_with_the_reference(case: dict[str, Any]) -> None:
    x, mem, given = tensors(case, torch.float64)
    options = {"rule": RULES[case["rule"]], "output_mem": case["output_mem"], "learned": ("x", "mem", *NAMES)}
    expected = gradients(reference.sequence, x, mem, given, **options)
    assert_agree(gradients(cpp.sequence, x, mem, given, **options), expected, 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rule", [RULES[0], RULES[4], RULES[8]], ids=["delayed", "immediate", "exact"])
def test_spikes_are_the_references(rule: Rule, dtype: torch.dtype) -> None:
    x = torch.randn(9, 3, 5, 11, 13).to(dtype)
    given = [torch.rand(9, 5, 1, 1) * 0.5 + 0.4 for _ in NAMES]
    options = {"rule": rule, "output_mem": True, "learned": ("x", *NAMES)}
    expected = gradients(reference.sequence, x, None, given, **options)
    got = gradients(cpp.sequence, x, None, given, **options)
    assert torch.equal(got["spikes"], expected["spikes"])
    assert torch.equal(got["state"], expected["state"])
    assert_agree(got, expected, 2e-5 if dtype == torch.float32 else 2e-2)


@pytest.mark.parametrize("learned", [(), ("x",), ("x", "gain"), ("scale", "shift"), ("mem", "threshold")])
def test_any_choice_of_gradients(learned: tuple[str, ...]) -> None:
    x, mem = torch.randn(4, 3, 40, dtype=torch.float64), torch.randn(3, 40, dtype=torch.float64)
    given = [torch.rand(4, 40, dtype=torch.float64) + 0.2 for _ in NAMES]
    rule, options = RULES[8], {"output_mem": False, "learned": learned}
    if not learned:
        assert not cpp.sequence(x, mem, Coefficients(*given), rule, output_mem=False)[0].requires_grad
        return
    expected = gradients(reference.sequence, x, mem, given, rule=rule, **options)
    assert_agree(gradients(cpp.sequence, x, mem, given, rule=rule, **options), expected, 1e-12)


def test_a_gradient_of_the_membrane_alone() -> None:
    x = torch.randn(5, 4, 6, dtype=torch.float64, requires_grad=True)
    beta = torch.full((5,), 0.9, dtype=torch.float64)
    by_impl = [
        torch.autograd.grad(adaptive_leaky(x, beta, impl=impl)[1].sum(), x)[0]
        for impl in ("cpp", "reference")
    ]
    torch.testing.assert_close(*by_impl)


@pytest.mark.parametrize("steps", [1024])
def test_long_sequences(steps: int) -> None:
    x = torch.randn(steps, 2, 50, dtype=torch.float64)
    given = [torch.rand(steps, dtype=torch.float64) * 0.5 + 0.4 for _ in NAMES]
    options = {"rule": RULES[0], "output_mem": False, "learned": ("x", *NAMES)}
    expected = gradients(reference.sequence, x, None, given, **options)
    assert_agree(gradients(cpp.sequence, x, None, given, **options), expected, 1e-11)


@pytest.mark.parametrize(
    ("shape", "features"), [((4, 9, 5000), ()), ((3, 40, 70), (70,)), ((3, 4, 6, 90), (6, 1))]
)
def test_results_do_not_depend_on_the_number_of_threads(
    shape: tuple[int, ...], features: tuple[int, ...]
) -> None:
    before = torch.get_num_threads()
    x, given = torch.randn(shape), [torch.rand(shape[0], *features) * 0.5 + 0.4 for _ in NAMES]
    options = {"rule": RULES[8], "output_mem": False, "learned": ("x", *NAMES)}
    try:
        found = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(gradients(cpp.sequence, x, None, given, **options))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(found[0].values(), found[1].values(), strict=True))


def test_outputs_are_written_whole() -> None:
    torch.use_deterministic_algorithms(True)  # fills what is allocated with NaN
    try:
        for shape, features in (((3, 2, 1100), ()), ((2, 5, 7, 9), (7, 1)), ((2, 5, 33), (33,))):
            given = [torch.rand(shape[0], *features) * 0.5 + 0.4 for _ in NAMES]
            options = {"rule": RULES[8], "output_mem": True, "learned": ("x", "mem", *NAMES)}
            found = gradients(cpp.sequence, torch.randn(shape), torch.randn(shape[1:]), given, **options)
            assert all(value.isfinite().all() for value in found.values())
    finally:
        torch.use_deterministic_algorithms(False)


def test_large_outputs_that_are_written_past_the_cache() -> None:
    x = torch.randn(4, 1 << 21)
    options = {"rule": RULES[0], "output_mem": False, "learned": ("x",)}
    given = [torch.full((4,), value) for value in (0.9, 1.0, 1.0, 1.0, 1.0)]
    expected = gradients(reference.sequence, x, None, given, **options)
    assert_agree(gradients(cpp.sequence, x, None, given, **options), expected, 1e-5)


@pytest.mark.parametrize("rule", RULES[:4], ids=lambda rule: rule.spike_grad.kind)
def test_derivatives_of_surrogates(rule: Rule) -> None:
    far = torch.tensor([1e-20, 1e10, 1e19, 1e30, torch.inf, -torch.inf])
    u = torch.cat([torch.linspace(-40, 40, 8001), far])
    x = u.view(1, -1).requires_grad_()
    given = [torch.full((1,), value) for value in (0.5, 1.0, 0.0, 0.0, 1.0)]
    spikes, _ = cpp.sequence(x, None, Coefficients(*given), rule, output_mem=False)
    (grad,) = torch.autograd.grad(spikes.sum(), x)
    assert isinstance(rule.spike_grad, surrogate.Surrogate)
    # All are even, and a logistic function is exact where it is small.
    expected = rule.spike_grad.derivative(-u.double().abs()).float()
    torch.testing.assert_close(grad[0], expected, rtol=2e-6, atol=1e-30)


@pytest.mark.parametrize("rule", RULES[:4], ids=lambda rule: rule.spike_grad.kind)
def test_what_is_not_a_number_stays_none(rule: Rule) -> None:
    x = torch.ones(3, 40)
    x[1, 7] = torch.nan
    given = [torch.full((3,), value) for value in (0.9, 1.0, 1.0, 1.0, 1.0)]
    options = {"rule": rule, "output_mem": True, "learned": ("x", *NAMES[:2])}
    expected = gradients(reference.sequence, x, None, given, **options)
    found = gradients(cpp.sequence, x, None, given, **options)
    for name, value in found.items():
        assert torch.equal(value.isnan(), expected[name].isnan()), name


def test_saves_nothing_but_the_input() -> None:
    x = torch.randn(40, 4, 32, 16, 16, requires_grad=True)
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        adaptive_leaky(x, torch.full((40, 32, 1, 1), 0.9), impl="cpp")
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in saved}
    assert sum(storages.values()) < 1.02 * x.nbytes


@pytest.mark.parametrize("layout", ["channels last", "batch first"])
def test_other_memory_formats_are_not_copied(layout: str) -> None:
    x = torch.randn(6, 4, 5, 5)
    if layout == "channels last":
        x = x.to(memory_format=torch.channels_last).unflatten(0, (2, 3))
        features: tuple[int, ...] = (4, 1, 1)
    else:
        x, features = torch.randn(3, 2, 4, 5, 5).transpose(0, 1), ()
    x.requires_grad_()
    saved: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.data_ptr()), lambda _: x):
        adaptive_leaky(x, torch.rand(2, *features), impl="cpp")
    assert x.data_ptr() in saved


def operator_arguments(learned: bool) -> tuple[Any, ...]:
    x = torch.randn(3, 2, 4, 6, requires_grad=True)
    given = [torch.rand(3, 4, 1).requires_grad_(learned) for _ in range(5)]
    return x, torch.randn(2, 4, 6), given, RULES[0].key, False


@pytest.mark.parametrize("learned", [True, False])
def test_operator_is_registered_correctly(learned: bool) -> None:
    torch.library.opcheck(forward_operator, operator_arguments(learned))


def test_stays_whole_in_a_compiled_graph() -> None:
    x, beta = torch.randn(4, 3, 7, requires_grad=True), torch.rand(4, requires_grad=True)

    def function(x: Tensor, beta: Tensor) -> Tensor:
        return adaptive_leaky(x * 2, beta, impl="cpp")[0] * torch.arange(7.0)

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(function(x, beta).sum(), (x, beta))
    for got, value in zip(torch.autograd.grad(compiled(x, beta).sum(), (x, beta)), expected, strict=True):
        torch.testing.assert_close(got, value)


@pytest.mark.parametrize(
    "arguments",
    [{"x": torch.zeros(2, 3, dtype=torch.float16)}, {"spike_grad": torch.sigmoid}, {"inhibition": True}],
)
def test_refuses_what_it_does_not_cover(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="impl='cpp'"):
        adaptive_leaky(**{"x": torch.zeros(2, 3), "beta": 0.9, "impl": "cpp", **arguments})


def test_refuses_transforms() -> None:
    with pytest.raises(RuntimeError, match=r"torch\.func"):
        torch.func.grad(lambda x: adaptive_leaky(x, 0.9, impl="cpp")[0].sum())(torch.zeros(2, 3))


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    cached = (
        cpp_build.find_compiler,
        cpp_build.library,
        cpp_kernels.missing,
        cpp_kernels._forward_kernel,
        cpp_kernels.lack,
        engine._warn_of_the_reference,
    )
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


@pytest.mark.usefixtures("no_compiler")
def test_says_what_it_misses() -> None:
    with pytest.raises(RuntimeError, match=r"impl='cpp' needs a C\+\+ compiler"):
        adaptive_leaky(torch.zeros(2, 3), 0.9, impl="cpp")


@pytest.mark.usefixtures("no_compiler")
def test_auto_warns_once_and_runs_the_reference() -> None:
    x = torch.randn(2, engine.LEAST_TO_COMPILE_FOR)
    with pytest.warns(UserWarning, match=r"slow reference loops: .* needs a C\+\+ compiler"):
        spikes, _ = adaptive_leaky(x, 0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adaptive_leaky(x, 0.9)
    assert torch.equal(spikes, adaptive_leaky(x, 0.9, impl="reference")[0])


def test_says_what_the_compiler_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cpp_build, "_folder", lambda: tmp_path)
    with pytest.raises(cpp_build.BuildError, match="STATE"):
        cpp_build.library(cpp_kernels.SOURCE, "INPUT=float", "WANTED=0")
    assert list(tmp_path.iterdir()) == []


def test_keeps_libraries_where_it_is_told(tmp_path: Path) -> None:
    script = "from snntorch_asnn.ops._adaptive_leaky.cpp import kernels; assert kernels.missing() is None"
    environment = {**os.environ, "SNNTORCH_ASNN_CACHE": str(tmp_path / "kernels")}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", script], check=True, env=environment)
    assert len(list((tmp_path / "kernels").glob("*.so"))) == 1


def test_rules_hold_every_pair_of_reset_and_mechanism() -> None:
    pairs = {(r.reset_delay, r.exact_reset, r.reset_mechanism) for r in RULES if r.reset_mechanism != "none"}
    assert pairs == set(itertools.product([True], [False], ["subtract", "zero"])) | set(
        itertools.product([False], [False, True], ["subtract", "zero"])
    )


BRIEF = engine.GRAPH_FUSES_ELEMENTS


@pytest.mark.parametrize(
    ("steps", "elements", "calls"),
    [
        (4, engine.GRAPH_FUSES_ELEMENTS // 8, False),
        (4, engine.GRAPH_FUSES_ELEMENTS, True),
        (5, engine.GRAPH_FUSES_ELEMENTS // 8, True),
    ],
)
def test_a_graph_fuses_short_sequences_itself(steps: int, elements: int, calls: bool) -> None:
    torch.compiler.reset()
    seen: list[str] = []

    def note(graph: Any, _: Any) -> Any:
        seen.append(graph.code)
        return make_boxed_func(graph.forward)

    x = torch.randn(steps, 2, elements // (2 * steps) + 1, requires_grad=True)
    run = torch.compile(lambda x: adaptive_leaky(x, 0.9)[0], backend=aot_autograd(fw_compiler=note))
    assert torch.equal(run(x), adaptive_leaky(x, 0.9, impl="reference")[0])
    assert any("adaptive_leaky_cpu" in code for code in seen) == calls
