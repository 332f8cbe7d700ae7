"""Batches: the same ones in the same order, wherever a run is continued and whoever loads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler, default_collate

from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data import join_images
from snntorch_asnn.train.randomness import derive_seed, seeded

_ORDER, _AUGMENTATION = 1, 2


class SeededDataset(Dataset[Any]):
    """A data set whose random augmentation depends on the seed, the epoch and the image only.

    Item ``epoch * len(dataset) + index`` is image ``index`` as that epoch sees it. The epoch travels with
    the index, so that worker processes can live as long as the run.

    Args:
        dataset: gives images and labels. One without a ``transform`` draws nothing at random, and may
            fetch whole batches.
        seed: of the augmentation.
    """

    def __init__(self, dataset: Dataset[Any], seed: int) -> None:
        self.dataset, self.seed = dataset, seed
        self.size: int = len(dataset)  # type: ignore[arg-type]
        self.fixed = getattr(dataset, "transform", self) is None and hasattr(dataset, "__getitems__")

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, item: int) -> Any:
        with seeded(self.seed, _AUGMENTATION, *divmod(item, self.size)):
            return self.dataset[item % self.size]

    def __getitems__(self, items: Sequence[int]) -> Any:
        if self.fixed:
            return self.dataset.__getitems__([item % self.size for item in items])  # type: ignore[attr-defined]
        return [self[item] for item in items]


class EpochBatches(Sampler[list[int]]):
    """Batches of a :class:`SeededDataset` for one of several processes, from any step of any epoch on.

    Every epoch shuffles anew. A step takes ``batch_size`` images, the same ones however many processes
    share them and in however many parts each takes its share; images left at the end of an epoch are not
    used in it.

    Args:
        size: number of images.
        batch_size: images of a step, over all processes and parts; a multiple of both counts.
        parts: parts in which a process takes its share of a step.
        seed: of the order.
        processes: number of processes.
        process: which of them this is.
    """

    def __init__(
        self, size: int, batch_size: int, *, parts: int, seed: int, processes: int, process: int
    ) -> None:
        self.size, self.parts = size, parts
        self.steps = size // batch_size
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
        return (self.steps - self.step) * self.parts

    def __iter__(self) -> Iterator[list[int]]:
        self.order.set_epoch(self.epoch)
        items = [self.epoch * self.size + index for index in self.order]
        part = self.share // self.parts
        for first in range(self.step * self.share, self.steps * self.share, part):
            yield items[first : first + part]


def train_loader(
    dataset: Dataset[Any], config: TrainConfig, device: torch.device, *, processes: int = 1, process: int = 0
) -> tuple[DataLoader[Any], EpochBatches]:
    """Return a loader over the training images, and the sampler that says where it starts.

    Args:
        dataset: the training images.
        config: batch size, seed and workers.
        device: where the images will go.
        processes: number of processes that train.
        process: which of them this is.

    Raises:
        ValueError: there are fewer images than processes and parts.
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
    """Join items to a batch, unless the data set has fetched them as one; put time first, if there is any."""
    if isinstance(fetched, tuple):
        return fetched
    images, labels = zip(*fetched, strict=True)
    return join_images(images), default_collate(list(labels))
