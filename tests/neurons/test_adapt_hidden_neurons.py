"""`adapt` reaches neurons that PyTorch does not see, and says what it cannot reach."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

import snntorch_asnn as asnn
from snntorch_asnn.neurons.adaptive import AdaptiveNeuron

STEPS = 3


class Pair(NamedTuple):
    fc: nn.Module
    lif: nn.Module


@dataclass(frozen=True)
class Record:
    lif: nn.Module


def leaky(**options: Any) -> snn.Leaky:
    return snn.Leaky(0.9, init_hidden=True, **options)


def in_closure() -> Callable[[Tensor], Tensor]:
    lif = leaky()
    return lambda x: lif(x)


def in_nested_closure() -> Callable[[Tensor], Tensor]:
    inner = in_closure()
    return lambda x: inner(x)


def in_default() -> Callable[[Tensor], Tensor]:
    def act(x: Tensor, lif: nn.Module = leaky()) -> Tensor:  # noqa: B008
        return lif(x)  # type: ignore[no-any-return]

    return act


def in_keyword_default() -> Callable[[Tensor], Tensor]:
    def act(x: Tensor, *, lif: nn.Module = leaky()) -> Tensor:  # noqa: B008
        return lif(x)  # type: ignore[no-any-return]

    return act


HIDDEN: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "list": (lambda: [leaky()], lambda held: held[0]),
    "tuple": (lambda: (leaky(), 3), lambda held: held[0]),
    "named tuple": (lambda: Pair(nn.Identity(), leaky()), lambda held: held.lif),
    "dict": (lambda: {"lif": leaky()}, lambda held: held["lif"]),
    "set": (lambda: {leaky()}, lambda held: next(iter(held))),
    "nested": (lambda: {"a": [(1, [leaky()])]}, lambda held: held["a"][0][1][0]),
    "closure": (in_closure, lambda held: held),
    "closure in a closure": (in_nested_closure, lambda held: held),
    "default": (in_default, lambda held: held),
    "keyword default": (in_keyword_default, lambda held: held),
    "partial": (lambda: functools.partial(lambda lif, x: lif(x), leaky()), lambda held: held),
    "bound method": (lambda: leaky().forward, lambda held: held),
    "container in a list": (lambda: [nn.Sequential(leaky())], lambda held: held[0]),
    "namespace": (lambda: SimpleNamespace(lif=leaky()), lambda held: held.lif),
    "dataclass": (lambda: Record(leaky()), lambda held: held.lif),
}


class Net(nn.Module):
    def __init__(self, held: Any, call: Callable[[Any], Any]) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 4)
        self.held = held
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.call(self.held)(self.fc(x))
        return out


@pytest.mark.parametrize("place", list(HIDDEN))
def test_reaches_what_pytorch_does_not_see_and_says_so(place: str) -> None:
    build, call = HIDDEN[place]
    net = Net(build(), call)
    x = torch.rand(STEPS, 2, 3) * 3
    expected = torch.stack([net(current) for current in x])
    kept = list(snn.SpikingNeuron.instances)  # alive, so that no new neuron takes the id of an old one
    before = {id(entry) for entry in kept}
    with pytest.warns(UserWarning, match="do not see this neuron; make it an attribute"):
        asnn.adapt(net, STEPS)
    made = [entry for entry in snn.SpikingNeuron.instances if id(entry) not in before]
    assert any(isinstance(entry, asnn.AdaptiveLeaky) for entry in made), "a neuron was built"
    snn.Leaky.reset_hidden()
    assert torch.equal(torch.stack([net(current) for current in x]), expected)
    with pytest.raises(ValueError, match=f"num_steps={STEPS}"):  # only an adaptive neuron knows its steps
        net(x[0])


def test_an_alias_of_a_registered_neuron_stays_the_same_neuron() -> None:
    class Aliased(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lif = leaky()
            self.also = self.lif
            self.listed = [self.lif, self.lif]
            self.chosen = (self.lif,)
            lif = self.lif
            self.act = lambda x: lif(x)
            self.method = self.lif.forward

    net = Aliased()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asnn.adapt(net, STEPS)
    assert isinstance(net.lif, AdaptiveNeuron)
    assert net.also is net.listed[0] is net.listed[1] is net.chosen[0] is net.lif
    assert net.method.__self__ is net.lif
    net.act(torch.rand(2, 3))
    assert net.lif.step == 1
    assert len(asnn.describe(net)) == 1
    asnn.to_snntorch(net)
    assert type(net.lif) is snn.Leaky
    assert net.listed[0] is net.lif


GLOBAL = leaky()


def test_a_global_neuron_is_warned_of_by_name() -> None:
    net = Net(lambda x: GLOBAL(x), lambda held: held)
    with pytest.warns(UserWarning, match=r"global GLOBAL in held: this Leaky cannot be replaced"):
        asnn.adapt(net, STEPS)
    assert type(GLOBAL) is snn.Leaky


def test_a_frozen_set_is_warned_of_by_name() -> None:
    net = Net(frozenset({leaky()}), lambda held: next(iter(held)))
    with pytest.warns(UserWarning, match=r"held\{...\}: this Leaky cannot be replaced"):
        asnn.adapt(net, STEPS)


@pytest.mark.parametrize("net", [nn.Linear(3, 2), nn.Sequential(nn.ReLU()), nn.Identity()])
def test_a_net_without_neurons_warns(net: nn.Module) -> None:
    with pytest.warns(UserWarning, match="net has no spiking neuron"):
        asnn.adapt(net, STEPS)


def test_a_net_that_is_adaptive_already_does_not_warn() -> None:
    net = asnn.adapt(nn.Sequential(leaky()), STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert asnn.adapt(net, STEPS) is net


def test_references_that_go_round_end() -> None:
    net = nn.Sequential(leaky())
    ring: list[Any] = [net]
    ring.append(ring)
    net.ring = ring  # type: ignore[assignment]
    net.again = lambda: (net, ring)  # type: ignore[assignment]
    asnn.adapt(net, STEPS)
    assert isinstance(net[0], AdaptiveNeuron)


def test_nothing_is_changed_after_an_error() -> None:
    net = Net([leaky(), asnn.AdaptiveLeaky(0.9, num_steps=7)], lambda held: held[0])
    with pytest.raises(ValueError, match=r"held\[1\]"):
        asnn.adapt(net, STEPS)
    assert type(net.held[0]) is snn.Leaky
