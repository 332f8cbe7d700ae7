"""Encode images into the input sequence of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from snntorch_asnn._arguments import did_you_mean
from snntorch_asnn.encoding import Encoder, Moments
from snntorch_asnn.spikegen import CODES

__all__ = ["EncodingLike", "ImageEncoder"]

EncodingLike = str | nn.Module | Callable[[Tensor, int], Tensor]


class ImageEncoder(nn.Module):
    """Encode images, and check the shapes of input and output.

    Args:
        encoding: Name of a code, callable ``(images, num_steps)``, module ``(images)``, or
            ``"none"``.
        num_steps: Number of steps T.
        image_shape: Shape ``(C, H, W)`` of one image.
        normalize: See :class:`~snntorch_asnn.encoding.Encoder`. It needs a name or a callable.
        unnormalize: See ``normalize``.

    Attributes:
        direct_steps: Number of analog steps at the start of a hybrid code; 0 for other codes. A module
            declares it as an attribute of this name, a callable as the default of such an argument.

    Raises:
        TypeError: ``encoding`` has another type.
        ValueError: The name is unknown, a module encodes into another number of steps, or moments do not
            fit.

    Example::

        >>> import torch
        >>> encode = ImageEncoder("hybrid", 4, (1, 8, 8))
        >>> encode(torch.rand(2, 1, 8, 8)).shape, encode.direct_steps
        (torch.Size([4, 2, 1, 8, 8]), 1)
    """

    def __init__(
        self,
        encoding: EncodingLike,
        num_steps: int,
        image_shape: tuple[int, int, int],
        *,
        normalize: Moments | None = None,
        unnormalize: Moments | None = None,
    ) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.image_shape = image_shape
        moments: dict[str, Any] = {"normalize": normalize, "unnormalize": unnormalize}
        self.encoder = _encoder(encoding, num_steps, **moments)
        _check_moments(self.encoder, moments, image_shape)
        self.direct_steps: int = getattr(self.encoder, "direct_steps", 0)

    def forward(self, images: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to ``[T, B, C, H, W]``."""
        self._check(images)
        if self.encoder is None:
            return images
        planes: Tensor = self.encoder(images)
        if planes.shape != (self.num_steps, *images.shape):
            raise ValueError(
                f"encoding must return shape {(self.num_steps, *images.shape)}; got {tuple(planes.shape)}"
            )
        return planes

    def resize_steps(self, num_steps: int) -> None:
        """Change the number of steps.

        Raises:
            ValueError: The encoder supports one number of steps only.
        """
        resize = getattr(self.encoder, "resize_steps", None)
        if resize is not None:
            resize(num_steps)
        elif getattr(self.encoder, "num_steps", num_steps) != num_steps:
            raise ValueError(
                f"num_steps must be {self.num_steps}, because the encoding has no resize_steps; "
                f"got {num_steps}"
            )
        self.num_steps = num_steps

    def _check(self, images: Tensor) -> None:
        if not isinstance(images, Tensor):
            raise TypeError(f"images must be a tensor; got {type(images).__name__}")
        if not images.is_floating_point():
            raise TypeError(f"images must have a floating point dtype; got {images.dtype}")
        channels, height, width = self.image_shape
        wanted, fits = f"[B, {channels}, {height}, {width}]", images.ndim == 4
        if self.encoder is None:
            wanted = f"[{self.num_steps}, {wanted[1:]}"
            fits = images.ndim == 5 and len(images) == self.num_steps
        if not fits or images.shape[-3:] != self.image_shape:
            raise ValueError(f"images must be {wanted}; got shape {tuple(images.shape)}")


def _check_moments(
    encoder: nn.Module | None, moments: Mapping[str, Any], image_shape: tuple[int, int, int]
) -> None:
    """Refuse moments that do not fit the channels of the images."""
    for argument, given in moments.items():
        if given is None:
            continue
        for name in ("mean", "std"):
            shape = getattr(getattr(encoder, argument), name).shape
            sizes = zip(reversed(shape), reversed(image_shape), strict=False)
            if len(shape) > 3 or any(size not in (1, wanted) for size, wanted in sizes):
                raise ValueError(
                    f"{argument} must have one {name}, or one for each of {image_shape[0]} channels;"
                    f" got {given!r}"
                )


def _encoder(encoding: EncodingLike, num_steps: int, **moments: Any) -> nn.Module | None:
    for argument, given in moments.items():
        if given is not None and (encoding == "none" or isinstance(encoding, nn.Module)):
            cure = "normalise the sequence" if encoding == "none" else "pass it to the encoding"
            raise ValueError(
                f"{argument} must be None if encoding is a module or 'none'; got {given!r}; {cure} instead"
            )
        if isinstance(given, str):
            raise ValueError(f"{argument} must be None or (mean, std); got {given!r}")
    if encoding == "none":
        return None
    if isinstance(encoding, str) and encoding not in CODES:
        names = ", ".join(map(repr, [*CODES, "none"]))
        hint = did_you_mean(encoding, [*CODES, "none"])
        raise ValueError(f"encoding must be one of {names}, or a callable; got {encoding!r}{hint}")
    if not (isinstance(encoding, str) or callable(encoding)):
        raise TypeError(f"encoding must be a name or a callable; got {type(encoding).__name__}")
    if not isinstance(encoding, nn.Module):
        return Encoder(num_steps, code=encoding, **moments)
    steps = getattr(encoding, "num_steps", num_steps)
    if steps != num_steps:
        raise ValueError(f"encoding must have num_steps={num_steps}; got num_steps={steps}")
    return encoding
