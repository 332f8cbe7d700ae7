"""Data sets by name."""

from __future__ import annotations

from snntorch_asnn.train.config import FOLDER_DATA_NAMES, TrainConfig
from snntorch_asnn.train.data.events import EVENTS, load_events
from snntorch_asnn.train.data.folders import check_folders, load_folders
from snntorch_asnn.train.data.named import load_named
from snntorch_asnn.train.data.splits import ImageSplits

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
    """Load a data set, and carve the validation split from its training images.

    Args:
        config: names the data set, its folder, the size of the splits and the augmentation.

    Returns:
        ImageSplits: the three splits; every seed gets the same ones.

    Raises:
        ValueError: the data are not where ``config.data_dir`` says and cannot be downloaded,
            there are too few images to split, or ``config.encoding`` does not fit them: it is
            ``"none"`` for event data, which come as sequences, and a code for images.
        ModuleNotFoundError: scikit-learn, torchvision, or for event data tonic is not installed.
    """
    check_data(config)
    if config.data in EVENTS:
        return load_events(config)
    if config.data in FOLDER_DATA_NAMES:
        return load_folders(config)
    return load_named(config)


def check_images(config: TrainConfig) -> None:
    """Decode every picture of a data set that is a folder of files.

    Raises:
        ValueError: names the pictures that cannot be read, or the folder is not laid out as it should be.
    """
    if config.data in FOLDER_DATA_NAMES:
        check_folders(config)


def image_shape(config: TrainConfig) -> tuple[int, int]:
    """Return channels and side of the images, without loading them."""
    return (3, config.image_size) if config.data in FOLDER_DATA_NAMES else _SHAPES[config.data]


def check_data(config: TrainConfig) -> None:
    """Refuse data that do not fit the encoding, or that are not where they should be.

    Raises:
        ValueError: ``config.encoding`` does not fit the data, or ``config.data_dir`` is no folder.
    """
    if (config.encoding == "none") != (config.data in EVENTS):
        wanted = "none, since its frames are a sequence" if config.data in EVENTS else "a code"
        raise ValueError(f"encoding must be {wanted}, for {config.data}; got {config.encoding!r}")
    if config.data != "digits" and config.data_dir is not None and not config.data_dir.is_dir():
        raise ValueError(f"data_dir must be a folder; got {config.data_dir}, which is none")
