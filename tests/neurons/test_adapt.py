"""adapt(), to_snntorch() and describe() on networks shaped like those of snnTorch's tutorials."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import pytest
import snntorch as snn
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from snntorch import surrogate, utils
from torch import Tensor, nn
from torch.nn.utils import parametrize

import snntorch_asnn as asnn
from snntorch_asnn import AdaptiveLapicque, AdaptiveLeaky, AdaptiveRLeaky, AdaptiveSynaptic

STEPS = 6


class Dense(nn.Module):
    """States in the caller's hands, as in tutorials 3 and 5."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.fc1 = nn.Linear(12, 20)
        self.lif1 = snn.Leaky(beta=0.95, **options)
        self.fc2 = nn.Linear(20, 5)
        self.lif2 = snn.Leaky(beta=0.95, **options)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes, membranes = [], []
        for _ in range(STEPS):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spikes.append(spk2)
            membranes.append(mem2)
        return torch.stack(spikes), torch.stack(membranes)


class Convolutional(nn.Module):
    """A Sequential of neurons that hide their state, reset by snnTorch, as in tutorial 6."""

    def __init__(self) -> None:
        super().__init__()
        grad = surrogate.fast_sigmoid(slope=25)
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.MaxPool2d(2),
            snn.Leaky(beta=0.5, threshold=0.3, spike_grad=grad, init_hidden=True),
            nn.Conv2d(4, 6, 3),
            snn.Leaky(torch.rand(6, 1, 1), 0.1, grad, init_hidden=True, learn_beta=True),
            nn.Flatten(),
            nn.Linear(6 * 1 * 1, 5),
            snn.Leaky(beta=0.5, threshold=0.2, spike_grad=grad, init_hidden=True, output=True),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        utils.reset(self.net)
        spikes, membranes = [], []
        for _ in range(STEPS):
            spk, mem = self.net(x.reshape(-1, 1, 8, 8))
            spikes.append(spk)
            membranes.append(mem)
        return torch.stack(spikes), torch.stack(membranes)


class Block(nn.Module):
    def __init__(self, neuron: nn.Module, features: int) -> None:
        super().__init__()
        self.fc = nn.Linear(features, features)
        self.neuron = neuron

    def forward(self, x: Tensor, *state: Tensor) -> Any:
        return self.neuron(self.fc(x), *state)


