"""Images as people have them: normalised or in [0, 1], with every code and every way to give them."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import snntorch_asnn as asnn
from snntorch_asnn import spikegen
from snntorch_asnn.encoding import Encoder
from snntorch_asnn.models import SpikingModel, create_model, from_pretrained
from snntorch_asnn.models.image_encoder import ImageEncoder

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
MOMENTS = (MEAN, STD)
ONE = (0.5, 0.25)
ANALOG = {"direct": 4, "hybrid": 1, "single_spike_hybrid": 1, "hybrid_binary": 1}
codes = pytest.mark.parametrize("name", spikegen.CODES)
hybrid_codes = pytest.mark.parametrize("name", ["hybrid", "single_spike_hybrid", "hybrid_binary"])
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def eight_bit(*shape: int) -> Tensor:
    """Images of all 256 values, both ends among them."""
    pixels = torch.randint(256, shape, dtype=torch.uint8)
    pixels.view(-1)[:256] = torch.arange(256)[: pixels.numel()]
    return pixels.float() / 255


def normalised(images: Tensor, moments: tuple[Any, Any] = MOMENTS) -> Tensor:
    """As torchvision's Normalize computes it."""
    mean, std = (torch.as_tensor(moment, dtype=images.dtype).view(-1, 1, 1) for moment in moments)
    return images.sub(mean).div(std)


@pytest.fixture
def images() -> Tensor:
    return eight_bit(3, 3, 16, 16)


@codes
@pytest.mark.parametrize("direct_steps", [1, 2, 4])
def test_normalize_shows_analog_steps_normalised_and_makes_spikes_of_the_images(
    name: str, direct_steps: int, images: Tensor
) -> None:
    options = {"direct_steps": direct_steps} if name in ("hybrid", "hybrid_binary") else {}
    analog = options.get("direct_steps", ANALOG.get(name, 0))
    planes = Encoder(4, code=name, normalize=MOMENTS, **options)(images)
    assert torch.equal(planes[:analog], normalised(images).expand(analog, *images.shape))
    assert torch.equal(planes[analog:], spikegen.CODES[name](images, 4, **options)[analog:])


@codes
def test_unnormalize_makes_the_spikes_that_the_images_gave_before(name: str, images: Tensor) -> None:
    analog, seen = ANALOG.get(name, 0), normalised(images)
    planes = Encoder(4, code=name, unnormalize=MOMENTS)(seen)
    assert torch.equal(planes[:analog], seen.expand(analog, *images.shape))
    assert torch.equal(planes[analog:], spikegen.CODES[name](images, 4)[analog:])


@pytest.mark.parametrize("num_steps", [2, 4, 6, 16, 18, 52])
def test_unnormalized_pixels_meet_their_levels_exactly(num_steps: int) -> None:
    # 255 / 3, 5, 15, 17 and 51 are whole: such pixels stand on a level.
    images = eight_bit(1, 3, 16, 16)
    encode = Encoder(num_steps, unnormalize=MOMENTS)
    planes = encode(normalised(images))
    assert torch.equal(planes[1:], spikegen.hybrid(images, num_steps)[1:])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("argument", ["normalize", "unnormalize"])
