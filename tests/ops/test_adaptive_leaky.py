"""The sequence op: by hand, and every implementation against the reference."""

from __future__ import annotations

import math
from typing import Any

import pytest
import snntorch.surrogate
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snntorch_asnn import surrogate
from snntorch_asnn.ops import adaptive_leaky
from snntorch_asnn.ops._adaptive_leaky import inductor as compiled
from snntorch_asnn.ops._adaptive_leaky.cpp import implementation as cpp

RESETS = [
    {"reset_delay": True},
    {"reset_delay": False},
    {"reset_delay": False, "exact_reset": True},
]
SURROGATES = [
    surrogate.atan(),
    surrogate.fast_sigmoid(3),
    surrogate.sigmoid(4),
    surrogate.triangular(1.5),
    surrogate.straight_through(),
    surrogate.sigmoid(4, fires_at_threshold=True),
]


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the compiled implementation's loops as plain Python: its arithmetic, at once."""
    loop = compiled._loop
    monkeypatch.setattr(compiled, "_loop", lambda function, key, option, _: loop(function, key, option, None))


def results(x: Tensor, parameters: list[Tensor], mem: Tensor | None, **options: Any) -> dict[str, Tensor]:
    """Outputs, and the gradient of everything from a loss that weighs every output differently."""
    leaves = [t.detach().clone().requires_grad_() for t in (*parameters, *([] if mem is None else [mem]))]
    # Multiplying keeps the memory format of x, and poisons nothing that a leaf's clone would straighten.
    x = x.detach().requires_grad_()
    spikes, state = adaptive_leaky(x, *leaves, **options)
    loss = sum(
        (out * torch.cos(torch.arange(out.numel(), dtype=out.dtype).reshape(out.shape))).sum()
        for out in (spikes, state)
    )
    grads = torch.autograd.grad(loss, [x, *leaves], allow_unused=True)  # type: ignore[arg-type]
    names = ("x", "beta", "gain", "threshold", "mem")
    found = {name: g for name, g in zip(names, grads, strict=False) if g is not None}
    return {"spikes": spikes, "state": state, **found}


