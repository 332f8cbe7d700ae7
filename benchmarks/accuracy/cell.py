"""One run: a model, code, neuron and seed, trained with the common recipe and evaluated once at the end."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import changes
import torch
from data import Images, load
from torch import Tensor, nn
from torch.nn import functional

from snntorch_asnn import optim_groups
from snntorch_asnn.energy import LayerEnergy, profile
from snntorch_asnn.models import create_model

PROFILED = 500  # images that firing rates and energy are means over


@dataclass(frozen=True)
class Cell:
    """All that decides the result of a run, but for the versions and the machine."""

    data: str
    model: str
    model_args: dict[str, Any]
    neuron: str
    code: str
    num_steps: int
    seed: int
    train_images: int
    epochs: int
    batch: int = 50
    learning_rate: float = 1e-2
    weight_decay: float = 0.0
    augment: bool = False
    precision: str = "bf16"
    split: str = "test"
    change: str = ""

    def key(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    def file_name(self) -> str:
        return hashlib.sha256(self.key().encode()).hexdigest()[:16] + ".pt"


def build(cell: Cell, in_channels: int, image_size: int) -> nn.Module:
    """The model of a cell, with the readout of its method: weighed by step for ``"asnn"``, else the mean."""
    settings: dict[str, Any] = {
        "neuron": cell.neuron,
        "encoding": cell.code,
        "readout": "time_weighted" if cell.neuron == "asnn" else "mean",
        "norm_over_time": "pooled",
        **cell.model_args,
    }
    return changes.build(
        create_model,
        cell.change,
        cell.model,
        num_classes=10,
        num_steps=cell.num_steps,
        in_channels=in_channels,
        image_size=image_size,
        **settings,
    )


def run(cell: Cell, folder: Path | None, weights: Path | None = None, device: str = "cpu") -> dict[str, Any]:
    """Train and judge; ``weights`` is a folder to keep the trained weights in."""
    train, judge = (part.to(device) for part in load(cell.data, folder, cell.split, cell.train_images))
    torch.manual_seed(cell.seed)
    model = build(cell, train.images.shape[1], train.images.shape[-1]).to(device)
    seconds = _fit(cell, model, train)
    accuracy, loss = _judge(cell, model, judge)
    some = judge.images[:PROFILED].float() / 255
    energy = profile(model, some)
    rates = {
        name.removesuffix(".neuron"): [round(rate, 4) for rate in steps]
        for name, steps in energy.firing_rates.items()
    }
    if weights is not None:
        weights.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), weights / cell.file_name())
    return {
        "accuracy": accuracy,
        "loss": loss,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "firing_rate": sum(sum(steps) for steps in rates.values()) / sum(map(len, rates.values())),
        "firing_rates": rates,
        "macs": round(energy.macs),
        "acs": round(energy.acs),
        "first_layer_macs": round(sum(sum(layer.macs) for layer in energy.layers if _sees_images(layer))),
        "microjoules": round(energy.mj * 1000, 3),
        "seconds_per_epoch": round(seconds / cell.epochs, 2),
    }


def _sees_images(layer: LayerEnergy) -> bool:
    """Whether it is a first layer; the other layer with analog input is the head, after a mean."""
    return layer.kind == "conv2d" and "analog" in layer.inputs


def _fit(cell: Cell, model: nn.Module, train: Images) -> float:
    """Adam with decoupled decay, one learning-rate cycle over all steps; return the seconds."""
    order = torch.Generator().manual_seed(cell.seed)
    steps = cell.epochs * (len(train) // cell.batch)
    groups = optim_groups(model, cell.learning_rate, weight_decay=cell.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=cell.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, cell.learning_rate, total_steps=steps)
    criterion = changes.criterion(cell.change)
    start = time.perf_counter()
    model.train()
    for _ in range(cell.epochs):
        for images, labels in _batches(train, cell, order):
            with _autocast(cell, images):
                logits = model(images, return_steps=True)
            loss = criterion(logits.float(), labels)
            if not loss.isfinite():
                raise FloatingPointError(f"loss must be finite; got {loss.item()} in {cell.key()}")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return time.perf_counter() - start


def _batches(train: Images, cell: Cell, order: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    for batch in torch.randperm(len(train), generator=order).split(cell.batch):
        if len(batch) < cell.batch:
            return
        index = batch.to(train.images.device)
        images = train.images[index]
        if cell.augment:
            images = shift_and_flip(images, order)
        yield images.float() / 255, train.labels[index]


def shift_and_flip(images: Tensor, order: torch.Generator, most: int = 2) -> Tensor:
    """Move each image by up to ``most`` pixels in both directions, filled with 0; mirror every other."""
    count, _, height, width = images.shape
    device = images.device
    flipped = (torch.rand(count, generator=order) < 0.5).to(device)
    images = torch.where(flipped.view(-1, 1, 1, 1), images.flip(3), images)
    padded = functional.pad(images, (most,) * 4)
    top, left = torch.randint(2 * most + 1, (2, count), generator=order)
    rows = (top[:, None] + torch.arange(height))[:, None, :, None]
    columns = (left[:, None] + torch.arange(width))[:, None, None, :]
    which, channel = torch.arange(count).view(-1, 1, 1, 1), torch.arange(images.shape[1]).view(1, -1, 1, 1)
    return padded[tuple(index.to(device) for index in (which, channel, rows, columns))]


@torch.no_grad()
def _judge(cell: Cell, model: nn.Module, judge: Images) -> tuple[float, float]:
    """Accuracy in percent and cross-entropy."""
    model.eval()
    right, loss = 0, 0.0
    for start in range(0, len(judge), 250):
        images, labels = judge.images[start : start + 250], judge.labels[start : start + 250]
        with _autocast(cell, images):
            logits = model(images.float() / 255).float()
        right += int((logits.argmax(1) == labels).sum())
        loss += functional.cross_entropy(logits, labels, reduction="sum").item()
    return 100 * right / len(judge), loss / len(judge)


def _autocast(cell: Cell, images: Tensor) -> torch.autocast:
    return torch.autocast(images.device.type, torch.bfloat16, enabled=cell.precision == "bf16")
