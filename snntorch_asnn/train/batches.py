"""Batches in an order that depends on the seed and the position in training only.

The random numbers of a training step, or of an image in an epoch, come from a generator that is seeded by the
run's seed and that position. A resumed run, or one that loads its images in other processes, therefore draws
the same numbers as an uninterrupted one, and a checkpoint needs no state of generators.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler, default_collate

from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data import join_images

_ORDER, _AUGMENTATION = 1, 2


def derive_seed(*position: int) -> int:
    """Return a seed of 63 bits for a position; every position gets an unrelated one.

    Example::

        >>> derive_seed(0, 1) == derive_seed(0, 1), derive_seed(0, 1) == derive_seed(1, 0)
        (True, False)
    """
    return int(np.random.SeedSequence(position).generate_state(1, np.uint64)[0] >> 1)


def seed_everything(*position: int) -> None:
    """Seed PyTorch on every device, NumPy and Python with a position."""
    seed = derive_seed(*position)
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)


@contextmanager
def kept_random_state(device: torch.device) -> Iterator[None]:
    """Restore the caller's random state afterwards, on the CPU and on the device."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)


class SeededDataset(Dataset[Any]):
    """A data set whose random augmentation depends on the seed, the epoch and the image only.

    Item ``epoch * len(dataset) + index`` is image ``index`` as that epoch sees it. The epoch is part of the
    index, so that worker processes can live as long as the run.

    Args:
        dataset: Images and labels. A data set without a ``transform`` is not random, and may fetch whole
            batches.
        seed: Seed of the augmentation.
    """

    def __init__(self, dataset: Dataset[Any], seed: int) -> None:
        self.dataset, self.seed = dataset, seed
        self.size: int = len(dataset)  # type: ignore[arg-type]
        self.fixed = getattr(dataset, "transform", self) is None and hasattr(dataset, "__getitems__")

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, item: int) -> Any:
        with torch.random.fork_rng([]):
            torch.default_generator.manual_seed(
                derive_seed(self.seed, _AUGMENTATION, *divmod(item, self.size))
            )
            return self.dataset[item % self.size]

    def __getitems__(self, items: Sequence[int]) -> Any:
        if self.fixed:
            return self.dataset.__getitems__([item % self.size for item in items])  # type: ignore[attr-defined]
        return [self[item] for item in items]


class EpochBatches(Sampler[list[int]]):
    """Batches of a :class:`SeededDataset` for one of several processes, from any step of any epoch on.

    Every epoch shuffles anew. A step takes the same ``batch_size`` images however many processes share them,
    and in however many parts each takes its share. Images left over at the end of an epoch are not used.

    Args:
        size: Number of images.
        batch_size: Images of a step, over all processes and parts; a multiple of both counts.
        parts: Parts in which a process takes its share of a step.
        seed: Seed of the order.
        processes: Number of processes.
        process: Number of this process.
    """

    def __init__(
        self, size: int, batch_size: int, *, parts: int, seed: int, processes: int, process: int
    ) -> None:
        self.size, self.parts = size, parts
        self.steps_per_epoch = size // batch_size
        self.share = batch_size // processes
        self.order: DistributedSampler[int] = DistributedSampler(
            range(size),  # type: ignore[arg-type]
            num_replicas=processes,
            rank=process,
            seed=derive_seed(seed, _ORDER),
            drop_last=True,
        )
        self.start_at(epoch=1, step=0)

    def start_at(self, *, epoch: int, step: int) -> None:
        """Let the next pass be that of ``epoch``, without its first ``step`` steps."""
        self.epoch, self.step = epoch, step

    def __len__(self) -> int:
        return (self.steps_per_epoch - self.step) * self.parts

    def __iter__(self) -> Iterator[list[int]]:
        self.order.set_epoch(self.epoch)
        items = [self.epoch * self.size + index for index in self.order]
        part = self.share // self.parts
        for first in range(self.step * self.share, self.steps_per_epoch * self.share, part):
            yield items[first : first + part]


def train_loader(
    dataset: Dataset[Any], config: TrainConfig, device: torch.device, *, processes: int = 1, process: int = 0
) -> tuple[DataLoader[Any], EpochBatches]:
    """Return a loader over the training images, and the sampler that knows where it starts.

    Raises:
        ValueError: There are fewer images than processes and parts.
    """
    seeded = SeededDataset(dataset, config.seed)
    shares = processes * config.accumulate
    batch_size = min(config.batch_size, len(seeded)) // shares * shares
    if batch_size == 0:
        raise ValueError(
            f"devices × nodes × accumulate must be at most the number of training images,"
            f" {len(seeded)}; got {shares}"
        )
    batches = EpochBatches(
        len(seeded),
        batch_size,
        parts=config.accumulate,
        seed=config.seed,
        processes=processes,
        process=process,
    )
    return _loader(seeded, config, device, batch_sampler=batches), batches


def eval_loader(
    dataset: Dataset[Any], config: TrainConfig, device: torch.device, *, processes: int = 1, process: int = 0
) -> DataLoader[Any]:
    """Return a loader over every image once, in order; each process gets its part of them."""
    indices = range(process, len(dataset), processes)  # type: ignore[arg-type]
    share = max(1, config.batch_size // processes)
    return _loader(dataset, config, device, sampler=indices, batch_size=share)


def _loader(
    dataset: Dataset[Any], config: TrainConfig, device: torch.device, **order: Any
) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        num_workers=config.workers,
        persistent_workers=config.workers > 0,
        pin_memory=device.type == "cuda",
        collate_fn=_collate,
        **order,
    )


def _collate(fetched: Any) -> Any:
    """Join items to a batch, with time first; a data set may have fetched them as a batch already."""
    if isinstance(fetched, tuple):
        return fetched
    images, labels = zip(*fetched, strict=True)
    return join_images(images), default_collate(list(labels))
