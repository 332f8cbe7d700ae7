"""A shape that has two readings is never read in silence; a number of steps without parameters is refused."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import snntorch as snn
import torch
from torch import Tensor

import snntorch_asnn as asnn
from snntorch_asnn import AdaptiveLapicque, AdaptiveLeaky, AdaptiveRLeaky, AdaptiveSynaptic

T = 4
FAMILY: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "Leaky": (
        lambda **o: AdaptiveLeaky(**{"beta": 0.9} | o),
        ("beta", "threshold", "gain", "graded_spikes_factor"),
    ),
    "Synaptic": (
        lambda **o: AdaptiveSynaptic(**{"alpha": 0.5, "beta": 0.9} | o),
        ("alpha", "beta", "threshold", "gain"),
    ),
    "RLeaky": (
        lambda **o: AdaptiveRLeaky(**{"beta": 0.9, "linear_features": T} | o),
        ("beta", "threshold", "gain"),
    ),
    "Lapicque": (lambda **o: AdaptiveLapicque(**{"beta": 0.9} | o), ("threshold", "gain")),
}
CASES = [(kind, name) for kind, (_, names) in FAMILY.items() for name in names]


@pytest.mark.parametrize(("kind", "name"), CASES)
@pytest.mark.parametrize("features", [(), (1,), (1, 1), (3, 1, 1)])
def test_a_first_size_of_t_warns(kind: str, name: str, features: tuple[int, ...]) -> None:
    build, _ = FAMILY[kind]
    shape = (T, *features)
    value = torch.rand(shape) + 0.1
    text = f"{name} of shape {shape} is read as"
    if name in ("gain", "graded_spikes_factor") and features:
        # Features are read off leaks and thresholds only.
        with pytest.raises(ValueError, match=re.escape(f"pass feature_shape={features}")):
            build(num_steps=T, **{name: value})
    else:
        with pytest.warns(UserWarning, match=re.escape(text) + r".*pass feature_shape=.*to confirm"):
            build(num_steps=T, **{name: value})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        by_step = build(num_steps=T, feature_shape=features, **{name: value})
        by_feature = build(num_steps=T, feature_shape=shape, **{name: value})
    torch.testing.assert_close(getattr(by_step, name), value)
    held = getattr(by_feature, name)
    torch.testing.assert_close(held, value.expand(T, *shape))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_warns_for_any_dtype_and_for_numpy(dtype: torch.dtype) -> None:
    with pytest.warns(UserWarning, match="beta of shape"):
        AdaptiveLeaky(torch.rand(T, 1, 1).to(dtype), num_steps=T)
    with pytest.warns(UserWarning, match="threshold of shape"):
        AdaptiveLeaky(0.9, np.ones((T, 1, 1), dtype=np.float32), num_steps=T)  # type: ignore[arg-type]


def test_no_warning_where_there_is_one_reading() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AdaptiveLeaky(torch.rand(T + 1, 1, 1), num_steps=T)
        AdaptiveLeaky(torch.rand(1, 3), num_steps=1)
        AdaptiveLeaky(torch.tensor([0.9]), num_steps=1)


def test_the_confirmed_reading_is_snntorchs() -> None:
    beta, x = torch.rand(T, 1, 1), torch.randn(T, 2, T, 3, 3) * 2

    def run(lif: Any) -> Tensor:
        mem, out = lif.reset_mem(), []
        for current in x:
            spk, mem = lif(current, mem)
            out.append(spk)
        return torch.stack(out)

    wanted = run(snn.Leaky(beta))
    assert torch.equal(run(AdaptiveLeaky(beta, num_steps=T, feature_shape=(T, 1, 1))), wanted)
    assert torch.equal(run(asnn.adapt(snn.Leaky(beta), T)), wanted)


def test_a_factor_per_channel_names_the_cure() -> None:
    with pytest.raises(ValueError, match=r"graded_spikes_factor.*pass feature_shape=\(8, 1, 1\)"):
        AdaptiveLeaky(0.9, graded_spikes_factor=torch.rand(8, 1, 1), num_steps=5)
    lif = AdaptiveLeaky(0.9, graded_spikes_factor=torch.rand(8, 1, 1), num_steps=5, feature_shape=(8, 1, 1))
    assert lif(torch.rand(2, 8, 3, 3))[0].shape == (2, 8, 3, 3)


@pytest.mark.parametrize("kind", list(FAMILY))
def test_a_number_of_steps_without_parameters_is_refused(kind: str) -> None:
    neuron = FAMILY[kind][0](num_steps=T)
    for num_steps in (T - 1, T + 1):
        with pytest.raises(ValueError, match=rf"num_steps={num_steps}:.*call resize_steps\({num_steps}\)"):
            neuron.num_steps = num_steps
    with pytest.raises((TypeError, ValueError), match="num_steps must be"):
        neuron.num_steps = 0
    with pytest.raises(TypeError, match="num_steps must be"):
        neuron.num_steps = "6"
    assert neuron.num_steps == T
    neuron.num_steps = T
    assert neuron.resize_steps(T + 2).num_steps == T + 2
