"""The Triton kernels of a batch norm that is never written, against torch's in float64."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snntorch_asnn.ops._adaptive_leaky.triton import implementation as kernels

pytest.importorskip("triton")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if lack := kernels.missing(DEVICE):
    pytest.skip(f"misses {lack}", allow_module_level=True)

from snntorch_asnn.ops._batch_moments.norm_state import NormState  # noqa: E402
from snntorch_asnn.ops._batch_moments.triton import moments as module  # noqa: E402

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SHAPES = [
    (1, 1, 3, 2),  # one sample
    (3, 2, 1, 5),  # one channel
    (4, 33, 17, 1),  # tokens
    (2, 5, 3, 63),  # wide, not aligned
    (3, 2, 4, 64),
    (5, 9, 70, 1),
    (2, 1, 2, 1030),  # several tiles of one channel
    (2, 8, 4, 49),  # small maps
    (1, 20, 1, 260),  # several programs
]
EACH_STEP = pytest.mark.parametrize("each_step", [False, True])


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Memory that a kernel leaves unwritten holds NaN; programs are small, so that there are several."""
    monkeypatch.setattr(module, "_LEAST", module._UNROLL)
    caches = (module._Plan.of, module._View.of, module._summing, module._joining, module._adding)
    for cached in caches:
        cached.cache_clear()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    for cached in caches:
        cached.cache_clear()


def precision(dtype: torch.dtype) -> dict[str, float]:
    return {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}


def column(parameter: Tensor, each_step: bool) -> Tensor:
    """``[C]`` or ``[T, C]`` beside ``[T, B, C, M]``."""
    return parameter[:, None, :, None] if each_step else parameter[:, None]


@EACH_STEP
@pytest.mark.parametrize(
    ("shape", "dtype", "apart"),
    [
        *((shape, torch.float32, shape[1] % 2 == 0) for shape in SHAPES),
        *(((2, 8, 4, 49), dtype, apart) for dtype in DTYPES for apart in (False, True)),
        *(((3, 2, 4, 64), dtype, False) for dtype in DTYPES[1:]),
    ],
)
def test_moments_and_what_is_added(
    shape: tuple[int, ...], dtype: torch.dtype, each_step: bool, apart: bool
) -> None:
    """``apart``: the steps are not one behind the other in memory."""
    x = (torch.randn(shape, device=DEVICE) * 2 + 3).to(dtype)
    x = torch.stack([x, x + 1], 1)[:, 0] if apart else x
    mean, variance = module.moments(x, each_step)
    dims = (1, 3) if each_step else (0, 1, 3)
    wanted = torch.var_mean(x.double(), dims, correction=0)
    torch.testing.assert_close((variance.double(), mean.double()), wanted, rtol=1e-6, atol=1e-6)
    grad = torch.randn(shape, device=DEVICE).to(dtype)
    offset, factor = torch.randn(2, *mean.shape, device=DEVICE)
    wide = [column(p.double(), each_step) for p in (mean, offset, factor)]
    expected = grad.double() + wide[1] + wide[2] * (x.double() - wide[0])
    module.add(grad, x, mean, offset, factor)
    torch.testing.assert_close(grad.double(), expected, **precision(dtype))


