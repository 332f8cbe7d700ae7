"""Networks called step by step under DistributedDataParallel; run by test_state_is_run_time_data.py."""

from __future__ import annotations

import copy
import sys

import snntorch as snn
import torch
import torch.distributed as dist
from torch import nn

import snntorch_asnn as asnn

STEPS = 6
NEURONS = {
    "Leaky": lambda: snn.Leaky(0.9, init_hidden=True),
    "Synaptic": lambda: snn.Synaptic(0.5, 0.9, init_hidden=True),
    "RLeaky": lambda: snn.RLeaky(0.9, linear_features=30, init_hidden=True),
    "Lapicque": lambda: snn.Lapicque(0.9, init_hidden=True),
}


def main(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    for name, build in NEURONS.items():
        torch.manual_seed(0)
        net = asnn.adapt(nn.Sequential(nn.Linear(20, 30), build()), num_steps=STEPS)
        alone = copy.deepcopy(net)
        torch.manual_seed(10 + rank)
        x = torch.rand(STEPS, 4 + rank, 20) * 3
        parallel = nn.parallel.DistributedDataParallel(net)
        for _ in range(2):
            asnn.reset(net)
            asnn.reset(alone)
            shared = torch.stack([parallel(current) for current in x])
            wanted = torch.stack([alone(current) for current in x])
            assert wanted.any(), name
            assert torch.equal(shared, wanted), name
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