def assert_agree(got: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert got[name].shape == value.shape, name
        assert got[name].dtype == value.dtype, name
        scale = max(value.abs().max().item(), 1.0) if value.numel() else 1.0
        torch.testing.assert_close(
            got[name], value, rtol=0, atol=tolerance * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    steps = draw(st.sampled_from([1, 2, 5, 16, 17, 37]))
    sample = draw(st.sampled_from([(3,), (5, 3), (2, 4, 3)]))
    features = draw(
        st.sampled_from([(), sample, (sample[0], *(1 for _ in sample[1:])), sample[-1:], (1,) * len(sample)])
    )
    return {
        "shape": (steps, draw(st.integers(0, 4)), *sample),
        "features": features,
        "with_mem": draw(st.booleans()),
        "layout": draw(st.sampled_from(["contiguous", "features outermost", "strided"])),
        "seed": draw(st.integers(0, 2**31)),
        "options": {
            **draw(st.sampled_from(RESETS)),
            "reset_mechanism": draw(st.sampled_from(["subtract", "zero", "none"])),
            "detach_reset": draw(st.sampled_from([None, True, False])),
            "spike_grad": draw(st.sampled_from(SURROGATES)),
            "graded_spikes_factor": draw(st.sampled_from([1.0, 0.7])),
            "output_mem": draw(st.booleans()),
        },
    }


def inputs(configuration: dict[str, Any], dtype: torch.dtype) -> tuple[Tensor, list[Tensor], Tensor | None]:
    generator = torch.Generator().manual_seed(configuration["seed"])

    def uniform(shape: tuple[int, ...], low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator, dtype=dtype)

    shape, features = configuration["shape"], configuration["features"]
    if configuration["layout"] == "features outermost":
        x = uniform((shape[0], *shape[2:], shape[1]), -1, 2).movedim(-1, 1)
    elif configuration["layout"] == "strided":
        x = uniform((*shape[:-1], 2 * shape[-1]), -1, 2)[..., ::2]
    else:
        x = uniform(shape, -1, 2)
    parameters = [
        uniform((shape[0], *features), low, high) for low, high in ((0.2, 1), (0.5, 1.5), (0.3, 1.2))
    ]
    mem = uniform(shape[1:], -1, 2) if configuration["with_mem"] else None
    return x, parameters, mem


@pytest.mark.slow
@pytest.mark.usefixtures("uncompiled")
@given(configurations())
@settings(max_examples=300)
def test_fused_arithmetic_agrees_with_the_reference(configuration: dict[str, Any]) -> None:
    x, parameters, mem = inputs(configuration, torch.float64)
    options = configuration["options"]
    expected = results(x, parameters, mem, impl="reference", **options)
    assert_agree(results(x, parameters, mem, impl="compile", **options), expected, 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("reset", RESETS, ids=["delayed", "immediate", "exact"])
@pytest.mark.parametrize(
    ("shape", "features"), [((3, 8, 6), ()), ((3, 4, 5, 3, 3), (5, 1, 1)), ((2, 4, 6), (6,))]
)
def test_compiled_agrees_with_the_reference(
    reset: dict[str, bool], shape: tuple[int, ...], features: tuple[int, ...]
) -> None:
    x = torch.randn(shape)
    parameters = [torch.rand(shape[0], *features) * 0.5 + 0.4 for _ in range(3)]
    expected = results(x, parameters, None, impl="reference", **reset)
    assert_agree(results(x, parameters, None, impl="compile", **reset), expected, 2e-5)


def non_finite(**options: Any) -> dict[str, Tensor]:
    """Outputs and gradients of every order of infinities, NaN and numbers, from each of them as a state."""
    values = torch.tensor([math.inf, -math.inf, math.nan, 0.5, -0.5, 2.0])
    x, mem = torch.cartesian_prod(values, values, values).T.contiguous(), values.repeat(36)
    return results(x, [torch.full((3, 216), value) for value in (0.7, 1.0, 1.0)], mem, **options)


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("spike_grad", [surrogate.atan(), surrogate.triangular(1.5)], ids=repr)
@pytest.mark.parametrize("reset", RESETS, ids=["delayed", "immediate", "exact"])
@pytest.mark.parametrize("mechanism", ["subtract", "zero", "none"])
def test_infinities_and_nan_pass_as_in_the_reference(
    mechanism: str, reset: dict[str, bool], spike_grad: surrogate.Surrogate
) -> None:
    for detach in (True, False):
        options = {"reset_mechanism": mechanism, "spike_grad": spike_grad, "detach_reset": detach, **reset}
        expected = non_finite(impl="reference", **options)
        assert_same(non_finite(impl="compile", **options), expected)


@pytest.mark.parametrize(
    ("mechanism", "reset", "spike_grad"),
    [
        ("zero", RESETS[2], surrogate.fast_sigmoid(3)),
        ("zero", RESETS[0], surrogate.triangular(1.5)),
        ("subtract", RESETS[1], surrogate.atan()),
    ],
)
def test_infinities_and_nan_pass_through_the_cpp_kernel(
    mechanism: str, reset: dict[str, bool], spike_grad: surrogate.Surrogate
) -> None:
    options = {"reset_mechanism": mechanism, "spike_grad": spike_grad, **reset}
    assert_same(non_finite(impl="cpp", **options), non_finite(impl="reference", **options))


def assert_same(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            got[name], value, equal_nan=True, msg=lambda message, n=name: f"{n}: {message}"
        )


@pytest.mark.slow
def test_compiled_runs_long_sequences_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "CHUNK", 3)
    steps = 2 * compiled.CHUNK + 1
    x, mem = torch.randn(steps, 64), torch.randn(64)
    parameters = [torch.rand(steps) * 0.5 + 0.4 for _ in range(3)]
    expected = results(x, parameters, mem, impl="reference")
    assert_agree(results(x, parameters, mem, impl="compile"), expected, 1e-4)


@pytest.mark.slow
def test_compiled_saves_nothing_but_the_input() -> None:
    x = torch.randn(8, 4, 32, 16, 16, requires_grad=True)
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        adaptive_leaky(x, 0.9, impl="compile")
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in saved}
    assert sum(storages.values()) < 1.01 * x.nbytes


@pytest.mark.usefixtures("uncompiled")
def test_channels_last_input_gives_channels_last_spikes() -> None:
    images = torch.randn(6, 4, 5, 5).to(memory_format=torch.channels_last)
    x = images.unflatten(0, (2, 3))
    spikes, _ = adaptive_leaky(x, torch.rand(2, 4, 1, 1), impl="compile")
    assert spikes.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("impl", ["reference", "compile"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.usefixtures("uncompiled")
def test_half_precision_keeps_a_float32_state(impl: Any, dtype: torch.dtype) -> None:
    x = torch.randn(9, 32).to(dtype)
    spikes, mem = adaptive_leaky(x, 0.97, impl=impl)
    spikes32, mem32 = adaptive_leaky(x.float(), 0.97, impl=impl)
    assert spikes.dtype == dtype
    assert mem.dtype == torch.float32
    assert torch.equal(spikes.float(), spikes32)
    assert torch.equal(mem, mem32)


def test_by_hand_with_parameters_that_change() -> None:
    x = torch.tensor([2.0, 1.0, 1.0]).reshape(3, 1, 1)
    spikes, mem = adaptive_leaky(
        x,
        beta=torch.tensor([0.5, 0.5, 0.25]),
        gain=torch.tensor([1.0, 2.0, 1.0]),
        threshold=torch.tensor([1.5, 3.0, 1.0]),
        reset_delay=False,
        exact_reset=True,
        output_mem=True,
    )
    # u: 2; .5*.5 + 2 = 2.25; .25*2.25 + 1 = 1.5625
    assert spikes.flatten().tolist() == [1, 0, 1]
    assert mem.flatten().tolist() == [0.5, 2.25, 0.5625]


@pytest.mark.parametrize("impl", ["reference", "compile"])
@pytest.mark.usefixtures("uncompiled")
def test_exact_reset_does_not_miss_spikes_of_a_membrane_above_threshold(impl: Any) -> None:
    x = torch.tensor([3.0, 0.0, 0.0, 0.0]).reshape(4, 1)
    exact, _ = adaptive_leaky(x, 0.9, reset_delay=False, exact_reset=True, impl=impl)
    snntorchs, _ = adaptive_leaky(x, 0.9, reset_delay=False, impl=impl)
    assert exact.flatten().tolist() == [1, 1, 0, 0]
    assert snntorchs.flatten().tolist() == [1, 0, 0, 0]


def test_delayed_reset_answers_the_threshold_of_the_spike() -> None:
    x = torch.tensor([2.0, 0.0]).reshape(2, 1)
    _, mem = adaptive_leaky(x, 1.0, threshold=torch.tensor([1.5, 5.0]), output_mem=True)
    assert mem.flatten().tolist() == [2.0, 0.5]
    _, mem = adaptive_leaky(
        x[1:], 1.0, threshold=torch.tensor([5.0]), mem=torch.tensor([2.0]), previous_threshold=1.5
    )
    assert mem.item() == 0.5


@pytest.mark.parametrize("reset", RESETS, ids=["delayed", "immediate", "exact"])
@pytest.mark.parametrize("mechanism", ["subtract", "zero", "none"])
@pytest.mark.parametrize("impl", ["reference", "compile"])
@pytest.mark.usefixtures("uncompiled")
def test_gradcheck_away_from_the_threshold(reset: dict[str, bool], mechanism: Any, impl: Any) -> None:
    # This surrogate vanishes further than 1e-3 from the threshold, where the step is truly flat.
    spike_grad = surrogate.triangular(width=1e-3)
    x = torch.linspace(0.11, 1.73, 12, dtype=torch.float64).reshape(4, 3, 1).requires_grad_()
    parameters = [
        (torch.linspace(0.31, 0.83, 4, dtype=torch.float64) + shift).requires_grad_()
        for shift in (0, 0.3, 0.4)
    ]
    mem = torch.full((3, 1), 0.37, dtype=torch.float64, requires_grad=True)

    def function(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        return adaptive_leaky(
            *tensors,
            spike_grad=spike_grad,
            reset_mechanism=mechanism,
            impl=impl,
            **reset,  # type: ignore[arg-type]
        )

    spikes, _ = function(x, *parameters, mem)
    assert 0 < spikes.sum() < spikes.numel()
    assert torch.autograd.gradcheck(function, (x, *parameters, mem))


@pytest.mark.parametrize("reset", RESETS, ids=["delayed", "immediate", "exact"])
def test_func_transforms(reset: dict[str, bool]) -> None:
    x, beta = torch.randn(4, 5, 3), torch.rand(4)

    def loss(x: Tensor, beta: Tensor) -> Tensor:
        spikes, mem = adaptive_leaky(x, beta, **reset)  # type: ignore[arg-type]
        return (spikes * torch.arange(3.0)).sum() + mem.sum()

    per_sample = torch.func.vmap(torch.func.grad(loss, argnums=1), in_dims=(1, None))(x, beta)
    one_by_one = torch.stack([torch.func.grad(loss, argnums=1)(x[:, b], beta) for b in range(5)])
    torch.testing.assert_close(per_sample, one_by_one)
    whole = beta.clone().requires_grad_()
    loss(x, whole).backward()
    torch.testing.assert_close(per_sample.sum(0), whole.grad)


def test_func_grad_inside_compile() -> None:
    x, beta = torch.randn(4, 5, 3), torch.rand(4)

    def loss(beta: Tensor) -> Tensor:
        spikes, mem = adaptive_leaky(x, beta)
        return (spikes * torch.arange(3.0)).sum() + mem.sum()

    gradient = torch.func.grad(loss)
    compiled_gradient = torch.compile(gradient, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled_gradient(beta), gradient(beta))


def test_auto_chooses_the_reference_where_only_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 1 << 16)
    foreign = snntorch.surrogate.atan()
    assert torch.equal(
        adaptive_leaky(x, 0.9, spike_grad=foreign)[0],
        adaptive_leaky(x, 0.9, spike_grad=foreign, impl="reference")[0],
    )
    monkeypatch.setattr(compiled, "missing", lambda _: "a compiler")
    assert torch.equal(adaptive_leaky(x, 0.9)[0], adaptive_leaky(x, 0.9, impl="reference")[0])
    with pytest.raises(RuntimeError, match="impl='compile' needs a compiler"):
        adaptive_leaky(x, 0.9, impl="compile")


def test_compile_says_what_it_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    compiled.missing.cache_clear()
    assert "C++ compiler" in str(compiled.missing("cpu"))
    compiled.missing.cache_clear()


X = torch.zeros(3, 2, 4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": [1.0]}, TypeError, "x must be a tensor"),
        ({"x": torch.zeros(3, 2, dtype=torch.int64)}, TypeError, "x must be of a floating point dtype"),
        ({"x": torch.zeros(3, 2, dtype=torch.complex64)}, TypeError, "x must be of a floating point"),
        ({"x": torch.tensor(1.0)}, ValueError, r"x must be \[T, B, ...\]"),
        ({"x": torch.zeros(0, 2)}, ValueError, "at least one step"),
        ({"beta": torch.zeros(4)}, ValueError, "beta must be a number or have one entry per time step, 3"),
        ({"gain": torch.zeros(3, 5)}, ValueError, r"gain has the shape \(5,\) at each step"),
        ({"threshold": torch.zeros(3, 1, 1, 1)}, ValueError, "threshold has the shape"),
        ({"beta": True}, TypeError, "beta must be a real number"),
        ({"beta": torch.zeros(3, dtype=torch.complex64)}, TypeError, "beta must be a real number"),
        ({"mem": torch.zeros(4)}, ValueError, r"mem must have the shape of one step's input, \(2, 4\)"),
        ({"mem": torch.zeros(2, 4, dtype=torch.float64)}, TypeError, "mem must be torch.float32"),
        ({"mem": torch.zeros(2, 4, dtype=torch.int64)}, TypeError, "mem must be of a floating point"),
        ({"previous_threshold": torch.zeros(5)}, ValueError, "previous_threshold must be a number"),
        ({"reset_mechanism": "half"}, ValueError, "reset_mechanism must be"),
        ({"reset_delay": 1}, TypeError, "reset_delay must be a bool"),
        ({"detach_reset": "yes"}, TypeError, "detach_reset must be a bool or None"),
        ({"exact_reset": True}, ValueError, "exact_reset=True needs reset_delay=False"),
        ({"spike_grad": "atan"}, TypeError, "spike_grad must be callable"),
        ({"state_quant": 8}, TypeError, "state_quant must be callable"),
        ({"impl": "fast"}, ValueError, "impl must be one of 'auto', 'triton'"),
        ({"impl": "compile", "spike_grad": torch.sigmoid}, ValueError, "impl='compile' needs spike_grad"),
        ({"impl": "compile", "inhibition": True}, ValueError, "impl='compile' needs"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        adaptive_leaky(**{"x": X, "beta": 0.9, **arguments})


@pytest.mark.slow
@pytest.mark.parametrize("impl", ["compile", "cpp"])
def test_a_second_derivative_raises_where_there_is_none(impl: Any) -> None:
    if impl == "cpp" and cpp.missing():
        pytest.skip("needs a C++ compiler")
    x = torch.rand(4, 3, 5, requires_grad=True)
    beta = torch.full((4,), 0.9, requires_grad=True)
    _, mem = adaptive_leaky(x, beta, impl=impl)
    # The gradient of a sum has no history of its own, only what was saved has.
    with pytest.raises(RuntimeError, match="no second derivative; use impl='reference'"):
        torch.autograd.grad(mem.sum(), x, create_graph=True)[0].square().sum().backward()


@pytest.mark.parametrize("impl", ["auto", "compile"])
def test_lazily_negated_memory(impl: Any) -> None:
    def conjugate(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.complex64).conj().imag

    x, mem, beta = conjugate(4, 2, 9000), conjugate(2, 9000), conjugate(4)
    assert x.is_neg()
    found = adaptive_leaky(x, beta, mem=mem, impl=impl)
    wanted = adaptive_leaky(*(t.resolve_neg() for t in (x, beta)), mem=mem.resolve_neg(), impl=impl)
    assert all(map(torch.equal, found, wanted))


def test_lazily_negated_gradients() -> None:
    x = torch.randn(4, 2, 9000, requires_grad=True)
    spikes, _ = adaptive_leaky(x, 0.9)
    grad = torch.randn(4, 2, 9000, dtype=torch.complex64).conj().imag
    (found,) = torch.autograd.grad(spikes, x, grad, retain_graph=True)
    assert torch.equal(found, torch.autograd.grad(spikes, x, grad.resolve_neg())[0])


@pytest.mark.slow
def test_more_lengths_than_dynamo_would_compile_anew() -> None:
    for steps in range(1, 12):
        x = torch.randn(steps, 2, 3, requires_grad=True)
        spikes, _ = adaptive_leaky(x, 0.9, impl="compile")
        assert torch.equal(spikes, adaptive_leaky(x, 0.9, impl="reference")[0])


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("impl", ["compile", "cpp"])
@pytest.mark.parametrize("shape", [(), (5,), (5, 3), (5, 1)])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("output_mem", [False, True])
def test_the_gradient_of_a_learned_scale_is_the_references(
    impl: str, shape: tuple[int, ...], reset: dict[str, bool], output_mem: bool
) -> None:
    if impl == "cpp" and cpp.missing():
        pytest.skip("needs a C++ compiler")
    x = 2 * torch.rand(5, 4, 3, dtype=torch.float64)
    weights = torch.rand(5, 4, 3, dtype=torch.float64)

    def gradients(which: str) -> tuple[Tensor, ...]:
        leaves = [
            x.clone().requires_grad_(),
            torch.full((5,), 0.8, dtype=torch.float64, requires_grad=True),
            torch.linspace(0.5, 1.5, math.prod(shape), dtype=torch.float64).view(shape).requires_grad_(),
        ]
        given, beta, factor = leaves
        spikes, mem = adaptive_leaky(
            given, beta, graded_spikes_factor=factor, output_mem=output_mem, impl=which, **reset
        )
        ((spikes * weights).sum() + mem.square().sum()).backward()
        return tuple(leaf.grad for leaf in leaves)

    wanted, found = gradients("reference"), gradients(impl)
    assert wanted[2].abs().min() > 0
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    # Without a reset that sees it, the loss is linear in the factor: its gradient is the spikes'.
    spikes, _ = adaptive_leaky(x, 0.8, impl="reference", **reset)
    summed = (shape[0], *(1,) * (3 - len(shape)), *shape[1:]) if shape else ()
    torch.testing.assert_close(found[2], (spikes * weights).sum_to_size(summed).view(shape))


def test_a_number_is_as_exact_as_the_input() -> None:
    x = torch.ones(2, 1, dtype=torch.float64)
    _, mem = adaptive_leaky(x, 0.7, threshold=10.0)
    assert mem.item() == 0.7 + 1


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("impl", ["compile", "cpp", "reference"])
def test_an_empty_batch_between_features_has_gradients_of_zero(impl: Any) -> None:
    if impl == "cpp" and cpp.missing():
        pytest.skip("needs a C++ compiler")
    x = torch.zeros(2, 2, 4, 0).permute(0, 3, 1, 2).requires_grad_()
    beta = torch.full((2, 2, 4), 0.9, requires_grad=True)
    spikes, mem = adaptive_leaky(x, beta, impl=impl)
    grad_x, grad_beta = torch.autograd.grad(spikes.sum() + mem.sum(), (x, beta))
    assert grad_x.shape == x.shape
    assert torch.equal(grad_beta, torch.zeros_like(beta))
