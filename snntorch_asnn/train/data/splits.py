"""Training, validation and test images, split class by class, and hashed to be known again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from snntorch_asnn._extras import require
from snntorch_asnn.train.config import TrainConfig

DEFAULT_DATA_DIR = Path("data")
# Splits are part of the data, not of the run: every seed sees the same validation and test images.
_SPLIT_SEED = 0
_HASHED_FILES = 64


@dataclass(frozen=True)
class ImageSplits:
    """Training, validation and test images of one data set, and the properties that a model needs.

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
        """Classes, numbers and content of the images, which must be the same in a resumed run."""
        return {"classes": list(self.classes), "images": self.sizes, "content": dict(self.content)}

    @property
    def sizes(self) -> dict[str, int]:
        """Number of images in each split."""
        return {name: len(getattr(self, name)) for name in ("train", "val", "test")}


def subset(labels: Tensor, config: TrainConfig) -> Tensor:
    """Return the indices of the images that ``train_subset`` leaves."""
    everything, wanted = torch.arange(len(labels)), config.train_subset
    if wanted is None or wanted == len(labels):
        return everything
    if wanted > len(labels):
        raise ValueError(f"train_subset must be at most {len(labels)} for {config.data}; got {wanted}")
    return stratified(everything, labels, wanted, "train_subset")[0]


def carve(labels: Tensor, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """Return the indices of the training images and of the validation images."""
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
    # Rounding may leave out rare classes.
    a, b = _completed(torch.from_numpy(a).sort().values, torch.from_numpy(b).sort().values, labels)
    b, a = _completed(b, a, labels)
    return a.sort().values, b.sort().values


def _completed(part: Tensor, other: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Exchange an image of each class that ``part`` lacks for one of its most frequent class."""
    missing = sorted(set(labels[other].unique().tolist()) - set(labels[part].unique().tolist()))
    for label in missing:
        most = labels[part].bincount().argmax()
        mine, theirs = (labels[part] == most).nonzero()[-1], (labels[other] == label).nonzero()[-1]
        part, other = part.clone(), other.clone()
        part[mine], other[theirs] = other[theirs], part[mine]
    return part, other


@contextmanager
def readable(name: str, root: Path, hint: str = "") -> Iterator[None]:
    """Turn failures to find, download or read files into one error that tells the user how to go on."""
    try:
        yield
    except (RuntimeError, OSError, EOFError) as error:
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise ValueError(
            f"data_dir must hold {name}; it is not in {root}, and downloading failed: {reason[0]}.{hint}"
        ) from error


def tensor_digest(*tensors: Tensor) -> str:
    """Return a hash of the values, shapes and dtypes of tensors.

    Example::

        >>> tensor_digest(torch.arange(3)) == tensor_digest(torch.tensor([0, 2, 1]))
        False
    """
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def file_digest(root: Path, files: Sequence[Path], labels: Iterable[int] = ()) -> str:
    """Return a hash of the names below ``root`` and sizes of files, of labels, and of some files' content."""
    digest = hashlib.sha256()
    for file in files:
        name = file.relative_to(root).as_posix()
        digest.update(f"{name}\0{file.stat().st_size}\0".encode("utf-8", "surrogateescape"))
    digest.update(",".join(map(str, labels)).encode())
    count = min(_HASHED_FILES, len(files))
    for sample in range(count):
        digest.update(files[sample * len(files) // count].read_bytes())
    return digest.hexdigest()


def check_same_data(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse data with another :attr:`ImageSplits.identity` than the data of the run that is resumed.

    Raises:
        ValueError: Says what differs: names of the classes, their order, numbers of images, or content.
    """
    if found == expected:
        return
    mine, theirs = (list(identity.get("classes", ())) for identity in (found, expected))
    if sorted(mine) == sorted(theirs) and mine != theirs:
        reason = f"the classes come in another order: {_few(mine)}, and in the run {_few(theirs)}"
    elif mine != theirs:
        reason = f"the classes are {_few(mine)}, and in the run {_few(theirs)}"
    elif found["images"] != expected.get("images"):
        reason = f"the numbers of images are {found['images']}, and in the run {expected.get('images')}"
    else:
        content = expected.get("content", {})
        other = [split for split, digest in found["content"].items() if digest != content.get(split)]
        reason = f"the {' and '.join(other)} images differ in their names, sizes, order or content"
    raise ValueError(f"resume must find the data of the run; {reason}. data_dir names where the data are now")


def _few(names: Sequence[str], most: int = 10) -> str:
    """Return names as a list, shortened if there are many."""
    return ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "")
