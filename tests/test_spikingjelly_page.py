"""The page docs/spikingjelly.md: its rows compute what SpikingJelly computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import snntorch_asnn as asnn
from snntorch_asnn import surrogate

pytest.importorskip("spikingjelly")
from spikingjelly.activation_based import neuron as sj
from spikingjelly.activation_based import surrogate as sj_surrogate

SIGMOID = (surrogate.sigmoid(4.0, fires_at_threshold=True), sj_surrogate.Sigmoid(4.0))
ATAN = (surrogate.atan(2.0, fires_at_threshold=True), sj_surrogate.ATan(2.0))


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize(("own_surrogate", "its_surrogate"), [SIGMOID, ATAN])
@pytest.mark.parametrize(("mechanism", "v_reset"), [("zero", 0.0), ("subtract", None)])
@pytest.mark.parametrize(
    ("node", "options", "beta", "gain"),
    [
        ("LIFNode", {"tau": 3.0, "v_threshold": 0.8}, 1 - 1 / 3, 1 / 3),
        ("LIFNode", {"tau": 3.0, "decay_input": False}, 1 - 1 / 3, 1.0),
        ("IFNode", {}, 1.0, 1.0),
    ],
)
def test_neurons(
    node: str,
    options: dict[str, Any],
    beta: float,
    gain: float,
    mechanism: Any,
    v_reset: float | None,
    own_surrogate: Any,
    its_surrogate: Any,
    detach_reset: bool,
) -> None:
    its = getattr(sj, node)(
        **options,
        v_reset=v_reset,
        surrogate_function=its_surrogate,
        detach_reset=detach_reset,
        step_mode="m",
        store_v_seq=True,
    ).double()
    own = asnn.AdaptiveLeaky(
        torch.tensor(beta, dtype=torch.float64),
        gain=torch.tensor(gain, dtype=torch.float64),
        threshold=torch.tensor(options.get("v_threshold", 1.0), dtype=torch.float64),
        num_steps=6,
        sequence=True,
        output=True,
        reset_mechanism=mechanism,
        reset_delay=False,
        exact_reset=True,
        detach_reset=detach_reset,
        spike_grad=own_surrogate,
    ).double()
    x = torch.randn(6, 3, 50, dtype=torch.float64) + 0.7
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    spikes, mem = own(inputs[0])
    wanted = its(inputs[1])
    assert spikes.mean() > 0.05
    torch.testing.assert_close(spikes, wanted)
    torch.testing.assert_close(mem, its.v_seq)
    weights = torch.randn_like(x)
    for out in (spikes, wanted):
        (out * weights).sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