def test_every_dtype(dtype: torch.dtype, argument: str, images: Tensor) -> None:
    given = (images if argument == "normalize" else normalised(images)).to(dtype)
    encode = Encoder(4, **{argument: MOMENTS})
    planes = encode.to(dtype)(given)
    assert planes.dtype == dtype
    pixels = given if argument == "normalize" else images
    assert torch.equal(planes[1:], spikegen.hybrid(pixels, 4)[1:].to(dtype))
    tolerance = 4 * max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)
    torch.testing.assert_close(planes[0], normalised(images).to(dtype), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(getattr(encode, argument).mean.flatten(), torch.tensor(MEAN))


@pytest.mark.parametrize("argument", ["normalize", "unnormalize"])
def test_moments_in_every_form(argument: str, images: Tensor) -> None:
    given = images if argument == "normalize" else normalised(images)
    expected = Encoder(4, **{argument: MOMENTS})(given)
    for moments in (
        [list(MEAN), list(STD)],
        (torch.tensor(MEAN), torch.tensor(STD)),
        (np.array(MEAN, dtype=np.float32), np.array(STD)),
        (torch.tensor(MEAN).view(3, 1, 1), STD),
    ):
        assert torch.equal(Encoder(4, **{argument: moments})(given), expected)
    grey = torch.rand(2, 1, 4, 4)
    one = Encoder(4, normalize=(np.float64(0.5), 2))(grey)
    torch.testing.assert_close(one[0], (grey - 0.5) / 2)


def test_values_that_are_not_of_8_bits_stay_where_they_were() -> None:
    images = torch.rand(2, 3, 9, 9)
    encode = Encoder(4, unnormalize=MOMENTS)
    assert encode.unnormalize is not None
    torch.testing.assert_close(encode.unnormalize.undo(normalised(images)), images, rtol=0, atol=1e-6)


@pytest.mark.parametrize("argument", ["normalize", "unnormalize"])
def test_gradients_are_those_of_the_analog_steps(argument: str, images: Tensor) -> None:
    data = (images if argument == "normalize" else normalised(images)).requires_grad_()
    planes = Encoder(4, direct_steps=2, **{argument: MOMENTS})(data)
    weights = torch.rand_like(planes)
    (planes * weights).sum().backward()
    std = torch.tensor(STD).view(3, 1, 1) if argument == "normalize" else 1.0
    torch.testing.assert_close(data.grad, weights[:2].sum(0) / std)


def own(data: Tensor, num_steps: int, *, direct_steps: int = 2) -> Tensor:
    return torch.stack([data] * direct_steps + [(data > 0.5).to(data.dtype)] * (num_steps - direct_steps))


def own_with_analog(data: Tensor, num_steps: int, *, analog: Tensor | None = None) -> Tensor:
    shown = data if analog is None else analog
    return torch.stack([shown, *[(data > 0.5).to(shown.dtype)] * (num_steps - 1)])


def own_spikes(data: Tensor, num_steps: int) -> Tensor:
    return (data > 0.5).to(data.dtype).expand(num_steps, *data.shape)


@pytest.mark.parametrize(
    ("code", "analog"),
    [
        (own, 2),
        (own_with_analog, 1),
        (partial(spikegen.hybrid, direct_steps=3), 3),
        (partial(spikegen.direct, check=False), 4),
        (partial(spikegen.temporal, last="all"), 0),
    ],
)
def test_codes_of_ones_own(code: Any, analog: int, images: Tensor) -> None:
    planes = ImageEncoder(code, 4, (3, 16, 16), normalize=MOMENTS)(images)
    assert torch.equal(planes[:analog], normalised(images).expand(analog, *images.shape))
    assert torch.equal(planes[analog:], code(images, 4)[analog:])


def test_spikes_of_ones_own_from_images_that_were_normalised(images: Tensor) -> None:
    encode = ImageEncoder(own_spikes, 4, (3, 16, 16), unnormalize=MOMENTS)
    assert torch.equal(encode(normalised(images)), own_spikes(images, 4))


# What is refused, and what it says


@pytest.mark.parametrize("name", [name for name in spikegen.CODES if name != "direct"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_normalised_images_are_refused_with_both_ways_out(
    name: str, dtype: torch.dtype, images: Tensor
) -> None:
    seen = normalised(images).to(dtype)
    low, high = (f"{value.item():g}" for value in seen.float().aminmax())
    model = create_model("lenet", num_classes=10, num_steps=4, encoding=name, image_size=16)
    for call in (partial(spikegen.CODES[name], seen, 4), partial(Encoder(4, code=name), seen)):
        with pytest.raises(ValueError, match="seem to be normalised") as raised:
            call()
        message = str(raised.value)
        assert f"got values from {low} to {high}" in message
        assert "normalize=(mean, std)" in message
        assert "unnormalize=(mean, std)" in message
    if dtype == torch.float32:
        with pytest.raises(ValueError, match=r"create_model .* normalize=\(mean, std\)"):
            model(seen)


@hybrid_codes
def test_pixels_of_8_bits_are_told_apart_from_normalised_ones(name: str) -> None:
    with pytest.raises(ValueError, match="got values from 0 to 255; divide 8-bit pixels by 255"):
        spikegen.CODES[name](torch.arange(256.0), 4)


@pytest.mark.parametrize(
    "encode",
    [
        partial(spikegen.direct, num_steps=4),
        partial(spikegen.hybrid, num_steps=4, direct_steps=4),
        partial(spikegen.single_spike_hybrid, num_steps=1),
        partial(spikegen.hybrid_binary, num_steps=2, direct_steps=2),
        Encoder(4, code="direct"),
        Encoder(1),
        ImageEncoder("direct", 4, (3, 16, 16)),
    ],
)
def test_analog_steps_take_any_finite_value(encode: Any, images: Tensor) -> None:
    seen = 100 * normalised(images)
    assert torch.equal(encode(seen)[0], seen)
    for wrong in (math.nan, math.inf, -math.inf):
        seen[0, 0, 0, 0] = wrong
        with pytest.raises(ValueError, match=r"data must be finite; got (values from .*inf|NaN)"):
            encode(seen)


@hybrid_codes
def test_the_analog_image_of_a_code_is_checked(name: str) -> None:
    code, image = spikegen.CODES[name], torch.rand(2, 5)
    with pytest.raises(ValueError, match=r"analog must have the shape of data, \(2, 5\); got shape \(5,\)"):
        code(image, 4, analog=image[0])
    with pytest.raises(ValueError, match="analog must be finite; got NaN"):
        code(image, 4, analog=image * math.nan)
    with pytest.raises(TypeError, match="analog must have a floating point dtype"):
        code(image, 4, analog=image.long())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"normalize": ((0.5, 0.5), 0.2)}, "normalize must have one mean, or one for each of 3 channels"),
        ({"unnormalize": (0.5, [0.2] * 4)}, "unnormalize must have one std, or one for each of 3 channels"),
        ({"normalize": (0.5, torch.ones(2, 3, 1, 1))}, "normalize must have one std"),
        ({"normalize": (0.5, 0.0)}, "std in normalize must be positive; got 0"),
        ({"unnormalize": (0.5, (0.1, -0.2, 0.3))}, "std in unnormalize must be positive"),
        (
            {"normalize": MOMENTS, "unnormalize": MOMENTS},
            "normalize must not be given together with unnormalize",
        ),
        ({"normalize": "layer"}, r"normalize must be None or \(mean, std\); got 'layer'"),
        ({"normalize": 0.5}, r"normalize must be None, .* got 0.5"),
        ({"normalize": MOMENTS, "encoding": "none"}, "normalize must be None if .* normalise the sequence"),
        ({"unnormalize": MOMENTS, "encoding": Encoder(4)}, "unnormalize must be None .* the encoding"),
        ({"normalize": MOMENTS, "encoding": own_spikes}, "code must have an argument analog"),
    ],
)
@pytest.mark.parametrize("model", ["lenet", "spikformer_tiny"])
def test_moments_that_do_not_fit_a_model(model: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_model(model, **{"num_classes": 10, "num_steps": 4} | settings)


# Pixels outside of [0, 1] that nobody checks


@pytest.mark.parametrize("name", [name for name in spikegen.CODES if name != "direct"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_unchecked_infinite_pixels_are_1_and_0_and_nan_is_0(name: str, dtype: torch.dtype) -> None:
    analog, code = ANALOG.get(name, 0), spikegen.CODES[name]
    wild = torch.tensor([math.inf, -math.inf, math.nan, 1e4, -1e4], dtype=dtype)
    tame = torch.tensor([1, 0, 0, 1, 0], dtype=dtype)
    for num_steps in (2, 5):  # 5 steps of a binary code are enough levels for a search
        planes = code(wild, num_steps, check=False)
        assert torch.equal(planes[analog:], code(tame, num_steps)[analog:])
        assert torch.equal(planes[:analog].nan_to_num(), wild.expand(analog, 5).nan_to_num())
        unchecked = Encoder(num_steps, code=name, check=False)
        assert torch.equal(unchecked(wild)[analog:], planes[analog:])


def test_unchecked_infinite_pixels_under_compile() -> None:
    torch.compiler.reset()
    encode = torch.compile(partial(spikegen.temporal, num_steps=4), fullgraph=True, backend="aot_eager")
    planes = encode(torch.tensor([math.inf, -math.inf, math.nan]))
    assert torch.equal(planes, spikegen.temporal(torch.tensor([1.0, 0.0, 0.0]), 4))


# Models: saved, exported, compiled, and in every tool


def build(name: str = "lenet", **settings: Any) -> SpikingModel:
    return create_model(name, **{"num_classes": 10, "num_steps": 4, "image_size": 16} | settings).eval()


@pytest.mark.parametrize("name", ["lenet", "spikformer_tiny", "spiking_resnet_tiny"])
def test_both_ways_give_one_answer(name: str, images: Tensor) -> None:
    raw = build(name, normalize=MOMENTS)
    other = build(name, unnormalize=MOMENTS)
    weights = {k: v for k, v in raw.state_dict().items() if not k.startswith("encode.")}
    assert not other.load_state_dict(weights, strict=False).unexpected_keys
    assert torch.equal(raw(images), other(normalised(images)))
    plain = build(name)
    plain.load_state_dict(weights)
    assert not torch.equal(raw.encode(images), plain.encode(images))


def test_moments_are_buffers_of_the_model() -> None:
    model = build(normalize=(np.array(MEAN), torch.tensor(STD)))
    keys = {key for key in model.state_dict() if key.startswith("encode.")}
    assert keys == {"encode.encoder.normalize.mean", "encode.encoder.normalize.std"}
    assert keys <= {key for key, _ in model.named_buffers()}
    assert "encode.encoder.normalize.mean" not in model.network_keys()
    assert torch.equal(
        copy.deepcopy(model).encode(torch.ones(1, 3, 16, 16)), model.encode(torch.ones(1, 3, 16, 16))
    )


@pytest.mark.parametrize("argument", ["normalize", "unnormalize"])
@pytest.mark.parametrize("moments", [MOMENTS, ONE, (torch.tensor(MEAN), np.array(STD))])
def test_saved_and_read_with_the_model(argument: str, moments: Any, tmp_path: Any, images: Tensor) -> None:
    pytest.importorskip("safetensors")
    model = build(**{argument: moments})
    model.save_pretrained(tmp_path / "model.safetensors")
    back = from_pretrained(tmp_path / "model.safetensors").eval()
    as_given = MOMENTS if moments is not ONE else ([0.5], [0.25])
    given = images if argument == "normalize" else normalised(images, as_given)
    assert torch.equal(back.encode(given), model.encode(given))
    assert torch.equal(back(given), model(given))


@pytest.mark.parametrize("argument", ["normalize", "unnormalize"])
def test_exported_and_compiled_with_the_model(argument: str, images: Tensor) -> None:
    given = images if argument == "normalize" else normalised(images)
    encode = build(**{argument: MOMENTS}).encode
    exported = torch.export.export(encode, (given,)).module()
    assert torch.equal(exported(given), encode(given))
    torch.compiler.reset()
    compiled = torch.compile(encode, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(given), encode(given))


@pytest.mark.parametrize("argument", ["normalize", "unnormalize"])
def test_energy_and_anytime_know_it(argument: str, images: Tensor) -> None:
    given = images if argument == "normalize" else normalised(images)
    model = build(**{argument: MOMENTS})
    report = asnn.energy.profile(model, given)
    assert report.layers[0].inputs == ("analog", "none", "none", "none")
    assert report.layers[1].inputs == ("none", "binary", "binary", "binary")
    assert report.layers[1].rates[1] == pytest.approx(spikegen.hybrid(images, 4)[1].mean().item())
    assert asnn.energy.count_macs(model).per_step == tuple(
        sum(la.dense_macs[t] for la in report.layers) for t in range(4)
    )
    logits, steps = asnn.anytime(model, given, threshold=1.0)
    torch.testing.assert_close(logits[steps == 4], model(given)[steps == 4])
    direct = build(encoding="direct", **{argument: MOMENTS})
    assert set(asnn.energy.profile(direct, given).layers[0].inputs) == {"analog"}
