"""Random changes of training images, by torchvision and timm.

Images stay in [0, 1]; the network normalises the images that it presents. All randomness comes from torch's
global generator on the CPU, so that one seed repeats every crop, colour and mixture.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from snntorch_asnn._extras import require

if TYPE_CHECKING:
    from snntorch_asnn.train.config import TrainConfig

__all__ = ["make_mixup", "make_train_transform"]

Transform: TypeAlias = Callable[[Tensor], Tensor]
Mix: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def make_train_transform(config: TrainConfig, image_shape: Sequence[int]) -> Transform | None:
    """Return the augmentation that a configuration names: geometry, then RandAugment, then random erasing.

    ``augment`` chooses the geometry:

    - ``"crop-flip"``: shifts by up to ``crop_padding`` pixels, an eighth of the side if None, and flips half
      of the images;
    - ``"crop-flip-rotate"``: the same, then a rotation by 0 to ``rotation`` degrees, as in the published
      training of the method on CIFAR, with a padding of 5;
    - ``"random-resized-crop"``: a crop of 8 to 100 % of the area, resized, and a flip, as is usual on
      ImageNet;
    - ``"auto"``: ``"crop-flip"`` for images of three channels, else nothing;
    - ``"none"``.

    Args:
        config: ``augment``, ``crop_padding``, ``rotation``, ``rand_augment`` and ``random_erasing``.
        image_shape: ``(C, H, W)`` of the model's images, or ``(T, C, H, W)`` of event frames, which move
            together.

    Returns:
        A function of one image, ``uint8`` or float in [0, 1], that returns the same dtype; None if there is
        nothing to do.

    Raises:
        ValueError: ``rand_augment`` is no policy of timm, or event frames are to be changed by RandAugment or
            random erasing.
        ModuleNotFoundError: torchvision, or timm for ``rand_augment``, is not installed.

    Example::

        >>> from snntorch_asnn.train import TrainConfig
        >>> config = TrainConfig(augment="crop-flip", random_erasing=0.25)
        >>> make_train_transform(config, (3, 32, 32))(torch.rand(3, 32, 32)).shape
        torch.Size([3, 32, 32])
    """
    if len(image_shape) != 3 and (config.rand_augment is not None or config.random_erasing > 0):
        raise ValueError("rand_augment and random_erasing must be off for event frames; they are for images")
    transforms = _geometry(config, image_shape)
    if config.rand_augment is not None:
        transforms.append(_rand_augment(config.rand_augment, min(image_shape[-2:])))
    if config.random_erasing > 0:
        transforms.append(_erase(config.random_erasing))
    if not transforms:
        return None
    transform: Transform = require("torchvision.transforms.v2", extra="train").Compose(transforms)
    return transform


def make_mixup(config: TrainConfig, num_classes: int) -> Mix | None:
    r"""Return mixup, CutMix, or a random choice of the two for each batch.

    .. math:: x = \lambda x_i + (1 - \lambda) x_j, \quad y = \lambda y_i + (1 - \lambda) y_j, \quad
        \lambda \sim \mathrm{Beta}(\alpha, \alpha)

    CutMix pastes a rectangle of area 1 - lambda instead. With alpha = 1 lambda is uniform on [0, 1].

    Args:
        config: ``mixup`` and ``cutmix``, the alphas; 0 leaves one out.
        num_classes: C.

    Returns:
        A function of a batch of float images ``[B, C, H, W]``, or event frames ``[T, B, C, H, W]``, and class
        indices ``[B]``, that returns mixed images and probabilities ``[B, C]``; None if both alphas are 0.

    Raises:
        ModuleNotFoundError: torchvision is not installed.

    Sources: "mixup: Beyond Empirical Risk Minimization", arXiv 1710.09412; "CutMix", arXiv 1905.04899.

    Example::

        >>> from snntorch_asnn.train import TrainConfig
        >>> mix = make_mixup(TrainConfig(mixup=1.0), num_classes=3)
        >>> images, targets = mix(torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 0]))
        >>> targets.shape, targets.sum(1)
        (torch.Size([4, 3]), tensor([1., 1., 1., 1.]))
    """
    if config.mixup == 0 and config.cutmix == 0:
        return None
    v2 = require("torchvision.transforms.v2", extra="train")
    kinds = [(config.mixup, v2.MixUp), (config.cutmix, v2.CutMix)]
    mix = v2.RandomChoice([kind(alpha=alpha, num_classes=num_classes) for alpha, kind in kinds if alpha > 0])

    def mix_batch(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if images.ndim == 4:
            mixed, targets = mix(images, labels)
            return mixed, targets
        num_steps = len(images)
        mixed, targets = mix(images.transpose(0, 1).flatten(1, 2), labels)
        return mixed.unflatten(1, (num_steps, -1)).transpose(0, 1), targets

    return mix_batch


def _geometry(config: TrainConfig, image_shape: Sequence[int]) -> list[Any]:
    channels, height, width = image_shape[-3:]
    name: str = config.augment
    if name == "auto":
        name = "crop-flip" if channels == 3 else "none"
    if name == "none":
        return []
    v2 = require("torchvision.transforms.v2", extra="train")
    flip = v2.RandomHorizontalFlip()
    if name == "random-resized-crop":
        return [v2.RandomResizedCrop((height, width), antialias=True), flip]
    pad = config.crop_padding
    padding = [max(1, width // 8), max(1, height // 8)] if pad is None else pad
    crop = v2.RandomCrop((height, width), padding=padding)
    if name == "crop-flip":
        return [crop, flip]
    return [crop, flip, v2.RandomRotation((0.0, config.rotation))]


def _rand_augment(policy: str, size: int) -> Transform:
    v2 = require("torchvision.transforms.v2.functional", extra="train")
    make = require("timm.data.auto_augment", extra="train").rand_augment_transform
    if not policy.startswith("rand-"):
        raise ValueError(f"rand_augment must be a policy such as rand-m9-n1-mstd0.4-inc1; got {policy!r}")
    try:
        augment = make(policy, {"translate_const": int(0.45 * size)})
    except (AssertionError, ValueError, KeyError) as error:
        raise ValueError(
            f"rand_augment must be a policy such as rand-m9-n1-mstd0.4-inc1; got {policy!r}: {error}"
        ) from error

    def transform(image: Tensor) -> Tensor:
        picture = v2.to_pil_image(v2.to_dtype(image.expand(3, -1, -1), torch.uint8, scale=True))
        with _python_seeded_by_torch():
            picture = augment(picture)
        changed = v2.pil_to_tensor(picture if len(image) == 3 else picture.convert("L"))
        result: Tensor = v2.to_dtype(changed, image.dtype, scale=True)
        return result

    return transform


@contextmanager
def _python_seeded_by_torch() -> Iterator[None]:
    """Seed Python's and NumPy's generators, which timm uses, by torch's, and restore them afterwards."""
    seed = int(torch.randint(2**32, ()))
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002


def _erase(probability: float) -> Transform:
    """Fill a rectangle with noise that is uniform over the range of images."""
    erasing = require("torchvision.transforms.v2", extra="train").RandomErasing(p=probability)

    def transform(image: Tensor) -> Tensor:
        kept = erasing(torch.ones(1, *image.shape[-2:])).bool()
        if kept.all():
            return image
        if image.is_floating_point():
            noise = torch.rand(image.shape, dtype=image.dtype)
        else:
            noise = torch.randint(256, image.shape, dtype=image.dtype)
        return torch.where(kept, image, noise)

    return transform
