from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from snntorch_asnn import spikegen
from snntorch_asnn.encoding import Encoder
from snntorch_asnn.models.image_encoder import ImageEncoder

SHAPE = (3, 8, 8)


@pytest.fixture
def images():
    return torch.rand(2, *SHAPE)


@pytest.mark.parametrize("name", spikegen.CODES)
def test_every_code_by_name(name, images):
    encode = ImageEncoder(name, 4, SHAPE)
    assert torch.equal(encode(images), spikegen.CODES[name](images, 4))


@pytest.mark.parametrize(
    ("encoding", "direct_steps"),
    [
        ("direct", 0),
        ("temporal", 0),
        ("hybrid", 1),
        ("hybrid_binary", 1),
        ("single_spike_hybrid", 1),
        ("none", 0),
        (partial(spikegen.hybrid, direct_steps=2), 2),
        (partial(spikegen.single_spike_hybrid, levels="quantile"), 1),
        (partial(spikegen.temporal, last="all"), 0),
        (Encoder(4), 1),
        (Encoder(4, code="temporal"), 0),
        (Encoder(4, direct_steps=3), 3),
        (lambda x, num_steps: x.expand(num_steps, *x.shape), 0),
    ],
)
def test_knows_the_analog_steps(encoding, direct_steps):
    assert ImageEncoder(encoding, 4, SHAPE).direct_steps == direct_steps


def test_options_through_partial(images):
    encode = ImageEncoder(partial(spikegen.temporal, last="all"), 4, SHAPE)
    assert encode(images)[-1].eq(1).all()


def test_a_modules_parameters_are_the_models(images):
    encode = ImageEncoder(Encoder(4, normalize="layer", shape=SHAPE), 4, SHAPE)
    assert sum(p.numel() for p in encode.parameters()) == 2 * 3 * 8 * 8
    encode(images).sum().backward()
    assert all(p.grad is not None for p in encode.parameters())


def test_none_passes_the_sequence_through():
    planes = torch.rand(4, 2, *SHAPE)
    assert ImageEncoder("none", 4, SHAPE)(planes) is planes


def test_wrong_encodings(images):
    with pytest.raises(TypeError, match="encoding must be a name or a callable; got int"):
        ImageEncoder(3, 4, SHAPE)
    with pytest.raises(ValueError, match=r"encoding must be one of .*'none'.*; got 'quantile_levels"):
        ImageEncoder("quantile_levels", 4, SHAPE)
    with pytest.raises(ValueError, match="encoding must have num_steps=4; got num_steps=5"):
        ImageEncoder(Encoder(5), 4, SHAPE)
    with pytest.raises(ValueError, match=r"encoding must return shape \(4, 2, 3, 8, 8\); got \(2, 3"):
        ImageEncoder(nn.Identity(), 4, SHAPE)(images)