@EACH_STEP
@pytest.mark.parametrize("shape", [(4, 4, 3, 256), (4, 50, 20, 1), (4, 12, 4, 7)])
@pytest.mark.parametrize("first", [0.0, -1e4, 1e4])
def test_large_means_cancel_nothing(shape: tuple[int, ...], first: float, each_step: bool) -> None:
    x = torch.randn(shape, device=DEVICE) + 1e4
    x[:, 0] += first  # no one element may be taken for the mean
    dims = (1, 3) if each_step else (0, 1, 3)
    variance, mean = torch.var_mean(x.double(), dims, correction=0)
    found_mean, found_variance = module.moments(x, each_step)
    torch.testing.assert_close(found_mean.double(), mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(found_variance.double(), variance, rtol=2e-6, atol=0)


@pytest.mark.filterwarnings("ignore:invalid value encountered")  # NumPy's, in the interpreter
def test_passes_on_what_is_not_finite() -> None:
    x = torch.randn(4, 50, 20, 1, device=DEVICE)
    x[1, 2, 3], x[2, 2, 5], x[0, 0, 7] = torch.nan, torch.inf, -torch.inf
    mean, variance = module.moments(x)
    assert mean[3].isnan()
    assert not mean[[5, 7]].isfinite().any()
    assert not variance[[3, 5, 7]].isfinite().any()
    rest = [c for c in range(20) if c not in (3, 5, 7)]
    assert mean[rest].isfinite().all()
    assert variance[rest].isfinite().all()


NORMS = [
    {},
    {"affine": False},
    {"momentum": None},
    {"momentum": 0.7, "eps": 0.3},
    {"track_running_stats": False},
]
LAYOUTS = ["maps", "channels last in memory", "tokens", "batch first"]


def images(layout: str, dtype: torch.dtype) -> tuple[Tensor, int]:
    """A sequence of five channels, and the dimension that these are."""
    if layout == "tokens":
        return (torch.randn(3, 4, 9, 5, device=DEVICE) * 2 + 3).to(dtype), 3
    x = (torch.randn(3, 4, 5, 7, 7, device=DEVICE) * 2 + 3).to(dtype)
    if layout == "channels last in memory":
        x = x.movedim(2, -1).contiguous().movedim(-1, 2)
    return (x.transpose(0, 1).contiguous().transpose(0, 1) if layout == "batch first" else x), 2


def affine_of(norm: nn.BatchNorm1d, x: Tensor, channel_dim: int, each_step: bool) -> tuple[Tensor, ...]:
    running = None
    if norm.track_running_stats:
        norm.num_batches_tracked.add_(1)
        running = (norm.running_mean, norm.running_var)
    tracked = norm.num_batches_tracked if norm.momentum is None else None
    state = NormState(norm.weight, norm.bias, running, tracked, norm.momentum or 0.0, norm.eps)
    return module.norm_affine(x, channel_dim, state, each_step)


@pytest.mark.parametrize(
    ("options", "layout", "dtype"),
    [
        *((options, "maps", torch.float32) for options in NORMS),
        *(({}, layout, dtype) for layout in LAYOUTS[1:] for dtype in DTYPES[:2]),
        ({}, "maps", torch.float16),
    ],
)
def test_agrees_with_batch_norm(options: dict[str, Any], layout: str, dtype: torch.dtype) -> None:
    """Output, running averages and gradients of input, weight and bias."""
    exact = nn.BatchNorm1d(5, dtype=torch.float64, device=DEVICE, **options)
    if exact.affine:
        nn.init.uniform_(exact.weight, 0.5, 2)
        nn.init.uniform_(exact.bias, -0.5, 1)
    norm = nn.BatchNorm1d(5, device=DEVICE, **options)
    norm.load_state_dict(exact.state_dict())
    exact.load_state_dict(norm.state_dict())
    for _ in range(2):  # a cumulative average moves at each call
        x, channel_dim = images(layout, dtype)
        leaf, wide = x.clone().requires_grad_(), x.double().requires_grad_()
        same, factor, offset = affine_of(norm, leaf, channel_dim, each_step=False)
        found = same * factor + offset
        wanted = exact(wide.movedim(channel_dim, -1).flatten(0, -2))
        wanted = wanted.view(wide.movedim(channel_dim, -1).shape).movedim(-1, channel_dim)
        torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
        weights = torch.linspace(-1, 2, x.numel(), device=DEVICE).view(x.shape).to(dtype)
        (grads, expected) = (
            torch.autograd.grad((out * weights).sum(), (start, *one.parameters()))
            for out, start, one in ((found, leaf, norm), (wanted, wide, exact))
        )
        assert layout == "batch first" or grads[0].stride() == leaf.stride()
        for grad, value in zip(grads, expected, strict=True):
            close = precision(dtype) if grad is grads[0] else {"rtol": 1e-4, "atol": 1e-3}
            torch.testing.assert_close(grad.double(), value, **close)
        for name, value in norm.state_dict().items():
            close = {"rtol": 1e-5, "atol": 1e-6} if value.is_floating_point() else {}
            torch.testing.assert_close(value.double(), exact.state_dict()[name].double(), **close)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_statistics_of_each_step(layout: str) -> None:
    x, channel_dim = images(layout, torch.float32)
    norm, exact = nn.BatchNorm1d(5, device=DEVICE), nn.BatchNorm1d(5, device=DEVICE, dtype=torch.float64)
    nn.init.uniform_(norm.weight, 0.5, 2)
    norm.running_mean, norm.running_var = torch.zeros(3, 5, device=DEVICE), torch.ones(3, 5, device=DEVICE)
    with torch.no_grad():
        exact.weight.copy_(norm.weight)
    leaf, wide = x.clone().requires_grad_(), x.double().requires_grad_()
    same, factor, offset = affine_of(norm, leaf, channel_dim, each_step=True)
    missing = (1,) * (x.ndim - factor.ndim)
    found = same * factor.view(3, *missing, *factor.shape[1:]) + offset.view(3, *missing, *offset.shape[1:])
    wanted, averages = [], []
    for step in wide:
        mean, variance = torch.zeros(2, 5, device=DEVICE, dtype=torch.float64).unbind()
        rows = step.movedim(channel_dim - 1, -1)
        out = nn.functional.batch_norm(
            rows.flatten(0, -2), mean, variance.add_(1), exact.weight, exact.bias, training=True
        )
        wanted.append(out.view(rows.shape).movedim(-1, channel_dim - 1))
        averages.append((mean, variance))
    torch.testing.assert_close(found.double(), torch.stack(wanted), rtol=1e-5, atol=1e-5)
    for running, average in zip(
        (norm.running_mean, norm.running_var), zip(*averages, strict=True), strict=True
    ):
        torch.testing.assert_close(running.double(), torch.stack(average), rtol=1e-5, atol=1e-6)
    weights = torch.linspace(-1, 2, x.numel(), device=DEVICE).view(x.shape)
    grads = torch.autograd.grad((found * weights).sum(), (leaf, *norm.parameters()))
    expected = torch.autograd.grad((torch.stack(wanted) * weights).sum(), (wide, *exact.parameters()))
    for grad, value in zip(grads, expected, strict=True):
        torch.testing.assert_close(grad.double(), value, rtol=1e-4, atol=1e-4)


def test_gradients_where_the_mean_is_large() -> None:
    """As exact as rounding the input allows: a mean of a thousand deviations costs ten bits."""
    x = torch.randn(4, 8, 3, 8, 8, device=DEVICE) + 1e3
    norm, exact = nn.BatchNorm2d(3, device=DEVICE), nn.BatchNorm2d(3, device=DEVICE, dtype=torch.float64)
    leaf, wide = x.clone().requires_grad_(), x.double().requires_grad_()
    same, factor, offset = affine_of(norm, leaf, 2, each_step=False)
    found, wanted = same * factor + offset, exact(wide.flatten(0, 1)).view(x.shape)
    weights = torch.randn_like(x)
    grads = torch.autograd.grad((found * weights).sum(), (leaf, *norm.parameters()))
    expected = torch.autograd.grad((wanted * weights).sum(), (wide, *exact.parameters()))
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=5e-4)
    torch.testing.assert_close(grads[0].double(), expected[0], rtol=0, atol=5e-4)
    torch.testing.assert_close(grads[1].double(), expected[1], rtol=0, atol=5e-2)


