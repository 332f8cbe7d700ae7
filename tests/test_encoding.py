"""The encoder module: what it computes, and that it behaves as a module should."""

from __future__ import annotations

import copy
import functools
import io
import pickle

import pytest
import torch
from torch import Tensor, nn

from snntorch_asnn import encoding, spikegen
from snntorch_asnn.encoding import Encoder


def ones_then_zeros(data: Tensor, num_steps: int, *, ones: int = 1) -> Tensor:
    return torch.cat((data.new_ones(ones, *data.shape), data.new_zeros(num_steps - ones, *data.shape)))


def repeated(data: Tensor, num_steps: int) -> Tensor:
    return data.expand(num_steps, *data.shape)


def paper_encoder(num_steps: int = 4) -> Encoder:
    return Encoder(num_steps, normalize="layer", shape=(3, 8, 8), levels="quantile")


@pytest.fixture
def images() -> Tensor:
    return torch.rand(5, 3, 8, 8)


def test_the_default_is_the_hybrid_code_without_parameters(images: Tensor) -> None:
    encode = Encoder(4)
    assert torch.equal(encode(images), spikegen.hybrid(images, 4))
    assert not encode.state_dict()
    assert encode.num_steps == 4
    assert encode.direct_steps == 1


@pytest.mark.parametrize("name", spikegen.CODES)
def test_every_code(name: str, images: Tensor) -> None:
    assert torch.equal(Encoder(3, code=name)(images), spikegen.CODES[name](images, 3))


@pytest.mark.parametrize(
    ("code", "options", "direct_steps"),
    [
        ("hybrid", {"direct_steps": 2, "levels": "quantile"}, 2),
        ("hybrid_binary", {"direct_steps": 3}, 3),
        ("single_spike_hybrid", {"levels": torch.tensor([0.7, 0.1])}, 1),
        (functools.partial(spikegen.hybrid, direct_steps=2), {}, 2),
        ("temporal", {"last": "all", "levels": torch.tensor([0.9, 0.5, 0.2])}, 0),
        ("phase", {"period": 2}, 0),
        ("direct", {}, 0),
        (ones_then_zeros, {"ones": 3}, 0),
    ],
)
def test_options_reach_the_code(
    code: object, options: dict[str, object], direct_steps: int, images: Tensor
) -> None:
    encode = Encoder(4, code=code, **options)
    assert encode.direct_steps == direct_steps
    assert torch.equal(encode(images), spikegen.get_code(code)(images, 4, **options))
    assert torch.equal(encode(images), encode(images))


def test_layer_norm_with_and_without_parameters(images: Tensor) -> None:
    expected = spikegen.hybrid(torch.layer_norm(images, (3, 8, 8)).sigmoid(), 4)
    bare = Encoder(4, normalize="layer")
    assert not list(bare.parameters())
    assert torch.equal(bare(images), expected)
    affine = Encoder(4, normalize="layer", shape=(3, 8, 8))
    assert set(affine.state_dict()) == {"normalize.weight", "normalize.bias"}
    assert torch.equal(affine(images), expected)
    affine(images)[0].sum().backward()
    assert all(parameter.grad.any() for parameter in affine.parameters())


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        (0.5, 2),
        ([0.4, 0.5, 0.6], (0.1, 0.2, 0.3)),
        (torch.tensor([0.4, 0.5, 0.6]), torch.tensor(0.25)),
        (torch.rand(3, 8, 8), torch.rand(1, 8, 1) + 0.1),
    ],
)
def test_given_mean_and_std(mean: object, std: object, images: Tensor) -> None:
    encode = Encoder(4, normalize=(mean, std), squash="sigmoid")

    def per_channel(moment: object) -> Tensor:
        moment = torch.as_tensor(moment)
        return moment[:, None, None] if moment.ndim == 1 else moment

    squashed = ((images - per_channel(mean)) / per_channel(std)).sigmoid()
    assert torch.equal(encode(images), spikegen.hybrid(squashed, 4))
    assert set(encode.state_dict()) == {"normalize.mean", "normalize.std"}


def test_squash() -> None:
    data = torch.tensor([[-1.0, 0.25, 2.0]])
    clamped = Encoder(3, squash="clamp")(data)
    assert torch.equal(clamped, spikegen.hybrid(data.clamp(0, 1), 3))
    squashed = Encoder(3, squash="sigmoid")(data)
    assert torch.equal(squashed, spikegen.hybrid(data.sigmoid(), 3))
    with pytest.raises(ValueError, match=r"data must be in \[0, 1\]"):
        Encoder(3)(data)
    with pytest.raises(ValueError, match=r"data must be in \[0, 1\]"):
        Encoder(3, normalize="layer", squash="none")(data)
    assert torch.equal(Encoder(3, check=False)(data)[0], data)


