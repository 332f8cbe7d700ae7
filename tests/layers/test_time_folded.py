from __future__ import annotations

import pytest
import torch
from torch import nn

from snntorch_asnn.layers import TimeFolded, fold_time


def test_equals_a_loop_over_time():
    conv, x = nn.Conv2d(3, 4, 3, stride=2), torch.randn(5, 2, 3, 9, 9)
    torch.testing.assert_close(fold_time(conv, x), torch.stack([conv(step) for step in x]))


def test_takes_strided_input():
    conv, x = nn.Conv2d(3, 4, 3), torch.randn(2, 5, 3, 8, 8).transpose(0, 1)
    torch.testing.assert_close(fold_time(conv, x), torch.stack([conv(step) for step in x]))


def test_empty_batch():
    assert fold_time(nn.Conv2d(3, 4, 3), torch.randn(5, 0, 3, 8, 8)).shape == (5, 0, 4, 6, 6)


def test_keeps_channels_last():
    x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last).expand(5, -1, -1, -1, -1)
    seen = []
    fold_time(lambda y: seen.append(y) or y, x.clone())
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_batch_norm_sees_time_and_batch_together():
    norm, x = nn.BatchNorm1d(4), torch.randn(5, 6, 4) * 3 + 1
    y = TimeFolded(norm)(x)
    torch.testing.assert_close(y.mean((0, 1)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(norm.running_mean, x.mean((0, 1)) * 0.1)
    assert norm.num_batches_tracked == 1


def test_is_a_sequential():
    folded = TimeFolded(nn.Linear(3, 4), nn.ReLU())
    assert list(folded.state_dict()) == ["0.weight", "0.bias"]
    assert folded(torch.randn(5, 2, 3)).shape == (5, 2, 4)


def test_needs_time_and_batch():
    with pytest.raises(ValueError, match=r"x must be \[T, B, ...\]; got shape \(3,\)"):
        fold_time(nn.Identity(), torch.zeros(3))
