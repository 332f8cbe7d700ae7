"""Spikes that are known by their history, and kept as bits without a look at their values."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import snntorch_asnn as asnn
from snntorch_asnn.ops._adaptive_leaky.triton import implementation as kernels
from snntorch_asnn.ops._packed_spikes import pack as packed_spikes
from snntorch_asnn.ops._packed_spikes.pack import Kept, Packed, Packer, unpack
from snntorch_asnn.ops._spike_origin import spike_worth

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if lack := kernels.missing(DEVICE):
    pytest.skip(f"misses {lack}", allow_module_level=True)


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_spikes, "_values_decide", lambda _: False)


@functools.cache
def spikes(
    shape: tuple[int, ...] = (2, 3, 8, 16, 12), dtype: torch.dtype = torch.float32, **options: Any
) -> Tensor:
    """Of a neuron on kernels, a third of them or so not zero."""
    neuron = asnn.AdaptiveLeaky(0.5, num_steps=shape[0], sequence=True, impl="triton", **options).to(DEVICE)
    found, _ = neuron(2 * torch.randn(shape, dtype=dtype, device=DEVICE))
    assert 0.05 < float((found != 0).float().mean()) < 0.95
    return found


def halved(_: Tensor) -> Tensor:
    x = spikes.__wrapped__()
    x[0] *= 0.5
    return x


KEEPING: dict[str, Callable[[Tensor], Tensor]] = {
    "itself": lambda x: x,
    "flatten": lambda x: x.flatten(0, 1),
    "one step": lambda x: x[1],
    "channels last": lambda x: x.flatten(0, 1).contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.flatten(2).transpose(-1, -2).contiguous(),
    "max pool": lambda x: functional.max_pool2d(x.flatten(0, 1), 3, stride=1, padding=1),
    "cast": lambda x: x.to(torch.bfloat16 if x.dtype == torch.float32 else torch.float32),
}
CHANGING: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda x: x + x,
    "average pool": lambda x: functional.avg_pool2d(x.flatten(0, 1), 2, stride=1),
    "in place": halved,
    "there and back": lambda x: x.to(torch.float16).to(torch.bfloat16),
    "detached": lambda x: x.detach(),
}


@pytest.mark.parametrize("change", KEEPING.values(), ids=KEEPING)
@pytest.mark.parametrize(
    ("dtype", "worth"),
    [(torch.float32, -0.375), (torch.bfloat16, 0.3)],  # the interpreter cuts off what a half cannot hold
)
def test_what_keeps_spikes_is_packed(
    change: Callable[[Tensor], Tensor], dtype: torch.dtype, worth: float
) -> None:
    x = change(spikes(dtype=dtype, graded_spikes_factor=worth))
    kept = Packer().pack(x)
    assert isinstance(kept, Packed)
    assert kept.bits.nbytes == 4 * (-(-x.numel() // 32) + 1)
    back = unpack(kept)
    assert (back.dtype, back.stride()) == (x.dtype, x.stride())
    assert torch.equal(back, x)


@pytest.mark.parametrize("change", CHANGING.values(), ids=CHANGING)
def test_what_may_change_spikes_is_kept(change: Callable[[Tensor], Tensor]) -> None:
    x = change(spikes())
    kept = Packer().pack(x)
    assert isinstance(kept, Kept)
    assert unpack(kept) is x


def test_a_view_knows_of_changes_to_its_memory() -> None:
    x = spikes.__wrapped__()
    view = x.flatten(0, 1)
    assert spike_worth(view) is not None
    x[0] *= 0.5
    assert spike_worth(view) is None


def test_spikes_of_different_or_learned_worth_are_kept() -> None:
    different = spikes(graded_spikes_factor=torch.tensor([1.0, 2.0]), feature_shape=())
    learned = spikes(learn_graded_spikes_factor=True)
    for x in (different, learned):
        assert isinstance(Packer().pack(x), Kept)


def test_the_membrane_is_kept() -> None:
    neuron = asnn.AdaptiveLeaky(0.5, num_steps=2, sequence=True, impl="triton", output=True).to(DEVICE)
    _, mem = neuron(torch.randn(2, 3, 8, 16, 12, device=DEVICE))
    assert isinstance(Packer().pack(mem), Kept)


def test_gradients_are_the_same_to_the_bit() -> None:
    net = nn.Sequential(
        asnn.layers.OverTime(asnn.AdaptiveLeaky(0.5, num_steps=2, sequence=True, impl="triton")),
        nn.Flatten(0, 1),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 5, 3),
    ).to(DEVICE)
    x = 2 * torch.randn(2, 3, 4, 32, 36, device=DEVICE)
    grads = []
    for packed in (False, True):
        net.zero_grad()
        if packed:
            with asnn.pack_spikes():
                out = net(x)
        else:
            out = net(x)
        out.square().sum().backward()
        grads.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    assert grads[0][-2].abs().sum() > 0
    for plain, found in zip(*grads, strict=True):
        assert torch.equal(plain, found)
