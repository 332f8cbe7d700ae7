"""CIFAR-10 from JPEG files, decoded once and kept on the device."""

from __future__ import annotations

import functools
import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

VALIDATION = 5_000
PADDING = 4


class Part(NamedTuple):
    images: Tensor
    """uint8, ``[N, 3, 32, 32]``."""
    labels: Tensor


class Data(NamedTuple):
    name: str
    training: Part
    validation: Part
    """The last training images."""
    test: Part


@functools.cache
def load(file: Path, device: str) -> Data:
    with np.load(file) as stored:
        parts = {}
        for name in ("train", "test"):
            images = _decoded(stored[f"{name}_jpeg"], stored[f"{name}_offsets"])
            labels = torch.from_numpy(stored[f"{name}_labels"].astype(np.int64))
            parts[name] = Part(images.to(device), labels.to(device))
    training, test = parts["train"], parts["test"]
    count = len(training.images) - VALIDATION
    return Data(
        "CIFAR-10 (JPEG)",
        Part(training.images[:count], training.labels[:count]),
        Part(training.images[count:], training.labels[count:]),
        test,
    )


def random_data(device: str, count: int = 8) -> Data:
    def part() -> Part:
        images = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, device=device)
        return Part(images, torch.randint(10, (count,), device=device))

    return Data("random images", part(), part(), part())


def augmented(images: Tensor) -> Tensor:
    """Random crops after padding, and flips, as floats in [0, 1]; nothing waits for the device."""
    batch, _, height, width = images.shape
    device = images.device
    padded = functional.pad(images, (PADDING,) * 4)
    top, left = (torch.randint(2 * PADDING + 1, (batch, 1), device=device) for _ in range(2))
    rows = top + torch.arange(height, device=device)
    columns = left + torch.arange(width, device=device)
    flipped = torch.rand(batch, 1, device=device) < 0.5
    columns = torch.where(flipped, columns.flip(1), columns)
    sample = torch.arange(batch, device=device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2) / 255


def _decoded(joined: np.ndarray, offsets: np.ndarray) -> Tensor:
    from PIL import Image

    images = np.empty((len(offsets) - 1, 32, 32, 3), dtype=np.uint8)

    def decode(index: int) -> None:
        data = joined[offsets[index] : offsets[index + 1]].tobytes()
        images[index] = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(decode, range(len(images)), chunksize=500):
            pass
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
