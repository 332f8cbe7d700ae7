"""The time step belongs to the membrane: what restarts it, and what it survives."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import snntorch as snn
import torch
from snntorch import utils
from torch import Tensor, nn
from torch.nn.utils import parametrize

import snntorch_asnn as asnn
from snntorch_asnn import AdaptiveLeaky


class Net(nn.Module):
    """A snnTorch user's network, its second neuron nested deeper than snnTorch looks."""

    def __init__(self, num_steps: int = 4, **options: Any) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 5)
        self.lif = AdaptiveLeaky(0.9, init_hidden=True, num_steps=num_steps, **options)
        self.deep = nn.Sequential(
            nn.Sequential(AdaptiveLeaky(0.8, init_hidden=True, num_steps=num_steps, **options))
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.deep(self.lif(self.fc(x)))
        return out

    def neurons(self) -> list[AdaptiveLeaky]:
        return [module for module in self.modules() if isinstance(module, AdaptiveLeaky)]


def advanced(steps: int = 2, **options: Any) -> Net:
    net = Net(**options)
    for _ in range(steps):
        net(torch.rand(2, 3))
    assert [lif.step for lif in net.neurons()] == [steps, steps]
    return net


def assign(net: Net) -> None:
    for lif in net.neurons():
        lif.mem = torch.zeros_like(lif.mem)


def reset_each(net: Net) -> None:
    for lif in net.neurons():
        assert lif.reset_mem() is lif.mem


@pytest.mark.parametrize(
    "restart",
    [
        asnn.reset,
        utils.reset,
        lambda net: snn.Leaky.reset_hidden(),
        reset_each,
        assign,
        lambda net: [lif.init_leaky() for lif in net.neurons()],
        lambda net: asnn.reset(nn.Sequential(nn.ModuleDict({"net": net}))),
        lambda net: asnn.reset(torch.compile(net)),
        lambda net: asnn.reset(nn.DataParallel(net)),
    ],
    ids=[
        "asnn.reset", "utils.reset", "reset_hidden", "reset_mem", "assignment", "init_leaky",
        "nested", "compiled", "DataParallel",
    ],
)  # fmt: skip
def test_restarts(restart: Callable[[Net], Any]) -> None:
    net = advanced()
    restart(net)
    for lif in net.neurons():
        assert lif.step == 0
        assert not lif.mem.any()
        assert not lif.mem.requires_grad
    for _ in range(4):
        net(torch.rand(2, 3))


def test_restarts_under_ddp(tmp_path: Any) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1
    )
    try:
        net = nn.parallel.DistributedDataParallel(advanced())
        asnn.reset(net)
        assert [lif.step for lif in net.module.neurons()] == [0, 0]
        with torch.no_grad():
            for _ in range(4):
                net(torch.rand(2, 3))
    finally:
        torch.distributed.destroy_process_group()


def test_reset_leaves_other_networks_alone() -> None:
    net, other = advanced(), advanced()
    asnn.reset(net)
    assert [lif.step for lif in other.neurons()] == [2, 2]


def test_reset_also_resets_snntorchs_own_neurons() -> None:
    net = nn.Sequential(snn.Leaky(0.9, init_hidden=True), snn.Synaptic(0.9, 0.8, init_hidden=True))
    net(torch.rand(2, 3))
    asnn.reset(net)
    assert not net[0].mem.any()
    assert not net[1].syn.any()
    with pytest.raises(TypeError, match=r"net must be a torch.nn.Module; got list"):
        asnn.reset([net])  # type: ignore[arg-type]


def through_pickle(net: Net) -> Net:
    copied: Net = pickle.loads(pickle.dumps(net))
    return copied


def through_torch_save(net: Net) -> Net:
    buffer = io.BytesIO()
    torch.save(net, buffer)
    buffer.seek(0)
    copied: Net = torch.load(buffer, weights_only=False)
    return copied


def through_state_dict(net: Net) -> Net:
    net.load_state_dict(net.state_dict())
    return net


def detached(net: nn.Module) -> nn.Module:
    snn.Leaky.detach_hidden()
    assert not any(lif.mem.requires_grad for lif in net.modules() if isinstance(lif, AdaptiveLeaky))
    return net


