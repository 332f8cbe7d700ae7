from __future__ import annotations

import pytest
import torch

from snntorch_asnn.layers import MeanReadout, TimeWeightedReadout


def test_mean_over_time():
    logits = torch.randn(5, 3, 7)
    torch.testing.assert_close(MeanReadout(5)(logits), logits.mean(0))
    assert not list(MeanReadout(5).state_dict())


def test_starts_as_the_mean():
    logits = torch.randn(5, 3, 7)
    torch.testing.assert_close(TimeWeightedReadout(5)(logits), logits.mean(0))


def test_scales_each_step():
    readout, logits = TimeWeightedReadout(3), torch.randn(3, 2, 4)
    with torch.no_grad():
        readout.scale.copy_(torch.tensor([2.0, 0.0, -1.0]))
    torch.testing.assert_close(readout(logits), (2 * logits[0] - logits[2]) / 3)
    torch.testing.assert_close(readout.weigh(logits).mean(0), readout(logits))


def test_gradient_of_the_scale():
    readout = TimeWeightedReadout(3).double()
    logits = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    readout(logits).sum().backward()
    torch.testing.assert_close(readout.scale.grad, logits.detach().sum((1, 2)) / 3)
    torch.testing.assert_close(logits.grad, torch.full_like(logits, 1 / 3))


def test_fixed_scale_is_a_buffer():
    readout = TimeWeightedReadout(3, learn_scale=False)
    assert not list(readout.parameters())
    assert readout.state_dict()["scale"].tolist() == [1, 1, 1]


def test_one_step_empty_batch_and_dense_outputs():
    assert TimeWeightedReadout(1)(torch.randn(1, 2, 3)).shape == (2, 3)
    assert TimeWeightedReadout(4)(torch.randn(4, 0, 3)).shape == (0, 3)
    assert TimeWeightedReadout(4)(torch.randn(4, 2, 3, 8, 8)).shape == (2, 3, 8, 8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_keeps_dtype(dtype):
    assert TimeWeightedReadout(2).to(dtype)(torch.randn(2, 3, 4, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("make", [MeanReadout, TimeWeightedReadout])
@pytest.mark.parametrize("shape", [(4, 2, 3), (2, 5, 3), (5,), ()])
def test_refuses_another_number_of_steps(make, shape):
    with pytest.raises(ValueError, match=r"logits must be .* T = 5; got shape"):
        make(5)(torch.zeros(shape))


@pytest.mark.parametrize("num_steps", [0, -3])
def test_refuses_no_steps(num_steps):
    with pytest.raises(ValueError, match="num_steps must be at least 1"):
        TimeWeightedReadout(num_steps)


@pytest.mark.parametrize("num_steps", [2.0, "2", None, True])
def test_refuses_what_is_no_count(num_steps):
    with pytest.raises(TypeError, match="num_steps must be an integer"):
        TimeWeightedReadout(num_steps)
