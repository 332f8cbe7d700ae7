"""snnTorch's own tools work with the adaptive neurons as they do with snnTorch's."""

from __future__ import annotations

from typing import Any

import pytest
import snntorch as snn
import torch
from snntorch import functional, utils
from snntorch.functional import probe, quant
from torch import Tensor, nn

import snntorch_asnn as asnn
from snntorch_asnn import AdaptiveLapicque, AdaptiveLeaky, AdaptiveRLeaky, AdaptiveSynaptic

STEPS = 5
HIDDEN: dict[str, Any] = {"num_steps": STEPS, "init_hidden": True}
NEURONS = {
    "Leaky": lambda **options: AdaptiveLeaky(0.9, **HIDDEN | options),
    "Synaptic": lambda **options: AdaptiveSynaptic(0.5, 0.9, **HIDDEN | options),
    "RLeaky": lambda **options: AdaptiveRLeaky(0.9, linear_features=4, **HIDDEN | options),
    "Lapicque": lambda **options: AdaptiveLapicque(0.9, R=5.0, **HIDDEN | options),
}


@pytest.fixture(params=list(NEURONS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def build(kind: str, **last: Any) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), NEURONS[kind](), nn.Linear(4, 4), NEURONS[kind](**last))


def run(net: nn.Module, x: Tensor) -> Tensor:
    return torch.stack([net(current) for current in x])


def test_utils_reset_starts_a_new_sequence(kind: str) -> None:
    net, x = build(kind), torch.rand(STEPS, 2, 3) * 5
    first = run(net, x)
    assert net[1].step == STEPS
    utils.reset(net)
    assert net[1].step == net[3].step == 0
    assert not net[3].mem.any()
    assert torch.equal(run(net, x), first)


def test_class_methods_of_snntorch(kind: str) -> None:
    net, x = build(kind), torch.rand(STEPS, 2, 3) * 5
    theirs = getattr(snn, kind)
    run(net, x[:2])
    assert net[1].mem.requires_grad
    theirs.detach_hidden()
    assert not net[1].mem.requires_grad
    assert net[1].step == 2
    theirs.reset_hidden()
    assert net[1].step == 0
    assert isinstance(net[1], theirs)


@pytest.mark.filterwarnings("ignore:The module snntorch.backprop:DeprecationWarning")
@pytest.mark.parametrize("name", ["BPTT", "TBPTT"])
@pytest.mark.parametrize("cls", ["Leaky", "Synaptic"])
def test_backprop_trains_as_with_snntorchs_neurons(name: str, cls: str) -> None:
    from snntorch import backprop

    leaks = {"beta": 0.9} | ({"alpha": 0.5} if cls == "Synaptic" else {})
    data = [(torch.rand(STEPS, 6, 3) * 3, torch.randint(0, 4, (6,))) for _ in range(2)]
    weights = []
    for adapted in (False, True):
        torch.manual_seed(0)
        neuron, last = (getattr(snn, cls)(**leaks, init_hidden=True, output=end) for end in (False, True))
        net = nn.Sequential(nn.Linear(3, 4), neuron, nn.Linear(4, 4), last)
        if adapted:
            asnn.adapt(net, STEPS, learn_beta=False, learn_gain=False)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        loss = functional.ce_rate_loss()
        # With any other K, snnTorch 1.0.0 raises UnboundLocalError, whatever the neurons.
        options = {"K": False} if name == "TBPTT" else {}
        getattr(backprop, name)(net, data, optimizer, loss, **options)
        weights.append([p.detach().clone() for p in net.parameters()])
    assert all(map(torch.equal, *weights))


def test_losses_and_accuracies(kind: str) -> None:
    net, x = build(kind, output=True), torch.rand(STEPS, 6, 3) * 5
    targets = torch.randint(0, 4, (6,))
    results = [net(current) for current in x]
    spikes, mem = torch.stack([r[0] for r in results]), torch.stack([r[-1] for r in results])
    losses = [
        functional.ce_rate_loss()(spikes, targets),
        functional.ce_count_loss()(spikes, targets),
        functional.mse_count_loss(0.8, 0.2)(spikes, targets),
        functional.ce_max_membrane_loss()(mem, targets),
        functional.mse_membrane_loss()(mem, targets),
        functional.l1_rate_sparsity()(spikes),
    ]
    sum(loss.sum() for loss in losses).backward()
    assert net[1].gain.grad is not None
    assert 0 <= functional.accuracy_rate(spikes, targets) <= 1


def test_monitors(kind: str) -> None:
    net, x = build(kind), torch.rand(STEPS, 2, 3) * 5
    spikes = probe.OutputMonitor(net, instance=type(net[1]))
    by_base = probe.OutputMonitor(net, instance=getattr(snn, kind))
    membranes = probe.AttributeMonitor("mem", False, net, instance=type(net[1]))
    gradients = probe.GradOutputMonitor(net, instance=type(net[1]))
    run(net, x).sum().backward()
    assert len(spikes.records) == len(by_base.records) == len(membranes.records) == 2 * STEPS
    assert spikes["3"][0].shape == (2, 4)
    assert torch.equal(membranes["3"][-1], net[3].mem)
    assert len(gradients.records) == 2 * STEPS


@pytest.mark.parametrize("cls", ["Leaky", "Synaptic", "RLeaky", "Lapicque"])
def test_quantised_state(cls: str) -> None:
    quantise = quant.state_quant(num_bits=4, uniform=True, threshold=1.0)
    options = {
        "Leaky": {"beta": 0.9},
        "Synaptic": {"alpha": 0.5, "beta": 0.9},
        "RLeaky": {"beta": 0.9, "all_to_all": False, "V": 0.4},
        "Lapicque": {"beta": 0.9},
    }[cls]
    theirs = getattr(snn, cls)(**options, state_quant=quantise, init_hidden=True)
    ours = asnn.adapt(getattr(snn, cls)(**options, state_quant=quantise, init_hidden=True), STEPS)
    x = torch.randn(STEPS, 3, 7)
    assert torch.equal(run(theirs, x), run(ours, x))
    assert ours.mem.unique().numel() <= 2**4
    assert torch.equal(theirs.mem, ours.mem)
    snn.SpikingNeuron.instances.remove(theirs)  # which cannot be detached
    getattr(snn, cls).detach_hidden()
    assert not ours.mem.requires_grad
