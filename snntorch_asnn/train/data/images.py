"""Images held in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import Dataset

Batch: TypeAlias = tuple[Tensor, Tensor]
Transform: TypeAlias = Callable[[Tensor], Tensor]


class TensorImages(Dataset[Batch]):
    """Images held in memory, fetched a whole batch at a time.

    Args:
        images: ``[N, C, H, W]``, ``uint8`` in 0..255 or float in [0, 1].
        labels: ``[N]``, class indices.
        transform: applied to each image by itself, so that every image gets its own random crop.
    """

    def __init__(self, images: Tensor, labels: Tensor, transform: Transform | None = None) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        chosen = torch.as_tensor(indices)
        images = self.images[chosen]
        if self.transform is not None:
            images = torch.stack([self.transform(image) for image in images])
        return images, self.labels[chosen]


def to_unit_range(images: Tensor) -> Tensor:
    """Return float images in [0, 1]; integers are taken as 0..255, and floats as they are."""
    return images if images.is_floating_point() else images.float().div_(255)


def join_images(images: Sequence[Tensor]) -> Tensor:
    """Stack images to a batch; where some are integers in 0..255 and some floats, all become floats.

    Args:
        images: each ``[C, H, W]``, or ``[T, C, H, W]`` for event frames.

    Returns:
        ``[B, C, H, W]``, or ``[T, B, C, H, W]`` for event frames.
    """
    if len({image.dtype for image in images}) > 1:
        images = [to_unit_range(image) for image in images]
    return torch.stack(list(images), dim=1 if images[0].ndim == 4 else 0)


def spread(size: int, count: int) -> list[int]:
    """``count`` places from all over ``size`` of them, or all where there are fewer."""
    count = min(count, size)
    return [place * size // count for place in range(count)]


def spread_images(dataset: Dataset[Any], count: int) -> Tensor:
    """Return images from all over a data set, as a model takes them.

    Data sets are often sorted by class, so that the first images would be of one class.

    Args:
        dataset: items are ``(image, label)``.
        count: number of images; all are taken where there are fewer.

    Returns:
        ``[B, C, H, W]``, or ``[T, B, C, H, W]`` for event frames.

    Example::

        >>> data = TensorImages(torch.arange(6.0).view(6, 1, 1, 1), torch.zeros(6))
        >>> spread_images(data, 3).flatten()
        tensor([0., 2., 4.])
    """
    places = spread(len(dataset), count)  # type: ignore[arg-type]
    return join_images([dataset[place][0] for place in places])
