"""A network with a fused norm, its training, and one process of several; run by test_norm_leaky.py."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

import snntorch_asnn as asnn
from snntorch_asnn.layers import NormLeaky, TimeFolded, fold_time
from snntorch_asnn.train.devices import synchronise_batch_norm

SHAPE = (4, 6, 2, 8, 8)


def data() -> Tensor:
    """A batch whose halves differ in mean and spread, which only joint statistics see."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(SHAPE, generator=generator)
    x[:, SHAPE[1] // 2 :] = x[:, SHAPE[1] // 2 :] * 3 + 5
    return x


class Net(nn.Module):
    """Convolution, norm, neuron, linear layer; in one or one after the other."""

    def __init__(self, *, fused: bool, norm_over_time: str = "pooled") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fused = fused
        self.conv = nn.Conv2d(2, 8, 3, padding=1)
        neuron = asnn.AdaptiveLeaky.paper(SHAPE[0], sequence=True, impl="reference")
        self.layer = NormLeaky(8, neuron, norm_over_time=norm_over_time)
        self.head = nn.Linear(8 * 64, 3)

    def forward(self, x: Tensor) -> Tensor:
        current = fold_time(self.conv, x)
        if self.fused:
            spikes, _ = self.layer(current)
        else:
            spikes, _ = self.layer.neuron(TimeFolded(self.layer.norm)(current))
        logits: Tensor = self.head(spikes.flatten(2)).mean(0)
        return logits


def train(net: nn.Module, x: Tensor, steps: int) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        (net(x) - x[:, :, 0, 0, :3].mean(0)).square().mean().backward()
        optimizer.step()


def _averaged(grad: Tensor) -> Tensor:
    total = grad.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def main() -> None:
    rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    share = data().chunk(world, dim=1)[rank]
    grouped, converted = Net(fused=True), nn.SyncBatchNorm.convert_sync_batchnorm(Net(fused=True))
    grouped.layer.process_group = dist.group.WORLD
    train(nn.parallel.DistributedDataParallel(grouped), share, steps=5)
    # DistributedDataParallel refuses SyncBatchNorm on CPU, so gradients are averaged by hand.
    for parameter in converted.parameters():
        parameter.register_hook(_averaged)
    train(converted, share, steps=5)
    each_step = {}
    for kind in ("sequential", "step"):
        net = each_step[kind] = Net(fused=True, norm_over_time=kind)
        net.layer.process_group = dist.group.WORLD
        train(nn.parallel.DistributedDataParallel(net), share, steps=5)
    synchronised = each_step["unfused step"] = synchronise_batch_norm(
        Net(fused=False, norm_over_time="step"), torch.device("cpu")
    )
    train(nn.parallel.DistributedDataParallel(synchronised), share, steps=5)
    if rank == 0:
        pooled = [grouped.state_dict(), converted.state_dict()]
        torch.save(
            (pooled, {kind: net.state_dict() for kind, net in each_step.items()}), folder / "weights.pt"
        )
    dist.barrier()  # a process that is left by the other may be aborted while it ends
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
