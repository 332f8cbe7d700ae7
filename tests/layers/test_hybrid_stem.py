from __future__ import annotations

import torch
from torch import nn

from snntorch_asnn.layers import HybridStem, TimeFolded


def test_analog_steps_and_spikes_go_separate_ways():
    direct, spike = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
    planes = torch.rand(5, 2, 3, 8, 8)
    wanted = [direct(planes[0]), direct(planes[1]), *map(spike, planes[2:])]
    out = HybridStem(direct, spike, direct_steps=2)(planes)
    torch.testing.assert_close(out, torch.stack(wanted))


def test_one_layer_is_enough_without_a_hybrid_code():
    def conv() -> nn.Module:
        return nn.Conv2d(3, 4, 3)

    assert isinstance(HybridStem.build(conv, direct_steps=1, num_steps=4), HybridStem)
    for direct_steps in (0, 4):
        stem = HybridStem.build(conv, direct_steps, num_steps=4)
        assert isinstance(stem, TimeFolded)
        assert len(list(stem.parameters())) == 2