@pytest.mark.parametrize("num_steps", [2, 4, 7])
def test_the_papers_encoder_gives_each_plane_its_share_of_normal_pixels(num_steps: int) -> None:
    encode = Encoder(num_steps, normalize="layer", shape=(3, 32, 32), levels="quantile")
    images = 3 + 0.2 * torch.randn(32, 3, 32, 32)
    share = encode(images)[1:].mean(dim=(1, 2, 3, 4))
    torch.testing.assert_close(share, torch.full_like(share, 1 / num_steps), rtol=0, atol=0.005)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("normalize", [None, "layer", (0.5, 0.25)])
def test_dtype_is_kept(dtype: torch.dtype, normalize: object, images: Tensor) -> None:
    planes = Encoder(4, normalize=normalize)(images.to(dtype))
    assert planes.dtype == dtype
    assert planes.shape == (4, *images.shape)


def test_empty_batch() -> None:
    assert paper_encoder()(torch.rand(0, 3, 8, 8)).shape == (4, 0, 3, 8, 8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_own_levels_survive_half_precision(dtype: torch.dtype) -> None:
    levels = torch.tensor([0.5001, 0.5])
    encode = Encoder(3, levels=levels).to(dtype)
    assert torch.equal(encode.levels, levels)
    data = torch.tensor([0.5], dtype=dtype)
    assert encode(data)[1:].flatten().tolist() == [0, 1]


def test_state_dict_round_trip(images: Tensor) -> None:
    fitted = Encoder(4, normalize=([0.4, 0.5, 0.6], 0.3), levels=torch.tensor([0.9, 0.5, 0.3]))
    fresh = Encoder(4, normalize=([0.0] * 3, 1.0), levels=torch.tensor([0.3, 0.2, 0.1]))
    fresh.load_state_dict(fitted.state_dict())
    assert torch.equal(fresh(images), fitted(images))


def copy_by_pickle(module: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(module))


def copy_by_torch_save(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy_by_pickle, copy_by_torch_save])
@pytest.mark.parametrize("code", ["hybrid", functools.partial(spikegen.hybrid, direct_steps=2)])
def test_copies(duplicate: object, code: object, images: Tensor) -> None:
    encode = Encoder(4, code=code, normalize="layer", shape=(3, 8, 8), levels="quantile")
    assert torch.equal(duplicate(encode)(images), encode(images))


def test_the_constructor_keeps_its_own_levels(images: Tensor) -> None:
    levels = torch.tensor([0.9, 0.5, 0.3])
    encode = Encoder(4, levels=levels)
    before = encode(images)
    levels.zero_()
    assert torch.equal(encode(images), before)


@pytest.mark.parametrize("normalize", [None, "layer", ([0.4, 0.5, 0.6], 0.3)])
def test_construction_on_the_meta_device(normalize: object) -> None:
    with torch.device("meta"):
        encode = Encoder(4, normalize=normalize, levels="quantile")
    assert encode(torch.rand(2, 3, 8, 8, device="meta")).shape == (4, 2, 3, 8, 8)


def test_repr_tells_the_settings() -> None:
    shown = repr(paper_encoder())
    assert "4, code='hybrid', squash='sigmoid', levels='quantile'" in shown
    assert "(3, 8, 8)" in shown
    own = repr(Encoder(2, levels=torch.tensor([0.5]), direct_steps=1, check=False))
    assert "direct_steps=1, levels=[0.5], check=False" in own


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalize": "layer", "shape": (3, 8, 8), "levels": "quantile"},
        {"normalize": ([0.4, 0.5, 0.6], 0.3), "levels": torch.tensor([0.9, 0.5, 0.3])},
        {"normalize": "layer", "code": "binary_temporal"},
    ],
)
def test_compiles_without_a_graph_break(options: dict[str, object], images: Tensor) -> None:
    torch.compiler.reset()
    encode = Encoder(4, **options)
    compiled = torch.compile(encode, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(images), encode(images))


