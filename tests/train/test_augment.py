from __future__ import annotations

import random
from typing import get_args

import numpy as np
import pytest
import torch

pytest.importorskip("torchvision")

from snntorch_asnn.train.augment import make_mixup, make_train_transform
from snntorch_asnn.train.batches import train_loader
from snntorch_asnn.train.config import Augmentation, TrainConfig
from snntorch_asnn.train.data import load_images

POLICY = "rand-m9-n1-mstd0.4-inc1"


def settings(**changes) -> TrainConfig:
    return TrainConfig(**{"augment": "none"} | changes)


def picture(*shape, dtype=torch.uint8) -> torch.Tensor:
    image = torch.randint(0, 256, shape or (3, 16, 16), dtype=torch.uint8)
    return image if dtype == torch.uint8 else image.to(dtype) / 255


@pytest.fixture
def timm():
    return pytest.importorskip("timm")


@pytest.mark.parametrize("augment", get_args(Augmentation))
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_dtype_and_range_stay(augment, dtype, channels):
    config = settings(augment=augment, random_erasing=0.5)
    transform = make_train_transform(config, (channels, 16, 12))
    image = picture(channels, 16, 12, dtype=dtype)
    changed = [transform(image) for _ in range(20)]
    assert {(x.shape, x.dtype) for x in changed} == {(image.shape, dtype)}
    assert all(x.min() >= 0 and x.max() <= (255 if dtype == torch.uint8 else 1) for x in changed)
    assert any(not torch.equal(x, image) for x in changed)


@pytest.mark.parametrize(("augment", "channels"), [("none", 3), ("auto", 1), ("auto", 2)])
def test_nothing_to_do_is_none(augment, channels):
    assert make_train_transform(settings(augment=augment), (channels, 16, 16)) is None


@pytest.mark.parametrize(("padding", "margin"), [(None, 4), (5, 5)])
def test_crops_shift_by_their_margin(padding, margin):
    transform = make_train_transform(settings(augment="crop-flip", crop_padding=padding), (3, 32, 32))
    image = torch.full((3, 32, 32), 255, dtype=torch.uint8)
    blank_rows = {int((transform(image)[0] == 0).all(1).sum()) for _ in range(200)}
    assert blank_rows == set(range(margin + 1))


def test_rotation_is_between_0_and_its_largest_angle():
    rotate = make_train_transform(settings(augment="crop-flip-rotate"), (3, 32, 32)).transforms[2]
    assert rotate.degrees == [0.0, 25.0]


def test_a_resized_crop_takes_images_of_any_size():
    transform = make_train_transform(settings(augment="random-resized-crop"), (3, 24, 24))
    assert transform(picture(3, 50, 37)).shape == (3, 24, 24)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_erased_pixels_are_noise_over_the_whole_range(dtype):
    transform = make_train_transform(settings(random_erasing=1.0), (3, 64, 64))
    image = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    image = image if dtype == torch.uint8 else image / 255
    noise = torch.cat([x[x != image] for x in (transform(image) for _ in range(20))])
    noise = noise.float() / (255 if dtype == torch.uint8 else 1)
    assert noise.mean().item() == pytest.approx(0.5, abs=0.05)
    assert noise.std().item() == pytest.approx(12**-0.5, abs=0.05)


def test_erasing_leaves_the_other_images_alone():
    transform = make_train_transform(settings(random_erasing=0.25), (3, 16, 16))
    image = picture()
    kept = sum(torch.equal(transform(image), image) for _ in range(200))
    assert 130 <= kept <= 170


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_rand_augment_changes_images_of_every_kind(dtype, channels):
    transform = make_train_transform(settings(rand_augment=POLICY), (channels, 16, 16))
    image = picture(channels, 16, 16, dtype=dtype)
    changed = [transform(image) for _ in range(40)]
    assert {(x.shape, x.dtype) for x in changed} == {(image.shape, dtype)}
    assert 0 <= min(x.min() for x in changed) <= max(x.max() for x in changed) <= 255
    assert 5 < sum(not torch.allclose(x, image) for x in changed) < 40


@pytest.mark.usefixtures("timm")
def test_rand_augment_draws_from_torch_and_leaves_pythons_generators_alone():
    transform = make_train_transform(settings(rand_augment="rand-m9-n3-mstd0.5"), (3, 16, 16))
    image, results = picture(), []
    for seed in (1, 1, 2):
        random.seed(len(results))
        torch.manual_seed(seed)
        results.append(torch.stack([transform(image) for _ in range(10)]))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    transform(image)
    assert random.getstate() == of_python
    assert np.array_equal(np.random.get_state()[1], of_numpy[1])  # noqa: NPY002


