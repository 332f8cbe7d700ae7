"""Short trainings: direct code with fixed LIF neurons, and hybrid code with adaptive neurons."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import snntorch_asnn as asnn
from gpu_stages.capturing import capture
from gpu_stages.child import Figure, Place, Row
from gpu_stages.images import Data, Part, augmented, load, random_data
from snntorch_asnn._timing import synchronise

TINY = "spikformer_tiny"
METHODS: dict[str, dict[str, Any]] = {
    "direct code, LIF": {"encoding": "direct", "neuron": "lif", "readout": "mean"},
    "hybrid code, ASNN": {"encoding": "hybrid", "neuron": "asnn", "readout": "time_weighted"},
}
STEPS, BATCH, PEAK_LR, WARMUP, DECAY = 4, 128, 1e-3, 0.1, 0.06
MARGIN = 8
"""Seconds that are reserved for the end."""


def figures(place: Place) -> Iterator[Figure]:
    """The step as a CUDA graph, and where that fails, the step itself."""
    model = TINY if place.dry_run else place.settings[0]
    finished: list[str] = []
    if place.device == "cuda":
        yield Figure(model, functools.partial(measured, place, model, finished, captured=True))
    if not finished:
        name = f"{model}, without a CUDA graph"
        yield Figure(name, functools.partial(measured, place, model, finished, captured=False))


def measured(place: Place, model: str, finished: list[str], *, captured: bool) -> list[Row]:
    end = time.monotonic() + place.seconds_left() - MARGIN
    if place.dry_run:
        data = random_data(place.device)
    elif place.data is None:
        raise ValueError("--data must name the images to train on")
    else:
        data = load(place.data, place.device)
    learners = {name: Learner(model, spec, data, place, captured) for name, spec in METHODS.items()}
    estimates = [learner.estimate() for learner in learners.values()]
    epoch_s, test_s = (sum(seconds) for seconds in zip(*estimates, strict=True))
    epochs = 1 if place.dry_run else max(1, int((end - time.monotonic() - test_s) / epoch_s))
    rows = []
    for name, learner in learners.items():
        about = {"name": f"{model}: {name}", "model": model, "method": name, "data": data.name}
        about |= {"steps": STEPS, "batch": learner.batch, "epochs": epochs, "seed": 0}
        for epoch, result in enumerate(learner.learn(epochs), 1):
            place.tell(about | {"epoch": epoch} | result)
        rows.append(about | {"test_accuracy": learner.accuracy(data.test), "cuda_graph": captured})
    finished.append(model)
    return rows


class Learner:
    """A model and its training."""

    def __init__(self, model: str, spec: dict[str, Any], data: Data, place: Place, captured: bool) -> None:
        torch.manual_seed(0)
        self.device, self.data = place.device, data
        self.batch = 4 if place.dry_run else BATCH
        self.model = asnn.models.create_model(model, num_classes=10, num_steps=STEPS, image_size=32, **spec)
        self.model.to(self.device)
        on_gpu = self.device == "cuda"
        self.lr = torch.tensor(0.0, device=self.device) if on_gpu else 0.0
        groups = asnn.optim_groups(self.model, PEAK_LR, weight_decay=DECAY)
        for group in groups:
            group["lr"] = self.lr  # one tensor for all of them, which a CUDA graph reads anew
        self.optimizer = torch.optim.AdamW(groups, lr=self.lr, capturable=on_gpu, fused=on_gpu)
        self.images = torch.rand(self.batch, 3, 32, 32, device=self.device)
        self.labels = torch.zeros(self.batch, dtype=torch.int64, device=self.device)
        self.loss = torch.zeros((), device=self.device)
        self.per_epoch = len(data.training.images) // self.batch
        self._run = capture(self._step) if captured else self._step

    def estimate(self) -> tuple[float, float]:
        """Seconds of an epoch and of the test, from steps with a learning rate of zero and a validation."""
        start = time.perf_counter()
        count = min(10, self.per_epoch)
        for _ in range(count):
            self._feed(torch.arange(self.batch, device=self.device))
        synchronise(self.device)
        step = (time.perf_counter() - start) / count
        start = time.perf_counter()
        self.accuracy(self.data.validation)
        validation = time.perf_counter() - start
        test = validation * len(self.data.test.images) / len(self.data.validation.images)
        return 1.05 * step * self.per_epoch + validation, test

    def learn(self, epochs: int) -> Iterator[Row]:
        total = epochs * self.per_epoch
        for epoch in range(epochs):
            start = time.perf_counter()
            order = torch.randperm(len(self.data.training.images), device=self.device)
            losses = torch.zeros((), device=self.device)
            for index in range(self.per_epoch):
                self._set_rate(epoch * self.per_epoch + index, total)
                self._feed(order[index * self.batch : (index + 1) * self.batch])
                losses += self.loss
            synchronise(self.device)
            seconds = time.perf_counter() - start
            yield {
                "training_loss": float(losses) / self.per_epoch,
                "validation_accuracy": self.accuracy(self.data.validation),
                "epoch_s": seconds,
                "images_per_second": self.per_epoch * self.batch / seconds,
            }

    @torch.inference_mode()
    def accuracy(self, part: Part) -> float:
        self.model.eval()
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        for images, labels in zip(part.images.split(500), part.labels.split(500), strict=True):
            with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
                logits = self.model(images / 255)
            correct += (logits.argmax(1) == labels).sum()
        self.model.train()
        return float(correct) / len(part.labels)

    def _feed(self, chosen: Tensor) -> None:
        self.images.copy_(augmented(self.data.training.images[chosen]))
        self.labels.copy_(self.data.training.labels[chosen])
        self._run()

    def _set_rate(self, step: int, total: int) -> None:
        warm = WARMUP * total
        rate = PEAK_LR * (
            step / warm if step < warm else 0.5 + 0.5 * math.cos(math.pi * (step - warm) / (total - warm))
        )
        if isinstance(self.lr, Tensor):
            self.lr.fill_(rate)
        else:
            for group in self.optimizer.param_groups:
                group["lr"] = rate

    def _step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        # Weights that autocast has cast before the capture would not be cast anew in a replay.
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda", cache_enabled=False):
            loss = cross_entropy(self.model(self.images).float(), self.labels)
        loss.backward()
        self.optimizer.step()
        self.loss.copy_(loss.detach())