@pytest.mark.parametrize("sequence", [False, True])
@pytest.mark.parametrize("output", [False, True])
@pytest.mark.parametrize(
    "keep",
    [
        copy.deepcopy,
        through_pickle,
        through_torch_save,
        through_state_dict,
        detached,
        lambda net: net.to("cpu"),
    ],
    ids=["deepcopy", "pickle", "torch.save", "state_dict", "detach_hidden", "to"],
)
def test_survives(keep: Callable[[Any], Any], sequence: bool, output: bool) -> None:
    net = AdaptiveLeaky(0.9, num_steps=4, init_hidden=True, output=output, sequence=sequence)
    first, *rest = torch.rand(2, 2, 2, 3) if sequence else torch.rand(4, 2, 3)
    net(first)
    # A module whose state is part of a graph cannot be copied: cut it first, as one would.
    snn.Leaky.detach_hidden()
    expected = copy.deepcopy(net) if keep is not copy.deepcopy else through_pickle(net)
    kept = keep(net)
    for x in rest:
        outcomes = [n(x) for n in (kept, expected)]
        pairs = zip(*outcomes, strict=True) if output else [outcomes]
        assert all(torch.equal(a, b) for a, b in pairs)


def test_survives_a_move_to_another_dtype() -> None:
    net = advanced()
    snn.Leaky.detach_hidden()
    net.double()
    assert [lif.step for lif in net.neurons()] == [2, 2]
    assert net(torch.rand(2, 3).double()).dtype == torch.float64


def test_state_is_not_part_of_the_state_dict() -> None:
    net = advanced()
    assert not any("mem" in key or "step" in key for key in net.state_dict())


def test_copies_are_reset_by_snntorch_too() -> None:
    net = advanced()
    snn.Leaky.detach_hidden()
    for copied in (copy.deepcopy(net), through_pickle(net)):
        utils.reset(copied)
        assert copied.lif.step == 0


def test_step_by_hand_says_which_parameters_apply() -> None:
    lif = AdaptiveLeaky(0.5, gain=torch.tensor([1.0, 2.0, 3.0]), num_steps=3, feature_shape=())
    x, mem = torch.tensor([[0.1]]), torch.tensor([[0.2]])
    for step in (2, 0, 1):
        _, after = lif(x, mem, step=step)
        torch.testing.assert_close(after, 0.5 * mem + (step + 1) * x)
        assert lif.step == step + 1


def test_sequence_with_state_by_hand_equals_one_run() -> None:
    lif = AdaptiveLeaky(
        torch.rand(5), torch.rand(5) + 0.2, num_steps=5, feature_shape=(), sequence=True, learn_threshold=True
    )
    x = torch.randn(5, 4, 3)
    whole, last = lif(x)
    first, mem = lif(x[:2])
    rest, mem = lif(x[2:], mem, step=2)
    assert torch.equal(torch.cat([first, rest]), whole)
    assert torch.equal(mem, last)
    assert lif.mem.numel() == 0, "a sequence whose state the caller keeps leaves none behind"


def test_hidden_sequences_continue() -> None:
    options: dict[str, Any] = {"num_steps": 5, "sequence": True, "init_hidden": True, "feature_shape": ()}
    torch.manual_seed(1)
    x, gain = torch.randn(5, 4, 3), torch.rand(5)
    whole = AdaptiveLeaky(0.9, gain=gain, **options)(x)
    lif = AdaptiveLeaky(0.9, gain=gain, **options)
    assert torch.equal(torch.cat([lif(x[:2]), lif(x[2:])]), whole)
    with pytest.raises(ValueError, match="num_steps=5"):
        lif(x[:1])
    lif.reset_mem()
    assert torch.equal(lif(x), whole)


@pytest.mark.parametrize("sequence", [False, True])
@pytest.mark.parametrize(("on_overrun", "gains"), [("hold", [1, 2, 3, 3, 3]), ("cycle", [1, 2, 3, 1, 2])])
def test_overrun_by_choice(on_overrun: Any, gains: list[int], sequence: bool) -> None:
    lif = AdaptiveLeaky(
        0.0,
        gain=torch.tensor([1.0, 2.0, 3.0]),
        num_steps=3,
        feature_shape=(),
        on_overrun=on_overrun,
        sequence=sequence,
        output=True,
        init_hidden=True,
        reset_mechanism="none",
    )
    x = torch.ones(5, 1)
    mem = lif(x)[1] if sequence else torch.stack([lif(current)[1] for current in x])
    assert mem.flatten().tolist() == gains
    lif.reset_mem()
    assert lif(x[:1] if sequence else x[0])[1].item() == 1


def test_overrun_raises_unless_asked_for() -> None:
    net = advanced(4)
    before = [lif.mem for lif in net.neurons()]
    with pytest.raises(ValueError, match=r"num_steps=4.*steps 0 to 3.*asks for step 4"):
        net(torch.rand(2, 3))
    assert all(a is lif.mem for a, lif in zip(before, net.neurons(), strict=True))


