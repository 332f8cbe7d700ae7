"""A factor and an offset of a neuron's input, for all steps alike or for each."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

import snntorch_asnn as asnn
from snntorch_asnn.ops._adaptive_leaky.cpp import implementation as cpp

STEPS, BATCH, CHANNELS, SIZE = 5, 3, 4, 6
IMPLS = [
    "reference",
    pytest.param("compile", marks=pytest.mark.slow),
    pytest.param("cpp", marks=pytest.mark.skipif(bool(cpp.missing()), reason="needs a C++ compiler")),
    pytest.param("triton", marks=pytest.mark.skipif(not find_spec("triton"), reason="needs triton")),
]
# Of the affine, and of one step's parameters of the neuron.
SHAPES = [
    ((CHANNELS, 1, 1), ()),
    ((STEPS, 1, CHANNELS, 1, 1), (CHANNELS, 1, 1)),
    ((STEPS, 1, 1, 1, 1), (SIZE,)),
    ((STEPS, 1, CHANNELS, SIZE, SIZE), ()),
]


def outcome(run: Any, *leaves: Tensor) -> list[Tensor]:
    for leaf in leaves:
        leaf.grad = None
    spikes, mem = run()
    weights = torch.linspace(-1, 1, spikes.numel(), dtype=mem.dtype).view(spikes.shape)
    ((spikes * weights).sum() + mem.square().sum()).backward()
    return [spikes, mem, *(leaf.grad for leaf in leaves if leaf.grad is not None)]


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(("shape", "features"), SHAPES, ids=str)
def test_equals_what_it_stands_for(impl: str, shape: tuple[int, ...], features: tuple[int, ...]) -> None:
    dtype = torch.float32 if impl == "triton" else torch.float64
    x = torch.randn(STEPS, BATCH, CHANNELS, SIZE, SIZE, dtype=dtype).requires_grad_()
    factor = (torch.rand(shape, dtype=dtype) + 1).requires_grad_()
    offset = torch.randn(shape, dtype=dtype).requires_grad_()
    rule = {"reset_delay": False, "exact_reset": True, "feature_shape": features, "sequence": True}
    neuron = asnn.AdaptiveLeaky(0.8, num_steps=STEPS, impl=impl, **rule).to(dtype)
    plain = asnn.AdaptiveLeaky(0.8, num_steps=STEPS, impl="reference", **rule).to(dtype)
    found = outcome(lambda: neuron(x, affine=(factor, offset)), x, factor, offset, *neuron.parameters())
    wanted = outcome(lambda: plain(x * factor + offset), x, factor, offset, *plain.parameters())
    assert wanted[0].any()
    assert not wanted[0].all()
    close = {"rtol": 1e-4, "atol": 1e-4} if impl == "triton" else {}
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, **close)


@pytest.mark.parametrize("wrong", [(STEPS, CHANNELS, 1, 1, 1), (3, 1, CHANNELS, 1, 1), (1,) * 6])
def test_wrong_shapes(wrong: tuple[int, ...]) -> None:
    neuron = asnn.AdaptiveLeaky(0.8, num_steps=STEPS, sequence=True)
    x = torch.rand(STEPS, BATCH, CHANNELS, SIZE, SIZE)
    with pytest.raises(ValueError, match=rf"affine must broadcast .* or start with the sizes \({STEPS}, 1\)"):
        neuron(x, affine=(torch.ones(wrong), torch.zeros(wrong)))
