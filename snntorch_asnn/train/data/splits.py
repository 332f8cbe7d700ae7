"""Training, validation and test images, carved class by class and the same for every seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    """Split ``indices`` into ``first`` of them and the rest, each class in proportion."""
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
    return torch.from_numpy(a).sort().values, torch.from_numpy(b).sort().values


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