def test_a_foreign_membrane_in_mid_sequence_is_refused() -> None:
    lif = AdaptiveLeaky(0.9, num_steps=4)
    x = torch.rand(2, 3)
    _, mem = lif(x)
    with pytest.raises(ValueError, match="pass step=, or start a new sequence"):
        lif(x, torch.zeros(2, 3))
    lif(x, mem.detach())
    assert lif.step == 2
    lif(x, mem.clone(), step=1)
    lif.reset_mem()
    lif(x, torch.zeros(2, 3))


def test_a_new_batch_size_starts_a_new_sequence_as_in_snntorch() -> None:
    lif, theirs = AdaptiveLeaky(0.9, init_hidden=True, num_steps=2), snn.Leaky(0.9, init_hidden=True)
    for shape in ((4, 3), (2, 3), (2, 3), (5, 3)):
        x = torch.rand(shape) * 2
        assert torch.equal(lif(x), theirs(x))


def test_neurons_do_not_outlive_their_network() -> None:
    before = len(snn.SpikingNeuron.instances)
    nets = [weakref.ref(Net()) for _ in range(20)]
    gc.collect()
    assert all(net() is None for net in nets)
    survivor = Net()
    assert len(snn.SpikingNeuron.instances) <= before + 2
    snn.Leaky.reset_hidden()
    del survivor


def test_gradients_flow_through_time() -> None:
    lif = AdaptiveLeaky(0.9, num_steps=3, init_hidden=True, output=True)
    x = torch.rand(3, 2, 4, requires_grad=True)
    for current in x:
        _, mem = lif(current)
    mem.sum().backward()
    assert x.grad is not None
    assert (x.grad[0] != 0).any()


def leaky_checkpoint(**options: Any) -> dict[str, Tensor]:
    return {f"lif.{k}": v for k, v in snn.Leaky(**options).state_dict().items()}


@pytest.mark.parametrize("num_steps", [4, 1])
@pytest.mark.parametrize("constraint", ["clamp", "sigmoid", "none"])
@pytest.mark.parametrize(
    ("options", "features"),
    [
        ({"beta": 0.7, "threshold": 0.6}, ()),
        ({"beta": 0.7, "threshold": 0.6, "learn_beta": True, "learn_threshold": True}, (3,)),
        ({"beta": torch.tensor([0.2, 0.3, 0.4]), "graded_spikes_factor": 2.0}, (3,)),
        ({"beta": torch.tensor([0.2]), "reset_mechanism": "zero"}, (1,)),
    ],
)
def test_loads_snn_leaky_checkpoints(
    options: dict[str, Any], features: tuple[int, ...], constraint: Any, num_steps: int
) -> None:
    torch.manual_seed(0)
    theirs = snn.Leaky(**options)
    ours = AdaptiveLeaky(
        0.5, num_steps=num_steps, gain=0.3, feature_shape=features, beta_constraint=constraint,
        learn_threshold=options.get("learn_threshold", False),
    )  # fmt: skip
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(num_steps, 5, 3)
    mem, our_mem = theirs.reset_mem(), ours.reset_mem()
    for current in x:
        spk, mem = theirs(current, mem)
        our_spk, our_mem = ours(current, our_mem)
        torch.testing.assert_close(our_spk, spk, rtol=0, atol=0 if constraint != "sigmoid" else 1e-6)
        torch.testing.assert_close(our_mem, mem, rtol=0, atol=0 if constraint != "sigmoid" else 1e-6)


def test_refuses_a_checkpoint_that_does_not_fit() -> None:
    per_neuron = snn.Leaky(torch.rand(4)).state_dict()
    with pytest.raises(
        RuntimeError, match=r"beta: snnTorch's value has the shape \(4,\).*feature_shape=\(4,\)"
    ):
        AdaptiveLeaky(0.5, num_steps=3).load_state_dict(per_neuron)
    # As many neurons as steps: the shapes agree by accident, and only the gain tells the two apart.
    with pytest.raises(RuntimeError, match=r'Missing key.*"gain"'):
        AdaptiveLeaky(0.5, num_steps=4).load_state_dict(per_neuron)
    with pytest.raises(RuntimeError, match="size mismatch for beta"):
        AdaptiveLeaky(0.5, num_steps=4).load_state_dict(AdaptiveLeaky(0.5, num_steps=5).state_dict())
    with pytest.raises(RuntimeError, match="threshold: snnTorch's value"):
        AdaptiveLeaky(0.5, num_steps=4).load_state_dict(snn.Leaky(0.5, torch.rand(3)).state_dict())


def test_loads_one_leak_of_shape_one() -> None:
    theirs = snn.Leaky(torch.tensor([0.2]))
    ours = AdaptiveLeaky(0.5, num_steps=4)
    ours.load_state_dict(theirs.state_dict())
    assert torch.equal(ours.beta, torch.full((4,), 0.2))


