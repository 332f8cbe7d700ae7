"""Data parallelism, sharding, checkpointing and function transforms over networks of adaptive neurons."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import snntorch as snn
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import snntorch_asnn as asnn
from snntorch_asnn import AdaptiveLapicque, AdaptiveLeaky, AdaptiveRLeaky, AdaptiveSynaptic

sys.path.insert(0, str(Path(__file__).parent))
from distributed_worker import DATA, STEPS, build, train


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_available(), reason="torch is built without torch.distributed")
@pytest.mark.parametrize("kind", ["DDP", "FSDP2"])
def test_two_processes_train_as_one_with_the_joined_batch(kind: str, tmp_path: Path) -> None:
    script = Path(__file__).with_name("distributed_worker.py")
    root = Path(asnn.__file__).parents[1]
    command = [sys.executable, str(script), kind]
    workers = [
        subprocess.Popen(
            [*command, str(rank), "2", str(tmp_path)], env=os.environ | {"PYTHONPATH": str(root)}
        )
        for rank in range(2)
    ]
    try:
        assert [process.wait(120) for process in workers] == [0, 0]
    finally:
        for process in workers:
            process.kill()
    alone = build()
    start = {name: value.clone() for name, value in alone.state_dict().items()}
    train(alone, DATA)
    shared = torch.load(tmp_path / "weights.pt")
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(shared[name], value, msg=name)
    assert sum(not torch.equal(value, start[name]) for name, value in alone.state_dict().items()) > 10


def test_replicas_use_their_own_parameters() -> None:
    net = build()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(0.9)
    # What DataParallel does on every device: shallow copies whose tensors are replaced.
    replicas = [net._replicate_for_data_parallel() for _ in range(2)]
    neuron = AdaptiveLeaky(0.9, num_steps=STEPS, init_hidden=True)
    first, second = (neuron._replicate_for_data_parallel() for _ in range(2))
    for replica, gain in ((first, 1.0), (second, 3.0)):
        replica._parameters = {}
        replica.beta, replica.gain = neuron.beta.detach(), torch.full((STEPS,), gain)
    x = torch.full((2, 3), 0.5)
    assert not first(x).any()
    assert second(x).all()
    assert neuron.step == 0
    assert first.step == second.step == 1
    assert len(replicas) == 2


def test_gradient_checkpointing() -> None:
    options: dict[str, Any] = {"num_steps": STEPS, "sequence": True}
    net = nn.Sequential(nn.Linear(3, 6), AdaptiveLeaky(0.9, **options))
    outcomes = []
    for run in (lambda x: net(x)[0], lambda x: checkpoint(lambda x: net(x)[0], x, use_reentrant=False)):
        leaf = DATA.clone().requires_grad_()
        net.zero_grad()
        run(leaf).square().sum().backward()
        outcomes.append([leaf.grad, *(p.grad.clone() for p in net.parameters())])
    assert all(map(torch.equal, *outcomes))


def test_gradient_checkpointing_of_steps_by_hand() -> None:
    neuron = AdaptiveRLeaky(torch.rand(STEPS), linear_features=3, num_steps=STEPS, feature_shape=())
    outcomes = []
    for recompute in (False, True):
        leaf, spk, mem = DATA.clone().requires_grad_(), torch.zeros(8, 3), torch.zeros(8, 3)
        neuron.zero_grad()
        neuron.reset_mem()
        total = torch.zeros(())
        for t, current in enumerate(leaf):
            if recompute:
                spk, mem = checkpoint(neuron, current, spk, mem, t, use_reentrant=False)
            else:
                spk, mem = neuron(current, spk, mem, t)
            total = total + (spk * (t + 1)).sum()
        (total + mem.sum()).backward()
        outcomes.append([leaf.grad, *(p.grad.clone() for p in neuron.parameters())])
    assert all(map(torch.equal, *outcomes))


FAMILY = {
    "leaky": lambda **o: AdaptiveLeaky(0.9, num_steps=STEPS, **o),
    "synaptic": lambda **o: AdaptiveSynaptic(0.5, 0.9, num_steps=STEPS, **o),
    "rleaky": lambda **o: AdaptiveRLeaky(0.9, linear_features=3, num_steps=STEPS, **o),
    "lapicque": lambda **o: AdaptiveLapicque(0.9, num_steps=STEPS, **o),
}


@pytest.mark.parametrize("name", list(FAMILY))
def test_vmap_func_grad_and_functional_call(name: str) -> None:
    neuron = FAMILY[name](sequence=True)
    parameters = {key: p.detach() for key, p in neuron.named_parameters()}

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        spikes, *_ = torch.func.functional_call(neuron, parameters, (x[:, None],))
        return (spikes * torch.arange(3.0)).sum()

    per_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 1))(parameters, DATA)
    neuron.zero_grad()
    spikes, *_ = neuron(DATA)
    (spikes * torch.arange(3.0)).sum().backward()
    for key, parameter in neuron.named_parameters():
        torch.testing.assert_close(per_sample[key].sum(0), parameter.grad)


@pytest.mark.parametrize("name", list(FAMILY))
@pytest.mark.parametrize("sequence", [False, True])
def test_compiles_to_one_graph(name: str, sequence: bool) -> None:
    torch._dynamo.reset()
    neuron = FAMILY[name](init_hidden=True, sequence=sequence)

    def run(x: Tensor) -> Tensor:
        neuron.reset_mem()
        out: Tensor = neuron(x) if sequence else torch.stack([neuron(current) for current in x])
        return out

    expected = run(DATA)
    got = torch.compile(run, fullgraph=True, backend="aot_eager")(DATA)
    assert torch.equal(got, expected)


@pytest.mark.slow
def test_memory_is_flat_over_a_thousand_networks() -> None:
    def cycle() -> list[weakref.ref[nn.Module]]:
        net = build()
        train(net, DATA[:2], steps=1)
        return [weakref.ref(module) for module in net.modules()]

    cycle()
    gc.collect()
    tensors = sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())
    registered = len(snn.SpikingNeuron.instances)
    for _ in range(1000):
        dead = cycle()
    gc.collect()
    assert all(reference() is None for reference in dead)
    assert sum(issubclass(type(thing), Tensor) for thing in gc.get_objects()) <= tensors + 2
    assert len(snn.SpikingNeuron.instances) <= registered + 10
