"""Training, validation and test images, carved class by class and the same for every seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from snntorch_asnn._extras import require
from snntorch_asnn.train.augment import make_train_transform
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data.identity import tensor_digest
from snntorch_asnn.train.data.images import Batch, TensorImages

# Splits are part of the data, not of the run: every seed sees the same validation and test images.
_SPLIT_SEED = 0

DEFAULT_DATA_DIR = Path("data")


@dataclass(frozen=True)
class ImageSplits:
    """Training, validation and test images of one data set, and what a model must know of them.

    Items are ``(image, label)``: ``[C, H, W]``, ``uint8`` or float in [0, 1], or event frames
    ``[T, C, H, W]``, float.
    """

    train: Dataset[Any]
    val: Dataset[Any]
    test: Dataset[Any]
    classes: tuple[str, ...]
    in_channels: int
    image_size: int
    content: Mapping[str, str]
    """A hash of the images and labels that each split is taken from."""

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same where a run is continued: classes, numbers and content of the images."""
        return {"classes": list(self.classes), "images": self.sizes, "content": dict(self.content)}

    @property
    def sizes(self) -> dict[str, int]:
        """Number of images in each split."""
        return {name: len(getattr(self, name)) for name in ("train", "val", "test")}


def in_memory(config: TrainConfig, train: Batch, test: Batch, classes: Sequence[str]) -> ImageSplits:
    """Return the splits of images that fit into memory; only those for training are augmented."""
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


def subset(labels: Tensor, config: TrainConfig) -> Tensor:
    """Return the indices of the images that ``train_subset`` leaves."""
    everything, wanted = torch.arange(len(labels)), config.train_subset
    if wanted is None or wanted == len(labels):
        return everything
    if wanted > len(labels):
        raise ValueError(f"train_subset must be at most {len(labels)} for {config.data}; got {wanted}")
    return stratified(everything, labels, wanted, "train_subset")[0]


def carve(labels: Tensor, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """Return the indices of the training and of the validation images."""
    chosen = subset(labels, config)
    train = len(chosen) - round(config.val_fraction * len(chosen))
    return stratified(chosen, labels, train, "train_subset and val_fraction")


def stratified(indices: Tensor, labels: Tensor, first: int, setting: str) -> tuple[Tensor, Tensor]:
    """Split ``indices`` into ``first`` of them and the rest, each class in proportion and on both sides."""
    train_test_split = require("sklearn.model_selection", extra="train").train_test_split
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
    parts = _with_every_class(torch.from_numpy(a), torch.from_numpy(b), labels)
    return parts[0].sort().values, parts[1].sort().values


def _with_every_class(a: Tensor, b: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Exchange images between two parts until both hold every class; rounding leaves out rare ones."""
    a, b = _completed(a.sort().values, b.sort().values, labels)
    b, a = _completed(b, a, labels)
    return a, b


def _completed(part: Tensor, other: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Bring an image of each class that ``part`` lacks into it, for one of its most frequent class."""
    missing = sorted(set(labels[other].unique().tolist()) - set(labels[part].unique().tolist()))
    for label in missing:
        most = labels[part].bincount().argmax()
        mine, theirs = (labels[part] == most).nonzero()[-1], (labels[other] == label).nonzero()[-1]
        part, other = part.clone(), other.clone()
        part[mine], other[theirs] = other[theirs], part[mine]
    return part, other


@contextmanager
def readable(name: str, root: Path, hint: str = "") -> Iterator[None]:
    """Turn failures to find, fetch or read files into one error that says what to do."""
    try:
        yield
    except (RuntimeError, OSError, EOFError) as error:
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise ValueError(
            f"data_dir must hold {name}; it is not in {root}, and downloading failed: {reason[0]}.{hint}"
        ) from error
