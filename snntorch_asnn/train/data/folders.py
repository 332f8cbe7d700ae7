"""Folders of images, decoded when they are asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from snntorch_asnn._extras import require
from snntorch_asnn.train.augment import make_train_transform
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data.identity import file_digest
from snntorch_asnn.train.data.pictures import (
    SUFFIXES,
    PictureFiles,
    check_pictures,
    find_classes,
    find_pictures,
    to_tensor,
)
from snntorch_asnn.train.data.splits import ImageSplits, carve, subset
from snntorch_asnn.train.utf8 import readable_name

# Of the shorter side, the part that the central crop leaves when ImageNet is evaluated.
_IMAGENET_CROP = 224 / 256


def load_folders(config: TrainConfig) -> ImageSplits:
    """Load ``train/``, ``val/`` and ``test/``, with a folder of images for each class."""
    folders = _find_folders(config)
    classes = find_classes(folders["train"])
    for path in folders.values():
        if find_classes(path) != classes:
            raise ValueError(f"data_dir must have the same classes everywhere; got others in {path}")
    evaluated = _eval_transform(config)
    parts = {name: _find_files(path, classes, evaluated) for name, path in folders.items()}
    labels = torch.tensor(parts["train"].labels)
    val: Dataset[Any]
    if "val" in parts:
        train_part, val = subset(labels, config), parts["val"]
    else:
        train_part, val_part = carve(labels, config)
        val = Subset(parts["train"], val_part.tolist())
    train = PictureFiles(parts["train"].files, parts["train"].labels, _train_transform(config))
    return ImageSplits(
        train=Subset(train, train_part.tolist()),
        val=val,
        test=parts["test"],
        classes=tuple(map(readable_name, classes)),
        in_channels=3,
        image_size=config.image_size,
        content={name: file_digest(folders[name], part.files, part.labels) for name, part in parts.items()},
    )


def check_folders(config: TrainConfig) -> None:
    """Decode every picture of every split.

    Raises:
        ValueError: names the pictures that cannot be read.
    """
    check_pictures(
        (file for folder in _find_folders(config).values() for file in find_pictures(folder)),
        threads=config.threads,
    )


def _find_files(folder: Path, classes: list[str], transform: Callable[[Any], Tensor]) -> PictureFiles:
    """The pictures of one split."""
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = find_pictures(folder / name)
        if not found:
            raise ValueError(
                f"data_dir must hold a folder of images for each class: {folder / name} has no"
                f" {', '.join(SUFFIXES)} files"
            )
        files += found
        labels += [label] * len(found)
    if not classes:
        raise ValueError(f"data_dir must hold a folder of images for each class: {folder} has no folders")
    return PictureFiles(files, labels, transform)


def _find_folders(config: TrainConfig) -> dict[str, Path]:
    """Return the folders of the splits; of ``val`` and ``test``, one alone is the test set."""
    data_dir = config.data_dir
    if data_dir is None:
        raise ValueError(
            f"data_dir must be given for {config.data}: it holds train/ and test/ or val/; got None"
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


def _eval_transform(config: TrainConfig) -> Callable[[Any], Tensor]:
    v2 = require("torchvision.transforms.v2", extra="train")
    size = config.image_size
    shorter = round(size / _IMAGENET_CROP) if config.data == "imagenet" else size
    steps = [v2.Resize(shorter, antialias=True), v2.CenterCrop(size), to_tensor]
    transform: Callable[[Any], Tensor] = v2.Compose(steps)
    return transform


def _train_transform(config: TrainConfig) -> Callable[[Any], Tensor]:
    if config.data == "imagenet" and config.augment == "auto":
        config = dataclasses.replace(config, augment="random-resized-crop")
    augmentation = make_train_transform(config, (3, config.image_size, config.image_size))
    v2 = require("torchvision.transforms.v2", extra="train")
    # A random crop of the whole image is resized in one go; anything else begins with what evaluation sees.
    first = to_tensor if config.augment == "random-resized-crop" else _eval_transform(config)
    transform: Callable[[Any], Tensor] = first if augmentation is None else v2.Compose([first, augmentation])
    return transform
