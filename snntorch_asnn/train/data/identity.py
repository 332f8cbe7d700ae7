"""The identity of a data set: what must be the same where a run is continued."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_SAMPLES = 64


def tensor_digest(*tensors: Tensor) -> str:
    """Return a hash of the values, shapes and dtypes of tensors, such as images and labels.

    Example::

        >>> tensor_digest(torch.arange(3)) == tensor_digest(torch.arange(3))
        True
        >>> tensor_digest(torch.arange(3)) == tensor_digest(torch.tensor([0, 2, 1]))
        False
    """
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def file_digest(root: Path, files: Sequence[Path], labels: Iterable[int] = ()) -> str:
    """Return a hash of names and sizes of files, and of the content of some of them from all over.

    Args:
        root: the names that count are those below it, so that a data set may move.
        files: in the order in which the data set has them.
        labels: of the files.
    """
    digest = hashlib.sha256()
    for file in files:
        name = file.relative_to(root).as_posix()
        digest.update(f"{name}\0{file.stat().st_size}\0".encode("utf-8", "surrogateescape"))
    digest.update(",".join(map(str, labels)).encode())
    count = min(_SAMPLES, len(files))
    for sample in range(count):
        digest.update(files[sample * len(files) // count].read_bytes())
    return digest.hexdigest()


def check_same_data(found: Mapping[str, Any], of_run: Mapping[str, Any]) -> None:
    """Refuse data that are not those that a run was trained on.

    Args:
        found: identity of the data that were loaded: class names, number of images and hash of each split.
        of_run: the same, of the run.

    Raises:
        ValueError: says what differs: names of the classes, their order, numbers of images, or content.
    """
    if found == of_run:
        return
    mine, theirs = (list(identity.get("classes", ())) for identity in (found, of_run))
    if sorted(mine) == sorted(theirs) and mine != theirs:
        reason = f"the classes come in another order: {_few(mine)}, and in the run {_few(theirs)}"
    elif mine != theirs:
        reason = f"the classes are {_few(mine)}, and in the run {_few(theirs)}"
    elif found["images"] != of_run.get("images"):
        reason = f"the numbers of images are {found['images']}, and in the run {of_run.get('images')}"
    else:
        others = [split for split, digest in found["content"].items() if digest != _of(of_run, split)]
        reason = f"the {' and '.join(others)} images are others, by their names, sizes, order or content"
    raise ValueError(f"resume must find the data of the run; {reason}. data_dir names where the data are now")


def _of(identity: Mapping[str, Any], split: str) -> Any:
    return identity.get("content", {}).get(split)


def _few(names: Sequence[str], most: int = 10) -> str:
    """Names, the first where there are many."""
    return ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "")
