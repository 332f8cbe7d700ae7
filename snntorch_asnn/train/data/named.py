"""Small data sets with a name: digits, MNIST, Fashion-MNIST, CIFAR. They are held in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from snntorch_asnn._extras import require
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data.images import Batch
from snntorch_asnn.train.data.splits import DEFAULT_DATA_DIR, ImageSplits, in_memory, readable, stratified

_DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
_APT_HINT = " On Debian and Ubuntu: apt-get install dataset-fashion-mnist."


def load_named(config: TrainConfig) -> ImageSplits:
    """Load one of :data:`NAMED`."""
    return in_memory(config, *NAMED[config.data](config.data_dir))


def _digits(data_dir: Path | None) -> tuple[Batch, Batch, list[str]]:
    digits = require("sklearn.datasets", extra="train").load_digits()
    images = torch.from_numpy(digits.images).float().div_(16).unsqueeze(1)
    labels = torch.from_numpy(digits.target).long()
    train, test = stratified(torch.arange(len(labels)), labels, 1437, "data")
    return (images[train], labels[train]), (images[test], labels[test]), [str(d) for d in range(10)]


def _mnist(data_dir: Path | None) -> tuple[Batch, Batch, list[str]]:
    return _of_idx_files("MNIST", data_dir)


def _fashion_mnist(data_dir: Path | None) -> tuple[Batch, Batch, list[str]]:
    if data_dir is None and _DEBIAN_FASHION_MNIST.is_dir():
        data_dir = _DEBIAN_FASHION_MNIST
    return _of_idx_files("FashionMNIST", data_dir, _APT_HINT)


def _of_idx_files(name: str, data_dir: Path | None, hint: str = "") -> tuple[Batch, Batch, list[str]]:
    dataset = getattr(require("torchvision.datasets", extra="train"), name)
    shown = {"FashionMNIST": "Fashion-MNIST"}.get(name, name)
    with _idx_root(name, data_dir) as (root, download), readable(shown, root, hint):
        train, test = dataset(root, train=True, download=download), dataset(root, train=False)
    parts = [(part.data.unsqueeze(1), part.targets) for part in (train, test)]
    return parts[0], parts[1], list(train.classes)


@contextmanager
def _idx_root(name: str, data_dir: Path | None) -> Iterator[tuple[Path, bool]]:
    """Yield a folder laid out as torchvision wants it, and whether to download into it.

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


def _cifar(name: str, data_dir: Path | None) -> tuple[Batch, Batch, list[str]]:
    dataset: Any = getattr(require("torchvision.datasets", extra="train"), name)
    root = data_dir or DEFAULT_DATA_DIR
    with readable(name, root):
        train, test = dataset(root, train=True, download=True), dataset(root, train=False)
    as_batch = [
        (torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets))
        for part in (train, test)
    ]
    return as_batch[0], as_batch[1], list(train.classes)


NAMED: dict[str, Callable[[Path | None], tuple[Batch, Batch, list[str]]]] = {
    "digits": _digits,
    "mnist": _mnist,
    "fashion-mnist": _fashion_mnist,
    "cifar10": lambda data_dir: _cifar("CIFAR10", data_dir),
    "cifar100": lambda data_dir: _cifar("CIFAR100", data_dir),
}
