"""Recipes give the network the input that their authors' pipelines give theirs."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

transforms = pytest.importorskip("torchvision.transforms")
pytest.importorskip("lightning_fabric")
pytest.importorskip("sklearn")
Image = pytest.importorskip("PIL.Image")

from snntorch_asnn import spikegen  # noqa: E402
from snntorch_asnn.train.config import TrainConfig, moments_of  # noqa: E402
from snntorch_asnn.train.data import TensorImages, to_unit_range  # noqa: E402
from snntorch_asnn.train.evaluation import build_model  # noqa: E402
from snntorch_asnn.train.recipe import make_config, unused_settings  # noqa: E402
from snntorch_asnn.train.run_folder import RunFolder  # noqa: E402

CIFAR = transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
IMAGENET = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TET = transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))

# What the published code feeds its network at step t, after transforms.ToTensor() and these.
PUBLISHED = {
    ("lenet", "direct"): (CIFAR, spikegen.direct),
    ("lenet", "hybrid"): (None, spikegen.hybrid),
    ("lenet", "temporal"): (None, spikegen.temporal),
    ("lenet", "hybrid_binary"): (None, spikegen.hybrid_binary),
    ("spikformer_cifar", None): (CIFAR, spikegen.direct),
    ("resnet19_cifar", None): (TET, spikegen.direct),
    ("sew_imagenet", None): (IMAGENET, spikegen.direct),
    ("digits", None): (None, spikegen.hybrid),
}


def pictures(count: int, channels: int, size: int) -> Tensor:
    return torch.randint(256, (count, channels, size, size), dtype=torch.uint8)


def published(pixels: Tensor, normalize: transforms.Normalize | None) -> Tensor:
    steps = [transforms.ToTensor(), *([] if normalize is None else [normalize])]
    pipeline = transforms.Compose(steps)
    mode = "RGB" if pixels.shape[1] == 3 else "L"
    arrays = [image.permute(1, 2, 0).squeeze(-1).numpy() for image in pixels]
    return torch.stack([pipeline(Image.fromarray(array, mode)) for array in arrays])


@pytest.mark.parametrize(("recipe", "encoding"), PUBLISHED)
@pytest.mark.filterwarnings("ignore:.*mode.*:DeprecationWarning")
def test_one_batch_is_that_of_the_authors(recipe: str, encoding: str | None) -> None:
    config = make_config(recipe, {} if encoding is None else {"encoding": encoding})
    channels, size = (1, 8) if config.data == "digits" else (3, 32)
    encode = build_model(config, 2, channels, size).encode
    pixels = pictures(8, channels, size)
    loaded, _ = TensorImages(pixels, torch.zeros(8)).__getitems__(range(8))
    planes = encode(to_unit_range(loaded))
    normalize, code = PUBLISHED[recipe, encoding]
    expected = code(published(pixels, normalize), config.num_steps)
    for mine, theirs in zip(planes, expected, strict=True):
        assert mine.mean().item() == pytest.approx(theirs.mean().item(), abs=1e-6)
        assert mine.std().item() == pytest.approx(theirs.std().item(), abs=1e-6)
    torch.testing.assert_close(planes, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("data", "encoding", "normalised"),
    [
        ("cifar10", "direct", True),
        ("cifar100", "direct", True),
        ("imagenet", "direct", True),
        ("cifar10", "hybrid", False),
        ("cifar100", "temporal", False),
        ("digits", "direct", False),
        ("fashion-mnist", "direct", False),
        ("image-folder", "direct", False),
        ("n-mnist", "none", False),
    ],
)
def test_auto_normalises_where_published_code_does(data: str, encoding: str, normalised: bool) -> None:
    assert (moments_of(TrainConfig(data=data, encoding=encoding)) is not None) is normalised
    assert moments_of(TrainConfig(data=data, encoding=encoding, normalize="none")) is None
    one = moments_of(TrainConfig(data=data, encoding=encoding, normalize=" 0.5  2"))
    assert one == ((0.5,), (2.0,))


@pytest.mark.parametrize(
    "text",
    ["", "Auto", "0.5", "0.5 0.2 0.1", "a b", "nan 1", "0.5 inf", "0.5,0.5 0.1,0.1,0.1", ", 1", "0.5 1e-400"],
)
def test_what_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"normalize must (be auto, none, or|have standard deviations)"):
        TrainConfig(normalize=text)
    with pytest.raises(ValueError, match="normalize must"):
        TrainConfig.check_values({"normalize": text})


def test_standard_deviations_are_positive() -> None:
    with pytest.raises(ValueError, match=r"normalize must have standard .*; got '0\.5 0'"):
        TrainConfig(normalize="0.5 0")


def test_moments_of_other_channels_are_refused_by_the_model() -> None:
    config = TrainConfig(normalize="0.5,0.5,0.5 0.2,0.2,0.2")
    with pytest.raises(ValueError, match="normalize must have one mean, or one for each of 1 channels"):
        build_model(config, 2, 1, 8)


def test_a_setting_without_effect_is_told() -> None:
    assert "normalize" in unused_settings(TrainConfig(encoding="temporal"))
    assert "normalize" not in unused_settings(TrainConfig(encoding="hybrid"))
    with pytest.raises(ValueError, match="normalize must be left out with encoding=latency"):
        make_config(None, {"encoding": "latency", "normalize": "0.5 0.2"})


def test_runs_of_earlier_versions_are_not_normalised_after_the_fact(tmp_path) -> None:
    settings = TrainConfig(data="cifar10", encoding="direct").to_dict()
    del settings["normalize"]
    description = {"config": settings, "images": {}, "device": "cpu", "threads": 1, "versions": {}}
    folder = RunFolder(tmp_path)
    folder.config.write_text(json.dumps(description))
    assert folder.read_config().normalize == "none"
    assert moments_of(make_config(None, {"out": tmp_path, "resume": True})) is None
    assert TrainConfig.from_dict(settings).normalize == "auto"
