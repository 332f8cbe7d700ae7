from __future__ import annotations

import pytest
import torch

from snntorch_asnn.train.data import TensorImages, spread_images, to_unit_range


def test_a_transform_sees_single_images():
    seen = []
    images = TensorImages(torch.rand(4, 1, 2, 2), torch.arange(4), lambda x: seen.append(x.shape) or -x)
    batch, labels = images.__getitems__([1, 3])
    assert torch.equal(batch, -images.images[[1, 3]])
    assert seen == [(1, 2, 2)] * 2
    assert labels.tolist() == [1, 3]


def test_integers_become_unit_range():
    assert to_unit_range(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx(
        [0.0, 0.2, 1.0]
    )


def test_spread_images_come_from_every_class_of_a_sorted_data_set():
    images = TensorImages(torch.arange(10.0).view(10, 1, 1, 1), torch.arange(10) // 5)
    assert spread_images(images, 4).flatten().tolist() == [0, 2, 5, 7]
    assert spread_images(images, 99).flatten().tolist() == list(range(10))
    frames = [(torch.full((3, 2, 1, 1), float(i)), 0) for i in range(6)]
    spread = spread_images(frames, 2)
    assert spread.shape == (3, 2, 2, 1, 1)
    assert spread[0, :, 0].flatten().tolist() == [0, 3]
