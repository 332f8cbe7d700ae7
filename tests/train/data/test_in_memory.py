from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")

from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data import (
    TensorImages,
    image_shape,
    in_memory,
    load_images,
    spread_images,
    to_unit_range,
)


def labels_of(dataset) -> torch.Tensor:
    return torch.tensor([int(dataset[i][1]) for i in range(len(dataset))])


def test_digits_are_split_class_by_class():
    config = TrainConfig(data="digits")
    splits = load_images(config)
    assert splits.sizes == {"train": 1293, "val": 144, "test": 360}
    assert image_shape(config) == (splits.in_channels, splits.image_size)
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


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    with gzip.open(path, "wb") as stream:
        stream.write(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def idx_archives(tmp_path):
    """The four files as Debian ships them, with 60 and 20 images."""
    rng = np.random.default_rng(0)
    for name, count in (("train", 60), ("t10k", 20)):
        write_idx(tmp_path / f"{name}-images-idx3-ubyte.gz", rng.integers(0, 256, (count, 28, 28)))
        write_idx(tmp_path / f"{name}-labels-idx1-ubyte.gz", np.arange(count) % 10)
    return tmp_path


def test_fashion_mnist_is_read_from_debians_archives(idx_archives, monkeypatch):
    pytest.importorskip("torchvision")
    before = sorted(idx_archives.iterdir())
    config = TrainConfig(data="fashion-mnist", val_fraction=0.2)
    monkeypatch.setattr(in_memory, "_DEBIAN_FASHION_MNIST", idx_archives)
    splits = load_images(config)
    assert splits.sizes == {"train": 48, "val": 12, "test": 20}
    assert splits.train.images.shape == (48, 1, 28, 28)
    assert image_shape(config) == image_shape(TrainConfig(data="mnist")) == (1, 28)
    assert splits.train.transform is None
    assert splits.classes[9] == "Ankle boot"
    assert sorted(idx_archives.iterdir()) == before


def test_fashion_mnist_that_cannot_be_had_says_what_to_do(tmp_path, monkeypatch):
    datasets = pytest.importorskip("torchvision.datasets")

    def no_network(self) -> None:
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nno route to host")

    monkeypatch.setattr(datasets.FashionMNIST, "download", no_network)
    with pytest.raises(ValueError, match=r"data_dir must hold Fashion-MNIST;.*no route to host.*apt-get"):
        load_images(TrainConfig(data="fashion-mnist", data_dir=tmp_path))


def test_mnist_is_read_from_plain_files_too(idx_archives):
    pytest.importorskip("torchvision")
    raw = idx_archives / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for archive in idx_archives.glob("*.gz"):
        (raw / archive.stem).write_bytes(gzip.decompress(archive.read_bytes()))
        archive.unlink()
    splits = load_images(TrainConfig(data="mnist", data_dir=idx_archives, val_fraction=0.2))
    assert splits.sizes == {"train": 48, "val": 12, "test": 20}
    assert splits.classes[7] == "7 - seven"


def write_cifar(root: Path, datasets, monkeypatch, *, classes: int) -> np.ndarray:
    """Write the pickled batches that torchvision reads, with 20 images each, and their checksums."""
    dataset = getattr(datasets, f"CIFAR{classes}")
    folder = root / dataset.base_folder
    folder.mkdir()
    rng = np.random.default_rng(0)
    fine = classes == 100
    count = 200 if fine else 20
    written = {}

    def write(name: str, content: dict) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    for split in ("train_list", "test_list"):
        entries = []
        for name, _ in getattr(dataset, split):
            written[name] = rng.integers(1, 256, (count, 3, 32, 32), dtype=np.uint8)
            labels = [i % classes for i in range(count)]
            data = {"data": written[name].reshape(count, -1), "fine_labels" if fine else "labels": labels}
            entries.append(write(name, data))
        monkeypatch.setattr(dataset, split, entries)
    key = "fine_label_names" if fine else "label_names"
    name, checksum = write(dataset.meta["filename"], {key: [f"class {i}" for i in range(classes)]})
    monkeypatch.setattr(dataset, "meta", {"filename": name, "key": key, "md5": checksum})
    return written[dataset.test_list[0][0]]


@pytest.mark.parametrize("classes", [10, 100])
def test_cifar_is_read_from_its_pickled_batches(tmp_path, monkeypatch, classes):
    datasets = pytest.importorskip("torchvision.datasets")
    test_images = write_cifar(tmp_path, datasets, monkeypatch, classes=classes)
    config = TrainConfig(data=f"cifar{classes}", data_dir=tmp_path, val_fraction=0.5)
    splits = load_images(config)
    train = 100 if classes == 10 else 200
    assert splits.sizes == {
        "train": train // 2,
        "val": train // 2,
        "test": train // (5 if classes == 10 else 1),
    }
    assert (splits.in_channels, splits.image_size) == image_shape(config) == (3, 32)
    assert splits.classes[-1] == f"class {classes - 1}"
    assert torch.equal(splits.test.images, torch.from_numpy(test_images))
    assert splits.test.labels[:12].tolist() == [i % classes for i in range(12)]


@pytest.mark.parametrize(("augment", "changes"), [("auto", True), ("none", False)])
def test_colour_images_are_cropped_and_flipped_unless_told_otherwise(tmp_path, monkeypatch, augment, changes):
    datasets = pytest.importorskip("torchvision.datasets")
    write_cifar(tmp_path, datasets, monkeypatch, classes=10)
    splits = load_images(TrainConfig(data="cifar10", data_dir=tmp_path, augment=augment))
    images, _ = splits.train.__getitems__(range(len(splits.train)))
    assert images.shape == (90, 3, 32, 32)
    assert bool((images == 0).any()) is changes
    assert (splits.val.images > 0).all()


def test_a_damaged_cifar_says_that_it_could_not_be_had(tmp_path, monkeypatch):
    datasets = pytest.importorskip("torchvision.datasets")
    write_cifar(tmp_path, datasets, monkeypatch, classes=10)
    (tmp_path / datasets.CIFAR10.base_folder / "test_batch").write_bytes(b"half")

    def no_network(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", no_network)
    with pytest.raises(ValueError, match=r"data_dir must hold CIFAR10;.*no route to host"):
        load_images(TrainConfig(data="cifar10", data_dir=tmp_path))


@pytest.mark.parametrize("data", ["mnist", "fashion-mnist", "cifar10", "image-folder", "imagenet"])
def test_a_missing_folder_is_named(tmp_path, data):
    with pytest.raises(ValueError, match="data_dir must be a folder"):
        load_images(TrainConfig(data=data, data_dir=tmp_path / "nowhere"))


def test_images_need_a_code():
    with pytest.raises(ValueError, match="encoding must be a code for digits; got 'none'"):
        load_images(TrainConfig(data="digits", encoding="none"))


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


def test_spread_images_come_from_every_class_of_a_sorted_data_set():
    images = TensorImages(torch.arange(10.0).view(10, 1, 1, 1), torch.arange(10) // 5)
    assert spread_images(images, 4).flatten().tolist() == [0, 2, 5, 7]
    assert spread_images(images, 99).flatten().tolist() == list(range(10))
    frames = [(torch.full((3, 2, 1, 1), float(i)), 0) for i in range(6)]
    spread = spread_images(frames, 2)
    assert spread.shape == (3, 2, 2, 1, 1)
    assert spread[0, :, 0].flatten().tolist() == [0, 3]
