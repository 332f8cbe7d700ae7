"""What all models of the zoo have in common."""

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
    """Keys of a model that all take the same tensor of a reference checkpoint."""

    __slots__ = ()


TargetKeys = str | tuple[str, ...] | None
"""Where a tensor of a reference checkpoint goes: to one key, row by row to several, or nowhere.

In :class:`Copies` each key takes it whole.
"""


class SpikingModel(nn.Module, ABC):
    """Image classifier over time: encode, run every step through the network, read out.

    Every call is a new sequence: no state outlives it. A subclass gives :meth:`step_features`, and its last
    layer as ``head``.

    Args:
        num_classes: Number of classes.
        num_steps: Number of steps T.
        encoding: See :func:`~snntorch_asnn.models.create_model`; None for ``"hybrid"``.
        readout: See :func:`~snntorch_asnn.models.create_model`.
        in_channels: Channels of the images; None for 3.
        image_size: Height and width of the images, one number if they are equal; None for 32.
        carry: See :func:`~snntorch_asnn.models.create_model`.
        normalize: See :func:`~snntorch_asnn.models.create_model`.
        unnormalize: See :func:`~snntorch_asnn.models.create_model`.
        norm_over_time: See :func:`~snntorch_asnn.models.create_model`; None for the class's default.
        **unknown: Any other argument raises TypeError, which names the nearest one.

    Attributes:
        head: The last layer, from features to the logits of each step.
        default_norm_over_time: The class's default, what its reference does.
        recipe: Name and settings that :func:`~snntorch_asnn.models.create_model` made the model from;
            None where it did not.

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
            raise ValueError(f"carry must be False for encoding={encoding!r}, which has no analog step first")
        self.carry = carry
        self.norm_over_time: NormOverTime = norm_over_time or self.default_norm_over_time
        check_choice("norm_over_time", self.norm_over_time, NormOverTime)

    def forward(self, images: Tensor, *, return_steps: bool = False) -> Tensor:
        """Classify images.

        Args:
            images: ``[B, C, H, W]``, in ``[0, 1]``; normalised with ``unnormalize``, and in any range with
                ``encoding="direct"``. With ``encoding="none"`` a sequence ``[T, B, C, H, W]``.
            return_steps: Return each step's share of the logits, whose mean is the usual output.

        Returns:
            Logits ``[B, num_classes]``, or ``[T, B, num_classes]`` with ``return_steps``.

        Raises:
            TypeError: ``images`` is not a tensor of floats.
            ValueError: ``images`` has another shape than the model was built for, or values on the CPU
                that its code cannot take; or parts of the model are for another number of steps.
        """
        logits = self.step_logits(self._encoded(images))
        weighed: Tensor = self.readout.weigh(logits) if return_steps else self.readout(logits)
        return weighed

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
        """Map encoded images, ``[T, B, C, H, W]``, to the features of each step, ``[T, B, F]``."""

    def step_logits(self, planes: Tensor) -> Tensor:
        """Map encoded images, ``[T, B, C, H, W]``, to logits, ``[T, B, num_classes]``."""
        logits: Tensor = self.head(self.step_features(planes))
        return logits

    def stepping(self) -> ModelStepping:
        """Run the model on one step after the other, such as planes of a sensor while they come.

        The states of the neurons are held by what the ``with`` statement gives, not by the model, and end
        with the block. So the model can run other sequences in between, several blocks can be open at once,
        and :func:`torch.compile` takes the step function.

        Returns:
            A context manager that is called with the planes of the next step, ``[B, C, H, W]``, and gives
            that step's share of the logits, ``[B, num_classes]``: the mean over all steps is the model's
            output. Its ``keep(rows)`` goes on with some samples of the batch only, and its ``step`` is the
            index of the next step.

        Raises:
            ValueError: A layer keeps no state or hides it, parts are for another number of steps, or norms
                take their statistics from all steps together, as in training with
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
        """T; :meth:`resize_steps` changes it."""
        return self._num_steps

    @num_steps.setter
    def num_steps(self, num_steps: int) -> None:
        if num_steps != self._num_steps:
            raise ValueError(
                f"num_steps must be changed with model.resize_steps({num_steps}), for all parts of the model"
                f" at once; got {num_steps} for {self._num_steps}"
            )

    def resize_steps(self, num_steps: int) -> Self:
        """Let the model run another number of steps, with what it has for each step resampled.

        Parameters of neurons, norms, first layer and readout are interpolated linearly in time; the first and
        the last step keep their values. They become new objects, so build the optimizer afterwards.

        Args:
            num_steps: The new T.

        Returns:
            The model itself.

        Raises:
            TypeError: ``num_steps`` is not an integer.
            ValueError: ``num_steps`` is below 1, does not fit the analog steps that the first layer was built
                for, or the encoding is for one number of steps only; nothing has been changed then.

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
        """Number of steps that need a first layer of their own: the analog ones of a hybrid code."""
        return self.encode.direct_steps if self.encode.direct_steps < self.num_steps else 0

    @property
    def analog_steps(self) -> AnalogSteps:
        """What the first layer must know of the code."""
        return AnalogSteps(self.direct_steps, self.num_steps - self.direct_steps if self.carry else 0)

    def save_pretrained(self, path: str | os.PathLike[str]) -> None:
        """Write weights and settings to one safetensors file, to be read by ``from_pretrained``.

        The file appears under its name only when it is complete. Settings that are no plain values, such
        as a callable for ``neuron``, are left out: :func:`~snntorch_asnn.models.from_pretrained` asks for
        them.

        Args:
            path: The file, in a folder that exists.

        Raises:
            ValueError: The model was made without :func:`~snntorch_asnn.models.create_model`, so that its
                settings are not known; its norms differ in ``norm_over_time``; its layers are not those that
                the settings make, or weights are not finite; or ``path`` is a folder or in one that does not
                exist.
            ModuleNotFoundError: Safetensors is not installed.
        """
        save(self, path)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a fresh one, to train the model on other classes.

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
                f"head must be an nn.Linear to be replaced; got {type(old).__name__}: override"
                f" reset_classifier in {type(self).__name__}"
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
        """Draw the weights of a fresh head; PyTorch's stay unless a class does otherwise."""

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was given by hand: a function of the user's own may not be pickled."""
        return self.__dict__ | {"_by_hand": {}}

    def _load_from_state_dict(
        self, state_dict: MutableMapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Take keys of earlier versions; say what is wrong where the file has norms of each step."""
        errors: list[str] = args[-1]
        take_earlier_keys(self, state_dict, prefix)
        if (steps := steps_of_state(self, state_dict, prefix)) != self.num_steps:
            errors.append(
                f"state_dict is of a model with num_steps={steps}, and this one has {self.num_steps}: "
                "model.load_state_dict(..., resize=True) resamples what there is for each step"
            )
        for name, norm in self.named_modules():
            given = state_dict.get(f"{prefix}{name}.running_mean")
            if (
                isinstance(norm, BatchNormBase)
                and num_steps_of(norm) is None
                and getattr(given, "ndim", 1) == 2
            ):
                errors.append(
                    f"state_dict has running averages of each step for {name!r}, and the model is "
                    f"{self.norm_over_time!r}: call set_norm_over_time(model, 'step_statistics'), or 'step', "
                    "before loading"
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
        """Load parameters and buffers, as every module does.

        Args:
            state_dict: Of a model of the same architecture.
            strict: Whether all keys must be there, and no others.
            assign: Whether the tensors become the model's own instead of being copied.
            resize: Whether the state dict may be of another number of steps: what it has for each step is
                then resampled to the model's, as by :meth:`resize_steps`.

        Returns:
            Keys that are missing, and keys that the model does not have.

        Raises:
            RuntimeError: The state dict does not fit. With ``resize`` the model is then unchanged.
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
        """Return keys of files of earlier versions, or beginnings that end in a dot, and today's.

        Every way of loading takes both.
        """
        return {}

    def reference_keys(self) -> Mapping[str, TargetKeys]:
        """Return where each key of the reference's checkpoint goes, for ``load_reference_weights``.

        A key of this model's ``state_dict`` takes the tensor whole; of a tuple each entry takes one
        row, and of :class:`Copies` each takes it whole; None marks what the checkpoint holds and this
        model has no use for.
        """
        raise TypeError(f"model must have reference checkpoints; {type(self).__name__} has none")

    def network_keys(self) -> list[str]:
        """Return the keys of ``state_dict`` less those of neurons, code and readout."""
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
