"""From images to the sequence that a model of the zoo sees."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from snntorch_asnn.encoding import HybridEncoder
from snntorch_asnn.spikegen import CODES

__all__ = ["EncodingLike", "ImageEncoder"]

EncodingLike = str | nn.Module | Callable[[Tensor, int], Tensor]


class ImageEncoder(nn.Module):
    """Encode images, with the shapes checked on both sides.

    Args:
        encoding: name of a code, callable ``(images, num_steps)``, module ``(images)``, or
            ``"none"``.
        num_steps: T.
        image_shape: (C, H, W).

    Attributes:
        direct_steps: number of analog steps at the start of a hybrid code, 0 for every other code.
            A module says so in an attribute of this name, a callable in the default of an argument.

    Raises:
        TypeError: ``encoding`` is nothing of this.
        ValueError: the name is unknown, or a module encodes into another number of steps.

    Example::

        >>> import torch
        >>> encode = ImageEncoder("hybrid", 4, (1, 8, 8))
        >>> encode(torch.rand(2, 1, 8, 8)).shape, encode.direct_steps
        (torch.Size([4, 2, 1, 8, 8]), 1)
    """

    def __init__(self, encoding: EncodingLike, num_steps: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.image_shape = image_shape
        self.encoder = _encoder(encoding, num_steps)
        self.direct_steps: int = getattr(self.encoder, "direct_steps", 0)

    def forward(self, images: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to ``[T, B, C, H, W]``."""
        self._check(images)
        if self.encoder is None:
            return images
        planes: Tensor = self.encoder(images)
        if planes.shape != (self.num_steps, *images.shape):
            raise ValueError(
                f"encoding must give shape {(self.num_steps, *images.shape)}; got {tuple(planes.shape)}"
            )
        return planes

    def _check(self, images: Tensor) -> None:
        if not isinstance(images, Tensor):
            raise TypeError(f"images must be a tensor; got {type(images).__name__}")
        if not images.is_floating_point():
            raise TypeError(f"images must be of a floating point dtype; got {images.dtype}")
        channels, height, width = self.image_shape
        wanted, fits = f"[B, {channels}, {height}, {width}]", images.ndim == 4
        if self.encoder is None:
            wanted = f"[{self.num_steps}, {wanted[1:]}"
            fits = images.ndim == 5 and len(images) == self.num_steps
        if not fits or images.shape[-3:] != self.image_shape:
            raise ValueError(f"images must be {wanted}; got shape {tuple(images.shape)}")


def _encoder(encoding: EncodingLike, num_steps: int) -> nn.Module | None:
    if encoding == "none":
        return None
    if isinstance(encoding, str) and encoding not in CODES:
        names = ", ".join(map(repr, [*CODES, "none"]))
        raise ValueError(f"encoding must be one of {names}, or a callable; got {encoding!r}")
    if not (isinstance(encoding, str) or callable(encoding)):
        raise TypeError(f"encoding must be a name or a callable; got {type(encoding).__name__}")
    if not isinstance(encoding, nn.Module):
        return HybridEncoder(num_steps, code=encoding)
    steps = getattr(encoding, "num_steps", num_steps)
    if steps != num_steps:
        raise ValueError(f"encoding must be for num_steps={num_steps}; got one for {steps}")
    return encoding