def test_a_second_derivative_raises() -> None:
    x = torch.randn(2, 3, 4, 5, device=DEVICE, requires_grad=True)
    same, factor, offset = affine_of(nn.BatchNorm1d(4, device=DEVICE), x, 2, each_step=False)
    (grad,) = torch.autograd.grad((same * factor + offset).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="has no second derivative"):
        grad.square().sum().backward()


def test_every_run_gives_the_same_bits() -> None:
    x = torch.randn(4, 8, 6, 8, 8, device=DEVICE)
    first, second = (module.moments(x.flatten(3)) for _ in range(2))
    assert all(map(torch.equal, first, second))


def test_tiles_cover_every_size() -> None:
    for shape in SHAPES:
        for itemsize, each_step in itertools.product((2, 4), (False, True)):
            x = torch.empty(shape, device="meta")
            plan = module._Plan.of(x.shape, x.stride(), itemsize, each_step)
            taken = plan.constants["BR"] * plan.constants["BC"] * plan.constants["BM"]
            assert taken <= module._WARPS * 32 * 16 // itemsize
            assert plan.chunks * plan.each >= plan.tiles > (plan.chunks - 1) * plan.each
            assert plan.blocks * plan.constants["BC"] >= plan.columns
            assert plan.each % module._UNROLL == 0
