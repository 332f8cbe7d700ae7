"""What all models of the zoo have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from snntorch_asnn.models.encodings import EncodingLike, ImageEncoder
from snntorch_asnn.models.readouts import ReadoutLike, build_readout
from snntorch_asnn.neurons.arguments import check_count

__all__ = ["Place", "SpikingModel"]

Place = str | tuple[str, ...] | None
"""Where a tensor of a reference checkpoint goes: to one key, row by row to several, or nowhere."""


class SpikingModel(nn.Module, ABC):
    """Image classifier over time: encode, run every step through the network, read out.

    Every call is a new sequence: no state outlives it. A subclass gives :meth:`step_logits`.

    Args:
        num_classes: number of classes.
        num_steps: T.
        encoding: see :func:`~snntorch_asnn.models.create_model`.
        readout: see :func:`~snntorch_asnn.models.create_model`.
        in_channels: channels of the images.
        image_size: height and width of the images, one number if they are equal.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        num_steps: int,
        encoding: EncodingLike,
        readout: ReadoutLike,
        in_channels: int,
        image_size: int | tuple[int, int],
    ) -> None:
        super().__init__()
        check_count("num_classes", num_classes)
        check_count("num_steps", num_steps)
        check_count("in_channels", in_channels)
        self.num_classes = num_classes
        self.num_steps = num_steps
        self.in_channels = in_channels
        self.image_size = _height_and_width(image_size)
        self.encode = ImageEncoder(
            encoding,
            self.num_steps,
            image_shape=(self.in_channels, *self.image_size),
        )
        self.readout = build_readout(readout, self.num_steps)

    def forward(self, images: Tensor, *, return_steps: bool = False) -> Tensor:
        """Classify images.

        Args:
            images: ``[B, C, H, W]``, in the value range of the code, usually ``[0, 1]``; with
                ``encoding="none"`` a sequence ``[T, B, C, H, W]``.
            return_steps: return each step's share of the logits, whose mean is the usual output.

        Returns:
            Logits ``[B, num_classes]``, or ``[T, B, num_classes]`` with ``return_steps``.

        Raises:
            TypeError: ``images`` is not a tensor of floats.
            ValueError: ``images`` has another shape than the model was built for.
        """
        logits = self.step_logits(self.encode(images))
        weighed: Tensor = self.readout.weigh(logits) if return_steps else self.readout(logits)
        return weighed

    @abstractmethod
    def step_logits(self, planes: Tensor) -> Tensor:
        """Map encoded images, ``[T, B, C, H, W]``, to logits, ``[T, B, num_classes]``."""

    def reference_keys(self) -> Mapping[str, Place]:
        """Return where each key of the reference's checkpoint goes, for ``load_reference_weights``.

        A key of this model's ``state_dict`` takes the tensor whole; of a tuple each entry takes one
        row; None marks what the checkpoint holds and this model has no use for.
        """
        raise TypeError(f"model must have reference checkpoints; {type(self).__name__} has none")


def _height_and_width(image_size: int | tuple[int, int]) -> tuple[int, int]:
    if isinstance(image_size, (tuple, list)):
        if len(image_size) != 2:
            raise ValueError(f"image_size must be one number or (height, width); got {image_size!r}")
        height, width = image_size
    else:
        height = width = image_size
    check_count("image_size", height)
    check_count("image_size", width)
    return height, width
