from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")
pytest.importorskip("torchvision")

from PIL import Image

from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data import image_shape, load_images


@pytest.fixture
def picture_folder(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            for i in range(10):
                pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path


def test_image_folder_carves_validation_where_there_is_no_test(picture_folder):
    config = TrainConfig(data="image-folder", data_dir=picture_folder, image_size=16, val_fraction=0.2)
    splits = load_images(config)
    assert splits.sizes == {"train": 16, "val": 4, "test": 20}
    assert image_shape(config) == (splits.in_channels, splits.image_size)
    assert splits.classes == ("cat", "dog")
    for split in (splits.train, splits.val, splits.test):
        pixels, label = split[0]
        assert (pixels.dtype, pixels.shape, label) == (torch.uint8, (3, 16, 16), 0)


def test_image_folder_takes_val_and_test_where_both_are(picture_folder):
    (picture_folder / "val").rename(picture_folder / "test")
    (picture_folder / "val").mkdir()
    for label in ("cat", "dog"):
        (picture_folder / "val" / label).mkdir()
        source = picture_folder / "test" / label / "0.png"
        (picture_folder / "val" / label / "0.png").write_bytes(source.read_bytes())
    config = TrainConfig(data="image-folder", data_dir=picture_folder, train_subset=10)
    assert load_images(config).sizes == {"train": 10, "val": 2, "test": 20}


def test_image_folder_wants_its_layout(tmp_path, picture_folder):
    with pytest.raises(ValueError, match="data_dir must be given for image-folder"):
        load_images(TrainConfig(data="image-folder"))
    with pytest.raises(ValueError, match="data_dir must hold train/, and"):
        load_images(TrainConfig(data="image-folder", data_dir=picture_folder / "train"))
    (picture_folder / "val" / "dog").rename(picture_folder / "val" / "wolf")
    with pytest.raises(ValueError, match="data_dir must have the same classes"):
        load_images(TrainConfig(data="image-folder", data_dir=picture_folder))


@pytest.mark.parametrize(("data", "kept"), [("image-folder", 20 / 20), ("imagenet", 20 / (20 * 256 / 224))])
def test_evaluation_sees_the_middle(tmp_path, data, kept):
    column = np.arange(40, dtype=np.uint8) * 6
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            (tmp_path / split / label).mkdir(parents=True)
            for i in range(3):
                pixels = np.broadcast_to(column[None, :, None], (20, 40, 3))
                Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / split / label / f"{i}.png")
    config = TrainConfig(data=data, data_dir=tmp_path, image_size=20, val_fraction=0.5)
    pixels, _ = load_images(config).test[0]
    seen = (int(pixels[0, 0, -1]) - int(pixels[0, 0, 0])) / 6 + 1
    assert seen == pytest.approx(20 * kept, abs=1)


@pytest.mark.parametrize(
    ("data", "augment", "areas"), [("imagenet", "auto", True), ("image-folder", "auto", False)]
)
def test_imagenet_is_trained_on_resized_crops(picture_folder, data, augment, areas):
    config = TrainConfig(data=data, data_dir=picture_folder, image_size=16, augment=augment, val_fraction=0.2)
    train = load_images(config).train
    torch.manual_seed(0)
    seen = [train[0][0] for _ in range(8)]
    assert all(pixels.shape == (3, 16, 16) and pixels.dtype == torch.uint8 for pixels in seen)
    assert bool(any((pixels == 0).all(0).all(0).any() for pixels in seen)) is not areas


def test_a_class_without_images_is_refused(picture_folder):
    for file in (picture_folder / "train" / "dog").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"data_dir must hold a folder of images for each class: .*dog"):
        load_images(TrainConfig(data="imagenet", data_dir=picture_folder))
