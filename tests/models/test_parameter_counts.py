"""Parameters of the networks, as published, without those of the neurons."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from snntorch_asnn.energy import count_macs
from snntorch_asnn.models import create_model, list_models

# Name: classes, published parameters, and those among them that no output depends on: two layer norms of
# twice the width in every block.
SPIKFORMERS = {
    "spikformer_4_256": (10, 4_159_274, 4 * 4 * 256),
    "spikformer_2_384": (10, 5_768_122, 2 * 4 * 384),
    "spikformer_4_384": (10, 9_330_874, 4 * 4 * 384),
    "spikformer_8_384": (1000, 16_828_312, 8 * 4 * 384),
    "spikformer_6_512": (1000, 23_385_640, 6 * 4 * 512),
    "spikformer_8_512": (1000, 29_705_768, 8 * 4 * 512),
    "spikformer_10_512": (1000, 36_025_896, 10 * 4 * 512),
    "spikformer_8_768": (1000, 66_363_208, 8 * 4 * 768),
}
OTHERS = {
    "spiking_resnet19": (10, 12_630_858, 0),
    "spiking_resnet18_cifar": (10, 11_173_962, 0),
    "spikingformer_4_384": (10, 9_326_266, 4 * 4 * 384),
    "qkformer_4_384": (10, 6_706_234, 0),
    "maxformer_cifar": (10, 6_568_282, 0),
}
RESNETS = {
    f"{kind}_resnet{depth}": (1000, parameters, 0)
    for kind in ("spiking", "sew", "ms")
    for depth, parameters in (
        (18, 11_689_512),
        (34, 21_797_672),
        (50, 25_557_032),
        (101, 44_549_160),
        (152, 60_192_808),
    )
}
MILLIONS = {
    "spikingformer_4_256": (10, 4.15),
    "spikingformer_2_384": (10, 5.76),
    "spikingformer_8_384": (1000, 16.82),
    "spikingformer_8_512": (1000, 29.69),
    "spikingformer_8_768": (1000, 66.34),
    "qkformer_10_384": (1000, 16.47),
    "qkformer_10_512": (1000, 29.08),
    "qkformer_10_768": (1000, 64.96),
    "maxformer_10_768": (1000, 63.99),
}
UNPUBLISHED = {
    "lenet": (308_250, 6_457_856),
    "maxformer_tiny": (136_514, 24_412_800),
    "qkformer_tiny": (140_306, 39_150_208),
    "spikformer_2_256": (2_568_490, 311_265_792),
    "spikformer_dvs_2_256": (2_566_666, 375_392_768),
    "spikformer_dvs_tiny": (112_906, 1_378_944),
    "spikformer_tiny": (113_170, 16_605_824),
    "spiking_resnet_tiny": (78_042, 12_501_632),
    "spikingformer_tiny": (112_978, 16_605_824),
}
"""Parameters and multiply-accumulates of one step, with ten classes: sums of widths and map sizes."""


def parameters(name, num_classes):
    encoding = "none" if "_dvs_" in name else "direct"
    with torch.device("meta"):
        model = create_model(
            name, num_classes=num_classes, num_steps=4, neuron=nn.Identity, encoding=encoding, readout="mean"
        )
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", [*SPIKFORMERS, *OTHERS, *RESNETS])
def test_parameters_are_the_published_ones_that_count(name):
    num_classes, published, unused = (SPIKFORMERS | OTHERS | RESNETS)[name]
    assert parameters(name, num_classes) == published - unused


@pytest.mark.parametrize("name", MILLIONS)
def test_parameters_are_the_published_millions(name):
    num_classes, published = MILLIONS[name]
    assert round(parameters(name, num_classes) / 1e6, 2) == pytest.approx(published, abs=0.011)


@pytest.mark.parametrize(
    ("name", "published", "unused"),
    [("spikformer_4_384", 9_365_524, 4 * 4 * 384), ("spiking_resnet19", 12_653_988, 0)],
)
def test_parameters_with_a_hundred_classes(name, published, unused):
    assert parameters(name, 100) == published - unused


@pytest.mark.parametrize("name", UNPUBLISHED)
def test_the_others_are_as_wide_and_their_maps_as_large_as_ever(name):
    encoding = "none" if "_dvs_" in name else "direct"
    with torch.device("meta"):
        model = create_model(name, num_classes=10, num_steps=1, encoding=encoding, readout="mean")
    assert (parameters(name, 10), count_macs(model).ann) == UNPUBLISHED[name]


def test_a_hybrid_code_adds_one_first_layer():
    for name, added in (
        ("spikformer_4_384", 3 * 48 * 9 + 2 * 48),
        ("spiking_resnet18", 3 * 64 * 49 + 2 * 64),
    ):
        counts = []
        for encoding in ("temporal", "hybrid"):
            with torch.device("meta"):
                model = create_model(name, num_classes=10, num_steps=4, neuron=nn.Identity, encoding=encoding)
            counts.append(sum(p.numel() for p in model.parameters()))
        assert counts[1] - counts[0] == added


def test_every_published_network_is_here():
    tested = {*SPIKFORMERS, *OTHERS, *RESNETS, *MILLIONS}
    untested = {"maxformer_10_384", "maxformer_10_512"}  # maxformer_10_768 at other widths
    assert set(list_models()) == tested | UNPUBLISHED.keys() | untested