def test_vmap_without_checks(images: Tensor) -> None:
    encode = Encoder(4, normalize=(0.5, 0.3), check=False)
    assert torch.equal(torch.vmap(encode, out_dims=1)(images), encode(images))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_steps": 0}, ValueError, "num_steps must be at least 1; got 0"),
        ({"num_steps": True}, TypeError, "num_steps must be an integer; got True"),
        ({"code": "hybird"}, ValueError, "did you mean 'hybrid'"),
        ({"code": None}, TypeError, "code must be"),
        ({"normalize": "batch"}, ValueError, "normalize must be None, 'layer' or"),
        ({"normalize": (0.5,)}, ValueError, "normalize must be None, 'layer' or"),
        ({"normalize": 0.5}, ValueError, "normalize must be None, 'layer' or"),
        ({"normalize": (0.5, 0.0)}, ValueError, "std in normalize must be positive"),
        ({"normalize": (0.5, [0.1, -1.0])}, ValueError, "std in normalize must be positive"),
        ({"normalize": (float("nan"), 1.0)}, ValueError, "mean in normalize must be finite"),
        ({"normalize": (None, 1.0)}, TypeError, "mean in normalize must be a number"),
        ({"normalize": ("0.5", 1.0)}, TypeError, "mean in normalize must be a number"),
        ({"normalize": ((0.1, (0.2, 0.3)), 1.0)}, TypeError, "mean in normalize must be a number"),
        ({"unnormalize": "layer"}, ValueError, r"unnormalize must be None or \(mean, std\); got 'layer'"),
        ({"unnormalize": (0.5, 0)}, ValueError, "std in unnormalize must be positive"),
        ({"unnormalize": (0.5, float("inf"))}, ValueError, "std in unnormalize must be finite"),
        (
            {"normalize": (0.5, 1.0), "unnormalize": (0.5, 1.0)},
            ValueError,
            "normalize must not be given together with unnormalize; got both",
        ),
        (
            {"unnormalize": (0.5, 1.0), "squash": "clamp"},
            ValueError,
            "squash must not be given together with unnorm",
        ),
        ({"code": repeated, "normalize": (0.5, 1.0)}, ValueError, "code must have an argument analog"),
        ({"shape": (3, 8, 8)}, ValueError, "shape must be None unless normalize='layer'"),
        ({"normalize": "layer", "shape": 5}, TypeError, "shape must be a sequence of integers; got 5"),
        ({"normalize": "layer", "shape": (3, 0)}, ValueError, r"shape must hold positive .* got \(3, 0\)"),
        ({"squash": "tanh"}, ValueError, "squash must be one of .none., .clamp., .sigmoid.; got 'tanh'"),
        ({"squash": None}, TypeError, "squash must be one of .*; got NoneType"),
        ({"levels": "quantiles"}, ValueError, "levels must be one of .*did you mean 'quantile'"),
        ({"levels": torch.tensor([0.5])}, ValueError, r"levels must have shape \(3,\)"),
        ({"levels": torch.tensor([0.2, 0.5, 0.6])}, ValueError, "levels must be strictly decreas"),
        ({"direct_steps": 5}, ValueError, r"direct_steps must be in 1\.\.4; got 5"),
        ({"last": "all"}, TypeError, "the code takes no option 'last'; it takes direct_steps"),
        ({"code": "direct", "levels": "quantile"}, TypeError, "the code takes no option 'levels'"),
    ],
)
def test_wrong_settings(options: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Encoder(**{"num_steps": 4} | options)


def test_unchecked_encoders_still_check_their_settings() -> None:
    with pytest.raises(ValueError, match="levels must be strictly decreasing"):
        Encoder(3, levels=torch.tensor([0.2, 0.5]), check=False)


@pytest.mark.parametrize(
    ("options", "data", "error", "message"),
    [
        ({}, torch.ones(2, 3, dtype=torch.uint8), TypeError, "data must have a floating point dtype"),
        ({}, [0.5], TypeError, "data must be a torch.Tensor; got list"),
        (
            {"normalize": "layer", "shape": (3, 8, 8)},
            torch.rand(2, 1, 8, 8),
            ValueError,
            r"data must end in the dimensions shape=\(3, 8, 8\); got shape \(2, 1, 8, 8\)",
        ),
        ({"normalize": "layer"}, torch.rand(2), ValueError, r"data must be \[B, ...\]"),
        (
            {"normalize": ([0.1, 0.2, 0.3], 1.0)},
            torch.rand(2, 1, 8, 8),
            ValueError,
            r"data must have a shape that fits mean of shape \(3, 1, 1\) in normalize; got shape \(2, 1",
        ),
    ],
)
def test_wrong_data(options: dict[str, object], data: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Encoder(4, **options)(data)


def test_the_former_name_is_deprecated() -> None:
    with pytest.warns(DeprecationWarning, match=r"encoding\.Encoder"):
        assert encoding.HybridEncoder is Encoder
    with pytest.raises(AttributeError, match="HybridEncodr"):
        _ = encoding.HybridEncodr
