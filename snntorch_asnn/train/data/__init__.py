"""Data sets by name, and their splits. Images stay in [0, 1]; the network normalises them."""

from __future__ import annotations

from snntorch_asnn.train.config import FOLDER_DATA_NAMES, TrainConfig
from snntorch_asnn.train.data.events import EVENTS, load_events
from snntorch_asnn.train.data.folders import check_folders, load_folders
from snntorch_asnn.train.data.in_memory import (
    TensorImages,
    join_images,
    load_in_memory,
    spread,
    spread_images,
    to_unit_range,
)
from snntorch_asnn.train.data.splits import ImageSplits, check_same_data

__all__ = [
    "ImageSplits",
    "TensorImages",
    "check_data",
    "check_images",
    "check_same_data",
    "image_shape",
    "join_images",
    "load_images",
    "spread",
    "spread_images",
    "to_unit_range",
]

_SHAPES = {
    "digits": (1, 8),
    "mnist": (1, 28),
    "fashion-mnist": (1, 28),
    "cifar10": (3, 32),
    "cifar100": (3, 32),
    "n-mnist": (2, 34),
    "cifar10-dvs": (2, 128),
    "dvs-gesture": (2, 128),
}


def load_images(config: TrainConfig) -> ImageSplits:
    """Load a data set, and hold out the validation split from its training images.

    Args:
        config: Names the data set, its folder, the size of the splits and the augmentation.

    Returns:
        ImageSplits: The three splits, the same for every seed.

    Raises:
        ValueError: The data are not in ``config.data_dir`` and cannot be downloaded, there are too few images
            to split, or ``config.encoding`` does not fit them: ``"none"`` is for event data, which are
            sequences already, and a code is for images.
        ModuleNotFoundError: scikit-learn, torchvision, or for event data tonic is not installed.
    """
    check_data(config)
    if config.data in EVENTS:
        return load_events(config)
    if config.data in FOLDER_DATA_NAMES:
        return load_folders(config)
    return load_in_memory(config)


def check_images(config: TrainConfig) -> None:
    """Decode every picture of a data set in folders, and name the pictures that cannot be read."""
    if config.data in FOLDER_DATA_NAMES:
        check_folders(config)


def image_shape(config: TrainConfig) -> tuple[int, int]:
    """Return channels and size of the images, without loading them."""
    return (3, config.image_size) if config.data in FOLDER_DATA_NAMES else _SHAPES[config.data]


def check_data(config: TrainConfig) -> None:
    """Refuse a data folder that does not exist, or an encoding that does not fit the data."""
    if (config.encoding == "none") != (config.data in EVENTS):
        wanted = (
            f"none for {config.data}, whose frames are a sequence already"
            if config.data in EVENTS
            else f"a code for {config.data}"
        )
        raise ValueError(f"encoding must be {wanted}; got {config.encoding!r}")
    if config.data != "digits" and config.data_dir is not None and not config.data_dir.is_dir():
        raise ValueError(f"data_dir must be a folder; {config.data_dir} does not exist or is a file")
