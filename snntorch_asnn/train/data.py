"""Image data sets: loading, splits and batches. Images stay in [0, 1], as the codes need them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.extras import require

Batch: TypeAlias = tuple[Tensor, Tensor]
Transform: TypeAlias = Callable[[Tensor], Tensor]

# Splits are part of the data, not of the run: every seed sees the same validation and test images.
_SPLIT_SEED = 0
_DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
_DEFAULT_DATA_DIR = Path("data")


@dataclass(frozen=True)
class ImageSplits:
    """Training, validation and test images of one data set, and what a model must know of them."""

    train: Dataset[Any]
    val: Dataset[Any]
    test: Dataset[Any]
    classes: tuple[str, ...]
    in_channels: int
    image_size: int

    @property
    def sizes(self) -> dict[str, int]:
        """Number of images in each split."""
        return {name: len(getattr(self, name)) for name in ("train", "val", "test")}


class TensorImages(Dataset[Batch]):
    """Images held in memory, fetched a whole batch at a time.

    Args:
        images: ``[N, C, H, W]``, ``uint8`` in 0..255 or float in [0, 1].
        labels: ``[N]``, class indices.
        transform: applied to each image by itself, so that every image gets its own random crop.
    """

    def __init__(self, images: Tensor, labels: Tensor, transform: Transform | None = None) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        chosen = torch.as_tensor(indices)
        images = self.images[chosen]
        if self.transform is not None:
            images = torch.stack([self.transform(image) for image in images])
        return images, self.labels[chosen]


def load_images(config: TrainConfig) -> ImageSplits:
    """Load a data set, and carve the validation split from its training images.

    Args:
        config: names the data set, its folder, the size of the splits and the augmentation.

    Returns:
        ImageSplits: the three splits; every seed gets the same ones.

    Raises:
        ValueError: the data are not where ``config.data_dir`` says and cannot be downloaded, or
            there are too few images to split.
        ModuleNotFoundError: scikit-learn or torchvision is not installed.
    """
    if config.data != "digits" and config.data_dir is not None and not config.data_dir.is_dir():
        raise ValueError(f"data_dir must be a folder; got {config.data_dir}, which is none")
    if config.data == "image-folder":
        return _image_folder(config)
    return _in_memory(config, *_IN_MEMORY[config.data](config.data_dir))


def batches(
    dataset: Dataset[Any], config: TrainConfig, *, train: bool, device: torch.device
) -> DataLoader[Any]:
    """Return a loader over a split; training batches are shuffled and all of one size."""
    size = min(config.batch_size, len(dataset))  # type: ignore[arg-type]
    return DataLoader(
        dataset,
        batch_size=size,
        shuffle=train,
        drop_last=train,
        generator=torch.Generator().manual_seed(config.seed),
        num_workers=config.workers,
        persistent_workers=config.workers > 0,
        pin_memory=device.type == "cuda",
        collate_fn=_as_fetched if isinstance(dataset, TensorImages) else None,
    )


def to_unit_range(images: Tensor) -> Tensor:
    """Return float images in [0, 1]; integers are taken as 0..255."""
    return images if images.is_floating_point() else images.float().div_(255)


def _as_fetched(batch: Any) -> Any:
    return batch


def _in_memory(config: TrainConfig, train: Batch, test: Batch, classes: Sequence[str]) -> ImageSplits:
    images, labels = train
    train_part, val_part = _carve(labels, config)
    _, channels, height, _ = images.shape
    transform = _augmentation(config.augment, height, colour=channels == 3)
    return ImageSplits(
        train=TensorImages(images[train_part], labels[train_part], transform),
        val=TensorImages(images[val_part], labels[val_part]),
        test=TensorImages(*test),
        classes=tuple(classes),
        in_channels=channels,
        image_size=height,
    )


def _subset(labels: Tensor, config: TrainConfig) -> Tensor:
    """Return the indices of the images that ``train_subset`` leaves."""
    everything, wanted = torch.arange(len(labels)), config.train_subset
    if wanted is None or wanted == len(labels):
        return everything
    if wanted > len(labels):
        raise ValueError(f"train_subset must be at most {len(labels)} for {config.data}; got {wanted}")
    return _stratified(everything, labels, wanted, "train_subset")[0]


def _carve(labels: Tensor, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """Return the indices of the training and of the validation images."""
    chosen = _subset(labels, config)
    train = len(chosen) - round(config.val_fraction * len(chosen))
    return _stratified(chosen, labels, train, "train_subset and val_fraction")


def _stratified(indices: Tensor, labels: Tensor, first: int, setting: str) -> tuple[Tensor, Tensor]:
    """Split ``indices`` into ``first`` of them and the rest, each class in proportion."""
    train_test_split = require("sklearn.model_selection").train_test_split
    try:
        a, b = train_test_split(
            indices.numpy(),
            train_size=first,
            test_size=len(indices) - first,
            stratify=labels[indices].numpy(),
            random_state=_SPLIT_SEED,
        )
    except ValueError as error:
        raise ValueError(
            f"{setting} must leave images of every class on both sides of a split;"
            f" got {first} and {len(indices) - first}: {error}"
        ) from error
    return torch.from_numpy(a).sort().values, torch.from_numpy(b).sort().values


def _augmentation(name: str, size: int, *, colour: bool) -> Transform | None:
    if name == "none" or (name == "auto" and not colour):
        return None
    v2 = require("torchvision.transforms.v2")
    transform: Transform = v2.Compose(
        [v2.RandomCrop(size, padding=max(1, size // 8)), v2.RandomHorizontalFlip()]
    )
    return transform


def _digits(data_dir: Path | None) -> tuple[Batch, Batch, list[str]]:
    digits = require("sklearn.datasets").load_digits()
    images = torch.from_numpy(digits.images).float().div_(16).unsqueeze(1)
    labels = torch.from_numpy(digits.target).long()
    train, test = _stratified(torch.arange(len(labels)), labels, 1437, "data")
    return (images[train], labels[train]), (images[test], labels[test]), [str(d) for d in range(10)]


def _fashion_mnist(data_dir: Path | None) -> tuple[Batch, Batch, list[str]]:
    datasets = require("torchvision.datasets")
    with _fashion_mnist_root(data_dir) as (root, download), _readable("Fashion-MNIST", root):
        train = datasets.FashionMNIST(root, train=True, download=download)
        test = datasets.FashionMNIST(root, train=False)
    return (
        (train.data.unsqueeze(1), train.targets),
        (test.data.unsqueeze(1), test.targets),
        list(train.classes),
    )


@contextmanager
def _fashion_mnist_root(data_dir: Path | None) -> Iterator[tuple[Path, bool]]:
    """Yield a folder laid out as torchvision wants it, and whether to download into it.

    Debian ships ``.gz`` files in one flat folder: they are unpacked for the time of reading.
    """
    flat = data_dir if data_dir is not None else _DEBIAN_FASHION_MNIST
    archives = sorted(flat.glob("*-idx?-ubyte.gz"))
    if len(archives) != 4:
        yield data_dir or _DEFAULT_DATA_DIR, True
        return
    extract_archive = require("torchvision.datasets.utils").extract_archive
    with tempfile.TemporaryDirectory() as root:
        raw = Path(root, "FashionMNIST", "raw")
        raw.mkdir(parents=True)
        for archive in archives:
            extract_archive(archive, raw)
        yield Path(root), False


def _cifar(name: str, data_dir: Path | None) -> tuple[Batch, Batch, list[str]]:
    dataset = getattr(require("torchvision.datasets"), name)
    root = data_dir or _DEFAULT_DATA_DIR
    with _readable(name, root):
        train, test = dataset(root, train=True, download=True), dataset(root, train=False)
    as_batch = [
        (torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets))
        for part in (train, test)
    ]
    return as_batch[0], as_batch[1], list(train.classes)


@contextmanager
def _readable(name: str, root: Path) -> Iterator[None]:
    """Turn failures to find, fetch or read files into one error that says what to do."""
    try:
        yield
    except (RuntimeError, OSError, EOFError) as error:
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        hint = " On Debian and Ubuntu: apt-get install dataset-fashion-mnist." if "Fashion" in name else ""
        raise ValueError(
            f"data_dir must hold {name}; it is not in {root}, and downloading failed: {reason[0]}.{hint}"
        ) from error


_IN_MEMORY: dict[str, Callable[[Path | None], tuple[Batch, Batch, list[str]]]] = {
    "digits": _digits,
    "fashion-mnist": _fashion_mnist,
    "cifar10": lambda data_dir: _cifar("CIFAR10", data_dir),
    "cifar100": lambda data_dir: _cifar("CIFAR100", data_dir),
}


def _image_folder(config: TrainConfig) -> ImageSplits:
    folders = _find_folders(config.data_dir)
    plain = _folder_transform(config, augment=False)
    image_folder = require("torchvision.datasets").ImageFolder
    try:
        parts = {name: image_folder(path, plain) for name, path in folders.items()}
    except FileNotFoundError as error:
        raise ValueError(f"data_dir must hold a folder of images for each class: {error}") from error
    classes = parts["train"].classes
    for name, part in parts.items():
        if part.classes != classes:
            raise ValueError(f"data_dir must have the same classes everywhere; got others in {folders[name]}")
    train = image_folder(folders["train"], _folder_transform(config, augment=True))
    labels = torch.tensor(train.targets)
    if "val" in parts:
        train_part, val = _subset(labels, config), parts["val"]
    else:
        train_part, val_part = _carve(labels, config)
        val = Subset(parts["train"], val_part.tolist())
    return ImageSplits(
        train=Subset(train, train_part.tolist()),
        val=val,
        test=parts["test"],
        classes=tuple(classes),
        in_channels=3,
        image_size=config.image_size,
    )


def _find_folders(data_dir: Path | None) -> dict[str, Path]:
    """Return the folders of the splits; of ``val`` and ``test``, one alone is the test set."""
    if data_dir is None:
        raise ValueError(
            "data_dir must be given for image-folder: it holds train/ and test/ or val/; got None"
        )
    found = {name: data_dir / name for name in ("train", "val", "test") if (data_dir / name).is_dir()}
    if "train" not in found or len(found) < 2:
        raise ValueError(
            "data_dir must hold train/, and test/ or val/;"
            f" {data_dir} has {', '.join(found) or 'none of them'}"
        )
    if "test" not in found:
        found["test"] = found.pop("val")
    return found


def _folder_transform(config: TrainConfig, *, augment: bool) -> Callable[[Any], Tensor]:
    v2 = require("torchvision.transforms.v2")
    steps = [v2.Resize(config.image_size, antialias=True), v2.CenterCrop(config.image_size)]
    steps.append(v2.PILToTensor())
    augmentation = _augmentation(config.augment, config.image_size, colour=True) if augment else None
    if augmentation is not None:
        steps.append(augmentation)
    transform: Callable[[Any], Tensor] = v2.Compose(steps)
    return transform
