"""Recordings of event cameras as frames ``[T, 2, H, W]``, read by tonic. Needs the extra ``[events]``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from snntorch_asnn._extras import require
from snntorch_asnn.train.augment import make_train_transform
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data.splits import (
    DEFAULT_DATA_DIR,
    ImageSplits,
    carve,
    file_digest,
    readable,
    stratified,
)

_CIFAR10_DVS_TEST_FRACTION = 0.1


class _Kind(NamedTuple):
    """A data set's name in tonic, its name in messages, and whether it has a test set."""

    dataset: str
    shown: str
    has_test: bool


EVENTS = {
    "n-mnist": _Kind("NMNIST", "N-MNIST", has_test=True),
    "cifar10-dvs": _Kind("CIFAR10DVS", "CIFAR10-DVS", has_test=False),
    "dvs-gesture": _Kind("DVSGesture", "DVS128 Gesture", has_test=True),
}


class EventFrames(Dataset[tuple[Tensor, int]]):
    """The recordings ``(events, label)`` of a tonic data set, each as T float frames ``[T, P, H, W]``."""

    def __init__(
        self, recordings: Any, num_steps: int, transform: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.recordings, self.num_steps, self.transform = recordings, num_steps, transform

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        events, label = self.recordings[index]
        frames = count_events(events, self.num_steps, self.recordings.sensor_size)
        return (frames if self.transform is None else self.transform(frames)), label


def count_events(events: np.ndarray, num_steps: int, sensor_size: tuple[int, int, int]) -> Tensor:
    """Cut a recording into frames with the same number of events, and count the events at each pixel.

    Cutting by number rather than by time leaves no frame empty, and the published results on these data use
    it. The result equals that of tonic's ``ToFrame(n_event_bins=T)``, which is slower.

    Args:
        events: Events in the order of time, with fields ``x``, ``y`` and ``p``, as tonic reads them.
        num_steps: T; fewer than T events at the end are left out.
        sensor_size: W, H and P, the number of polarities.

    Returns:
        Counts, ``[T, P, H, W]``, float32.
    """
    width, height, polarities = sensor_size
    shape = (num_steps, polarities, height, width)
    share = len(events) // num_steps
    used = events[: share * num_steps]
    steps = np.repeat(np.arange(num_steps), share)
    cells = np.ravel_multi_index((steps, used["p"].astype(np.int64), used["y"], used["x"]), shape)
    return torch.from_numpy(np.bincount(cells, minlength=math.prod(shape)).astype(np.float32)).view(shape)


def load_events(config: TrainConfig) -> ImageSplits:
    """Load one of :data:`EVENTS`; the test set of CIFAR10-DVS is a tenth of each class."""
    kind, root = EVENTS[config.data], config.data_dir or DEFAULT_DATA_DIR
    dataset = getattr(require("tonic.datasets", extra="events"), kind.dataset)
    with readable(kind.shown, root):
        splits: list[dict[str, bool]] = [{"train": True}, {"train": False}] if kind.has_test else [{}]
        parts = [dataset(root, **split) for split in splits]
    labels = torch.tensor(parts[0].targets)
    width, height, polarities = dataset.sensor_size
    transform = make_train_transform(config, (config.num_steps, polarities, height, width))
    plain, augmented = (EventFrames(parts[0], config.num_steps, change) for change in (None, transform))
    if kind.has_test:
        test: Dataset[Any] = EventFrames(parts[1], config.num_steps)
        train_part, val_part = carve(labels, config)
    else:
        rest, test_part = _without_test(labels)
        test = Subset(plain, test_part.tolist())
        train_part, val_part = (rest[part] for part in carve(labels[rest], config))
    return ImageSplits(
        train=Subset(augmented, train_part.tolist()),
        val=Subset(plain, val_part.tolist()),
        test=test,
        classes=_class_names(dataset.classes),
        in_channels=polarities,
        image_size=height,
        content=dict(zip(("train", "test"), (_digest(part) for part in parts), strict=False)),
    )


def _digest(recordings: Any) -> str:
    """Hash the files of a data set, as far as tonic names them."""
    files = [Path(file) for file in recordings.data if isinstance(file, str | Path)]
    return file_digest(Path(recordings.location_on_system), files, recordings.targets)


def _without_test(labels: Tensor) -> tuple[Tensor, Tensor]:
    everything = torch.arange(len(labels))
    kept = len(labels) - round(_CIFAR10_DVS_TEST_FRACTION * len(labels))
    return stratified(everything, labels, kept, "data")


def _class_names(classes: Sequence[str] | dict[str, int]) -> tuple[str, ...]:
    """Return the names in the order of their indices; tonic has lists and mappings."""
    if isinstance(classes, dict):
        return tuple(sorted(classes, key=classes.__getitem__))
    return tuple(classes)
