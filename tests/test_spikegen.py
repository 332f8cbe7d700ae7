"""Codes against loops over single pixels, and the invariants that define them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from snntorch_asnn import spikegen

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
HALVES = [torch.float16, torch.bfloat16]
ANALOG = {"direct": None, "hybrid": 1, "single_spike_hybrid": 1, "hybrid_binary": 1}

# Fractions k / n lie on the levels, where a wrong rounding shows.
intensities = st.one_of(
    st.floats(0, 1, width=32),
    st.integers(0, 255).map(lambda k: k / 255),
    st.integers(1, 16).flatmap(lambda n: st.integers(0, n).map(lambda k: k / n)),
)
images = st.lists(intensities, min_size=1, max_size=24).map(torch.tensor)
steps = st.integers(1, 9)
named_levels = st.sampled_from(["uniform", "quantile"])
codes = pytest.mark.parametrize("name", spikegen.CODES)


def pixelwise(image: Tensor, encode_pixel: Callable[[np.float32], list[float]]) -> Tensor:
    """Encode each pixel on its own, in float32."""
    columns = [encode_pixel(np.float32(pixel)) for pixel in image.flatten().tolist()]
    return torch.tensor(columns).T.reshape(-1, *image.shape)


def fire_and_clear(pixel: np.float32, thresholds: list[float]) -> list[float]:
    """Let a pixel fire at each threshold it reaches, after which it is 0."""
    spikes = []
    for threshold in thresholds:
        fires = pixel >= np.float32(threshold)
        spikes.append(float(fires))
        if fires:
            pixel = np.float32(0)
    return spikes


def bin_in_binary(pixel: np.float32, num_steps: int) -> list[float]:
    """Number the first of 2^T - 1 thresholds that the pixel reaches, lowest bit first."""
    num_bins = 2**num_steps - 1
    number = next(i + 1 for i in range(num_bins) if pixel >= np.float32(1 - (i + 1) / num_bins))
    return [float(digit) for digit in reversed(f"{number:0{num_steps}b}")]


@given(images, steps)
def test_temporal_with_all_last_is_the_reference_codes_time(image: Tensor, num_steps: int) -> None:
    thresholds = [1 - (i + 1) / num_steps for i in range(num_steps)]
    expected = pixelwise(image, lambda pixel: fire_and_clear(pixel, thresholds))
    assert expected[-1].all()
    torch.testing.assert_close(spikegen.temporal(image, num_steps, last="all"), expected, rtol=0, atol=0)


@given(images, steps)
def test_hybrid_is_the_reference_codes_mix_time(image: Tensor, num_steps: int) -> None:
    thresholds = [1 - i / num_steps for i in range(1, num_steps)]
    expected = pixelwise(image, lambda pixel: [float(pixel), *fire_and_clear(pixel, thresholds)])
    assert torch.equal(spikegen.hybrid(image, num_steps), expected)


@given(images, st.integers(1, 6))
def test_binary_temporal_is_the_reference_codes_embedding(image: Tensor, num_steps: int) -> None:
    expected = pixelwise(image, lambda pixel: bin_in_binary(pixel, num_steps))
    assert torch.equal(spikegen.binary_temporal(image, num_steps), expected)


@given(images, st.integers(1, 12))
def test_phase_is_greedy(image: Tensor, num_steps: int) -> None:
    def greedy(pixel: np.float32) -> list[float]:
        rest, spikes = float(pixel), []
        for step in range(num_steps):
            spikes.append(float(rest >= 2 ** -(1 + step)))
            rest -= spikes[-1] * 2 ** -(1 + step)
        return spikes

    assert torch.equal(spikegen.phase(image, num_steps), pixelwise(image, greedy))


@given(images, steps)
def test_latency_is_the_nearest_step(image: Tensor, num_steps: int) -> None:
    fired = spikegen.latency(image, num_steps)
    wanted = (num_steps - 1) * (1 - image.double())
    assert torch.equal(fired.sum(0), torch.ones_like(image))
    # A level is rounded to float32, so a pixel between two steps may be that much off.
    assert ((fired.argmax(0) - wanted).abs() <= 0.5 + 1e-6).all()


def test_latency_at_a_tie_is_the_earlier_step() -> None:
    assert spikegen.latency(torch.tensor([0.75, 0.25]), 3).argmax(0).tolist() == [0, 1]


@pytest.mark.parametrize("dtype", DTYPES)
def test_bit_plane_is_the_8_bit_image(dtype: torch.dtype) -> None:
    pixels = torch.arange(256)
    planes = spikegen.bit_plane((pixels / 255).to(dtype), 8)
    bits = [[float(digit) for digit in f"{pixel:08b}"] for pixel in range(256)]
    assert torch.equal(planes, torch.tensor(bits, dtype=dtype).T)


@given(images, st.integers(1, 5), st.integers(1, 3))
def test_phase_repeats_its_period(image: Tensor, period: int, repeats: int) -> None:
    planes = spikegen.phase(image, period * repeats, period=period)
    assert torch.equal(planes, spikegen.phase(image, period).repeat(repeats, 1))


@given(images, steps, named_levels)
def test_temporal_last_says_who_fires_in_the_last_step(image: Tensor, num_steps: int, levels: str) -> None:
    remaining, all_, none = (
        spikegen.temporal(image, num_steps, levels=levels, last=last) for last in ("remaining", "all", "none")
    )
    assert torch.equal(remaining.sum(0), torch.ones_like(image))
    assert torch.equal(remaining[:-1], all_[:-1])
    assert torch.equal(remaining[:-1], none[:-1])
    assert all_[-1].all()
    assert not none[-1].any()
    assert set(remaining.unique().tolist()) <= {0.0, 1.0}


@given(images, st.integers(1, 8), st.integers(0, 4), named_levels)
def test_hybrid_is_analog_then_temporal_without_its_last_plane(
    image: Tensor, direct_steps: int, num_planes: int, levels: str
) -> None:
    planes = spikegen.hybrid(image, direct_steps + num_planes, direct_steps=direct_steps, levels=levels)
    temporal = spikegen.temporal(image, num_planes + 1, levels=levels)
    assert torch.equal(planes[:direct_steps], image.expand(direct_steps, -1))
    assert torch.equal(planes[direct_steps:], temporal[:-1])


@given(images, steps)
def test_hybrid_pixels_below_the_lowest_level_are_silent(image: Tensor, num_steps: int) -> None:
    spikes = spikegen.hybrid(image, num_steps)[1:].sum(0)
    lit = image >= torch.tensor(1 / num_steps)
    assert torch.equal(spikes, (lit & (num_steps > 1)).to(image.dtype))


@given(images, st.integers(2, 9), named_levels)
def test_single_spike_hybrid_is_analog_then_temporal(image: Tensor, num_steps: int, levels: str) -> None:
    planes = spikegen.single_spike_hybrid(image, num_steps, levels=levels)
    assert torch.equal(planes[0], image)
    assert torch.equal(planes[1:], spikegen.temporal(image, num_steps - 1, levels=levels))


@given(images, st.integers(1, 3), st.integers(0, 5), named_levels)
def test_hybrid_binary_is_analog_then_binary(
    image: Tensor, direct_steps: int, num_planes: int, levels: str
) -> None:
    planes = spikegen.hybrid_binary(
        image, direct_steps + num_planes, direct_steps=direct_steps, levels=levels
    )
    assert torch.equal(planes[:direct_steps], image.expand(direct_steps, -1))
    if num_planes:
        expected = spikegen.binary_temporal(image, num_planes, levels=levels)
        assert torch.equal(planes[direct_steps:], expected)


def test_many_binary_steps_agree_with_exact_arithmetic() -> None:
    num_bins = 2**16 - 1
    pixels = torch.arange(0, 2**16, 97)
    bins = spikegen.binary_temporal(pixels / num_bins, 16).T @ 2.0 ** torch.arange(16)
    assert torch.equal(bins, (num_bins - pixels).clamp(min=1).float())


def test_own_levels_are_used() -> None:
    levels = torch.tensor([0.9, 0.2, 0.1])
    fired = spikegen.temporal(torch.tensor([0.05, 0.1, 0.2, 0.9]), 4, levels=levels)
    assert fired.argmax(0).tolist() == [3, 2, 1, 0]


@codes
def test_names_are_the_functions(name: str) -> None:
    assert spikegen.get_code(name) is getattr(spikegen, name)
    assert name in spikegen.__all__


def test_quantile_levels_in_closed_form() -> None:
    expected = torch.tensor([0.7441, 0.6378, 0.5449, 0.4551, 0.3622, 0.2559])
    torch.testing.assert_close(spikegen.quantile_levels(7), expected, rtol=0, atol=5e-5)
    exact = torch.sigmoid(torch.special.ndtri(1 - torch.arange(1, 12).double() / 12))
    torch.testing.assert_close(spikegen.quantile_levels(12), exact.float())


def test_quantile_levels_split_normal_pixels_evenly() -> None:
    pixels = torch.randn(200_000).sigmoid()
    share = spikegen.temporal(pixels, 5, levels="quantile").mean(1)
    torch.testing.assert_close(share, torch.full((5,), 0.2), rtol=0, atol=0.005)


@given(st.integers(1, 12), st.integers(0, 50))
def test_quantile_levels_of_data_split_them_evenly(num_steps: int, surplus: int) -> None:
    count = num_steps + surplus
    pixels = torch.randperm(count).float() / count
    levels = spikegen.quantile_levels(num_steps, data=pixels)
    reached = [int((pixels >= level).sum()) for level in levels]
    assert reached == [i * count // num_steps for i in range(1, num_steps)]
    carried = spikegen.temporal(pixels, num_steps, levels=levels).sum(1)
    assert carried.max() - carried.min() <= 1


def test_quantile_levels_of_data_that_repeat_values() -> None:
    pixels = (torch.randn(5000).sigmoid() * 255).round() / 255
    share = spikegen.temporal(pixels, 7, levels=spikegen.quantile_levels(7, data=pixels)).mean(1)
    torch.testing.assert_close(share, torch.full((7,), 1 / 7), rtol=0, atol=0.02)


@pytest.mark.parametrize("dtype", DTYPES)
def test_quantile_levels_of_data_suit_data_of_their_dtype(dtype: torch.dtype) -> None:
    pixels = torch.rand(4, 16, dtype=torch.float64).to(dtype)
    levels = spikegen.quantile_levels(3, data=pixels)
    assert levels.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert spikegen.hybrid(pixels, 3, levels=levels).dtype == dtype


@pytest.mark.parametrize("name", ANALOG)
@pytest.mark.parametrize("dtype", DTYPES)
def test_analog_codes_decode_exactly(name: str, dtype: torch.dtype) -> None:
    image = torch.rand(2, 3, 4, dtype=torch.float64).to(dtype)
    assert torch.equal(spikegen.decode(spikegen.CODES[name](image, 3), name), image)


BOUNDS: dict[str, Callable[[int], float]] = {
    "temporal": lambda t: 1 / (2 * t),
    "binary_temporal": lambda t: 1 / (2 * (2**t - 1)),
    "latency": lambda t: 1 / (2 * max(t - 1, 1)),
    "phase": lambda t: 2.0 ** -(t + 1),
    "bit_plane": lambda t: 1 / (2 * (2**t - 1)),
}


@pytest.mark.parametrize("name", BOUNDS)
@given(image=images, num_steps=st.integers(1, 12))
def test_spike_codes_decode_within_their_bound(name: str, image: Tensor, num_steps: int) -> None:
    decoded = spikegen.decode(spikegen.CODES[name](image, num_steps), name)
    error = (decoded.double() - image.double()).abs().max().item()
    assert error <= BOUNDS[name](num_steps) + 1e-7


@pytest.mark.parametrize("name", BOUNDS)
def test_the_decode_bound_is_tight(name: str) -> None:
    image = torch.linspace(0, 1, 10_001, dtype=torch.float64)
    error = (spikegen.decode(spikegen.CODES[name](image, 4), name) - image).abs().max().item()
    assert error == pytest.approx(BOUNDS[name](4), rel=0.01)


@pytest.mark.parametrize("name", ["temporal", "binary_temporal"])
@given(image=images, num_steps=st.integers(2, 6))
def test_quantile_levels_decode_within_half_a_bin(name: str, image: Tensor, num_steps: int) -> None:
    spikes = spikegen.CODES[name](image, num_steps, levels="quantile")
    decoded = spikegen.decode(spikes, name, levels="quantile")
    num_bins = num_steps if name == "temporal" else 2**num_steps - 1
    bounds = torch.cat((torch.ones(1), spikegen.quantile_levels(num_bins), torch.zeros(1)))
    assert (decoded - image).abs().max() <= bounds.diff().abs().max() / 2 + 1e-6


@given(images, steps)
def test_temporal_decodes_alike_whoever_fires_last(image: Tensor, num_steps: int) -> None:
    decoded = [
        spikegen.decode(spikegen.temporal(image, num_steps, last=last), "temporal")
        for last in ("remaining", "all", "none")
    ]
    assert torch.equal(decoded[0], decoded[1])
    assert torch.equal(decoded[0], decoded[2])


@given(images, st.integers(1, 6), st.integers(1, 3))
def test_phase_decodes_with_its_period(image: Tensor, period: int, repeats: int) -> None:
    spikes = spikegen.phase(image, period * repeats, period=period)
    decoded = spikegen.decode(spikes, "phase", period=period)
    assert (decoded - image).abs().max() <= 2.0 ** -(period + 1) + 1e-7


@codes
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (0, 3, 2, 2), (2, 3, 4, 5), (2, 1, 1, 2, 1, 3)])
def test_shape_and_dtype_are_kept(name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    image = torch.rand(shape).to(dtype)
    planes = spikegen.CODES[name](image, 4)
    assert planes.shape == (4, *shape)
    assert planes.dtype == dtype
    decoded = spikegen.decode(planes, name)
    assert decoded.shape == shape
    assert decoded.dtype == dtype


@codes
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("num_steps", [3, 5, 7])
def test_half_precision_fires_as_the_same_numbers_in_float32(
    name: str, dtype: torch.dtype, num_steps: int
) -> None:
    image = torch.linspace(0, 1, 4001).to(dtype)
    code = spikegen.CODES[name]
    assert torch.equal(code(image, num_steps).float(), code(image.float(), num_steps))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_bins", range(1, 17))
def test_a_pixel_at_a_level_reaches_it(dtype: torch.dtype, num_bins: int) -> None:
    pixels = torch.arange(num_bins, dtype=dtype) / num_bins
    fired = spikegen.temporal(pixels, num_bins).argmax(0)
    assert fired.tolist() == list(range(num_bins - 1, -1, -1))


@codes
def test_layout_does_not_matter(name: str) -> None:
    image = torch.rand(2, 3, 8, 6)
    code = spikegen.CODES[name]
    for same in (
        image.to(memory_format=torch.channels_last),
        image.mT.contiguous().mT,
        torch.stack((image, image), -1)[..., 0],
    ):
        assert torch.equal(code(same, 5), code(image, 5))


@codes
def test_unchecked_codes_read_no_value(name: str) -> None:
    # The meta device has none: whatever reads one raises.
    image = torch.empty(2, 3, 4, device="meta")
    planes = spikegen.CODES[name](image, 4, check=False)
    assert planes.shape == (4, 2, 3, 4)
    assert planes.is_meta
    assert spikegen.decode(planes, name, check=False).shape == image.shape


@codes
def test_codes_leave_their_input_alone(name: str) -> None:
    image = torch.rand(2, 5)
    before = image.clone()
    spikegen.CODES[name](image, 4)
    assert torch.equal(image, before)


@codes
def test_gradients_flow_through_analog_steps_only(name: str) -> None:
    image = torch.rand(3, 4, requires_grad=True)
    planes = spikegen.CODES[name](image, 4)
    if name not in ANALOG:
        assert not planes.requires_grad
        return
    weights = torch.rand_like(planes)
    (planes * weights).sum().backward()
    expected = weights[: ANALOG[name]].sum(0)
    torch.testing.assert_close(image.grad, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", [name for name in spikegen.CODES if name != "direct"])
def test_unchecked_spikes_outside_are_those_of_the_nearest_inside(name: str) -> None:
    analog = ANALOG.get(name, 0)
    code = spikegen.CODES[name]
    outside = code(torch.tensor([-3.0, -1e-6, 1.0001, 7.0]), 4, check=False)
    assert torch.equal(outside[analog:], code(torch.tensor([0.0, 0.0, 1.0, 1.0]), 4)[analog:])


@codes
def test_vmap_equals_the_batch(name: str) -> None:
    images = torch.rand(3, 2, 4)
    code = spikegen.CODES[name]
    mapped = torch.vmap(lambda image: code(image, 4, check=False), out_dims=1)
    unmapped = torch.vmap(lambda planes: spikegen.decode(planes, name, check=False), in_dims=1)
    planes = code(images, 4)
    assert torch.equal(mapped(images), planes)
    assert torch.equal(unmapped(planes), spikegen.decode(planes, name))


@codes
def test_compiles_without_a_graph_break(name: str) -> None:
    torch.compiler.reset()
    code = spikegen.CODES[name]

    def there_and_back(image: Tensor) -> tuple[Tensor, Tensor]:
        planes = code(image, 4)
        return planes, spikegen.decode(planes, name)

    image = torch.rand(2, 3, 4)
    compiled = torch.compile(there_and_back, fullgraph=True, backend="aot_eager")
    for got, expected in zip(compiled(image), there_and_back(image), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize("levels", ["uniform", "quantile", torch.tensor([0.8, 0.3])])
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_inductor_equals_eager(levels: str | Tensor) -> None:
    torch.compiler.reset()

    def scaled(image: Tensor) -> Tensor:
        return spikegen.hybrid(image * 0.5, 3, levels=levels)

    image = torch.linspace(0, 2, 601).requires_grad_()
    weights = torch.rand(3, 601)
    compiled = torch.compile(scaled, fullgraph=True)
    planes = compiled(image)
    assert torch.equal(planes, scaled(image))
    (gradient,) = torch.autograd.grad((planes * weights).sum(), image)
    torch.testing.assert_close(gradient, 0.5 * weights[0])


@pytest.mark.cuda
@codes
def test_unchecked_codes_do_not_wait_for_the_device(name: str) -> None:
    image = torch.rand(2, 3, 8, 8, device="cuda")
    code = spikegen.CODES[name]
    torch.cuda.set_sync_debug_mode("error")
    try:
        planes = code(image, 4, check=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert planes.device == image.device
    assert torch.equal(planes.cpu(), code(image.cpu(), 4))
