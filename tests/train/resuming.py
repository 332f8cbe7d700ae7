"""A short run with all that draws random numbers, and how two runs are compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from snntorch_asnn.train import Reporter, StepReport, TrainConfig, fit

SETTINGS: dict[str, Any] = {
    "data": "digits",
    "augment": "crop-flip",
    "mixup": 0.5,
    "encoding": "direct",
    "num_steps": 2,
    "train_subset": 500,
    "epochs": 3,
    "batch_size": 64,
    "ema": 0.9,
    "clip_grad": 1.0,
    "schedule": "cosine",
    "warmup_epochs": 1,
    "checkpoint_every": 2,
    "device": "cpu",
    "threads": 1,
    "tensorboard": False,
}


class Killed(Exception):
    """Stands for the end of a process."""


class KilledAt(Reporter):
    """Ends a run at a report."""

    def __init__(self, epoch: int) -> None:
        self.last_epoch = epoch
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def step(self, report: StepReport) -> None:
        if report.epoch == self.last_epoch:
            raise Killed


def train(out: Path, **settings: Any) -> None:
    """Begin a run, or go on with the one that is there."""
    fit(TrainConfig(**SETTINGS | settings, out=out, resume=(out / "config.json").exists()))


def outcome(out: Path) -> dict[str, Any]:
    """All that a run leaves behind, less the time that it took."""
    timed = ("seconds", "images_per_second")
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    result = json.loads((out / "result.json").read_text())
    return {
        "metrics": [{k: v for k, v in line.items() if k not in timed} for line in metrics],
        "result": {k: v for k, v in result.items() if k not in timed},
        "steps": (out / "steps.jsonl").read_text(),
        "learner": torch.load(out / "last.pt", weights_only=True)["learner"],
        "best": torch.load(out / "checkpoint.pt", weights_only=True)["model"],
    }


def assert_same(first: Any, second: Any, where: str = "") -> None:
    """Compare nested containers, tensors bit by bit."""
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for number, (a, b) in enumerate(zip(first, second, strict=True)):
            assert_same(a, b, f"{where}[{number}]")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    else:
        assert first == second, where
