"""Fashion-MNIST and CIFAR-10 as uint8 tensors, decoded once and cached outside the repository."""

from __future__ import annotations

import gzip
import io
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # apt install dataset-fashion-mnist
CACHE = Path.home() / ".cache" / "snntorch-asnn"
VALIDATION_IMAGES = 10_000


@dataclass(frozen=True)
class Images:
    """Images ``[N, C, H, W]`` as uint8, labels ``[N]`` as int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: str) -> Images:
        return Images(self.images.to(device), self.labels.to(device))

    def __getitem__(self, index: slice) -> Images:
        return Images(self.images[index], self.labels[index])


def load(name: str, folder: Path | None, split: str, train_images: int) -> tuple[Images, Images]:
    """Return the training data and the evaluation data of a run.

    The last 10,000 training images are the validation split. A run that is judged by them never reads the
    test images.
    """
    read = {"fashion_mnist": _fashion_mnist, "cifar10_jpeg": _cifar10_jpeg}[name]
    train = read(folder, "train")
    rest = split_of(len(train), split, train_images)
    judge = train[rest:] if split == "validation" else read(folder, "test")
    return train[:train_images], judge


def split_of(total: int, split: str, train_images: int) -> int:
    """Return where the validation split begins, of ``total`` training images."""
    rest = total - VALIDATION_IMAGES
    most = rest if split == "validation" else total
    if train_images > most:
        raise ValueError(f"train_images must be at most {most} for split={split!r}; got {train_images}")
    return rest


def _fashion_mnist(folder: Path | None, split: str) -> Images:
    prefix = "t10k" if split == "test" else "train"
    files = [(folder or DEBIAN) / f"{prefix}-{part}-ubyte.gz" for part in ("images-idx3", "labels-idx1")]
    for file in files:
        if not file.exists():
            raise FileNotFoundError(f"--data-dir must hold Fashion-MNIST's four files; there is no {file}")
    images, labels = map(_idx, files)
    return Images(images.unsqueeze(1), labels.long())


def _idx(file: Path) -> Tensor:
    """Read the IDX format: two zero bytes, type, number of dimensions, their sizes, the data."""
    with gzip.open(file) as stream:
        data = stream.read()
    sizes = np.frombuffer(data, ">i4", count=data[3], offset=4)
    array = np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(sizes)
    return torch.from_numpy(array.copy())


def _cifar10_jpeg(folder: Path | None, split: str) -> Images:
    """CIFAR-10 from a copy whose images went through JPEG: for comparisons with itself only."""
    cache = CACHE / f"cifar10_jpeg_{split}.pt"
    if not cache.exists():
        if folder is None:
            raise ValueError("--data-dir must hold cifar10_jpeg.npz, for CIFAR-10")
        cache.parent.mkdir(parents=True, exist_ok=True)
        torch.save(_decode(folder / "cifar10_jpeg.npz", split), cache)
    images, labels = torch.load(cache, weights_only=True)
    return Images(images, labels)


def _decode(file: Path, split: str) -> tuple[Tensor, Tensor]:
    from PIL import Image

    with np.load(file) as arrays:
        joined = arrays[f"{split}_jpeg"].tobytes()
        offsets, labels = arrays[f"{split}_offsets"], arrays[f"{split}_labels"]
    files = (joined[start:end] for start, end in itertools.pairwise(offsets))
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels).long()
