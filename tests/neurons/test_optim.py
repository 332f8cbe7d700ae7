"""optim_groups() for any torch optimizer."""

from __future__ import annotations

from typing import Any

import pytest
import snntorch as snn
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import snntorch_asnn as asnn
from snntorch_asnn.models import create_model


def build() -> nn.Module:
    neuron = asnn.AdaptiveRLeaky(0.9, linear_features=4, num_steps=3, learn_threshold=True)
    return nn.Sequential(nn.Linear(3, 4), neuron, nn.Linear(4, 2), asnn.TimeWeightedReadout(3))


def test_time_parameters_have_their_own_group() -> None:
    net = build()
    weights, others, time = asnn.optim_groups(net, 1e-3, time_lr=1e-2, weight_decay=0.1)
    assert weights["lr"] == 1e-3
    assert weights["weight_decay"] == 0.1
    assert time["lr"] == 1e-2
    assert time["weight_decay"] == 0.0
    neuron = net[1]
    expected = {neuron.beta, neuron.gain, neuron.threshold, net[3].scale}
    assert set(time["params"]) == expected
    assert set(weights["params"]) == {net[0].weight, neuron.recurrent.weight, net[2].weight}
    assert (others["lr"], others["weight_decay"]) == (1e-3, 0.0)
    assert set(others["params"]) == set(net.parameters()) - expected - set(weights["params"])


def test_norms_and_what_neurons_learn_for_all_steps_do_not_decay() -> None:
    """Whatever number of dimensions they have."""
    beta = torch.full((4, 1, 1), 0.5)
    net = nn.Sequential(
        nn.LayerNorm((1, 8, 8)), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), snn.Leaky(beta, learn_beta=True)
    )
    weights, others = asnn.optim_groups(net, 1e-3, weight_decay=0.1)
    assert weights["params"] == [net[1].weight]
    assert others["params"] == [*net[0].parameters(), net[1].bias, *net[2].parameters(), net[3].beta]


def names_in_groups(net: nn.Module) -> dict[str, set[str]]:
    names = {parameter: name for name, parameter in net.named_parameters()}
    groups = asnn.optim_groups(net, 1e-3, weight_decay=0.1)
    return {group["name"]: {names[parameter] for parameter in group["params"]} for group in groups}


class Scaled(nn.Module):
    """A parametrization that learns something itself."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor.squeeze()


def test_parametrized_parameters_stay_in_their_group() -> None:
    net = nn.Sequential(
        parametrizations.weight_norm(nn.Conv2d(1, 4, 3)),
        asnn.AdaptiveLeaky(0.9, num_steps=3, feature_shape=(4, 1, 1)),
        nn.Linear(4, 2),
    )
    parametrize.register_parametrization(net[1], "beta", Scaled())
    parametrize.register_parametrization(net[2], "weight", Scaled())
    assert names_in_groups(net) == {
        "weights": {
            "0.parametrizations.weight.original0",
            "0.parametrizations.weight.original1",
            "2.parametrizations.weight.original",
        },
        "others": {"0.bias", "2.bias", "2.parametrizations.weight.0.factor"},
        "time": {"1.gain", "1.parametrizations.beta.original", "1.parametrizations.beta.0.factor"},
    }


class Tokens(nn.Module):
    """A module with what transformers hold beside linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 8)
        self.position = nn.Parameter(torch.zeros(1, 5, 8))
        self.attention = nn.MultiheadAttention(8, 2, add_bias_kv=True)
        self.recurrent = nn.LSTM(8, 8)
        self.slope = nn.PReLU(8)


def test_embeddings_and_positions_do_not_decay() -> None:
    groups = names_in_groups(Tokens())
    assert groups["weights"] == {
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "recurrent.weight_ih_l0",
        "recurrent.weight_hh_l0",
    }
    assert groups["others"] >= {"words.weight", "position", "attention.bias_k", "slope.weight"}


def test_a_weight_that_is_an_embedding_too_decays() -> None:
    net = nn.Sequential(nn.Embedding(7, 8), nn.Linear(8, 7, bias=False))
    net[1].weight = net[0].weight
    assert names_in_groups(net) == {"weights": {"0.weight"}}


