"""Moments of a batch, and the gradient through them, against torch's in float64."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snntorch_asnn.ops._batch_moments import moments as module
from snntorch_asnn.ops._batch_moments.moments import batch_moments
from snntorch_asnn.ops._cpp import build as cpp_build

needs_compiler = pytest.mark.skipif(cpp_build.find_compiler() is None, reason="needs a C++ compiler")
DTYPES = [torch.float32, torch.float64, torch.bfloat16]
SHAPES = [(1, 1, 3, 2), (3, 2, 1, 5), (2, 3, 5), (4, 33, 17), (2, 5, 3, 7, 9), (3, 2, 4, 8, 8), (2, 2, 3, 65)]
SHAPES += [(5, 9, 70), (2, 1, 2, 4100), (1, 70, 129), (2, 3, 4, 5, 6, 7)]
EXACT = {"rtol": 1e-12, "atol": 1e-12}


@pytest.fixture(autouse=True)
def _kernels_for_all_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_TO_COMPILE_FOR", 1)


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    cached = (cpp_build.find_compiler, cpp_build.library, module._kernels)
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


def others(x: Tensor, channel_dim: int, each_step: bool = False) -> list[int]:
    return [d for d in range(int(each_step), x.ndim) if d != channel_dim]


def gradient(
    x: Tensor, channel_dim: int, *, of: torch.dtype | None = None, each_step: bool = False
) -> Tensor:
    """Of a loss that reads the input and both moments; by torch alone for an ``x`` that is ``of`` a dtype."""
    leaf = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    if of is not None:
        same, (variance, mean) = leaf, torch.var_mean(leaf, others(x, channel_dim, each_step), correction=0)
    else:
        same, mean, variance, _ = batch_moments(leaf, channel_dim, each_step=each_step)
    weights = (
        torch.linspace(-1, 1, x.numel(), dtype=torch.float64).view(x.shape).to(of or x.dtype).to(x.dtype)
    )
    factors = torch.linspace(1, 2, mean.numel(), dtype=mean.dtype) * x.numel() / mean.numel()
    moments = mean.flatten(), variance.flatten()
    ((same * weights).sum() + (moments[0] * factors).sum() + (moments[1] * factors.flip(0)).sum()).backward()
    assert leaf.grad is not None
    return leaf.grad


def check(x: Tensor, channel_dim: int, precision: float = 1e-6, *, each_step: bool = False) -> None:
    exact = x.double()
    same, mean, variance, elements = batch_moments(x, channel_dim, each_step=each_step)
    wanted_variance, wanted_mean = torch.var_mean(exact, others(x, channel_dim, each_step), correction=0)
    assert same.data_ptr() == x.data_ptr()
    assert elements == x.numel() / (x.shape[channel_dim] * (len(x) if each_step else 1))
    assert mean.dtype == torch.promote_types(x.dtype, torch.float32)
    close = EXACT if x.dtype == torch.float64 else {"rtol": precision, "atol": precision}
    torch.testing.assert_close(mean.double(), wanted_mean, **close)
    torch.testing.assert_close(variance.double(), wanted_variance, **close)
    found = gradient(x, channel_dim, each_step=each_step)
    wanted = gradient(exact, channel_dim, of=x.dtype, each_step=each_step)
    assert found.stride() == gradient(x, channel_dim).stride()
    single = {"rtol": 10 * precision, "atol": 10 * precision}
    close = {torch.float64: EXACT, torch.float32: single}.get(x.dtype, {})
    torch.testing.assert_close(found, wanted.to(x.dtype), **close)


@settings(max_examples=120)
@given(
    shape=st.sampled_from(SHAPES),
    dtype=st.sampled_from(DTYPES),
    last=st.booleans(),
    in_memory=st.booleans(),
    mean=st.sampled_from([0.0, 3.0]),
    each_step=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_agrees_with_torch(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    last: bool,
    in_memory: bool,
    mean: float,
    each_step: bool,
    seed: int,
) -> None:
    """Channels in the middle or last, in numbering, in memory, or both."""
    x = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2 + mean).to(dtype)
    channel_dim = 2
    if last or in_memory:
        x = x.movedim(2, -1).contiguous()
        channel_dim = x.ndim - 1
    if in_memory:
        x, channel_dim = x.movedim(-1, 2), 2
    check(x, channel_dim, each_step=each_step)


@needs_compiler
@pytest.mark.parametrize("shape", [(4, 8, 3, 40, 40), (4, 300, 20), (4, 40, 20, 7)])
@pytest.mark.parametrize("first", [0.0, -1e4])
def test_large_means_cancel_nothing(shape: tuple[int, ...], first: float) -> None:
    x = torch.randn(shape, dtype=torch.float64) + 1e4
    x[0, 0] += first  # no one element may be taken for the mean
    variance, mean = torch.var_mean(x.float().double(), others(x, 2), correction=0)
    for dtype, close in (
        (torch.float32, {"rtol": 1e-6, "atol": 0}),
        (torch.float64, {"rtol": 1e-12, "atol": 0}),
    ):
        _, found_mean, found_variance, _ = batch_moments(x.float().to(dtype), 2)
        torch.testing.assert_close(found_mean.double(), mean, **close)
        torch.testing.assert_close(found_variance.double(), variance, **close)


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(4, 8, 5, 20, 20), (4, 500, 100), (4, 60, 20, 6, 6)])
def test_does_not_depend_on_the_number_of_threads(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x, before, found = torch.randn(shape).to(dtype), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append((*batch_moments(x, 2)[1:3], gradient(x, 2)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("each_step", [False, True])
def test_strided_inputs(dtype: torch.dtype, each_step: bool) -> None:
    x = torch.randn(6, 5, 4, 10, 8).to(dtype)
    check(x[::2, 1:4], 2, each_step=each_step)
    check(x.transpose(0, 1), 2, each_step=each_step)
    check(x[..., ::2], 2, each_step=each_step)
    check(x[:, :, 1:3], 2, each_step=each_step)
    check(x.movedim(2, 4)[:, 1:], 4, each_step=each_step)


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("last", [False, True])
def test_each_step_equals_a_call_for_each_step(dtype: torch.dtype, last: bool) -> None:
    x = (torch.randn(5, 7, 6, 8, 9) * torch.tensor([1.0, 0.0, 20.0, 3.0, 0.1]).view(5, 1, 1, 1, 1)).to(dtype)
    if last:
        x = x.movedim(2, -1).contiguous().movedim(-1, 2)
    _, mean, variance, elements = batch_moments(x, 2, each_step=True)
    assert mean.shape == variance.shape == (5, 6)
    assert elements == 7 * 8 * 9
    for t in range(5):
        _, one_mean, one_variance, _ = batch_moments(x[t : t + 1], 2)
        assert torch.equal(mean[t], one_mean)
        assert torch.equal(variance[t], one_variance)


@needs_compiler
def test_keeps_gradients_that_are_spread() -> None:
    """A sum's gradient is one number in memory, which nothing may be added to."""
    leaf = torch.randn(3, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    same, mean, _, _ = batch_moments(leaf, 2)
    (same.sum() + mean.sum()).backward()
    torch.testing.assert_close(leaf.grad, torch.full_like(leaf, 1 + 1 / 72))


@needs_compiler
def test_passes_on_what_is_not_finite() -> None:
    x = torch.randn(4, 50, 20)
    x[1, 2, 3], x[2, 2, 5] = torch.nan, torch.inf
    _, mean, variance, _ = batch_moments(x, 2)
    assert mean[3].isnan()
    assert not mean[5].isfinite()
    assert not variance[[3, 5]].isfinite().any()
    rest = [c for c in range(20) if c not in (3, 5)]
    assert mean[rest].isfinite().all()
    assert variance[rest].isfinite().all()


def test_an_empty_batch_has_no_moments() -> None:
    with pytest.raises(RuntimeError, match="at least one element"):
        batch_moments(torch.empty(4, 0, 3, 5), 2)


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16])
@pytest.mark.parametrize("each_step", [False, True])
def test_without_a_compiler(dtype: torch.dtype, each_step: bool) -> None:
    x = (torch.randn(4, 6, 5, 8, 8) * 2 + 3).to(dtype)
    check(x, 2, precision=1e-5, each_step=each_step)
    check(x.movedim(2, -1).contiguous(), 4, precision=1e-5, each_step=each_step)
