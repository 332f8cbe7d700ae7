"""Data sets: loading and splits. Images stay in [0, 1]; the network normalises them."""

from __future__ import annotations

from snntorch_asnn.train.data.images import TensorImages, join_images, spread_images, to_unit_range
from snntorch_asnn.train.data.load import check_data, check_images, image_shape, load_images
from snntorch_asnn.train.data.splits import ImageSplits

__all__ = [
    "ImageSplits",
    "TensorImages",
    "check_data",
    "check_images",
    "image_shape",
    "join_images",
    "load_images",
    "spread_images",
    "to_unit_range",
]
