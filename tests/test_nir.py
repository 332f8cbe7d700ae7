"""Exporting to NIR and coming back through snnTorch's import."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

import snntorch_asnn as asnn

nir = pytest.importorskip("nir")
pytest.importorskip("nirtorch")

STEPS = 6
NIRS: dict[str, Any] = {
    "init_hidden": True,
    "reset_mechanism": "zero",
    "reset_delay": False,
    "num_steps": STEPS,
}


class Derived(asnn.AdaptiveLeaky):
    """A user's subclass."""


def build(**options: Any) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(3, 8),
        asnn.AdaptiveLeaky(torch.rand(8) * 0.9, threshold=0.7, feature_shape=(8,), **NIRS | options),
        nn.Linear(8, 4),
        asnn.AdaptiveSynaptic(0.6, 0.83, threshold=0.3, **NIRS | options),
    )


def run(net: nn.Module, x: Tensor) -> Tensor:
    asnn.reset(net)
    spikes = [net(current) for current in x]
    return torch.stack([s[0] if isinstance(s, tuple) else s for s in spikes])


def import_back(graph: Any) -> nn.Module:
    from snntorch.import_nir import import_from_nir

    net: nn.Module = import_from_nir(graph)
    return net.float()


def test_a_network_without_change_comes_back_the_same(tmp_path: Any) -> None:
    net, x = build(), torch.rand(STEPS, 5, 3) * 4
    nir.write(tmp_path / "net.nir", asnn.nir.export(net, x[0], consumer="snntorch"))
    back = import_back(nir.read(tmp_path / "net.nir"))
    leaky, synaptic = (m for m in back.modules() if isinstance(m, (snn.Leaky, snn.Synaptic)))
    assert torch.equal(leaky.beta, net[1].beta[0])
    assert torch.equal(synaptic.alpha, net[3].alpha[0])
    assert torch.equal(synaptic.threshold, net[3].threshold)
    spikes = run(net, x)
    assert 0 < spikes.mean() < 1
    assert torch.equal(run(back, x), spikes)
    assert torch.equal(run(asnn.adapt(back, STEPS), x), spikes)
    assert type(net[1]) is asnn.AdaptiveLeaky


def test_one_step_of_a_network_that_changes() -> None:
    net, x = build(), torch.rand(STEPS, 5, 3) * 4
    with torch.no_grad():
        for neuron in (net[1], net[3]):
            neuron.beta[2] *= 0.5
            neuron.gain[2] = 0.5
    with pytest.raises(ValueError, match=r"the AdaptiveLeaky .* its beta changes"):
        asnn.nir.export(net, x[0])
    back = import_back(asnn.nir.export(net, x[0], step=2, consumer="snntorch"))
    with torch.no_grad():
        for neuron in (net[1], net[3]):
            neuron.beta.copy_(neuron.beta[2].expand_as(neuron.beta).clone())
            neuron.gain.fill_(0.5)
    spikes = run(net, x)
    assert 0 < spikes.mean() < 1
    assert torch.equal(run(back, x), spikes)


def test_recurrent() -> None:
    neuron = asnn.AdaptiveRLeaky(0.8, linear_features=4, **NIRS)
    net, x = nn.Sequential(nn.Linear(3, 4), neuron), torch.rand(1, 3)
    graph = asnn.nir.export(net, x, consumer="snntorch")
    assert torch.equal(torch.as_tensor(graph.nodes["1.w_rec"].weight), neuron.recurrent.weight)
    folded = asnn.nir.export(net, x)
    assert (folded.nodes["1.lif"].r == 1).all()
    for name, weight in (("0", net[0].weight), ("1.w_rec", neuron.recurrent.weight)):
        torch.testing.assert_close(
            torch.as_tensor(folded.nodes[name].weight), weight.double() / (1 - neuron.beta[0].double())
        )
    with torch.no_grad():
        neuron.gain.fill_(2.0)
    with pytest.raises(ValueError, match="its gain must be 1"):
        asnn.nir.export(nn.Sequential(nn.Linear(3, 4), neuron), torch.rand(1, 3))


