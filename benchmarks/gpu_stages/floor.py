"""Measure the memory bandwidth, to which all other stages compare."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from gpu_stages.child import Figure, Place, Row
from gpu_stages.timing import device_ms

BYTES, FEW_BYTES = 2 << 30, 1 << 20


def figures(place: Place) -> Iterator[Figure]:
    count = FEW_BYTES if place.dry_run else BYTES
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        yield Figure(f"copy, {name}", lambda dtype=dtype: copied(place, count, dtype))
    yield Figure("add of two, float32", lambda: added(place, count))


def copied(place: Place, count: int, dtype: torch.dtype) -> Row:
    source = torch.rand(count // dtype.itemsize, device=place.device).to(dtype)
    target = torch.empty_like(source)
    return _rated(device_ms(lambda: target.copy_(source), place.device), 2 * count)


def added(place: Place, count: int) -> Row:
    first, second = (torch.rand(count // 4, device=place.device) for _ in range(2))
    target = torch.empty_like(first)
    return _rated(device_ms(lambda: torch.add(first, second, out=target), place.device), 3 * count)


def _rated(row: Row, moved: int) -> Row:
    return row | {"gb_per_s": moved / row["ms"] / 1e6}
