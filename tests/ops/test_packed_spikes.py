"""Spikes kept as bits: exact, found wherever they are, and nothing else taken for them."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import snntorch_asnn as asnn
from snntorch_asnn.models import create_model
from snntorch_asnn.ops._packed_spikes.pack import LEAST_TO_PACK, MOST_REMEMBERED, Packed, Packer, unpack

BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def spikes(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.rand(shape) < 0.3).to(dtype)


def is_packed(x: Tensor) -> bool:
    """Whether ``x`` is kept as bits; it must come back to the bit either way."""
    kept = Packer().pack(x)
    back = unpack(kept)
    assert (back.dtype, back.shape, back.stride()) == (x.dtype, x.shape, x.stride())
    assert torch.equal(back.view(BITS[x.element_size()]), x.view(BITS[x.element_size()]))
    if isinstance(kept, Packed):
        assert kept.bits.nbytes == -(-x.numel() // 8)
    return isinstance(kept, Packed)


def gradients(net: nn.Module, x: Tensor, *, packed: bool) -> list[Tensor]:
    net.zero_grad()
    leaf = x.clone().requires_grad_()
    if packed:
        with asnn.pack_spikes():
            out = net(leaf)
    else:
        out = net(leaf)
    out.float().square().sum().backward()
    return [leaf.grad, *(p.grad.clone() for p in net.parameters() if p.grad is not None)]


@pytest.mark.parametrize("dtype", DTYPES)
@given(extra=st.integers(0, 17), rate=st.sampled_from([0.0, 0.2, 1.0]), seed=st.integers(0, 99))
def test_any_number_of_spikes_comes_back(dtype: torch.dtype, extra: int, rate: float, seed: int) -> None:
    torch.manual_seed(seed)
    assert is_packed((torch.rand(LEAST_TO_PACK + extra) < rate).to(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_keeps_shape_and_memory_format(dtype: torch.dtype) -> None:
    maps = spikes(4, 8, 17, 19, dtype=dtype)
    assert is_packed(maps)
    assert is_packed(maps.to(memory_format=torch.channels_last))
    assert is_packed(maps.transpose(0, 3))
    assert is_packed(maps[1:])
    assert is_packed(maps.flatten(0, 1))


@pytest.mark.parametrize("value", [0.5, -1.0, 2.0, -0.0, float("nan"), float("inf"), 1e-30, 1 + 2**-7])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("place", [0, LEAST_TO_PACK // 2, 2 * LEAST_TO_PACK - 1])
def test_one_other_value_is_enough(value: float, dtype: torch.dtype, place: int) -> None:
    x = spikes(2 * LEAST_TO_PACK, dtype=dtype)
    x[place] = value
    # What a dtype rounds to a spike is one, such as 1e-30 in float16.
    assert is_packed(x) == (x[place].item() in (0, 1) and not x[place].signbit())


def test_leaves_alone_what_it_cannot_pack() -> None:
    x = spikes(4, LEAST_TO_PACK)
    packer = Packer()
    for other in (
        x[:, ::2],
        x[:1].expand(4, LEAST_TO_PACK),
        x[0, : LEAST_TO_PACK - 1],
        x.bool(),
        x.long(),
        x.to_sparse(),
    ):
        assert unpack(packer.pack(other)) is other
    assert is_packed(torch.zeros(LEAST_TO_PACK))


def test_views_of_one_memory_are_packed_once() -> None:
    x, packer = spikes(4, 8, 16, 16), Packer()
    first, second = packer.pack(x), packer.pack(x.flatten(0, 1))
    assert first.bits is second.bits
    assert unpack(second).shape == (32, 16, 16)
    x[0] = 1 - x[0]  # the same memory in another state
    third = packer.pack(x)
    assert third.bits is not first.bits
    assert torch.equal(unpack(third), x)
    assert not torch.equal(unpack(first), x)


def test_memory_that_is_used_again_is_packed_again() -> None:
    packer = Packer()
    for _ in range(20):
        x = spikes(LEAST_TO_PACK * 64)
        assert torch.equal(unpack(packer.pack(x)), x)
        del x


def test_keeps_nothing_alive() -> None:
    x, packer = spikes(2 * LEAST_TO_PACK), Packer()
    kept = packer.pack(x)
    bits, original = weakref.ref(kept.bits), weakref.ref(x)
    del kept, x
    gc.collect()
    assert bits() is None
    assert original() is None


def test_knows_few_of_the_freed() -> None:
    packer = Packer()
    many = [spikes(LEAST_TO_PACK) for _ in range(MOST_REMEMBERED + 20)]
    for x in many:
        packer.pack(x)
    packer.pack(spikes(LEAST_TO_PACK))
    assert len(packer._known) <= MOST_REMEMBERED


def neuron(num_steps: int, threshold: float) -> asnn.AdaptiveLeaky:
    return asnn.AdaptiveLeaky.paper(num_steps, threshold=threshold, sequence=True, impl="reference")


@pytest.mark.parametrize(("name", "fused"), [("lenet", False), ("spikformer_tiny", True)])
def test_gradients_of_a_network_are_the_same_to_the_bit(name: str, fused: bool) -> None:
    model = create_model(name, num_classes=10, num_steps=4, neuron=neuron, fused=fused).eval()
    images = torch.rand(4, 3, 32, 32)
    plain = gradients(model, images, packed=False)
    assert all(map(torch.equal, plain, gradients(model, images, packed=True)))


def test_scaled_spikes_are_kept_as_they_are() -> None:
    neuron = asnn.AdaptiveLeaky(0.9, num_steps=4, sequence=True, graded_spikes_factor=0.5)
    x, weight = torch.rand(4, 32, 64) * 2, torch.rand(64, 8, requires_grad=True)
    found = []
    for packed in (False, True):
        weight.grad = None
        if packed:
            with asnn.pack_spikes():
                out = neuron(x)[0] @ weight
        else:
            out = neuron(x)[0] @ weight
        out.sum().backward()
        found.append(weight.grad)
    assert torch.equal(*found)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_convolution_keeps_one_bit_a_spike(dtype: torch.dtype | None) -> None:
    x = spikes(8, 16, 16, 16)
    weight = torch.rand(16, 16, 3, 3, requires_grad=True)
    kept = []

    def pack(tensor: Tensor) -> Tensor | Packed:
        result = packer.pack(tensor)
        if tensor.shape == x.shape:
            kept.append(result.bits.nbytes if isinstance(result, Packed) else tensor.nbytes)
        return result

    packer = Packer()
    with saved_tensors_hooks(pack, unpack), torch.autocast("cpu", dtype, enabled=dtype is not None):
        functional.conv2d(x, weight)
    assert kept == [x.numel() // 8]


def test_with_gradient_checkpointing() -> None:
    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
            self.spike = asnn.surrogate.atan()

        def forward(self, x: Tensor) -> Tensor:
            for conv in self.convs:
                x = checkpoint(lambda x, conv=conv: self.spike(conv(x)), x, use_reentrant=False)
            return x

    net, x = Blocks(), spikes(4, 8, 32, 32)
    plain = gradients(net, x, packed=False)
    assert plain[1].any()
    assert all(map(torch.equal, plain, gradients(net, x, packed=True)))


@pytest.mark.slow
def test_with_a_compiled_model() -> None:
    model = create_model("lenet", num_classes=10, num_steps=4, neuron=neuron)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    images = torch.rand(4, 3, 32, 32)
    model.eval()
    plain = gradients(compiled, images, packed=False)
    assert all(map(torch.equal, plain, gradients(compiled, images, packed=True)))


@pytest.mark.parametrize("size", [8, 128])
def test_what_is_kept_must_not_change(size: int) -> None:
    net = nn.Sequential(nn.Linear(size, size), nn.Sigmoid())
    with asnn.pack_spikes():
        out = net(torch.rand(64, size))
    out.mul_(2)
    with pytest.raises(
        RuntimeError, match=r"modified by an inplace operation: it is at version 1, expected 0"
    ):
        out.sum().backward()


def test_what_is_packed_may_change() -> None:
    conv = nn.Conv2d(1, 2, 3)
    spikes = (torch.rand(4, 1, 40, 40) > 0.5).float()
    conv(spikes).sum().backward()
    wanted, conv.weight.grad = conv.weight.grad, None
    with asnn.pack_spikes():
        out = conv(spikes)
    spikes.zero_()
    out.sum().backward()
    assert torch.equal(conv.weight.grad, wanted)
