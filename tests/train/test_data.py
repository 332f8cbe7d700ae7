from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")

from snntorch_asnn.train import data as data_module
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data import TensorImages, batches, load_images, to_unit_range

CPU = torch.device("cpu")


def labels_of(dataset) -> torch.Tensor:
    return torch.tensor([int(dataset[i][1]) for i in range(len(dataset))])


def test_digits_are_split_class_by_class():
    splits = load_images(TrainConfig(data="digits"))
    assert splits.sizes == {"train": 1293, "val": 144, "test": 360}
    assert (splits.in_channels, splits.image_size, len(splits.classes)) == (1, 8, 10)
    for part, least in (("train", 120), ("val", 13), ("test", 33)):
        assert labels_of(getattr(splits, part)).bincount().min() >= least


def test_digits_are_images_in_unit_range():
    images = load_images(TrainConfig(data="digits")).train.images
    assert images.dtype == torch.float32
    assert (images.min(), images.max()) == (0, 1)


def test_splits_do_not_overlap_and_do_not_depend_on_the_seed():
    first, second = (load_images(TrainConfig(data="digits", seed=seed)) for seed in (0, 1))
    for part in ("train", "val", "test"):
        assert torch.equal(getattr(first, part).images, getattr(second, part).images)
    rows = torch.cat([getattr(first, part).images for part in ("train", "val", "test")])
    assert len(rows.flatten(1).unique(dim=0)) == 1797


def test_train_subset_counts_the_validation_images_too():
    splits = load_images(TrainConfig(data="digits", train_subset=200, val_fraction=0.25))
    assert splits.sizes == {"train": 150, "val": 50, "test": 360}


@pytest.mark.parametrize("subset", [3, 2000])
def test_impossible_subsets_are_refused(subset):
    with pytest.raises(ValueError, match="train_subset"):
        load_images(TrainConfig(data="digits", train_subset=subset))


def test_batches_are_whole_shuffled_and_repeatable():
    dataset = load_images(TrainConfig(data="digits")).train
    config = TrainConfig(batch_size=100, seed=5)
    first, second = (list(batches(dataset, config, train=True, device=CPU)) for _ in range(2))
    assert [len(labels) for _, labels in first] == [100] * 12
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, second, strict=True))
    other = next(iter(batches(dataset, TrainConfig(batch_size=100), train=True, device=CPU)))
    assert not torch.equal(first[0][0], other[0])


def test_evaluation_reads_every_image_once_in_order():
    dataset = load_images(TrainConfig(data="digits")).test
    found = torch.cat([labels for _, labels in batches(dataset, TrainConfig(), train=False, device=CPU)])
    assert torch.equal(found, dataset.labels)


def test_a_transform_sees_single_images():
    seen = []
    images = TensorImages(torch.rand(4, 1, 2, 2), torch.arange(4), lambda x: seen.append(x.shape) or -x)
    batch, labels = images.__getitems__([1, 3])
    assert torch.equal(batch, -images.images[[1, 3]])
    assert seen == [(1, 2, 2)] * 2
    assert labels.tolist() == [1, 3]