@pytest.mark.parametrize(
    ("neuron", "arguments", "message"),
    [
        (asnn.AdaptiveLeaky(0.9, init_hidden=True, num_steps=2), {}, "does not reset to zero"),
        (asnn.AdaptiveLeaky(0.9, **NIRS), {"step": 6}, "step=6 must be below its num_steps=6"),
        (asnn.AdaptiveLeaky(0.9, **NIRS, sequence=True), {}, "one step at a time"),
        (asnn.AdaptiveLeaky(0.9, **NIRS, graded_spikes_factor=2.0), {}, "graded_spikes_factor must be 1"),
        (asnn.AdaptiveLapicque(0.9, init_hidden=True, num_steps=2), {}, "does not export Lapicque"),
        (Derived(0.9, **NIRS), {}, "NIR cannot represent the Derived at '1': .* derived classes do not"),
        (asnn.AdaptiveLeaky(1.0, **NIRS), {}, r"the AdaptiveLeaky .* beta must be in \[0, 1\) .* 1.0 to"),
        (asnn.AdaptiveLeaky(1.2, **NIRS), {}, "its beta must be in"),
        (asnn.AdaptiveLeaky(1.2, **NIRS, beta_constraint="none"), {}, "its beta must be in"),
        (asnn.AdaptiveLeaky(-0.1, **NIRS, beta_constraint="none"), {}, "its beta must be in"),
        (asnn.AdaptiveSynaptic(1.0, 0.9, **NIRS), {}, "the AdaptiveSynaptic .* its alpha must be in"),
        (asnn.AdaptiveRLeaky(1.0, linear_features=4, **NIRS), {}, "the AdaptiveRLeaky .* its beta must be"),
        (snn.Leaky(1.0, init_hidden=True), {}, "the Leaky .* its beta must be in"),
        (snn.Synaptic(1.0, 0.9, init_hidden=True), {}, "the Synaptic .* its alpha must be in"),
    ],
)
def test_refuses_with_the_reason(neuron: nn.Module, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        asnn.nir.export(nn.Sequential(nn.Linear(3, 4), neuron), torch.rand(1, 3), **arguments)


def test_the_leak_of_the_exported_step_counts() -> None:
    beta = torch.tensor([0.9, 1.0, 0.0])
    lif = asnn.AdaptiveLeaky(beta, feature_shape=(), **NIRS | {"num_steps": 3})
    net, x = nn.Sequential(nn.Linear(3, 4), lif), torch.rand(1, 3)
    with pytest.raises(ValueError, match="its beta must be in"):
        asnn.nir.export(net, x, step=1)
    for step in (0, 2):
        back = import_back(asnn.nir.export(net, x, step=step, consumer="snntorch"))
        (leaky,) = (m for m in back.modules() if isinstance(m, snn.Leaky))
        assert torch.equal(leaky.beta, beta[step].expand(4))


def test_resets_can_be_ignored_as_snntorch_does() -> None:
    net = nn.Sequential(nn.Linear(3, 4), asnn.AdaptiveLeaky(0.9, init_hidden=True, num_steps=2))
    assert asnn.nir.export(net, torch.rand(1, 3), ignore_reset=True).nodes["1"].tau.shape == (4,)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"net": 1}, TypeError, "net must be"),
        ({"step": 1.5}, TypeError, "step must be an integer"),
        ({"step": -1}, ValueError, "step must not be negative"),
        ({"dt": 0}, ValueError, "dt must be positive; got 0"),
        ({"dt": float("nan")}, ValueError, "dt must be positive; got nan"),
        ({"dt": "1"}, TypeError, "dt must be a real number; got '1'"),
        ({"dt": 1e-3, "consumer": "sinabs"}, ValueError, "dt must be None for consumer='sinabs'"),
        ({"dt": 1e-4, "consumer": "snntorch"}, ValueError, "dt must be None for consumer='snntorch'"),
        ({"consumer": "norse"}, ValueError, "consumer must be one of 'nir', 'snntorch', 'sinabs'"),
        ({"consumer": "sinabs"}, ValueError, "neuron '3' has a synaptic current, which sinabs does not"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        asnn.nir.export(**{"net": build(), "sample": torch.rand(1, 3)} | arguments)


@pytest.mark.parametrize("dt", [1e-4, 1e-3, 1.0])
@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_the_equation_of_nir_gives_the_spikes_with_r_and_without(dt: float, gain: float) -> None:
    net, x = build(gain=gain), torch.rand(STEPS, 5, 3) * 4
    graph = asnn.nir.export(net, x[0], dt=dt)
    lif, cuba = graph.nodes["1"], graph.nodes["3"]
    assert all((share == 1).all() for share in (lif.r, cuba.r, cuba.w_in))
    v, current, u = (torch.zeros(5, n, dtype=torch.float64) for n in (8, 4, 4))
    exact = partial(torch.as_tensor, dtype=torch.float64)
    spikes = []
    for step in x.double():
        weighed = step @ exact(graph.nodes["0"].weight).T + exact(graph.nodes["0"].bias)
        v = v + dt / exact(lif.tau) * (weighed - v)
        hidden = (v > exact(lif.v_threshold)).double()
        v = v * (1 - hidden)
        weighed = hidden @ exact(graph.nodes["2"].weight).T + exact(graph.nodes["2"].bias)
        current = current + dt / exact(cuba.tau_syn) * (weighed - current)
        u = u + dt / exact(cuba.tau_mem) * (current - u)
        spikes.append((u > exact(cuba.v_threshold)).double())
        u = u * (1 - spikes[-1])
    expected = run(net, x)
    assert 0 < expected.mean() < 1
    assert torch.equal(torch.stack(spikes), expected.double())


@pytest.mark.parametrize("consumer", ["nir", "snntorch"])
def test_a_network_that_has_run_its_steps_is_exported_and_stays_as_it_is(consumer: Any) -> None:
    net, x = build(), torch.rand(STEPS, 5, 3) * 4
    run(net, x)
    membrane = net[1].mem.clone()
    graph = asnn.nir.export(net, x[0], consumer=consumer)
    assert torch.equal(net[1].mem, membrane)
    with pytest.raises(ValueError, match="num_steps=6"):
        net(x[0])
    asnn.reset(net)
    again = asnn.nir.export(net, x[0], consumer=consumer)
    for name, node in graph.nodes.items():
        for key in ("weight", "tau", "r", "v_threshold"):
            if hasattr(node, key):
                assert (getattr(node, key) == getattr(again.nodes[name], key)).all()


def test_convolutions_take_the_gain_of_their_channels() -> None:
    gain = torch.rand(4, 1, 1) + 0.5
    lif = asnn.AdaptiveLeaky(0.9, gain=gain, feature_shape=(4, 1, 1), **NIRS)
    net, x = nn.Sequential(nn.Conv2d(2, 4, 3), lif), torch.rand(1, 2, 6, 6)
    node = asnn.nir.export(net, x).nodes["0"]
    by_channel = gain.double() / (1 - torch.tensor(0.9).double())
    torch.testing.assert_close(torch.as_tensor(node.weight), net[0].weight.double() * by_channel[..., None])
    torch.testing.assert_close(torch.as_tensor(node.bias), net[0].bias.double() * by_channel.flatten())


def without_weights() -> tuple[nn.Module, Tensor]:
    lif = asnn.AdaptiveLeaky(0.9, gain=0.5, **NIRS)
    return nn.Sequential(nn.Linear(3, 8), nn.Flatten(), lif), torch.rand(1, 3)


def per_pixel() -> tuple[nn.Module, Tensor]:
    lif = asnn.AdaptiveLeaky(0.9, gain=torch.rand(4, 4, 4), feature_shape=(4, 4, 4), **NIRS)
    return nn.Sequential(nn.Conv2d(2, 4, 3), lif), torch.rand(1, 2, 6, 6)


@pytest.mark.parametrize("make", [without_weights, per_pixel])
@pytest.mark.filterwarnings("ignore:The 'warn' function is deprecated:DeprecationWarning")  # nir's
def test_what_cannot_be_folded_stays_with_a_warning(make: Any) -> None:
    net, x = make()
    with pytest.warns(UserWarning, match=r"keeps its r, because .* not every simulator"):
        graph = asnn.nir.export(net, x)
    (node,) = (node for node in graph.nodes.values() if hasattr(node, "tau"))
    neuron = next(m for m in net.modules() if isinstance(m, asnn.AdaptiveLeaky))
    expected = neuron.gain[0].double() / (1 - neuron.leak[0].double())
    torch.testing.assert_close(torch.as_tensor(node.r), expected.expand(node.r.shape).contiguous())
    with pytest.raises(ValueError, match=r"keeps its r, because .*, but sinabs does not read r"):
        asnn.nir.export(net, x, consumer="sinabs")