@pytest.mark.parametrize("name", ["lenet", "spikformer_tiny", "spiking_resnet_tiny", "qkformer_tiny"])
@pytest.mark.parametrize(
    "options", [{}, {"sharing": "channel"}, {"neuron": "plif"}, {"norm_over_time": "step"}]
)
def test_weights_of_the_zoo_are_those_that_are_matrices(name: str, options: dict[str, Any]) -> None:
    net = create_model(name, num_classes=10, num_steps=2, **options)
    timed = {
        f"{place}.{own}".lstrip(".")
        for place, module in net.named_modules()
        for own in getattr(module, "time_parameters", ())
    }
    norms = {
        f"{place}.{own}"
        for place, module in net.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for own, _ in module.named_parameters()
    }
    assert norms
    learned = {parameter_name for parameter_name, _ in net.named_parameters()}
    groups = names_in_groups(net)
    assert groups["time"] == timed & learned
    assert groups["weights"] == {n for n, p in net.named_parameters() if p.ndim > 1} - timed - norms
    assert groups["others"] == learned - groups["time"] - groups["weights"]


def test_shared_and_frozen_parameters() -> None:
    net = build()
    net.append(net[1])
    net[0].weight.requires_grad_(False)
    groups = asnn.optim_groups(net, 1e-3)
    listed = [p for group in groups for p in group["params"]]
    assert len(listed) == len(set(listed)) == len(list(net.parameters())) - 1
    assert groups[2]["lr"] == 1e-3


@pytest.mark.parametrize(
    "optimizer",
    [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad],
)
def test_any_optimizer_takes_them_and_decays_only_weights(optimizer: Any) -> None:
    net = build()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    steps = optimizer(asnn.optim_groups(net, 1e-2, weight_decay=0.5))
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    steps.step()
    for name, parameter in net.named_parameters():
        spared = name.endswith(("beta", "gain", "threshold", "scale", "bias"))
        assert torch.equal(parameter, before[name]) == spared, name


def test_one_group_where_there_is_only_one_kind() -> None:
    assert [g["name"] for g in asnn.optim_groups(nn.Linear(2, 2, bias=False), 0.1)] == ["weights"]
    assert [g["name"] for g in asnn.optim_groups(nn.BatchNorm1d(2), 0.1)] == ["others"]
    assert [g["name"] for g in asnn.optim_groups(asnn.AdaptiveLeaky(0.9, num_steps=2), 0.1)] == ["time"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"net": 1}, TypeError, "net must be"),
        ({"net": nn.ReLU()}, ValueError, "net must have parameters"),
        ({"lr": -1.0}, ValueError, "lr must be"),
        ({"lr": "x"}, TypeError, "lr must be a real number; got 'x'"),
        ({"lr": torch.ones(2)}, TypeError, "lr must be a real number"),
        ({"time_lr": [0.1]}, TypeError, r"time_lr must be a real number; got \[0.1\]"),
        ({"weight_decay": None}, TypeError, "weight_decay must be a real number; got None"),
        ({"time_lr": float("nan")}, ValueError, "time_lr must be"),
        ({"weight_decay": float("inf")}, ValueError, "weight_decay must be"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        asnn.optim_groups(**{"net": build(), "lr": 0.1} | arguments)


def test_a_rate_may_be_a_tensor() -> None:
    rate = torch.tensor(0.1)
    assert asnn.optim_groups(build(), rate)[0]["lr"] is rate


@pytest.mark.parametrize("kind", [snn.Leaky, snn.Synaptic])
def test_a_pruned_time_parameter_is_learned_with_the_others(kind: type[nn.Module]) -> None:
    leaks = {"beta": 0.9} | ({"alpha": 0.5} if kind is snn.Synaptic else {})
    net = asnn.adapt(nn.Sequential(nn.Linear(3, 2), kind(**leaks)), num_steps=4)
    prune.l1_unstructured(net[1], "gain", amount=0.5)
    (neuron,) = asnn.describe(net)
    assert "gain" in neuron.learned
    groups = {group["name"]: group["params"] for group in asnn.optim_groups(net, lr=0.1)}
    assert any(parameter is net[1].gain_orig for parameter in groups["time"])


def test_a_pruned_neuron_of_snntorch_is_adapted() -> None:
    theirs = snn.Leaky(torch.tensor([0.9, 0.1]), learn_beta=True)
    prune.l1_unstructured(theirs, "beta", amount=0.5)
    ours = asnn.adapt(theirs, num_steps=3)
    torch.testing.assert_close(ours.leak, torch.tensor([[0.9, 0.0]]).expand(3, 2))