class Nested(nn.Module):
    """Every class of neuron, nested, the first one shared by two layers."""

    def __init__(self) -> None:
        super().__init__()
        shared = snn.Leaky(beta=0.9, threshold=0.6, reset_mechanism="zero")
        self.blocks = nn.ModuleList([Block(shared, 12), Block(shared, 12)])
        self.deep = nn.ModuleDict({"syn": Block(snn.Synaptic(alpha=0.7, beta=0.8, reset_delay=False), 12)})
        self.recurrent = snn.RLeaky(beta=0.8, linear_features=12, learn_threshold=True)
        self.one_to_one = snn.RLeaky(beta=0.8, all_to_all=False, V=0.4)
        self.rc = snn.Lapicque(beta=0.9, R=2.0, threshold=0.3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = (block.neuron.init_leaky() for block in self.blocks)
        syn, mem3 = self.deep["syn"].neuron.init_synaptic()
        spk4, mem4 = self.recurrent.init_rleaky()
        spk5, mem5 = self.one_to_one.init_rleaky()
        mem6 = self.rc.init_lapicque()
        spikes, membranes = [], []
        for _ in range(STEPS):
            spk, first = self.blocks[0](x * 2, first)
            spk, second = self.blocks[1](spk * 2, second)
            spk, syn, mem3 = self.deep["syn"](spk, syn, mem3)
            spk4, mem4 = self.recurrent(spk, spk4, mem4)
            spk5, mem5 = self.one_to_one(spk4, spk5, mem5)
            spk, mem6 = self.rc(spk5, mem6)
            spikes.append(spk)
            membranes.append(mem6)
        return torch.stack(spikes), torch.stack(membranes)


NETWORKS: list[Any] = [
    pytest.param(Dense, 12, id="dense"),
    pytest.param(Convolutional, 64, id="convolutional"),
    pytest.param(Nested, 12, id="nested"),
]


def gradients(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    net.zero_grad()
    spikes, membranes = net(x)
    (spikes.sum() + membranes[-1].sum()).backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("sharing", ["layer", "channel", "neuron"])
@pytest.mark.parametrize(("build", "features"), NETWORKS)
def test_outputs_and_weight_gradients_stay_the_same_to_the_bit(
    build: Callable[[], nn.Module], features: int, sharing: Any
) -> None:
    net, x = build(), torch.rand(3, features) * 3
    expected, grads = net(x), gradients(net, x)
    assert 0 < expected[0].mean() < 1
    adapted = asnn.adapt(net, STEPS, sharing=sharing, sample=x)
    assert adapted is net
    assert not [m for m in net.modules() if type(m) in (snn.Leaky, snn.Synaptic, snn.RLeaky, snn.Lapicque)]
    assert all(map(torch.equal, expected, net(x)))
    own = gradients(net, x)
    for name, grad in grads.items():
        if "beta" not in name and "threshold" not in name:
            assert torch.equal(grad, own[name]), name


@pytest.mark.parametrize(("build", "features"), NETWORKS)
def test_then_learns_in_every_step(build: Callable[[], nn.Module], features: int) -> None:
    net, x = asnn.adapt(build(), STEPS), torch.rand(8, features) * 3
    optimizer = torch.optim.Adam(asnn.optim_groups(net, 5e-3, time_lr=1e-2))
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        spikes, membranes = net(x)
        loss = ((spikes.mean(0) - 0.5) ** 2).mean() + membranes.square().mean() * 0.1
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    for module in net.modules():
        if isinstance(module, AdaptiveLeaky):
            assert module.gain.unique().numel() > 1


def test_keeps_what_is_shared_shared_and_weights_the_same_objects() -> None:
    net = Nested()
    before = {
        name: p for name, p in net.named_parameters() if ".fc." in name or "recurrent.recurrent" in name
    }
    state = {name: value.clone() for name, value in net.state_dict().items() if name in before}
    asnn.adapt(net, STEPS)
    assert net.blocks[0].neuron is net.blocks[1].neuron
    after = dict(net.named_parameters())
    assert len(before) == 8
    for name, parameter in before.items():
        assert after[name] is parameter
        assert torch.equal(state[name], parameter)
    kinds = {type(m) for m in net.modules()} - {nn.Linear, nn.ModuleList, nn.ModuleDict, Block, Nested}
    assert kinds >= {AdaptiveLeaky, AdaptiveSynaptic, AdaptiveRLeaky, AdaptiveLapicque}
    assert isinstance(net.recurrent.threshold, nn.Parameter)
    assert net.recurrent.threshold.shape == (STEPS,)


def test_keeps_dtype_mode_state_hooks_and_random_state() -> None:
    calls = []
    net = nn.Sequential(nn.Linear(3, 4), snn.Leaky(0.9, init_hidden=True)).double().eval()
    handle = net[1].register_forward_hook(lambda *_: calls.append(1))
    other = copy.deepcopy(net)
    x = torch.rand(2, 3, dtype=torch.float64)
    assert torch.equal(net(x), other(x))
    larger = nn.Sequential(net, snn.RLeaky(0.9, linear_features=4))
    torch.manual_seed(5)
    asnn.adapt(larger, STEPS)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    assert not net[1].training
    assert net[1].beta.dtype == net[1].gain.dtype == torch.float64
    calls.clear()
    for _ in range(3):
        assert torch.equal(net(x), other(x))
    assert len(calls) == 6
    handle.remove()
    net(x)
    assert len(calls) == 6


def to_and_fro(neuron: nn.Module) -> list[nn.Module]:
    """The adaptive twin of a neuron, and what that freezes to."""
    twin = asnn.adapt(neuron, STEPS)
    return [twin, asnn.to_snntorch(copy.deepcopy(twin))]


def test_keeps_backward_hooks() -> None:
    called = []
    neuron = snn.Leaky(0.9, init_hidden=True)
    neuron.register_full_backward_hook(lambda module, into, out: called.append((into[0], out[0])))
    twin = asnn.adapt(neuron, STEPS)
    frozen = asnn.to_snntorch(twin)
    assert type(frozen) is snn.Leaky
    for one in (twin, frozen):
        x = torch.rand(2, 3, requires_grad=True)
        one(x).sum().backward()
        into, out = called.pop()
        assert torch.equal(into, x.grad)
        assert torch.equal(out, torch.ones(2, 3))
        assert not called


@pytest.mark.parametrize("kind", [None, False, True])
def test_keeps_the_kind_of_its_backward_hooks(kind: bool | None) -> None:
    neuron = snn.Leaky(0.9)
    if kind is not None:
        register = neuron.register_full_backward_hook if kind else neuron.register_backward_hook
        register(lambda *_: None)
    for one in to_and_fro(neuron):
        assert one._is_full_backward_hook is kind
    if kind is None:
        asnn.adapt(neuron, STEPS).register_full_backward_hook(lambda *_: None)


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize(
    ("neuron", "names"),
    [
        (
            snn.Leaky(0.9, learn_beta=True, learn_threshold=True, learn_graded_spikes_factor=True),
            ("beta", "threshold", "graded_spikes_factor"),
        ),
        (
            snn.Synaptic(0.8, 0.9, learn_alpha=True, learn_beta=True, learn_threshold=True),
            ("alpha", "beta", "threshold"),
        ),
        (
            snn.RLeaky(0.9, linear_features=3, learn_beta=True, learn_threshold=True),
            ("beta", "threshold", "recurrent.weight", "recurrent.bias"),
        ),
        (snn.RLeaky(0.9, V=torch.rand(3), all_to_all=False, learn_threshold=True), ("threshold", "V")),
        (snn.Lapicque(R=2.0, C=3.0, learn_threshold=True), ("threshold",)),
    ],
)
def test_keeps_which_parameters_are_frozen(neuron: nn.Module, names: tuple[str, ...], learned: bool) -> None:
    neuron = copy.deepcopy(neuron)
    for name in names:
        neuron.get_parameter(name).requires_grad_(learned)
    for one in to_and_fro(neuron):
        assert {name: one.get_parameter(name).requires_grad for name in names} == dict.fromkeys(
            names, learned
        )
    twin = asnn.adapt(neuron, STEPS)
    assert twin.gain.requires_grad
    described = asnn.describe(twin)[0].learned
    assert [name in described for name in names if name in twin.time_parameters] == [
        learned for name in names if name in twin.time_parameters
    ]


def test_what_was_no_parameter_is_learned() -> None:
    neuron = asnn.adapt(snn.Leaky(0.9), STEPS)
    assert neuron.beta.requires_grad
    assert asnn.describe(neuron)[0].learned == ("beta", "gain")


def test_a_single_neuron() -> None:
    neuron = asnn.adapt(snn.Leaky(0.9, graded_spikes_factor=0.5), 4, learn_beta=False, sequence=True)
    assert isinstance(neuron, AdaptiveLeaky)
    assert neuron.sequence
    assert not isinstance(neuron.beta, nn.Parameter)
    assert neuron.graded_spikes_factor == 0.5
    spikes, _ = neuron(torch.ones(4, 2, 3))
    assert spikes.shape == (4, 2, 3)


def test_adapting_twice_changes_nothing() -> None:
    net = asnn.adapt(Dense(), STEPS)
    neuron = net.lif1
    assert asnn.adapt(net, STEPS).lif1 is neuron


def test_another_number_of_steps_is_refused_before_anything_changes() -> None:
    net = nn.Sequential(snn.Leaky(0.9), nn.Sequential(AdaptiveLeaky(0.9, num_steps=4)))
    with pytest.raises(ValueError, match=r"num_steps must be 4, .* '1\.0'; got 6; .*resize_steps\(6\)"):
        asnn.adapt(net, 6)
    assert type(net[0]) is snn.Leaky
    net[1][0].resize_steps(6)
    assert asnn.adapt(net, 6)[0].num_steps == 6
    with pytest.raises(ValueError, match="that of the adaptive neuron 'net'"):
        asnn.adapt(AdaptiveLeaky(0.9, num_steps=4), 6)


def test_channels() -> None:
    net = asnn.adapt(Convolutional(), STEPS, sharing="channel", sample=torch.rand(1, 64))
    shapes = [d.feature_shape for d in asnn.describe(net)]
    assert shapes == [(4, 1, 1), (6, 1, 1), (5,)]


def test_every_neuron_has_its_own_parameters() -> None:
    net = asnn.adapt(Convolutional(), STEPS, sharing="neuron", sample=torch.rand(1, 64))
    shapes = [d.feature_shape for d in asnn.describe(net)]
    assert shapes == [(4, 3, 3), (6, 1, 1), (5,)]
    assert net.net[2].beta.shape == (STEPS, 4, 3, 3)


@pytest.mark.parametrize("sharing", ["layer", "channel"])
def test_the_earlier_spelling_of_sharing_is_deprecated(sharing: str) -> None:
    sample = torch.rand(1, 64)
    new = asnn.adapt(Convolutional(), STEPS, sharing=sharing, sample=sample)
    with pytest.warns(DeprecationWarning, match=f"use sharing='{sharing}'") as caught:
        old = asnn.adapt(Convolutional(), STEPS, feature_shape=sharing, sample=sample)
    assert caught[0].filename == __file__
    assert asnn.describe(old) == asnn.describe(new)
    with pytest.raises(ValueError, match="pass only sharing"):
        asnn.adapt(Convolutional(), STEPS, feature_shape=sharing, sharing=sharing, sample=sample)
    with pytest.raises(ValueError, match=r"sharing must be one of.*did you mean 'channel'"):
        asnn.adapt(Convolutional(), STEPS, sharing="channels", sample=sample)


def test_one_neuron_at_two_sizes_cannot_have_parameters_per_neuron() -> None:
    lif = snn.Leaky(0.9, init_hidden=True)
    net = nn.Sequential(nn.Conv2d(1, 1, 3), lif, nn.Conv2d(1, 1, 3), lif)
    with pytest.raises(ValueError, match=r"sharing='neuron' does not suit '1'.*\(1, 4, 4\), \(1, 6, 6\)"):
        asnn.adapt(net, STEPS, sharing="neuron", sample=torch.rand(1, 1, 8, 8))
    assert asnn.adapt(net, STEPS, sharing="channel", sample=torch.rand(1, 1, 8, 8))[1].feature_shape == (
        1,
        1,
        1,
    )


def test_freeze_is_the_deprecated_name_of_to_snntorch() -> None:
    net = asnn.adapt(nn.Sequential(nn.Linear(3, 2), snn.Leaky(0.9)), STEPS)
    with pytest.warns(DeprecationWarning, match="use snntorch_asnn.to_snntorch") as caught:
        assert asnn.freeze(net) is net
    assert caught[0].filename == __file__
    assert type(net[1]) is snn.Leaky


def test_channels_need_a_sample() -> None:
    net = Dense()
    with pytest.raises(ValueError, match="sample must be an input"):
        asnn.adapt(net, STEPS, sharing="channel")
    net.unused = snn.Leaky(0.9)
    with pytest.raises(ValueError, match="does not reach the neuron 'unused'"):
        asnn.adapt(net, STEPS, sharing="channel", sample=torch.rand(1, 12))
    assert type(net.lif1) is snn.Leaky


def test_an_error_leaves_the_network_unchanged() -> None:
    net = nn.Sequential(snn.Leaky(0.9), snn.Leaky(float("nan")))
    with pytest.raises(ValueError, match="beta must be finite") as error:
        asnn.adapt(net, STEPS)
    assert "'1'" in error.value.__notes__[0]
    assert [type(m) for m in net] == [snn.Leaky, snn.Leaky]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"net": 3}, TypeError, "net must be a torch.nn.Module"),
        ({"num_steps": 0}, ValueError, "num_steps must be at least 1"),
        ({"num_steps": 2.0}, TypeError, "num_steps must be an integer"),
        ({"sharing": "pixel"}, ValueError, "sharing must be one of"),
        ({"learn_beta": 1}, TypeError, "learn_beta must be a bool"),
        ({"sequence": "yes"}, TypeError, "sequence must be a bool"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        asnn.adapt(**{"net": Dense(), "num_steps": STEPS} | arguments)


def test_says_what_it_replaced(caplog: pytest.LogCaptureFixture) -> None:
    class Own(snn.Leaky):
        pass

    net = nn.Sequential(snn.Leaky(0.9), nn.Sequential(Own(0.9)), snn.Alpha(0.9, 0.8))
    with caplog.at_level(logging.INFO, logger="snntorch_asnn.neurons.adapt"):
        asnn.adapt(net, STEPS)
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert told == [
        ("WARNING", "1.0: Own has no adaptive twin"),
        ("WARNING", "2: Alpha has no adaptive twin"),
        ("INFO", f"0: Leaky -> {net[0]}"),
    ]
    kinds = {d.names: d.kind for d in asnn.describe(net)}
    assert kinds == {("0",): "AdaptiveLeaky", ("1.0",): "Own", ("2",): "Alpha"}


def test_describe_names_every_place_of_a_shared_neuron() -> None:
    described = asnn.describe(asnn.adapt(Nested(), STEPS))
    assert described[0].names == ("blocks.0.neuron", "blocks.1.neuron")
    assert described[0].learned == ("beta", "gain")
    assert {d.kind: d.learned for d in described}["AdaptiveSynaptic"] == ("alpha", "beta", "gain")


@pytest.mark.parametrize("name", ["beta", "threshold"])
def test_describe_looks_through_parametrizations(name: str) -> None:
    neuron = AdaptiveLeaky(0.9, num_steps=2, learn_beta=False)
    parametrize.register_parametrization(neuron, name, nn.Tanh())
    assert asnn.describe(neuron)[0].learned == ("gain",)
    neuron = AdaptiveLeaky(0.9, num_steps=2, learn_threshold=True)
    parametrize.register_parametrization(neuron, name, nn.Tanh())
    assert asnn.describe(neuron)[0].learned == ("beta", "gain", "threshold")


@pytest.mark.parametrize(("build", "features"), NETWORKS)
def test_to_snntorch_undoes_adapt(build: Callable[[], nn.Module], features: int) -> None:
    net, x = build(), torch.rand(3, features) * 3
    expected, kinds = net(x), [type(m) for m in net.modules()]
    keys = net.state_dict().keys()
    frozen = asnn.to_snntorch(asnn.adapt(net, STEPS))
    assert [type(m) for m in frozen.modules()] == kinds
    assert frozen.state_dict().keys() == keys
    assert all(map(torch.equal, expected, frozen(x)))


@pytest.mark.parametrize(
    ("neuron", "reason"),
    [
        (AdaptiveLeaky(0.9, num_steps=2, gain=0.5), "its gain is not 1"),
        (
            AdaptiveLeaky(torch.tensor([0.9, 0.8]), num_steps=2, feature_shape=()),
            "its beta changes with time",
        ),
        (AdaptiveLeaky(0.9, num_steps=2, sequence=True), "it takes whole sequences"),
        (AdaptiveLeaky.paper(2, gain=1.0), "its reset is exact"),
        (AdaptiveLeaky(0.9, num_steps=2, detach_reset=False), "its detach_reset=False"),
        (AdaptiveLeaky(0.9, num_steps=2, reset_delay=False, detach_reset=True), "its detach_reset=True"),
        (AdaptiveLeaky(0.9, num_steps=2, reset_delay=False, detach_reset=False), "its detach_reset=False"),
        (
            AdaptiveSynaptic(0.9, 0.8, num_steps=2, reset_delay=False, detach_reset=True),
            "its detach_reset=True",
        ),
        (AdaptiveRLeaky(0.9, linear_features=3, num_steps=2, detach_reset=False), "its detach_reset=False"),
        (AdaptiveLeaky(1.2, num_steps=2, beta_constraint="none"), "its beta is outside [0, 1]"),
        (AdaptiveLeaky(-0.1, num_steps=2, beta_constraint="none"), "its beta is outside [0, 1]"),
        (AdaptiveSynaptic(1.2, 0.9, num_steps=2, beta_constraint="none"), "its alpha is outside [0, 1]"),
        (AdaptiveSynaptic(0.9, -0.1, num_steps=2, beta_constraint="none"), "its beta is outside [0, 1]"),
        (
            AdaptiveRLeaky(1.2, linear_features=3, num_steps=2, beta_constraint="none"),
            "its beta is outside [0, 1]",
        ),
    ],
)
def test_to_snntorch_keeps_what_snntorch_cannot_have(
    neuron: nn.Module, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    net = nn.Sequential(neuron)
    assert asnn.to_snntorch(net)[0] is neuron
    assert reason in caplog.text


@pytest.mark.parametrize(
    "neuron",
    [
        AdaptiveLeaky(1.2, num_steps=STEPS, init_hidden=True),
        AdaptiveLeaky(1.0, num_steps=STEPS, init_hidden=True, beta_constraint="none"),
        AdaptiveSynaptic(-0.2, 1.2, num_steps=STEPS, init_hidden=True),
        AdaptiveLapicque(R=0.4, C=1.0, num_steps=STEPS, init_hidden=True),
    ],
)
def test_freezes_leaks_at_the_bounds_and_a_circuits_leak_to_the_bit(neuron: nn.Module) -> None:
    """snnTorch clamps no circuit's leak, which here is -1.5."""
    frozen = asnn.to_snntorch(copy.deepcopy(neuron))
    assert type(frozen) in (snn.Leaky, snn.Synaptic, snn.Lapicque)
    x = torch.randn(STEPS, 5, 3, generator=torch.Generator().manual_seed(0))
    found, wanted = (torch.stack([one(current) for current in x]) for one in (frozen, neuron))
    assert 0 < wanted.mean() < 1
    assert torch.equal(found, wanted)


def test_freezes_a_leak_that_was_learned_for_all_steps_alike() -> None:
    neuron = AdaptiveLeaky(0.9, num_steps=3, learn_gain=False, beta_constraint="sigmoid")
    with torch.no_grad():
        neuron.beta.fill_(0.0)
    frozen = asnn.to_snntorch(neuron)
    assert type(frozen) is snn.Leaky
    assert frozen.beta == 0.5
    assert isinstance(frozen.beta, nn.Parameter)


@given(
    graded=st.sampled_from([1.0, 0.4]),
    delay=st.booleans(),
    mechanism=st.sampled_from(["subtract", "zero", "none"]),
    grad=st.sampled_from([None, surrogate.atan(3.0), surrogate.fast_sigmoid(5), surrogate.sigmoid(5)]),
    threshold=st.sampled_from([1, 1.0, torch.rand(7) + 0.5]),
    beta=st.sampled_from([0, 0.7, torch.rand(7)]),
    seed=st.integers(0, 999),
)
@settings(max_examples=60)
def test_any_leaky_to_the_bit(
    graded: float, delay: bool, mechanism: str, grad: Any, threshold: Any, beta: Any, seed: int
) -> None:
    neuron = snn.Leaky(
        beta,
        threshold,
        grad,
        init_hidden=True,
        reset_mechanism=mechanism,
        reset_delay=delay,
        graded_spikes_factor=graded,
    )
    twin = asnn.adapt(copy.deepcopy(neuron), 5)
    x = torch.randn(5, 2, 7, generator=torch.Generator().manual_seed(seed)) * 1.5
    results = []
    for one in (neuron, twin, asnn.to_snntorch(copy.deepcopy(twin))):
        leaf = x.clone().requires_grad_()
        spikes = torch.stack([one(current) for current in leaf])
        (spikes * torch.arange(7.0)).sum().backward()
        results.append((spikes, leaf.grad))
    assert all(map(torch.equal, results[0], results[1]))
    assert all(map(torch.equal, results[0], results[2]))


def test_exchanges_snntorchs_surrogates_where_they_agree() -> None:
    def kind(spike_grad: Any) -> Any:
        return asnn.adapt(snn.Leaky(0.9, spike_grad=spike_grad), 2).spike_grad

    assert kind(None) == asnn.surrogate.atan()
    assert kind(surrogate.fast_sigmoid(slope=10)) == asnn.surrogate.fast_sigmoid(10)
    assert kind(surrogate.straight_through_estimator()) == asnn.surrogate.straight_through()
    sigmoid = surrogate.sigmoid()
    assert kind(sigmoid) is sigmoid


@pytest.mark.parametrize("reset_delay", [True, False])
@pytest.mark.parametrize("detach_reset", [None, True, False])
def test_what_is_frozen_has_the_same_gradient(reset_delay: bool, detach_reset: bool | None) -> None:
    options = {"num_steps": STEPS, "reset_delay": reset_delay, "detach_reset": detach_reset}
    neuron = AdaptiveLeaky(0.9, learn_beta=False, **options)
    net = nn.Sequential(nn.Identity(), copy.deepcopy(neuron))
    frozen = asnn.to_snntorch(net)[1]

    def gradient(lif: nn.Module) -> Tensor:
        x = torch.linspace(0.3, 1.4, 6).requires_grad_()
        mem, spikes = lif.reset_mem(), []
        for _ in range(STEPS):
            spk, mem = lif(x, mem)
            spikes.append(spk)
        torch.stack(spikes).sum().backward()
        return x.grad

    assert torch.equal(gradient(frozen), gradient(neuron))
    kept = detach_reset is None or (detach_reset and reset_delay)
    assert (type(frozen) is snn.Leaky) == kept
