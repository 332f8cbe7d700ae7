"""Compare the accuracy of networks of snnTorch's tutorials before and after ``asnn.adapt``.

For each seed, the script builds a network, adapts a copy, and checks that both give the same membranes to the
bit. It then trains both with the same recipe on the same batches of a subset of Fashion-MNIST.

Usage: ``python benchmarks/migration.py [--seeds 0 1 2] [--json FILE] [--data-dir FOLDER]``. It takes some
minutes.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import snntorch as snn
import torch
from snntorch import surrogate, utils
from torch import Tensor, nn

import snntorch_asnn as asnn

sys.path.insert(0, str(Path(__file__).with_name("accuracy")))

from data import Images, load  # the accuracy benchmark is a folder of scripts

BATCH = 128


class Dense(nn.Module):
    """Tutorial 5's network: the image as a constant current for 25 steps."""

    num_steps = 25

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 256)
        self.lif1 = snn.Leaky(beta=0.95)
        self.fc2 = nn.Linear(256, 10)
        self.lif2 = snn.Leaky(beta=0.95)

    def forward(self, images: Tensor) -> Tensor:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        current, membranes = self.fc1(images.flatten(1)), []
        for _ in range(self.num_steps):
            spk, mem1 = self.lif1(current, mem1)
            _, mem2 = self.lif2(self.fc2(spk), mem2)
            membranes.append(mem2)
        return torch.stack(membranes)


class Convolutional(nn.Module):
    """Tutorial 6's network, narrower: hidden states in a Sequential."""

    num_steps = 8

    def __init__(self) -> None:
        super().__init__()
        leaky = {"beta": 0.5, "spike_grad": surrogate.fast_sigmoid(slope=25), "init_hidden": True}
        self.net = nn.Sequential(
            nn.Conv2d(1, 8, 5),
            nn.MaxPool2d(2),
            snn.Leaky(**leaky),
            nn.Conv2d(8, 24, 5),
            nn.MaxPool2d(2),
            snn.Leaky(**leaky),
            nn.Flatten(),
            nn.Linear(24 * 4 * 4, 10),
            snn.Leaky(**leaky, output=True),
        )

    def forward(self, images: Tensor) -> Tensor:
        utils.reset(self.net)
        return torch.stack([self.net(images)[1] for _ in range(self.num_steps)])


NETWORKS = {"dense": Dense, "convolutional": Convolutional}
LEARNING_RATE = {"dense": 5e-4, "convolutional": 2e-3}


def pixels_and_labels(images: Images) -> tuple[Tensor, Tensor]:
    return images.images.float() / 255, images.labels


def train(net: nn.Module, lr: float, data: tuple[Tensor, Tensor], epochs: int, seed: int) -> None:
    images, labels = data
    optimizer = torch.optim.Adam(asnn.optim_groups(net, lr, time_lr=5 * lr))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels), generator=generator).split(BATCH):
            membranes = net(images[batch])
            target = labels[batch].expand(len(membranes), -1).flatten()
            loss = nn.functional.cross_entropy(membranes.flatten(0, 1), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@torch.no_grad()
def accuracy(net: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    images, labels = data
    predicted = torch.cat([net(part).sum(0).argmax(1) for part in images.split(500)])
    return (predicted == labels).float().mean().item() * 100


def compare(name: str, seed: int, data: dict[str, Any], epochs: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    original = NETWORKS[name]()
    adapted = asnn.adapt(copy.deepcopy(original), original.num_steps)
    sample = data["test"][0][:64]
    with torch.no_grad():
        same = torch.equal(original(sample), adapted(sample))
    if not same:
        raise RuntimeError(f"the adapted {name} network differs from the original before training")
    row: dict[str, Any] = {"network": name, "seed": seed}
    for kind, net in (("original", original), ("adapted", adapted)):
        start = time.perf_counter()
        train(net, LEARNING_RATE[name], data["train"], epochs, seed)
        row[f"{kind}_train_s"] = round(time.perf_counter() - start, 1)
        row[kind] = round(accuracy(net, data["test"]), 2)
    print(row, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=12_000, help="training images")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--data-dir", type=Path, help="where the data are, if not where Debian has them")
    parser.add_argument("--json", type=Path, help="also write the results there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    parts = load("fashion_mnist", options.data_dir, "test", options.images)
    data = dict(zip(("train", "test"), map(pixels_and_labels, parts), strict=True))
    rows = [compare(name, seed, data, options.epochs) for name in NETWORKS for seed in options.seeds]
    summary = {
        name: {
            kind: {
                "mean": round(statistics.mean(values), 2),
                "stdev": round(statistics.stdev(values), 2) if len(values) > 1 else None,
            }
            for kind in ("original", "adapted")
            if (values := [row[kind] for row in rows if row["network"] == name])
        }
        for name in NETWORKS
    }
    setting = {
        "date": datetime.date.today().isoformat(),
        "data": "Fashion-MNIST",
        "train_images": options.images,
        "test_images": 10_000,
        "epochs": options.epochs,
        "batch": BATCH,
        "learning_rate": LEARNING_RATE,
        "time_parameters": "5 times the learning rate",
        "steps": {name: network.num_steps for name, network in NETWORKS.items()},
        "cpu": platform.processor() or platform.machine(),
        "threads": 1,
        "torch": torch.__version__,
        "snntorch": snn.__version__,
        "snntorch_asnn": asnn.__version__,
    }
    print(json.dumps(summary, indent=2))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        results = {"setting": setting, "summary": summary, "rows": rows}
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
