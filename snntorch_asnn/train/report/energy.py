"""The energy estimate of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from snntorch_asnn import energy
from snntorch_asnn.train.data.images import spread, to_unit_range
from snntorch_asnn.train.utf8 import write_text

MOST_IMAGES = 64


def write_energy(run_folder: str | Path, model: nn.Module, loader: Iterable[Any]) -> Path:
    """Estimate what one image costs, from the first batch of a loader, and write ``energy.json``.

    Args:
        run_folder: an existing folder.
        model: one of :mod:`snntorch_asnn.models`.
        loader: yields ``(images, labels)``, the images ``[B, C, H, W]`` or frames ``[T, B, C, H, W]``;
            at most 64 images of the first batch are used, from all over it.

    Returns:
        Path: the file, which holds :meth:`snntorch_asnn.energy.EnergyReport.to_dict`.

    Example::

        >>> write_energy("runs/digits", model, test_loader)  # doctest: +SKIP
    """
    images, _ = next(iter(loader))
    batch_dim = int(images.ndim == 5)
    used = torch.tensor(spread(images.shape[batch_dim], MOST_IMAGES), device=images.device)
    images = images.index_select(batch_dim, used)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    found = energy.profile(model, to_unit_range(images.to(device)))
    file = Path(run_folder, "energy.json")
    write_text(file, json.dumps(found.to_dict(), indent=2) + "\n")
    return file
