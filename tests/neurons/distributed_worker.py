"""A network, its training, and the one process of several that trains it; run by test_distributed.py."""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import snntorch_asnn as asnn
from snntorch_asnn import AdaptiveLapicque, AdaptiveLeaky, AdaptiveRLeaky, AdaptiveSynaptic

STEPS = 4
DATA = torch.linspace(-2, 2, STEPS * 8 * 3).reshape(STEPS, 8, 3).sin() * 2


class Net(nn.Module):
    """Every neuron of the family, states hidden, one sequence per call."""

    def __init__(self) -> None:
        super().__init__()
        options: dict[str, Any] = {"num_steps": STEPS, "init_hidden": True}
        self.layers = nn.Sequential(
            nn.Linear(3, 6),
            AdaptiveLeaky(0.9, **options),
            nn.Linear(6, 6),
            AdaptiveSynaptic(0.5, 0.8, **options),
            AdaptiveRLeaky(0.8, linear_features=6, **options),
            AdaptiveLapicque(0.9, R=5.0, **options, learn_threshold=True),
            nn.Linear(6, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        asnn.reset(self)
        return torch.stack([self.layers(current) for current in x]).mean(0)


def build() -> Net:
    torch.manual_seed(0)
    return Net()


def train(net: nn.Module, x: Tensor, steps: int = 3) -> None:
    optimizer = torch.optim.SGD(asnn.optim_groups(net, 0.1, time_lr=0.2))
    for _ in range(steps):
        optimizer.zero_grad()
        (net(x) - 1).square().mean().backward()
        optimizer.step()


def main(kind: str, rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    net: nn.Module
    if kind == "DDP":
        net = nn.parallel.DistributedDataParallel(build())
        train(net, DATA[:, rank::world])
        weights = net.module.state_dict()
    else:
        from torch.distributed.fsdp import fully_shard
        from torch.distributed.tensor import DTensor

        net = fully_shard(build(), mesh=dist.init_device_mesh("cpu", (world,)))
        train(net, DATA[:, rank::world])
        weights = {
            name: value.full_tensor() if isinstance(value, DTensor) else value
            for name, value in net.state_dict().items()
        }
    if rank == 0:
        torch.save(weights, f"{folder}/weights.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
