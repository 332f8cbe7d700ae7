"""Folders of picture files, decoded on demand at their full depth."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from snntorch_asnn._extras import require
from snntorch_asnn.train.augment import make_train_transform
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data.splits import ImageSplits, carve, file_digest, subset
from snntorch_asnn.train.files import readable_name

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp")
# Part of the shorter side that is left of the central crop when ImageNet is evaluated.
_IMAGENET_CROP = 224 / 256
_MOST_NAMED = 5
_SIXTEEN_BIT = 65535
_FORMATS_WITH_16_BIT_AS_I = ("PNG", "PPM")
"""Formats without 32-bit integers; Pillow may call their 16-bit pictures 32-bit ones."""


class PictureFiles(Dataset[tuple[Tensor, int]]):
    """Labelled picture files, decoded on demand.

    Args:
        files: Paths of the pictures.
        labels: Class index of each.
        transform: Makes an image ``[3, H, W]`` from the result of :func:`read_picture`.
    """

    def __init__(
        self, files: Sequence[Path], labels: Sequence[int], transform: Callable[[Any], Tensor]
    ) -> None:
        self.files, self.labels, self.transform = files, labels, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(read_picture(self.files[index])), self.labels[index]


def load_folders(config: TrainConfig) -> ImageSplits:
    """Load ``train/``, ``val/`` and ``test/``, with a folder of pictures for each class."""
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
    """Decode every picture of every split, and name the pictures that cannot be read."""
    files = (file for folder in _find_folders(config).values() for file in find_pictures(folder))
    check_pictures(files, threads=config.threads)


def find_classes(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted, without hidden ones such as .ipynb_checkpoints."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and _is_visible(entry.name))


def find_pictures(folder: Path) -> list[Path]:
    """Return the picture files below a folder, sorted, without hidden files and folders."""
    found: list[Path] = []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if _is_visible(name)]
        pictures = [name for name in files if _is_visible(name) and name.lower().endswith(SUFFIXES)]
        found.extend(Path(place, name) for name in pictures)
    return sorted(found)


def read_picture(file: Path) -> Image | Tensor:
    """Decode a picture in three colours.

    A picture of eight bits a channel becomes a Pillow image. A picture of sixteen bits becomes a float tensor
    ``[3, H, W]`` in [0, 1], so that no level is lost; floating-point pictures keep their values.

    Raises:
        ValueError: The file is damaged, not a picture, too large to be decoded safely, or has pixels of
            unknown range: 32-bit integers, or floats outside [0, 1]. The message names the file.
    """
    picture = _open(file)
    if _is_deep(picture):
        return torch.from_numpy(_deep_pixels(picture, file)).expand(3, -1, -1).contiguous()
    return picture.convert("RGB")


def to_tensor(picture: Image | Tensor) -> Tensor:
    """Return a Pillow image as ``uint8`` ``[3, H, W]``, and a tensor as it is."""
    if isinstance(picture, Tensor):
        return picture
    pixels: Tensor = require("torchvision.transforms.v2.functional", extra="train").pil_to_tensor(picture)
    return pixels


def check_pictures(files: Iterable[Path], *, threads: int | None = None) -> None:
    """Decode pictures on some threads, as many as CPUs if None.

    Raises:
        ValueError: Names the pictures that cannot be read, and says why the first cannot.
    """
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        reasons = [reason for reason in pool.map(_fault, files) if reason is not None]
    if not reasons:
        return
    others = "" if len(reasons) == 1 else f", and {len(reasons) - 1:,} more cannot be read"
    more = [reason.split(":")[0] for reason in reasons[1:_MOST_NAMED]]
    named = f" ({', '.join(more)}{', ...' if len(reasons) > _MOST_NAMED else ''})" if more else ""
    raise ValueError(f"{reasons[0]}{others}{named}; replace or remove the file{'s' if others else ''}")


def _find_folders(config: TrainConfig) -> dict[str, Path]:
    """Return the folders of the splits; a single one of ``val`` and ``test`` is the test set."""
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


def _find_files(folder: Path, classes: list[str], transform: Callable[[Any], Tensor]) -> PictureFiles:
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


def _eval_transform(config: TrainConfig) -> Callable[[Any], Tensor]:
    v2 = require("torchvision.transforms.v2", extra="train")
    size = config.image_size
    shorter = round(size / _IMAGENET_CROP) if config.data == "imagenet" else size
    transform: Callable[[Any], Tensor] = v2.Compose(
        [v2.Resize(shorter, antialias=True), v2.CenterCrop(size), to_tensor]
    )
    return transform


def _train_transform(config: TrainConfig) -> Callable[[Any], Tensor]:
    if config.data == "imagenet" and config.augment == "auto":
        config = dataclasses.replace(config, augment="random-resized-crop")
    augmentation = make_train_transform(config, (3, config.image_size, config.image_size))
    v2 = require("torchvision.transforms.v2", extra="train")
    # A random crop of the whole picture is resized at once; other changes begin with the evaluated image.
    first = to_tensor if config.augment == "random-resized-crop" else _eval_transform(config)
    transform: Callable[[Any], Tensor] = first if augmentation is None else v2.Compose([first, augmentation])
    return transform


def _is_visible(name: str) -> bool:
    return not name.startswith((".", "__MACOSX"))


def _fault(file: Path) -> str | None:
    """Return the reason why a picture cannot be read, or None."""
    try:
        picture = _open(file, small=True)
        if _is_deep(picture):
            _deep_pixels(picture, file)
    except ValueError as error:
        return str(error)
    return None


def _open(file: Path, *, small: bool = False) -> Image:
    """Decode a file; ``small`` decodes a JPEG at an eighth of its size, which reads it in less time."""
    image = require("PIL.Image", extra="train")
    try:
        with image.open(file) as picture:
            if small:
                picture.draft(None, (1, 1))
            picture.load()
            return picture  # type: ignore[no-any-return]
    except image.DecompressionBombError as error:
        raise ValueError(f"{file}: the picture is too large to be decoded safely: {error}") from error
    except Exception as error:  # decoders of damaged files raise anything
        reason = "it is no picture" if isinstance(error, image.UnidentifiedImageError) else str(error)
        raise ValueError(f"{file}: the picture cannot be read: {reason or type(error).__name__}") from error


def _is_deep(picture: Image) -> bool:
    """Return whether a picture has more than eight bits a channel."""
    return picture.mode == "F" or picture.mode.startswith("I")


def _deep_pixels(picture: Image, file: Path) -> np.ndarray:
    """Return the pixels ``[H, W]`` of a picture with more than eight bits, in [0, 1]."""
    pixels = np.asarray(picture)
    if picture.mode.startswith("I;16") or picture.format in _FORMATS_WITH_16_BIT_AS_I:
        return pixels.astype(np.float32) / _SIXTEEN_BIT
    if picture.mode == "F":
        low, high = float(pixels.min()), float(pixels.max())
        if low >= 0 and high <= 1:
            return pixels.astype(np.float32)
        kind = f"floating-point pixels between {low:g} and {high:g}"
    else:
        kind = "32-bit integers, whose range is not known"
    raise ValueError(
        f"{file}: the picture has {kind}; save it with 8 or 16 bits, or as floats between 0 and 1"
    )