def test_integers_become_unit_range():
    assert to_unit_range(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx(
        [0.0, 0.2, 1.0]
    )


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    with gzip.open(path, "wb") as stream:
        stream.write(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def fashion_mnist_archives(tmp_path):
    """The four files as Debian ships them, with 60 and 20 images."""
    rng = np.random.default_rng(0)
    for name, count in (("train", 60), ("t10k", 20)):
        write_idx(tmp_path / f"{name}-images-idx3-ubyte.gz", rng.integers(0, 256, (count, 28, 28)))
        write_idx(tmp_path / f"{name}-labels-idx1-ubyte.gz", np.arange(count) % 10)
    return tmp_path


def test_fashion_mnist_is_read_from_debians_archives(fashion_mnist_archives, monkeypatch):
    pytest.importorskip("torchvision")
    before = sorted(fashion_mnist_archives.iterdir())
    config = TrainConfig(data="fashion-mnist", val_fraction=0.2)
    monkeypatch.setattr(data_module, "_DEBIAN_FASHION_MNIST", fashion_mnist_archives)
    splits = load_images(config)
    assert splits.sizes == {"train": 48, "val": 12, "test": 20}
    assert splits.train.images.shape == (48, 1, 28, 28)
    assert splits.train.transform is None
    assert splits.classes[9] == "Ankle boot"
    assert sorted(fashion_mnist_archives.iterdir()) == before


def test_fashion_mnist_that_cannot_be_had_says_what_to_do(tmp_path, monkeypatch):
    datasets = pytest.importorskip("torchvision.datasets")

    def no_network(self) -> None:
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nno route to host")

    monkeypatch.setattr(datasets.FashionMNIST, "download", no_network)
    with pytest.raises(ValueError, match=r"data_dir must hold Fashion-MNIST;.*no route to host.*apt-get"):
        load_images(TrainConfig(data="fashion-mnist", data_dir=tmp_path))


class FakeCifar:
    """Stands for torchvision's CIFAR10, whose files are not at hand."""

    classes = ("cat", "dog")

    def __init__(self, root, train, download=False) -> None:
        count = 40 if train else 10
        self.data = np.full((count, 32, 32, 3), 255, dtype=np.uint8)
        self.targets = [i % 2 for i in range(count)]


@pytest.mark.parametrize(("augment", "changes"), [("auto", True), ("none", False)])
def test_cifar_is_cropped_and_flipped_unless_told_otherwise(monkeypatch, augment, changes):
    datasets = pytest.importorskip("torchvision.datasets")
    monkeypatch.setattr(datasets, "CIFAR10", FakeCifar)
    splits = load_images(TrainConfig(data="cifar10", augment=augment))
    images, _ = splits.train.__getitems__(range(len(splits.train)))
    assert images.shape == (36, 3, 32, 32)
    assert bool((images == 0).any()) is changes
    assert (splits.val.images == 255).all()


def test_a_missing_folder_is_named(tmp_path):
    for name in ("fashion-mnist", "cifar10", "image-folder"):
        with pytest.raises(ValueError, match="data_dir must be a folder"):
            load_images(TrainConfig(data=name, data_dir=tmp_path / "nowhere"))


@pytest.fixture
def picture_folder(tmp_path):
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            for i in range(10):
                pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
                image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path


def test_image_folder_carves_validation_where_there_is_no_test(picture_folder):
    pytest.importorskip("torchvision")
    config = TrainConfig(
        data="image-folder", data_dir=picture_folder, image_size=16, val_fraction=0.2, batch_size=8
    )
    splits = load_images(config)
    assert splits.sizes == {"train": 16, "val": 4, "test": 20}
    assert splits.classes == ("cat", "dog")
    images, labels = next(iter(batches(splits.train, config, train=True, device=CPU)))
    assert (images.dtype, images.shape, labels.shape) == (torch.uint8, (8, 3, 16, 16), (8,))


def test_image_folder_takes_val_and_test_where_both_are(picture_folder):
    pytest.importorskip("torchvision")
    (picture_folder / "val").rename(picture_folder / "test")
    (picture_folder / "val").mkdir()
    for label in ("cat", "dog"):
        (picture_folder / "val" / label).mkdir()
        source = picture_folder / "test" / label / "0.png"
        (picture_folder / "val" / label / "0.png").write_bytes(source.read_bytes())
    config = TrainConfig(data="image-folder", data_dir=picture_folder, train_subset=10)
    assert load_images(config).sizes == {"train": 10, "val": 2, "test": 20}


def test_image_folder_wants_its_layout(tmp_path, picture_folder):
    pytest.importorskip("torchvision")
    with pytest.raises(ValueError, match="data_dir must be given for image-folder"):
        load_images(TrainConfig(data="image-folder"))
    with pytest.raises(ValueError, match="data_dir must hold train/, and"):
        load_images(TrainConfig(data="image-folder", data_dir=picture_folder / "train"))
    (picture_folder / "val" / "dog").rename(picture_folder / "val" / "wolf")
    with pytest.raises(ValueError, match="data_dir must have the same classes"):
        load_images(TrainConfig(data="image-folder", data_dir=picture_folder))
