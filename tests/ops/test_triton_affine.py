"""Factor and offset merged into a neuron's coefficients by kernels, against PyTorch's operations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
from snntorch_asnn.ops._adaptive_leaky.triton import implementation as kernels

pytest.importorskip("triton")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if lack := kernels.missing(DEVICE):
    pytest.skip(f"misses {lack}", allow_module_level=True)

from snntorch_asnn.ops._adaptive_leaky.triton.affine import merged_gradients, merged_table  # noqa: E402

STEPS, CHANNELS = 3, 300
"""More channels than one block has."""


def coefficients(features: tuple[int, ...], shift: bool) -> Coefficients:
    drawn = torch.rand(6, STEPS, *features, device=DEVICE)
    fixed = torch.full((), 0.5, device=DEVICE).expand(STEPS, *features)
    return Coefficients(drawn[0], drawn[1], fixed, drawn[3], fixed, drawn[5] if shift else None)


def affine(each_step: bool) -> tuple[Tensor, Tensor]:
    shape = (STEPS, CHANNELS, 1, 1) if each_step else (CHANNELS, 1, 1)
    return torch.randn(shape, device=DEVICE), torch.randn(shape, device=DEVICE)


def spread_over_channels(c: Tensor) -> Tensor:
    return c.reshape(len(c), -1).expand(-1, CHANNELS) if c.ndim < 3 else c.reshape(len(c), CHANNELS)


@pytest.mark.parametrize("each_step", [False, True])
@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("features", [(), (1,), (CHANNELS, 1, 1)])
def test_table(features: tuple[int, ...], shift: bool, each_step: bool) -> None:
    own, (factor, offset) = coefficients(features, shift), affine(each_step)
    table = merged_table(own, factor, offset, CHANNELS)
    beta, gain, threshold, previous, scale, own_shift = (
        None if c is None else spread_over_channels(c) for c in own
    )
    flat = [p.reshape(-1, CHANNELS) for p in (factor, offset)]
    shifted = gain * flat[1] if own_shift is None else gain * flat[1] + own_shift
    wanted = torch.stack([beta, gain * flat[0], threshold, previous, scale, shifted], dim=1)
    torch.testing.assert_close(table, wanted)


@pytest.mark.parametrize("each_step", [False, True])
@pytest.mark.parametrize("wants", [[True] * 6, [False, True, False, False, True, True]])
def test_gradients(wants: list[bool], each_step: bool) -> None:
    own, (factor, offset) = coefficients((), shift=False), affine(each_step)
    totals = torch.randn(sum(wants), STEPS, CHANNELS, device=DEVICE)
    found, grad_factor, grad_offset = merged_gradients(totals, wants, own, factor, offset)
    leaves = [c.double().requires_grad_() for c in own[:5]]
    wide = [p.double().requires_grad_() for p in (factor, offset)]
    flat = [p.reshape(-1, CHANNELS) for p in wide]
    rows = [c[:, None].expand(STEPS, CHANNELS) for c in leaves]
    rows = [rows[0], rows[1] * flat[0], *rows[2:], rows[1] * flat[1]]
    remaining = iter(totals.double())
    loss = sum((row * next(remaining)).sum() for row, want in zip(rows, wants, strict=True) if want)
    loss.backward()
    for grad, leaf, want in zip(found, leaves, wants, strict=False):
        assert (grad is not None) == want
        if want:
            torch.testing.assert_close(grad.double(), leaf.grad, rtol=1e-4, atol=1e-4)
    assert found[5] is None
    torch.testing.assert_close(grad_factor.double(), wide[0].grad, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grad_offset.double(), wide[1].grad, rtol=1e-5, atol=1e-5)


def test_other_kinds_are_left_to_pytorch() -> None:
    factor, offset = affine(each_step=False)
    assert merged_table(coefficients((CHANNELS, 2, 2), shift=False), factor, offset, CHANNELS) is None
    assert merged_table(coefficients((), shift=False), factor.expand(-1, 2, 2), offset, CHANNELS) is None
    totals = torch.randn(6, STEPS, CHANNELS, device=DEVICE)
    by_channel = coefficients((CHANNELS, 1, 1), shift=False)
    assert merged_gradients(totals, [True] * 6, by_channel, factor, offset) is None
    fixed = [True, False, True, True, True, True]
    assert merged_gradients(totals[1:], fixed, coefficients((), shift=False), factor, offset) is None