@pytest.mark.usefixtures("timm")
def test_an_image_gets_the_same_from_any_process_at_any_time():
    pytest.importorskip("sklearn")
    chosen = {"augment": "crop-flip-rotate", "rand_augment": POLICY, "random_erasing": 0.5}
    found = []
    for workers, first in ((0, 0), (0, 2), (2, 2)):
        config = settings(data="digits", train_subset=100, batch_size=20, workers=workers, **chosen)
        loader, order = train_loader(load_images(config).train, config, torch.device("cpu"))
        passes = []
        for epoch in (1, 2):
            order.start_at(epoch=epoch, step=first)
            passes.append(torch.cat([images for images, _ in loader]))
        found.append(passes)
        torch.rand(workers + 1)
    whole, continued, by_workers = found
    for epoch in (0, 1):
        assert torch.equal(whole[epoch][40:], continued[epoch])
        assert torch.equal(continued[epoch], by_workers[epoch])
    assert not torch.equal(whole[0].sort(dim=0).values, whole[1].sort(dim=0).values)


def test_frames_of_one_recording_move_alike():
    transform = make_train_transform(settings(augment="crop-flip"), (5, 2, 16, 16))
    frames = picture(2, 16, 16, dtype=torch.float32).expand(5, 2, 16, 16)
    for _ in range(5):
        moved = transform(frames)
        assert all(torch.equal(frame, moved[0]) for frame in moved)


@pytest.mark.parametrize("frames", [False, True])
def test_mixup_is_the_formula_and_its_weight_uniform(frames):
    mix = make_mixup(TrainConfig(mixup=1.0, cutmix=0.0), num_classes=4)
    images, labels = torch.rand(4, 1, 2, 2), torch.arange(4)
    given = images.expand(3, 4, 1, 2, 2).clone() if frames else images
    weights = []
    for _ in range(300):
        mixed, targets = mix(given, labels)
        weight = targets[0, 0].item()
        wanted = weight * images + (1 - weight) * images.roll(1, 0)
        assert torch.allclose(mixed, wanted, atol=1e-6)
        assert torch.allclose(targets, weight * torch.eye(4) + (1 - weight) * torch.eye(4).roll(1, 0))
        weights.append(weight)
    assert mixed.shape == given.shape
    quarters = torch.histc(torch.tensor(weights), bins=4, min=0, max=1)
    assert quarters.min() > 50


def test_cutmix_weighs_classes_by_area():
    mix = make_mixup(TrainConfig(mixup=0.0, cutmix=1.0), num_classes=2)
    images = torch.stack([torch.zeros(1, 16, 16), torch.ones(1, 16, 16)])
    for _ in range(10):
        mixed, targets = mix(images, torch.tensor([0, 1]))
        assert set(mixed.unique().tolist()) <= {0.0, 1.0}
        assert mixed[0].mean().item() == pytest.approx(targets[0, 1].item(), abs=1e-6)


def test_both_mixtures_take_turns():
    mix = make_mixup(TrainConfig(mixup=1.0, cutmix=1.0), num_classes=2)
    images = torch.stack([torch.zeros(1, 16, 16), torch.ones(1, 16, 16)])
    binary = [
        bool(((x == 0) | (x == 1)).all()) for x in (mix(images, torch.tensor([0, 1]))[0] for _ in range(50))
    ]
    assert 10 < sum(binary) < 40


def test_no_mixture_is_none():
    assert make_mixup(TrainConfig(mixup=0.0, cutmix=0.0), num_classes=2) is None


@pytest.mark.parametrize(
    ("changes", "shape", "message"),
    [
        ({"augment": "blur"}, (3, 8, 8), "augment must be one of .*; got 'blur'"),
        ({"random_erasing": 1.5}, (3, 8, 8), "random_erasing must be at least 0 and at most 1; got 1.5"),
        ({"random_erasing": 0.5}, (4, 2, 8, 8), "must be off for event frames"),
        ({"rand_augment": POLICY}, (4, 2, 8, 8), "must be off for event frames"),
    ],
)
def test_wrong_settings_are_named(changes, shape, message):
    with pytest.raises(ValueError, match=message):
        make_train_transform(settings(**changes), shape)


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize("policy", ["strong", "rand-mx9"])
def test_an_unknown_policy_is_named(policy):
    with pytest.raises(ValueError, match=f"rand_augment must be a policy such as .*; got '{policy}'"):
        make_train_transform(settings(rand_augment=policy), (3, 8, 8))


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_a_negative_alpha_is_named(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 0; got -1"):
        make_mixup(TrainConfig(**{name: -1}), 2)
