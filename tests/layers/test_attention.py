from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from snntorch_asnn import AdaptiveLeaky
from snntorch_asnn.layers import (
    LinearNorm,
    OverTime,
    Pointwise,
    Residual,
    SpikingMLP,
    SpikingSelfAttention,
    TokenQKAttention,
    sew_add,
    sew_and,
    sew_iand,
    spiking_attention,
    to_maps,
    to_tokens,
)


def spiking(channel_shape, threshold=1.0):
    return OverTime(AdaptiveLeaky.paper(4, threshold=threshold, feature_shape=channel_shape, sequence=True))


def dense(unit, inputs):
    """The linear layer of a unit, and its norm."""
    out = unit.linear(inputs)
    norm = unit.norm if isinstance(unit, LinearNorm) else unit.spike.norm
    return norm(out.flatten(0, 2)).view_as(out)


def spikes(*shape):
    return torch.randint(0, 2, shape).float()


@pytest.mark.parametrize(("tokens", "channels"), [(64, 8), (8, 64), (16, 16), (1, 5), (5, 1)])
def test_both_orders_give_the_same_to_the_bit(tokens, channels):
    q, k, v = (spikes(2, 3, tokens, channels) for _ in range(3))
    found = spiking_attention(q, k, v, scale=0.125)
    assert torch.equal(found, (q @ k.transpose(-2, -1) * 0.125) @ v)
    assert torch.equal(found, q @ (k.transpose(-2, -1) @ v) * 0.125)


@pytest.mark.parametrize(("tokens", "channels", "cost"), [(64, 8, 8 * 8 * 64), (8, 64, 8 * 8 * 64)])
def test_takes_the_cheaper_order(tokens, channels, cost):
    q = k = v = torch.rand(tokens, channels, device="meta")
    with FlopCounterMode(display=False) as counter:
        spiking_attention(q, k, v)
    assert counter.get_total_flops() == 2 * 2 * cost


@pytest.mark.parametrize(("order", "macs"), [("qk_first", 2 * 5 * 5 * 3), ("kv_first", 2 * 5 * 3 * 3)])
def test_an_order_may_be_asked_for(order, macs):
    q, k, v = (spikes(2, 5, 3) for _ in range(3))
    with FlopCounterMode(display=False) as counter:
        out = spiking_attention(q, k, v, 1.0, order)
    assert torch.equal(out, spiking_attention(q, k, v, 1.0))
    assert counter.get_total_flops() == 2 * 2 * macs
    with pytest.raises(ValueError, match="order must be one of"):
        spiking_attention(q, k, v, order="v_first")


def test_order_looks_at_every_size():
    """Queries and keys of different number, values of another width."""
    q, k, v = spikes(2, 3, 4), spikes(2, 50, 4), spikes(2, 50, 7)
    assert torch.equal(spiking_attention(q, k, v, scale=1), q @ k.mT @ v)


@pytest.mark.parametrize(("k", "v"), [((2, 9, 5), (2, 9, 4)), ((2, 9, 4), (2, 8, 4)), ((3, 9, 4), (3, 9, 4))])
def test_wrong_shapes(k, v):
    with pytest.raises(ValueError, match=r"q, k and v must be .*; got \(2, 9, 4\)"):
        spiking_attention(torch.rand(2, 9, 4), torch.rand(k), torch.rand(v))


@pytest.mark.parametrize("spike_first", [False, True])
def test_self_attention_follows_its_equation(spike_first):
    layer = SpikingSelfAttention(8, 2, spiking, spike_first=spike_first).eval()
    x = torch.randn(4, 3, 5, 8)

    inputs = layer.spike(x)
    assert torch.equal(inputs, x) != spike_first
    q, k, v = (unit.spike.neuron(dense(unit, inputs)) for unit in (layer.q, layer.k, layer.v))
    heads = []
    for head in (slice(0, 4), slice(4, 8)):
        scores = torch.einsum("tbnc,tbmc->tbnm", q[..., head], k[..., head])
        heads.append(0.125 * torch.einsum("tbnm,tbmc->tbnc", scores, v[..., head]))
    out = dense(layer.proj, layer.attn_spike(torch.cat(heads, -1)))
    torch.testing.assert_close(layer(x), out if spike_first else layer.proj.spike.neuron(out))
    assert layer.attn_spike.neuron.threshold == 0.5


