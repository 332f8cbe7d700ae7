"""Images held in memory, and the small data sets that fit there: digits, MNIST, Fashion-MNIST and CIFAR."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import Dataset

from snntorch_asnn._extras import require
from snntorch_asnn.train.augment import Transform, make_train_transform
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data.splits import (
    DEFAULT_DATA_DIR,
    ImageSplits,
    carve,
    readable,
    stratified,
    tensor_digest,
)

Batch: TypeAlias = tuple[Tensor, Tensor]
_DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
_APT_HINT = " On Debian and Ubuntu: apt-get install dataset-fashion-mnist."


class TensorImages(Dataset[Batch]):
    """Images held in memory, fetched a whole batch at a time.

    Args:
        images: ``[N, C, H, W]``, ``uint8`` in 0..255 or float in [0, 1].
        labels: ``[N]``, class indices.
        transform: Applied to each image by itself, so that every image gets its own random crop.
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


def to_unit_range(images: Tensor) -> Tensor:
    """Return float images in [0, 1]; integers are taken as 0..255, and floats as they are."""
    return images if images.is_floating_point() else images.float().div_(255)


def join_images(images: Sequence[Tensor]) -> Tensor:
    """Stack images to a batch ``[B, C, H, W]``, or event frames to ``[T, B, C, H, W]``.

    Integers in 0..255 and floats together become floats.
    """
    if len({image.dtype for image in images}) > 1:
        images = [to_unit_range(image) for image in images]
    return torch.stack(list(images), dim=1 if images[0].ndim == 4 else 0)


def spread(size: int, count: int) -> list[int]:
    """Return ``count`` evenly spaced indices below ``size``, or all indices if there are fewer."""
    count = min(count, size)
    return [place * size // count for place in range(count)]


def spread_images(dataset: Dataset[Any], count: int) -> Tensor:
    """Return evenly spaced images of a data set as a batch.

    Data sets are often sorted by class, so that the first images would be of one class.

    Example::

        >>> data = TensorImages(torch.arange(6.0).view(6, 1, 1, 1), torch.zeros(6))
        >>> spread_images(data, 3).flatten()
        tensor([0., 2., 4.])
    """
    indices = spread(len(dataset), count)  # type: ignore[arg-type]
    return join_images([dataset[index][0] for index in indices])


def load_in_memory(config: TrainConfig) -> ImageSplits:
    """Load a small data set; only its training images are augmented."""
    train, test, classes = _LOADERS[config.data](config.data_dir)
    images, labels = train
    train_part, val_part = carve(labels, config)
    _, channels, height, width = images.shape
    transform = make_train_transform(config, (channels, height, width))
    return ImageSplits(
        train=TensorImages(images[train_part], labels[train_part], transform),
        val=TensorImages(images[val_part], labels[val_part]),
        test=TensorImages(*test),
        classes=tuple(classes),
        in_channels=channels,
        image_size=height,
        content={"train": tensor_digest(*train), "test": tensor_digest(*test)},
    )


def _digits(data_dir: Path | None) -> tuple[Batch, Batch, list[str]]:
    digits = require("sklearn.datasets", extra="train").load_digits()
    images = torch.from_numpy(digits.images).float().div_(16).unsqueeze(1)
    labels = torch.from_numpy(digits.target).long()
    train, test = stratified(torch.arange(len(labels)), labels, 1437, "data")
    return (images[train], labels[train]), (images[test], labels[test]), [str(d) for d in range(10)]


def _fashion_mnist(data_dir: Path | None) -> tuple[Batch, Batch, list[str]]:
    if data_dir is None and _DEBIAN_FASHION_MNIST.is_dir():
        data_dir = _DEBIAN_FASHION_MNIST
    return _from_torchvision("FashionMNIST", "Fashion-MNIST", data_dir, _APT_HINT)


def _from_torchvision(
    name: str, shown: str, data_dir: Path | None, hint: str = ""
) -> tuple[Batch, Batch, list[str]]:
    dataset = getattr(require("torchvision.datasets", extra="train"), name)
    with _root(name, data_dir) as (root, download), readable(shown, root, hint):
        train, test = dataset(root, train=True, download=download), dataset(root, train=False)
    return _as_batch(train), _as_batch(test), list(train.classes)


def _as_batch(part: Any) -> Batch:
    """Return the images of a torchvision data set, in colour ``[N, H, W, C]`` or in grey ``[N, H, W]``."""
    images = torch.as_tensor(part.data)
    images = images.permute(0, 3, 1, 2).contiguous() if images.ndim == 4 else images.unsqueeze(1)
    return images, torch.as_tensor(part.targets)


@contextmanager
def _root(name: str, data_dir: Path | None) -> Iterator[tuple[Path, bool]]:
    """Yield a folder in torchvision's layout, and whether to download into it.

    Four ``.gz`` files in one flat folder, as Debian ships them, are unpacked for the time of reading.
    """
    archives = [] if data_dir is None else sorted(data_dir.glob("*-idx?-ubyte.gz"))
    if len(archives) != 4:
        yield data_dir or DEFAULT_DATA_DIR, True
        return
    extract_archive = require("torchvision.datasets.utils", extra="train").extract_archive
    with tempfile.TemporaryDirectory() as root:
        raw = Path(root, name, "raw")
        raw.mkdir(parents=True)
        for archive in archives:
            extract_archive(archive, raw)
        yield Path(root), False


_LOADERS: dict[str, Callable[[Path | None], tuple[Batch, Batch, list[str]]]] = {
    "digits": _digits,
    "mnist": lambda data_dir: _from_torchvision("MNIST", "MNIST", data_dir),
    "fashion-mnist": _fashion_mnist,
    "cifar10": lambda data_dir: _from_torchvision("CIFAR10", "CIFAR10", data_dir),
    "cifar100": lambda data_dir: _from_torchvision("CIFAR100", "CIFAR100", data_dir),
}
