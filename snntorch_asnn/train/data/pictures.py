"""Picture files: found in folders of classes, checked, and decoded at their full depth."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from snntorch_asnn._extras import require

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp")
_MOST_NAMED = 5
_SIXTEEN_BIT = 65535
_FORMATS_OF_16_BIT_AS_I = ("PNG", "PPM")
"""Formats that hold no integers beyond 16 bits, whose 16-bit pictures Pillow may call 32-bit ones."""


class PictureFiles(Dataset[tuple[Tensor, int]]):
    """Labelled picture files, decoded when they are asked for.

    Args:
        files: paths of the pictures.
        labels: class index of each.
        transform: makes an image ``[3, H, W]`` of what :func:`read_picture` returns.
    """

    def __init__(
        self, files: Sequence[Path], labels: Sequence[int], transform: Callable[[Any], Tensor]
    ) -> None:
        self.files, self.labels, self.transform = files, labels, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(read_picture(self.files[index])), self.labels[index]


def find_classes(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted, without hidden ones: no ``.ipynb_checkpoints``.

    Example::

        >>> find_classes(Path("data/train"))  # doctest: +SKIP
        ['cat', 'dog']
    """
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and _is_visible(entry.name))


def find_pictures(folder: Path) -> list[Path]:
    """Return the picture files below a folder, sorted, without hidden ones and those in hidden folders."""
    found: list[Path] = []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if _is_visible(name)]
        pictures = [name for name in files if _is_visible(name) and name.lower().endswith(SUFFIXES)]
        found.extend(Path(place, name) for name in pictures)
    return sorted(found)


def read_picture(file: Path) -> Image | Tensor:
    """Decode a picture in three colours.

    Eight bits a channel come as a Pillow image. Sixteen bits come as a float tensor ``[3, H, W]`` in [0, 1],
    where 65535 is 1, so that no level is lost; floating-point pictures come as they are.

    Args:
        file: path of the picture.

    Raises:
        ValueError: the file is damaged, no picture, too large to be decoded safely, or has pixels whose
            range is not known: 32-bit integers, or floats outside [0, 1]. The message names the file.
    """
    picture = _open(file)
    if picture.mode == "F" or picture.mode.startswith("I"):
        pixels = torch.from_numpy(_deep_pixels(picture, file))
        return pixels.expand(3, -1, -1).contiguous()
    return picture.convert("RGB")


def to_tensor(picture: Image | Tensor) -> Tensor:
    """Return a picture as ``[3, H, W]``: ``uint8`` of a Pillow image, a tensor as it is."""
    if isinstance(picture, Tensor):
        return picture
    pixels: Tensor = require("torchvision.transforms.v2.functional", extra="train").pil_to_tensor(picture)
    return pixels


def check_pictures(files: Iterable[Path], *, threads: int | None = None) -> None:
    """Decode pictures, and refuse them if one cannot be.

    Args:
        files: paths of the pictures.
        threads: threads that decode; as many as there are CPUs if None.

    Raises:
        ValueError: names the pictures that cannot be read, and why the first cannot.
    """
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        reasons = [reason for reason in pool.map(_lack, files) if reason is not None]
    if not reasons:
        return
    others = "" if len(reasons) == 1 else f", and {len(reasons) - 1:,} more cannot be read"
    more = [reason.split(":")[0] for reason in reasons[1:_MOST_NAMED]]
    named = f" ({', '.join(more)}{', ...' if len(reasons) > _MOST_NAMED else ''})" if more else ""
    raise ValueError(f"{reasons[0]}{others}{named}; replace or remove the file{'s' if others else ''}")


def _is_visible(name: str) -> bool:
    return not name.startswith((".", "__MACOSX"))


def _lack(file: Path) -> str | None:
    """Why a picture cannot be read, or None if it can."""
    try:
        picture = _open(file, small=True)
        if picture.mode == "F" or picture.mode.startswith("I"):
            _deep_pixels(picture, file)
    except ValueError as error:
        return str(error)
    return None


def _open(file: Path, *, small: bool = False) -> Image:
    """Decode a file; with ``small`` a JPEG at an eighth of its size, which reads all of it in less time."""
    image = require("PIL.Image", extra="train")
    try:
        with image.open(file) as picture:
            if small:
                picture.draft(None, (1, 1))
            picture.load()
            return picture  # type: ignore[no-any-return]
    except image.DecompressionBombError as error:
        raise ValueError(f"{file}: the picture is too large to be decoded safely: {error}") from error
    except Exception as error:  # decoders of damaged files raise whatever comes
        reason = "it is no picture" if isinstance(error, image.UnidentifiedImageError) else str(error)
        raise ValueError(f"{file}: the picture cannot be read: {reason or type(error).__name__}") from error


def _deep_pixels(picture: Image, file: Path) -> np.ndarray:
    """Return the pixels ``[H, W]`` of a picture with more than eight bits, in [0, 1]."""
    pixels = np.asarray(picture)
    if picture.mode.startswith("I;16") or picture.format in _FORMATS_OF_16_BIT_AS_I:
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