def test_token_attention_follows_its_equation():
    layer = TokenQKAttention(8, 2, spiking).eval()
    x = torch.randn(4, 3, 5, 8) * 3
    q, k = (unit.spike.neuron(dense(unit, x)) for unit in (layer.q, layer.k))
    passes = layer.attn_spike(torch.stack([q[..., :4].sum(-1), q[..., 4:].sum(-1)], -1))
    mixed = passes.repeat_interleave(4, -1) * k
    torch.testing.assert_close(layer(x), layer.proj.spike.neuron(dense(layer.proj, mixed)))


@pytest.mark.parametrize("layer", [SpikingSelfAttention, TokenQKAttention])
def test_heads_divide_the_width(layer):
    with pytest.raises(ValueError, match="num_heads must divide dim=8; got 3"):
        layer(8, 3, spiking)


@pytest.mark.parametrize("spike_first", [False, True])
def test_mlp_follows_its_equation(spike_first):
    layer = SpikingMLP(6, 12, spiking, spike_first=spike_first).eval()
    x = torch.randn(4, 3, 5, 6)
    between = layer.fc1.spike.neuron(dense(layer.fc1, layer.spike(x)))
    wanted = dense(layer.fc2, between)
    if spike_first:
        assert not torch.equal(layer.spike(x), x)
    else:
        wanted = layer.fc2.spike.neuron(wanted)
    torch.testing.assert_close(layer(x), wanted)


@pytest.mark.parametrize("kernel_dims", [1, 2])
def test_pointwise_is_the_convolution(kernel_dims):
    kind = {1: torch.nn.Conv1d, 2: torch.nn.Conv2d}[kernel_dims]
    conv = kind(4, 6, 1)
    with pytest.warns(DeprecationWarning, match="use torch.nn.Linear"):
        layer = Pointwise(4, 6, kernel_dims=kernel_dims)
    layer.load_state_dict(conv.state_dict())
    x = torch.randn(2, 4, *[3] * kernel_dims)
    torch.testing.assert_close(layer(x.movedim(1, -1)).movedim(-1, 1), conv(x))


@pytest.mark.parametrize("channels_last", [False, True])
def test_tokens_and_maps(channels_last):
    maps = torch.rand(2, 3, 4, 5, 6)
    if channels_last:
        maps = maps.movedim(2, -1).contiguous().movedim(-1, 2)
    tokens = to_tokens(maps)
    assert tokens.shape == (2, 3, 30, 4)
    assert tokens.is_contiguous()
    assert (tokens.data_ptr() == maps.data_ptr()) == channels_last
    assert torch.equal(tokens[1, 2, 7], maps[1, 2, :, 1, 1])
    again = to_maps(tokens, (5, 6))
    assert torch.equal(again, maps)
    assert again.data_ptr() == tokens.data_ptr()
    assert again[0].is_contiguous(memory_format=torch.channels_last)


def test_spike_element_wise_functions():
    branch, identity = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([0.0, 1.0, 0.0, 1.0])
    assert sew_add(branch, identity).tolist() == [0, 1, 1, 2]
    assert sew_and(branch, identity).tolist() == [0, 0, 0, 1]
    assert sew_iand(branch, identity).tolist() == [0, 1, 0, 0]


def test_residual_adds_each_branch_to_its_input():
    block = Residual(first=torch.nn.Linear(3, 3), second=torch.nn.Linear(3, 3))
    x = torch.rand(2, 3)
    between = x + block.first(x)
    torch.testing.assert_close(block(x), between + block.second(between))
    assert [name for name, _ in block.named_children()] == ["first", "second"]