@pytest.mark.parametrize("num_steps", [1, 4])
@pytest.mark.parametrize("constraint", ["clamp", "sigmoid"])
def test_a_checkpoint_whose_gain_was_left_out_is_not_taken_for_snntorchs(
    num_steps: int, constraint: Any
) -> None:
    trained = AdaptiveLeaky(0.7, num_steps=num_steps, beta_constraint=constraint)
    state = trained.state_dict()
    del state["gain"]
    ours = AdaptiveLeaky(0.5, num_steps=num_steps, gain=0.3, beta_constraint=constraint)
    with pytest.raises(RuntimeError, match=r'Missing key.*"gain"'):
        ours.load_state_dict(state)
    report = ours.load_state_dict(state, strict=False)
    assert report.missing_keys == ["gain"]
    assert torch.equal(ours.beta, trained.beta)
    assert torch.equal(ours.gain, torch.full((num_steps,), 0.3))


@pytest.mark.parametrize("name", ["gain", "beta"])
def test_parametrized_neurons_load_their_own_checkpoints_only(name: str) -> None:
    def build(num_steps: int = 4) -> AdaptiveLeaky:
        neuron = AdaptiveLeaky(0.5, num_steps=num_steps)
        parametrize.register_parametrization(neuron, name, nn.Softplus(), unsafe=True)
        return neuron

    trained, ours = build(), build()
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.uniform_(0.1, 0.9)
    ours.load_state_dict(trained.state_dict())
    assert all(map(torch.equal, ours.parameters(), trained.parameters()))
    plain = AdaptiveLeaky(0.5, num_steps=4)
    with pytest.raises(RuntimeError, match=rf'Unexpected key.*"parametrizations\.{name}\.original"'):
        plain.load_state_dict(trained.state_dict())
    with pytest.raises(RuntimeError, match=rf'Missing key.*"parametrizations\.{name}\.original"'):
        ours.load_state_dict(snn.Leaky(0.5).state_dict())
    with pytest.raises(RuntimeError, match=r"size mismatch for (parametrizations\.)?beta"):
        build(num_steps=5).load_state_dict(trained.state_dict())


def test_state_dict_round_trip_in_a_network() -> None:
    net, other = Net(), Net()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.uniform_(0.1, 0.9)
    report = other.load_state_dict(net.state_dict())
    assert not report.missing_keys
    assert not report.unexpected_keys
    x = torch.rand(2, 3)
    assert torch.equal(net(x), other(x))


def test_two_membranes_of_one_neuron_where_time_comes_round() -> None:
    def build() -> AdaptiveLeaky:
        return AdaptiveLeaky(
            torch.tensor([0.1, 0.9]),
            num_steps=2,
            feature_shape=(),
            on_overrun="cycle",
            reset_mechanism="none",
        )

    one, lif, alone = torch.ones(1), build(), build()
    a, b, wanted = lif.reset_mem(), lif.reset_mem(), alone.reset_mem()
    for _ in range(4):
        (_, a), (_, b), (_, wanted) = lif(one, a), lif(one, b), alone(one, wanted)
    assert a.item() == b.item() == wanted.item()


def test_a_state_that_vmap_makes_is_refused_and_leaves_the_neuron_as_it_was() -> None:
    lif = AdaptiveLeaky(0.9, num_steps=4, init_hidden=True)
    with pytest.raises(RuntimeError, match=r"init_hidden=True: under torch\.func\.vmap"):
        torch.func.vmap(lif)(torch.rand(4, 3, 5))
    assert lif.step == 0
    assert lif(torch.rand(3, 5)).shape == (3, 5)


def test_membranes_by_hand_under_vmap_leave_a_neuron_that_can_be_reset() -> None:
    lif = AdaptiveLeaky(0.9, num_steps=4)

    def run(x: Tensor) -> Tensor:
        mem = lif.reset_mem()
        for _ in range(4):
            _, mem = lif(x, mem)
        return mem

    x = torch.rand(4, 3, 5)
    found = torch.func.vmap(run)(x)
    torch.testing.assert_close(found, torch.stack([run(one) for one in x]))
    torch.func.vmap(run)(x)
    asnn.reset(lif)
    assert lif(torch.rand(2, 5))[1].shape == (2, 5)


def test_a_factor_of_zero_is_refused_where_the_reset_divides_by_it() -> None:
    with pytest.raises(ValueError, match="graded_spikes_factor must not be 0 with reset_delay=False"):
        AdaptiveLeaky(0.9, num_steps=2, graded_spikes_factor=0.0, reset_delay=False)
    AdaptiveLeaky(0.9, num_steps=2, graded_spikes_factor=0.0)
