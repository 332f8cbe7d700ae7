"""Mean and standard deviation that a run normalises its images with."""

from __future__ import annotations

import math
from typing import Protocol, TypeAlias

Moments: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]

# CIFAR-10's, which the published codes of the method and of Spikformer take for CIFAR-100 too.
_CIFAR: Moments = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
_IMAGENET: Moments = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PUBLISHED = {"cifar10": _CIFAR, "cifar100": _CIFAR, "imagenet": _IMAGENET}


class NormalizeSettings(Protocol):
    """What :func:`moments_of` reads of a :class:`~snntorch_asnn.train.TrainConfig`."""

    @property
    def normalize(self) -> str:
        """``"auto"``, ``"none"``, or mean and standard deviation."""

    @property
    def data(self) -> str:
        """Name of the data set."""

    @property
    def encoding(self) -> str:
        """Name of the code."""


def moments_of(config: NormalizeSettings) -> Moments | None:
    """Return the mean and standard deviation that a configuration asks for, None for none.

    ``"auto"`` does as published codes do: with direct coding, images of CIFAR and ImageNet are normalised;
    no other code and no other data are.

    Raises:
        ValueError: ``normalize`` cannot be read.

    Example::

        >>> from types import SimpleNamespace
        >>> moments_of(SimpleNamespace(normalize="0.5 0.25", data="digits", encoding="hybrid"))
        ((0.5,), (0.25,))
    """
    if config.normalize == "auto":
        return _PUBLISHED.get(config.data) if config.encoding == "direct" else None
    return parse_moments(config.normalize)


def parse_moments(text: str) -> Moments | None:
    """Read ``"MEAN STD"``, each one number or one for each channel with commas between them; or ``"none"``.

    Raises:
        ValueError: the text is neither.
    """
    if text == "none":
        return None
    try:
        mean, std = (tuple(float(number) for number in part.split(",")) for part in text.split())
    except ValueError:
        mean = std = ()
    fits = len(mean) == len(std) or 1 in (len(mean), len(std))
    if not (mean and std and fits and all(map(math.isfinite, (*mean, *std)))):
        raise ValueError(
            "normalize must be auto, none, or mean and standard deviation such as '0.5 0.25', with commas"
            f" between the numbers of several channels; got {text!r}"
        )
    if min(std) <= 0:
        raise ValueError(f"normalize must have standard deviations above 0; got {text!r}")
    return mean, std
