"""Base class of all models of the zoo."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, ClassVar, Never, Self

import torch
from torch import Tensor, nn

from snntorch_asnn._arguments import check_choice, check_count, check_flags
from snntorch_asnn._torch import BatchNormBase
from snntorch_asnn.encoding import Moments
from snntorch_asnn.layers import NormOverTime, OverTime
from snntorch_asnn.layers.hybrid_stem import AnalogCarry, AnalogSteps
from snntorch_asnn.layers.norm_over_time import num_steps_of
from snntorch_asnn.models.earlier_keys import take_earlier_keys
from snntorch_asnn.models.image_encoder import EncodingLike, ImageEncoder
from snntorch_asnn.models.model_resizing import check_steps, resize_model, resized_state, steps_of_state
from snntorch_asnn.models.model_settings import refuse_unknown
from snntorch_asnn.models.model_stepping import ModelStepping
from snntorch_asnn.models.readouts import ReadoutLike, build_readout
from snntorch_asnn.models.saving import save

__all__ = ["Copies", "SpikingModel", "TargetKeys"]


class Copies(tuple[str, ...]):
    """Keys of a model that all receive the same tensor of a reference checkpoint."""

    __slots__ = ()


TargetKeys = str | tuple[str, ...] | None
"""Keys of a model that receive a tensor of a reference checkpoint.

