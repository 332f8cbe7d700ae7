"""Wrong arguments of the codes: each raises and names the argument."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from snntorch_asnn import spikegen

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
LEVELLED = [n for n, c in spikegen.CODES.items() if "levels" in inspect.signature(c).parameters]
codes = pytest.mark.parametrize("name", spikegen.CODES)


@codes
@pytest.mark.parametrize("num_steps", [True, 4.0, "4", None])
def test_num_steps_of_a_wrong_type(name: str, num_steps: object) -> None:
    with pytest.raises(TypeError, match="num_steps must be an integer; got"):
        spikegen.CODES[name](torch.rand(2), num_steps)


@codes
@pytest.mark.parametrize("num_steps", [0, -1])
def test_num_steps_below_1(name: str, num_steps: int) -> None:
    with pytest.raises(ValueError, match=rf"num_steps must be .*1.*; got {num_steps}"):
        spikegen.CODES[name](torch.rand(2), num_steps)


@pytest.mark.parametrize("name", ["binary_temporal", "bit_plane"])
def test_num_steps_beyond_16_bits(name: str) -> None:
    with pytest.raises(ValueError, match=r"num_steps must be in 1\.\.16; got 17"):
        spikegen.CODES[name](torch.rand(2), 17)


def test_hybrid_binary_beyond_16_bits() -> None:
    assert spikegen.hybrid_binary(torch.rand(2), 17).shape == (17, 2)
    with pytest.raises(ValueError, match=r"num_steps must be at most .* 17; got 18"):
        spikegen.hybrid_binary(torch.rand(2), 18)


@codes
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.complex64])
def test_data_that_are_not_floating_point(name: str, dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=rf"data must have a floating point dtype; got {dtype}.*float\(\) /"):
        spikegen.CODES[name](torch.ones(2, dtype=dtype), 4)


@codes
def test_data_that_are_no_tensor(name: str) -> None:
    with pytest.raises(TypeError, match=r"data must be a torch.Tensor; got ndarray"):
        spikegen.CODES[name](np.ones(2), 4)


@codes
@pytest.mark.parametrize("wrong", [-0.01, 1.01, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("dtype", DTYPES)
def test_data_outside_the_range(name: str, wrong: float, dtype: torch.dtype) -> None:
    data = torch.tensor([0.5, wrong], dtype=dtype)
    if name == "direct" and math.isfinite(wrong):
        assert torch.equal(spikegen.direct(data, 4), data.expand(4, 2))
        return
    wanted = "be finite" if name == "direct" else r"be in \[0, 1\]"
    with pytest.raises(ValueError, match=rf"data must {wanted}; got (values from|NaN)"):
        spikegen.CODES[name](data, 4)


@pytest.mark.parametrize("name", LEVELLED)
@pytest.mark.parametrize(
    ("levels", "error", "message"),
    [
        ("unform", ValueError, "levels must be one of .*did you mean 'uniform'"),
        (None, TypeError, "levels must be one of 'uniform', 'quantile', or a tensor; got NoneType"),
        ([0.5, 0.2], TypeError, "levels must be .*; got list"),
        (torch.tensor([2, 1]), TypeError, "levels must have a floating point dtype; got torch.int64"),
        (
            torch.rand(9),
            ValueError,
            r"levels must have shape \(\d+,\) for \d+ bins; got shape \(9,\)",
        ),
        (torch.tensor(0.5), ValueError, r"levels must have shape .* got shape \(\)"),
    ],
)
def test_wrong_levels(name: str, levels: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        spikegen.CODES[name](torch.rand(2), 3, levels=levels)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.2, 0.5], "strictly decreasing"),
        ([0.5, 0.5], "strictly decreasing"),
        ([1.1, 0.5], r"levels must be in \[0, 1\]"),
        ([0.5, -0.1], r"levels must be in \[0, 1\]"),
        ([0.5, math.nan], r"levels must be in \[0, 1\]; got NaN"),
    ],
)
def test_levels_that_make_no_bins(values: list[float], message: str) -> None:
    levels = torch.tensor(values)
    image = torch.rand(2)
    for call in (
        lambda: spikegen.temporal(image, 3, levels=levels),
        lambda: spikegen.hybrid(image, 3, levels=levels),
        lambda: spikegen.binary_temporal(image, 2, levels=levels),
        lambda: spikegen.decode(torch.eye(3), "temporal", levels=levels),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("last", ["rest", None, True])
def test_wrong_last(last: object) -> None:
    with pytest.raises(ValueError, match="last must be one of 'remaining', 'all', 'none'; got"):
        spikegen.temporal(torch.rand(2), 3, last=last)


@pytest.mark.parametrize("name", ["hybrid", "hybrid_binary"])
@pytest.mark.parametrize("direct_steps", [0, -1, 5])
def test_direct_steps_out_of_range(name: str, direct_steps: int) -> None:
    with pytest.raises(ValueError, match=rf"direct_steps must be .*; got {direct_steps}"):
        spikegen.CODES[name](torch.rand(2), 4, direct_steps=direct_steps)


@pytest.mark.parametrize("name", ["hybrid", "hybrid_binary"])
def test_direct_steps_of_a_wrong_type(name: str) -> None:
    with pytest.raises(TypeError, match="direct_steps must be an integer; got True"):
        spikegen.CODES[name](torch.rand(2), 4, direct_steps=True)


@pytest.mark.parametrize("period", [0, 5])
def test_period_out_of_range(period: int) -> None:
    with pytest.raises(ValueError, match=rf"period must be in 1\.\.4; got {period}"):
        spikegen.phase(torch.rand(2), 4, period=period)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (torch.tensor([0.0, 0.0, 0.0, 1.0]), "data must not repeat values so often"),
        (torch.tensor([0.5]), "data must have at least num_steps=3 values; got 1"),
        (torch.tensor([0.1, 0.2, 1.5]), r"data must be in \[0, 1\]"),
        (torch.tensor([0.1, 0.2, math.nan]), r"data must be in \[0, 1\]; got NaN"),
    ],
)
def test_data_that_have_no_quantile_levels(data: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spikegen.quantile_levels(3, data=data)


def test_quantile_levels_of_integers() -> None:
    with pytest.raises(TypeError, match="data must have a floating point dtype"):
        spikegen.quantile_levels(3, data=torch.arange(10))


def test_unknown_code() -> None:
    with pytest.raises(ValueError, match=r"code must be one of .*'hybird'; did you mean 'hybrid'"):
        spikegen.get_code("hybird")
    with pytest.raises(ValueError, match=r"got 'morse'$"):
        spikegen.get_code("morse")
    with pytest.raises(TypeError, match=r"code must be .*; got int"):
        spikegen.get_code(3)


def test_own_code() -> None:
    assert spikegen.get_code(torch.ones_like) is torch.ones_like


@pytest.mark.parametrize(
    ("spikes", "options", "error", "message"),
    [
        (torch.eye(3), {"code": "temproal"}, ValueError, "did you mean 'temporal'"),
        (torch.eye(3), {"code": spikegen.hybrid}, TypeError, "code must be one of .*; got"),
        (torch.eye(3).int(), {"code": "hybrid"}, TypeError, "spikes must have a floating point dtype"),
        (torch.tensor(1.0), {"code": "hybrid"}, ValueError, r"spikes must be \[T, ...\]"),
        (torch.ones(0, 2), {"code": "hybrid"}, ValueError, r"spikes must be \[T, ...\]"),
        (torch.eye(3) / 2, {"code": "temporal"}, ValueError, "spikes must be 0 or 1"),
        (torch.eye(3) * math.nan, {"code": "phase"}, ValueError, "spikes must be 0 or 1"),
        (torch.zeros(3, 1), {"code": "binary_temporal"}, ValueError, "spikes must hold at least one spike"),
        (torch.ones(17, 1), {"code": "bit_plane"}, ValueError, r"spikes.* in 1\.\.16; got 17"),
        (torch.eye(3), {"code": "temporal", "period": 2}, ValueError, "period must be None"),
        (torch.eye(3), {"code": "phase", "period": 4}, ValueError, r"period must be in 1\.\.3"),
    ],
)
def test_decode_refuses(
    spikes: Tensor, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        spikegen.decode(spikes, **options)
