"""Units of convolution or linear layer, norm and neuron against the three written out."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from snntorch_asnn import AdaptiveLeaky, NormLeaky
from snntorch_asnn.layers import (
    AnalogSteps,
    ConvNorm,
    ConvSpike,
    HybridStem,
    LinearNorm,
    LinearSpike,
    OverTime,
    first_conv_norm,
    first_conv_spike,
    fold_norm,
    fuse_norm,
    max_pool,
    norm_leaky,
    on_tokens,
    set_norm_over_time,
    unfuse_norm,
)
from snntorch_asnn.layers.stepping import Stepping
from snntorch_asnn.models import build_neuron

STEPS = 3
SPIKING = partial(build_neuron, "asnn", STEPS)
KINDS = ["pooled", "sequential", "step_statistics", "step"]


@pytest.fixture(autouse=True)
def _fused_in_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norm_leaky, "FUSING_PAYS_FROM", 0)


def by_step(norm: nn.Module, x: Tensor, kind: str) -> Tensor:
    """PyTorch's norm on ``[N, C, ...]`` of all steps together, or of each."""

    def normed(batch: Tensor) -> Tensor:
        return batch_norm(batch, None, None, norm.weight, norm.bias, training=True)

    if kind == "pooled":
        return normed(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    return torch.stack([normed(x_t) for x_t in x])


def units(kind: str) -> list[tuple[nn.Module, Tensor, Any]]:
    """Units, an input, and what the layers before the neuron give, by PyTorch's layers alone."""

    def conv(unit: Any, norm: nn.Module) -> Any:
        return lambda x: by_step(norm, torch.stack([unit.conv(x_t) for x_t in x]), kind)

    def linear(unit: Any, norm: nn.Module) -> Any:
        def run(x: Tensor) -> Tensor:
            out = unit.linear(x)
            return by_step(norm, out.flatten(2, -2).movedim(-1, 2), kind).movedim(2, -1).reshape(out.shape)

        return run

    maps = torch.randn(STEPS, 4, 3, 6, 6, dtype=torch.float64)
    tokens = torch.randn(STEPS, 4, 5, 7, dtype=torch.float64)
    spike, norm = ConvSpike(3, 8, SPIKING, stride=2, bias=True), ConvNorm(3, 6, 5, groups=3)
    fc, fc_norm = LinearSpike(7, 9, SPIKING, bias=False), LinearNorm(7, 9)
    cases = [(spike, maps, conv), (norm, maps, conv), (fc, tokens, linear), (fc_norm, tokens, linear)]
    return [(unit, x, run(unit, unit.double().spike.norm if hasattr(unit, "spike") else unit.norm))
            for unit, x, run in cases]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fused", [False, True])
def test_units_are_the_layers_one_after_the_other(kind: str, fused: bool) -> None:
    for unit, x, currents in units(kind):
        unit.double()
        spikes = hasattr(unit, "spike")
        wanted = currents(x)
        wanted = unit.spike.neuron(wanted) if spikes else wanted
        gradient = torch.randn_like(wanted)
        parameters = list(unit.parameters())
        grads = torch.autograd.grad((wanted * gradient).sum(), parameters)
        net = set_norm_over_time(nn.Sequential(unit), kind, STEPS)
        if spikes:
            (fuse_norm if fused else unfuse_norm)(net)
            assert wanted.any()
        found = net(x)
        torch.testing.assert_close(found, wanted)
        found_grads = torch.autograd.grad((found * gradient).sum(), list(unit.parameters()))
        for wanted_grad, grad in zip(grads, found_grads, strict=True):
            grad = grad.sum(0) if grad.ndim > wanted_grad.ndim else grad  # weights of each step
            torch.testing.assert_close(grad, wanted_grad)


def test_norm_and_neuron_are_a_norm_leaky() -> None:
    for unit in (ConvSpike(3, 8, SPIKING), LinearSpike(3, 8, SPIKING)):
        assert isinstance(unit.spike, NormLeaky)
        assert not unit.spike.fused
        assert "fused=False" in repr(unit)
        assert fuse_norm(unit) is unit
        assert unit.spike.fused
    assert [name for name, _ in ConvSpike(3, 8, SPIKING).named_children()] == ["conv", "spike"]


def test_a_unit_folds_for_inference() -> None:
    unit, x = ConvSpike(3, 8, SPIKING), torch.randn(STEPS, 2, 3, 6, 6)
    unit(x)
    unit.eval()
    conv, neuron = fold_norm(unit.conv, unit.spike)
    torch.testing.assert_close(neuron(torch.stack([conv(x_t) for x_t in x])), unit(x))


@pytest.mark.parametrize("shape", [(STEPS, 4, 5), (STEPS, 4, 7, 5), (STEPS, 4, 2, 3, 5)])
def test_channels_may_come_last(shape: tuple[int, ...]) -> None:
    neuron = OverTime(AdaptiveLeaky.paper(STEPS, sequence=True))
    layer = NormLeaky(nn.BatchNorm1d(5), neuron, channel_dim=-1).double()
    x = torch.randn(shape).double()
    wanted = neuron(copy.deepcopy(layer.norm)(x.flatten(0, -2)).view_as(x))
    torch.testing.assert_close(layer(x), wanted)


@pytest.mark.parametrize("wrong", [1, 3, None, "last"])
def test_wrong_channel_dim(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"channel_dim must be 2, or -1 for channels last; got"):
        NormLeaky(3, AdaptiveLeaky.paper(STEPS, sequence=True), channel_dim=wrong)


def test_the_first_layer_has_a_copy_for_the_analog_steps() -> None:
    x = torch.randn(STEPS, 2, 3, 6, 6)
    assert isinstance(first_conv_norm(3, 8, AnalogSteps(0)), ConvNorm)
    assert isinstance(first_conv_spike(3, 8, SPIKING, AnalogSteps(0)), ConvSpike)
    stem = first_conv_norm(3, 8, AnalogSteps(1, STEPS - 1), kernel_size=5, stride=2, bias=True)
    assert isinstance(stem, HybridStem)
    assert stem.direct.conv.weight.shape == stem.spike.conv.weight.shape == (8, 3, 5, 5)
    direct, spike = stem.direct(x[:1]), stem.spike(x[1:])
    torch.testing.assert_close(stem(x), torch.cat([direct, spike + direct]))
    both = first_conv_spike(3, 8, SPIKING, AnalogSteps(1))
    torch.testing.assert_close(both(x), both.neuron(both.conv_norm(x)))
    assert fuse_norm(nn.Sequential(both, ConvSpike(8, 8, SPIKING)))(x).shape == (STEPS, 2, 8, 6, 6)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_of_a_first_layer_one_at_a_time(kind: str) -> None:
    stem = first_conv_norm(3, 4, AnalogSteps(1)).eval()
    set_norm_over_time(stem, kind, STEPS)
    x = torch.randn(STEPS, 2, 3, 6, 6)
    wanted = stem(x)
    with Stepping(stem) as stepping:
        for t in range(STEPS):
            torch.testing.assert_close(stepping.run(stem, x[t : t + 1]), wanted[t : t + 1])


def test_max_pool_halves_or_keeps() -> None:
    x = torch.randn(STEPS, 2, 3, 7, 8)
    assert max_pool()(x).shape == (STEPS, 2, 3, 4, 4)
    assert max_pool(False)(x) is x


def test_a_layer_of_tokens_on_images() -> None:
    maps, linear = torch.randn(STEPS, 2, 3, 4, 5), nn.Linear(3, 6)
    wanted = linear(maps.movedim(2, -1)).movedim(-1, 2)
    torch.testing.assert_close(on_tokens(linear, maps), wanted)