A single key receives the whole tensor, each key of a tuple one row, and each key of :class:`Copies` the whole
tensor. With None, the tensor is dropped.
"""


class SpikingModel(nn.Module, ABC):
    """Image classifier over time: encode the images, run the network at every step, read out.

    Every call is a new sequence, and no state outlives it. A subclass implements :meth:`step_features` and
    assigns its last layer to ``head``.

    Args:
        num_classes: Number of classes.
        num_steps: Number of steps T.
        encoding: See :func:`~snntorch_asnn.models.create_model`. None means ``"hybrid"``.
        readout: See :func:`~snntorch_asnn.models.create_model`.
        in_channels: Channels of the images. None means 3.
        image_size: Height and width of the images, or one number for both. None means 32.
        carry: See :func:`~snntorch_asnn.models.create_model`.
        normalize: See :func:`~snntorch_asnn.models.create_model`.
        unnormalize: See :func:`~snntorch_asnn.models.create_model`.
        norm_over_time: See :func:`~snntorch_asnn.models.create_model`. None takes the class's default.
        **unknown: Any other argument raises a TypeError that suggests the nearest name.

    Attributes:
        head: Last layer, from features to the logits of each step.
        default_norm_over_time: Default of the class, as in its reference implementation.
        recipe: Name and settings from which :func:`~snntorch_asnn.models.create_model` built the model, or
            None.

    Example::

        >>> import torch
        >>> from typing import Unpack
        >>> from snntorch_asnn.models import BaseSettings
        >>> class Linear(SpikingModel):
        ...     def __init__(self, **settings: Unpack[BaseSettings]) -> None:
        ...         super().__init__(**settings)
        ...         self.head = torch.nn.Linear(3 * 8 * 8, self.num_classes)
        ...     def step_features(self, planes):
        ...         return planes.flatten(2)
        >>> model = Linear(num_classes=10, num_steps=4, image_size=8)
        >>> model(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 10])
    """

    head: nn.Module

    default_norm_over_time: ClassVar[NormOverTime] = "pooled"

    def __init__(
        self,
        *,
        num_classes: int,
        num_steps: int,
        encoding: EncodingLike | None = None,
        readout: ReadoutLike = "time_weighted",
        in_channels: int | None = None,
        image_size: int | tuple[int, int] | None = None,
        carry: bool = False,
        normalize: Moments | None = None,
        unnormalize: Moments | None = None,
        norm_over_time: NormOverTime | None = None,
        **unknown: Never,
    ) -> None:
        super().__init__()
        refuse_unknown(type(self), unknown)
        encoding = "hybrid" if encoding is None else encoding
        self.recipe: dict[str, Any] | None = None
        self._by_hand: dict[str, Any] = {}
        self._create: Callable[..., SpikingModel] | None = None
        self.num_classes = check_count("num_classes", num_classes)
        self._num_steps = check_count("num_steps", num_steps)
        self.in_channels = check_count("in_channels", 3 if in_channels is None else in_channels)
        self.image_size = _height_and_width(32 if image_size is None else image_size)
        self.encode = ImageEncoder(
            encoding,
            self.num_steps,
            image_shape=(self.in_channels, *self.image_size),
            normalize=normalize,
            unnormalize=unnormalize,
        )
        self.readout = build_readout(readout, self.num_steps)
        if not isinstance(carry, bool):
            raise TypeError(f"carry must be True or False; got {carry!r}")
        if carry and not self.direct_steps:
            raise ValueError(
                f"carry must be False for encoding={encoding!r}, which does not begin with an analog step; "
                "got True"
            )
        self.carry = carry
        self.norm_over_time: NormOverTime = norm_over_time or self.default_norm_over_time
        check_choice("norm_over_time", self.norm_over_time, NormOverTime)

    def forward(self, images: Tensor, *, return_steps: bool = False) -> Tensor:
        """Classify images.

        Args:
            images: Images ``[B, C, H, W]`` in ``[0, 1]``. With ``unnormalize``, they must be normalised.
                With ``encoding="direct"``, they may have any range. With ``encoding="none"``, they are a
                sequence ``[T, B, C, H, W]``.
            return_steps: Whether to return the weighted logits of each step, whose mean over time is the
                usual output.

        Returns:
            Logits ``[B, num_classes]``, or ``[T, B, num_classes]`` with ``return_steps``.

        Raises:
            TypeError: ``images`` is not a floating point tensor.
            ValueError: ``images`` does not have the shape that the model was built for, or has values that
                its code does not accept (checked on a CPU only). Or parts of the model have different
                numbers of steps.
        """
        logits = self.step_logits(self._encoded(images))
        out: Tensor = self.readout.weigh(logits) if return_steps else self.readout(logits)
        return out

    def forward_features(self, images: Tensor) -> Tensor:
        """Compute the input of the head at each step.

        Args:
            images: See :meth:`forward`.

        Returns:
            Features ``[T, B, F]``.

        Raises:
            TypeError, ValueError: As :meth:`forward`.

        Example::

            >>> import torch
            >>> from snntorch_asnn.models import create_model
            >>> model = create_model("lenet", num_classes=10, num_steps=4)
            >>> model.forward_features(torch.rand(2, 3, 32, 32)).shape
            torch.Size([4, 2, 256])
        """
        return self.step_features(self._encoded(images))

    def _encoded(self, images: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            check_steps(self)
        planes: Tensor = self.encode(images)
        return planes

    @abstractmethod
    def step_features(self, planes: Tensor) -> Tensor:
        """Map encoded images ``[T, B, C, H, W]`` to the features of each step ``[T, B, F]``."""

    def step_logits(self, planes: Tensor) -> Tensor:
        """Map encoded images ``[T, B, C, H, W]`` to logits ``[T, B, num_classes]``."""
        logits: Tensor = self.head(self.step_features(planes))
        return logits

    def stepping(self) -> ModelStepping:
        """Run the model step by step, for example on the frames of a sensor as they arrive.

        The returned object stores the states of the neurons until the ``with`` block ends. The model itself
        has no state, so it can run other sequences in between, and several blocks can be open at once.
        :func:`torch.compile` works on the returned object.

        Returns:
            A context manager. Call it with the planes of the next step ``[B, C, H, W]`` to get that step's
            weighted logits ``[B, num_classes]``, whose mean over all steps is the model's output. Its method
            ``keep(rows)`` continues with some samples of the batch only. Its attribute ``step`` is the index
            of the next step.

        Raises:
            ValueError: A layer cannot run step by step, parts of the model have different numbers of steps,
                or norms take their statistics from all steps together, as in training with
                ``norm_over_time="pooled"``.

        Example::

            >>> import torch
            >>> from snntorch_asnn.models import create_model
            >>> model = create_model("lenet", num_classes=10, num_steps=4).eval()
            >>> images = torch.rand(2, 3, 32, 32)
            >>> with model.stepping() as step:
            ...     logits = [step(planes) for planes in model.encode(images)]
            >>> torch.allclose(sum(logits) / 4, model(images), atol=1e-5)
            True
        """
        check_steps(self)
        return ModelStepping(self)

    @property
    def num_steps(self) -> int:
        """Number of steps T; :meth:`resize_steps` changes it."""
        return self._num_steps

    @num_steps.setter
    def num_steps(self, num_steps: int) -> None:
        if num_steps != self._num_steps:
            raise ValueError(
                f"num_steps must be changed with model.resize_steps({num_steps}), which changes all parts of "
                f"the model together; got an assignment of {num_steps}"
            )

    def resize_steps(self, num_steps: int) -> Self:
        """Change the number of steps, and resample all parameters that depend on the step.

        Parameters of neurons, norms, first layer and readout are interpolated linearly in time; the first and
        the last step keep their values. Parameters are replaced by new ones, so build the optimizer
        afterwards.

        Args:
            num_steps: New number of steps T.

        Returns:
            The model itself.

        Raises:
            TypeError: ``num_steps`` is not an integer.
            ValueError: ``num_steps`` is below 1, does not fit the analog steps that the first layer was built
                for, or the encoding supports one number of steps only. The model is then unchanged.

        Example::

            >>> import torch
            >>> from snntorch_asnn.models import create_model
            >>> model = create_model("lenet", num_classes=10, num_steps=4)
            >>> model.resize_steps(6)(torch.rand(2, 3, 32, 32), return_steps=True).shape
            torch.Size([6, 2, 10])
        """
        resize_model(self, check_count("num_steps", num_steps))
        return self

    @property
    def direct_steps(self) -> int:
        """Number of analog steps with their own first layer: above 0 for hybrid codes only."""
        return self.encode.direct_steps if self.encode.direct_steps < self.num_steps else 0

    @property
    def analog_steps(self) -> AnalogSteps:
        """Numbers of steps in the code that the first layer depends on."""
        return AnalogSteps(self.direct_steps, self.num_steps - self.direct_steps if self.carry else 0)

    def save_pretrained(self, path: str | os.PathLike[str]) -> None:
        """Save weights and settings to one safetensors file for ``from_pretrained``.

        The file appears under its name only when it is complete. Settings that are not plain values, such
        as a callable for ``neuron``, are not saved; pass them to
        :func:`~snntorch_asnn.models.from_pretrained` again.

        Args:
            path: File to write, in an existing folder.

        Raises:
            ValueError: The model was not built by :func:`~snntorch_asnn.models.create_model`, its norms
                differ in ``norm_over_time``, its layers do not match its settings, or weights are not
                finite. Or ``path`` is a folder, or its folder does not exist.
            ModuleNotFoundError: The package safetensors is not installed.
        """
        save(self, path)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a freshly initialised one, to train the model on other classes.

        Args:
            num_classes: Number of classes.

        Raises:
            TypeError: ``num_classes`` is not an integer.
            ValueError: ``num_classes`` is below 1, or ``head`` is not an ``nn.Linear``.

        Example::

            >>> from snntorch_asnn.models import create_model
            >>> model = create_model("lenet", num_classes=10, num_steps=4)
            >>> model.reset_classifier(3)
            >>> model.head
            Linear(in_features=256, out_features=3, bias=True)
        """
        num_classes = check_count("num_classes", num_classes)
        old = getattr(self, "head", None)
        if not isinstance(old, nn.Linear):
            raise ValueError(
                f"head must be an nn.Linear to be replaced; got {type(old).__name__}; override "
                f"reset_classifier in {type(self).__name__}"
            )
        new = nn.Linear(
            old.in_features, num_classes, old.bias is not None, old.weight.device, old.weight.dtype
        )
        self.init_classifier(new)
        self.head = new.train(old.training)
        self.num_classes = num_classes
        if self.recipe is not None:
            self.recipe["settings"]["num_classes"] = num_classes

    @staticmethod
    def init_classifier(model: nn.Module) -> None:
        """Initialise a new head. The default keeps PyTorch's initialisation; subclasses may override it."""

    def __getstate__(self) -> dict[str, Any]:
        """Leave out settings that are not plain values, because a user's function may not be picklable."""
        return self.__dict__ | {"_by_hand": {}}

    def _load_from_state_dict(
        self, state_dict: MutableMapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Accept keys of earlier versions, and explain mismatches in steps and norms."""
        errors: list[str] = args[-1]
        take_earlier_keys(self, state_dict, prefix)
        if (steps := steps_of_state(self, state_dict, prefix)) != self.num_steps:
            errors.append(
                f"state_dict must be of a model with num_steps={self.num_steps}; got num_steps={steps}; call "
                "model.load_state_dict(..., resize=True) to resample it"
            )
        for name, norm in self.named_modules():
            given = state_dict.get(f"{prefix}{name}.running_mean")
            if (
                isinstance(norm, BatchNormBase)
                and num_steps_of(norm) is None
                and getattr(given, "ndim", 1) == 2
            ):
                errors.append(
                    f"state_dict has running averages for each step of {name!r}, but the model has "
                    f"norm_over_time={self.norm_over_time!r}; before loading, call "
                    "set_norm_over_time(model, 'step_statistics') or set_norm_over_time(model, 'step')"
                )
                break
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def load_state_dict(
        self,
        state_dict: Mapping[str, Any],
        strict: bool = True,
        assign: bool = False,
        *,
        resize: bool = False,
    ) -> Any:
        """Load parameters and buffers.

        Args:
            state_dict: State dict of a model with the same architecture.
            strict: Whether missing and unexpected keys are an error.
            assign: Whether the tensors become the model's own instead of being copied.
            resize: Whether the state dict may have another number of steps. It is then resampled to the
                model's number of steps, as in :meth:`resize_steps`.

        Returns:
            Missing and unexpected keys.

        Raises:
            RuntimeError: The state dict does not fit. With ``resize``, the model is then unchanged.
            ValueError: With ``resize``, the model cannot have the state dict's number of steps.

        Example::

            >>> from snntorch_asnn.models import create_model
            >>> four = create_model("lenet", num_classes=10, num_steps=4)
            >>> eight = create_model("lenet", num_classes=10, num_steps=8)
            >>> eight.load_state_dict(four.state_dict(), resize=True)
            <All keys matched successfully>
        """
        check_flags(resize=resize)
        if not resize:
            return super().load_state_dict(state_dict, strict, assign)
        resampled, result = resized_state(self, state_dict, strict)
        super().load_state_dict(resampled, strict, assign)
        return result

    def earlier_keys(self) -> Mapping[str, str]:
        """Return keys of earlier versions, or prefixes that end in a dot, with their current names.

        All ways of loading accept both.
        """
        return {}

    def reference_keys(self) -> Mapping[str, TargetKeys]:
        """Return the keys of this model that receive each tensor of a reference checkpoint.

        :func:`~snntorch_asnn.models.load_reference_weights` uses them. A single key receives the whole
        tensor, each key of a tuple one row, and each key of :class:`Copies` the whole tensor. With None, the
        tensor is dropped.
        """
        raise TypeError(f"model must have reference checkpoints; got {type(self).__name__} without them")

    def network_keys(self) -> list[str]:
        """Return the keys of ``state_dict`` except the keys of neurons, encoder and readout."""
        others = ["encode", "readout"]
        parts = (OverTime, AnalogCarry)
        others += [name for name, module in self.named_modules() if isinstance(module, parts)]
        prefixes = tuple(f"{name}." for name in others)
        return [key for key in self.state_dict() if not key.startswith(prefixes)]


def _height_and_width(image_size: int | tuple[int, int]) -> tuple[int, int]:
    if isinstance(image_size, (tuple, list)):
        if len(image_size) != 2:
            raise ValueError(f"image_size must be one number or (height, width); got {image_size!r}")
        height, width = image_size
    else:
        height = width = image_size
    return check_count("image_size", height), check_count("image_size", width)
