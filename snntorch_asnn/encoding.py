"""Spike codes as a module that normalises, squashes into [0, 1] and encodes."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from snntorch_asnn._arguments import check_count, check_shape, did_you_mean, look_up
from snntorch_asnn.spikegen import CODES, Code, Levels, direct, get_code, single_spike_hybrid
from snntorch_asnn.spikegen._checks import check_floating

__all__ = ["Encoder", "Moment", "Moments"]

Moment: TypeAlias = float | Sequence[float] | Tensor
Moments: TypeAlias = tuple[Moment, Moment]
"""Mean and standard deviation: a number, one per channel, or a tensor that broadcasts against the data."""

_ROUNDING = 4  # Largest error of normalising and undoing it, in units of the machine epsilon.


def _clamp(data: Tensor) -> Tensor:
    return data.clamp(0.0, 1.0)


_SQUASHES: Mapping[str, Callable[[Tensor], Tensor] | None] = {
    "none": None,
    "clamp": _clamp,
    "sigmoid": torch.sigmoid,
}


class Encoder(nn.Module):
    r"""Turn images into a sequence: normalise, squash into [0, 1], encode.

    With its defaults, it is :func:`snntorch_asnn.spikegen.hybrid` as a module, for images in [0, 1].
    Analog steps show any finite value, and spikes are made from pixels in [0, 1]. So there are two ways
    to train on normalised images, with the mean and standard deviation of each channel:

    - ``normalize=(mean, std)``: images are in [0, 1]. Analog steps show
      ``(data - mean) / std``, and spikes are made from ``data``.
    - ``unnormalize=(mean, std)``: images are already normalised. Analog steps show them, and spikes
      are made from ``data * std + mean``. Values that differ from k / 255 by rounding only are set to
      k / 255, so 8-bit images give the same spikes as before they were normalised.

    With a ``squash``, the whole code sees squashed data instead:

    .. math:: x = \mathrm{code}(\mathrm{squash}(\mathrm{normalize}(\mathrm{data})), T)

    The ASNN code recommends ``normalize="layer", levels="quantile"``. For normally distributed data,
    each spike plane then holds 1/T of the pixels.

    Args:
        num_steps: Number of steps T.
        code: A name in :data:`snntorch_asnn.spikegen.CODES`, or a callable
            ``(data, num_steps, **options) -> [T, *data.shape]``. With ``normalize=(mean, std)``, a callable
            needs an argument ``analog``, the image for its analog steps, or an argument ``direct_steps``,
            whose default is the number of analog steps at its start.
        normalize: ``None``, ``"layer"`` or ``(mean, std)``. Mean and standard deviation are numbers,
            tensors that broadcast against the data, or one number per channel of ``[..., C, H, W]``. They
            are buffers.
        unnormalize: ``None``, or the ``(mean, std)`` with which the data were normalised.
        shape: Trailing dimensions for ``normalize="layer"``, normalised by a :class:`torch.nn.LayerNorm`
            with learnable weight and bias. ``None`` normalises each sample over all dimensions but the
            first, without parameters.
        squash: ``"sigmoid"``, ``"clamp"``, ``"none"`` or ``"auto"``, which is ``"sigmoid"`` with
            ``normalize="layer"`` and ``"none"`` otherwise.
        levels: ``"uniform"``, ``"quantile"`` or a tensor. A tensor becomes a buffer, which keeps its dtype
            after ``half()``. ``None`` takes the default of the code.
        check: Whether the code reads data on a CPU, and raises ValueError if spikes would be made from
            values outside [0, 1].
        **options: Further arguments of the code, such as ``direct_steps`` or ``last``.

    Shape:
        Input ``[B, ...]``, output ``[T, B, ...]`` with the same dtype and device.

    Attributes:
        num_steps: Number of steps T.
        direct_steps: Number of analog steps of a hybrid code; 0 for other codes.

    Raises:
        TypeError: An argument has a wrong type, or the code does not take an option.
        ValueError: A name is unknown, or a value does not fit.

    Example::

        >>> import torch
        >>> from snntorch_asnn.encoding import Encoder
        >>> Encoder(3)(torch.tensor([[0.25, 0.5, 1.0]]))
        tensor([[[0.2500, 0.5000, 1.0000]],
        <BLANKLINE>
                [[0.0000, 0.0000, 1.0000]],
        <BLANKLINE>
                [[0.0000, 1.0000, 0.0000]]])
        >>> encode = Encoder(4, normalize="layer", shape=(1, 28, 28), levels="quantile")
        >>> encode(torch.randn(2, 1, 28, 28)).shape
        torch.Size([4, 2, 1, 28, 28])
    """

    levels: Levels | None

    def __init__(
        self,
        num_steps: int,
        *,
        code: str | Code = "hybrid",
        normalize: Literal["layer"] | Moments | None = None,
        unnormalize: Moments | None = None,
        shape: Sequence[int] | None = None,
        squash: Literal["auto", "sigmoid", "clamp", "none"] = "auto",
        levels: Levels | None = None,
        check: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        self.num_steps = num_steps = check_count("num_steps", num_steps)
        self.code = get_code(code)
        self.options = {key: int(v) if isinstance(v, np.integer) else v for key, v in options.items()}
        if isinstance(levels, Tensor):
            self.register_buffer("levels", levels.detach().clone())
        else:
            self.levels = levels
        parameters = inspect.signature(self.code).parameters
        _refuse_unknown(parameters, self._code_options())
        self.check = check
        self._takes_check = "check" in parameters
        self.direct_steps = _count_direct_steps(self.code, options, parameters)
        self._takes_analog = "analog" in parameters
        self.normalize = _make_normalize(normalize, shape)
        self.unnormalize = None if unnormalize is None else _standardize(unnormalize, "unnormalize")
        if squash == "auto":
            squash = "sigmoid" if isinstance(self.normalize, _LayerNorm | _SampleNorm) else "none"
        look_up("squash", squash, _SQUASHES)
        self.squash = squash
        self._check_together()
        self._try_code(num_steps)

    def forward(self, data: Tensor) -> Tensor:
        """Map ``[B, ...]`` to ``[T, B, ...]``."""
        check_floating(data)
        pixels, analog = self._pixels_and_analog(data)
        if analog is None:
            return self._encode(pixels)
        if _unwrapped(self.code) is direct:
            return self._encode(analog)
        if self._takes_analog:
            return self._encode(pixels, analog=analog)
        planes = self._encode(pixels).to(analog.dtype)
        steps = min(self.direct_steps, self.num_steps)
        return torch.cat((analog.expand(steps, *analog.shape), planes[steps:])) if steps else planes

    def _pixels_and_analog(self, data: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the image for spikes and the image for analog steps; None if both are the same."""
        if self.unnormalize is not None:
            return self.unnormalize.undo(data), data
        if self.normalize is None:
            return self._squash(data), None
        normalised = self.normalize(data)
        if self._shows_normalised:
            return data, normalised
        return self._squash(normalised), None

    @property
    def _shows_normalised(self) -> bool:
        """Whether only the analog steps are normalised."""
        return isinstance(self.normalize, _Standardize) and self.squash == "none"

    def _squash(self, data: Tensor) -> Tensor:
        squash = _SQUASHES[self.squash]
        return data if squash is None else squash(data)

    def _encode(self, data: Tensor, **options: Any) -> Tensor:
        if self._takes_check:
            options["check"] = self.check
        return self.code(data, self.num_steps, **self._code_options(), **options)

    def _try_code(self, num_steps: int) -> None:
        """Refuse wrong options of a known code at construction, and not at the first image."""
        if self.code in CODES.values():
            self.code(torch.empty(0, device="cpu"), num_steps, **self._code_options())

    def _check_together(self) -> None:
        """Refuse settings that contradict each other."""
        if self.unnormalize is not None:
            for name, used in (("normalize", self.normalize is not None), ("squash", self.squash != "none")):
                if used:
                    raise ValueError(f"{name} must not be given together with unnormalize; got both")
        known = self._takes_analog or self.direct_steps or self.code in CODES.values()
        if self._shows_normalised and not (known or _unwrapped(self.code) in CODES.values()):
            raise ValueError(
                "code must have an argument analog (the image for analog steps) or direct_steps (their "
                f"number) with normalize=(mean, std); got {self.code!r}"
            )

    def resize_steps(self, num_steps: int) -> Self:
        """Change the number of steps.

        Args:
            num_steps: New number of steps T.

        Returns:
            The encoder itself.

        Raises:
            TypeError: ``num_steps`` is not an integer.
            ValueError: ``num_steps`` is below 1 or does not fit the code, or ``levels`` are a tensor, which
                fits only the current number of steps.
        """
        num_steps = check_count("num_steps", num_steps)
        if isinstance(self.levels, Tensor) and num_steps != self.num_steps:
            raise ValueError(
                f"num_steps must be {self.num_steps}, because levels are a tensor for {self.num_steps} "
                f"steps; got {num_steps}"
            )
        self._try_code(num_steps)
        self.num_steps = num_steps
        return self

    def extra_repr(self) -> str:
        """Show the settings."""
        name = getattr(self.code, "__name__", repr(self.code))
        levels = self.levels.tolist() if isinstance(self.levels, Tensor) else self.levels
        fields = {"squash": self.squash, **self.options, "levels": levels, "check": self.check}
        shown = (f"{key}={value!r}" for key, value in fields.items() if value is not None)
        return ", ".join((f"{self.num_steps}, code={name!r}", *shown))

    def _code_options(self) -> dict[str, Any]:
        levels = {} if self.levels is None else {"levels": self.levels}
        return self.options | levels

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Encoder:
        before = self.levels
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        after = self.levels
        if isinstance(before, Tensor) and isinstance(after, Tensor) and before.dtype != after.dtype:
            # Rounding to a lower precision would move levels, or merge neighbours.
            self.levels = before.to(after.device)
        return self


class _LayerNorm(nn.LayerNorm):
    """LayerNorm whose error names the argument that does not fit."""

    def forward(self, data: Tensor) -> Tensor:
        if data.shape[-len(self.normalized_shape) :] != self.normalized_shape:
            raise ValueError(
                f"data must end in the dimensions shape={self.normalized_shape}; "
                f"got shape {tuple(data.shape)}"
            )
        return super().forward(data)


class _SampleNorm(nn.Module):
    """Normalise each sample over all dimensions but the first, without parameters."""

    def forward(self, data: Tensor) -> Tensor:
        if data.ndim < 2:
            raise ValueError(f"data must be [B, ...]; got shape {tuple(data.shape)}")
        return functional.layer_norm(data, data.shape[1:])


class _Standardize(nn.Module):
    """Subtract given means and divide by given standard deviations, or undo this.

    The moments keep their dtype after ``half()``, because rounding would change them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Moment, std: Moment, argument: str) -> None:
        super().__init__()
        self.argument = argument
        self.register_buffer("mean", _as_moment(mean, f"mean in {argument}"))
        self.register_buffer("std", _as_moment(std, f"std in {argument}"))
        if not self.std.is_meta and not bool((self.std > 0).all()):
            raise ValueError(f"std in {argument} must be positive; got {std}")

    def forward(self, data: Tensor) -> Tensor:
        self._check_shape(data)
        return ((data - self.mean) / self.std).to(data.dtype)

    def undo(self, data: Tensor) -> Tensor:
        """Return the pixels before normalisation, without gradient and at least in float32.

        Pixels that differ from a multiple of 1/255 by rounding only are set to it.
        """
        self._check_shape(data)
        pixels = data.detach() * self.std + self.mean
        on_grid = (pixels * 255).round() / 255
        eps = max(torch.finfo(dtype).eps for dtype in (data.dtype, self.mean.dtype, self.std.dtype))
        moved = (pixels - on_grid).abs() <= _ROUNDING * eps
        return torch.where(moved, on_grid, pixels)

    def _check_shape(self, data: Tensor) -> None:
        for name, moment in (("mean", self.mean), ("std", self.std)):
            if not _broadcasts(moment.shape, data.shape):
                raise ValueError(
                    f"data must have a shape that fits {name} of shape {tuple(moment.shape)} in "
                    f"{self.argument}; got shape {tuple(data.shape)}"
                )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> _Standardize:
        before = {"mean": self.mean, "std": self.std}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, moment in before.items():
            moved = getattr(self, name)
            if moved.dtype != moment.dtype:
                setattr(self, name, moment.to(moved.device))
        return self


def _as_moment(value: object, name: str) -> Tensor:
    if isinstance(value, np.ndarray | np.number):
        value = value.tolist()
    if isinstance(value, str) or not isinstance(value, Tensor | float | int | Sequence):
        raise TypeError(
            f"{name} must be a number, a sequence of numbers or a tensor; got {type(value).__name__}"
        )
    try:
        moment = torch.as_tensor(value).detach().clone()
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} must be a number, a sequence of numbers or a tensor; got {value!r}"
        ) from error
    moment = moment if moment.is_floating_point() else moment.to(torch.get_default_dtype())
    if not moment.is_meta and not bool(moment.isfinite().all()):
        raise ValueError(f"{name} must be finite; got {value}")
    return moment.view(-1, 1, 1) if moment.ndim == 1 else moment


def _standardize(moments: object, argument: str) -> _Standardize:
    if not isinstance(moments, tuple | list) or len(moments) != 2:
        wanted = "None, 'layer' or (mean, std)" if argument == "normalize" else "None or (mean, std)"
        raise ValueError(f"{argument} must be {wanted}; got {moments!r}")
    mean, std = moments
    return _Standardize(mean, std, argument)


def _broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    sizes = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(size in (1, wanted) for size, wanted in sizes)


def _make_normalize(normalize: object, shape: Sequence[int] | None) -> nn.Module | None:
    is_layer = isinstance(normalize, str) and normalize == "layer"
    if shape is not None and not is_layer:
        raise ValueError(f"shape must be None unless normalize='layer'; got {shape}")
    if normalize is None:
        return None
    if is_layer:
        return _SampleNorm() if shape is None else _layer_norm(shape)
    return _standardize(normalize, "normalize")


def _layer_norm(shape: Sequence[int]) -> _LayerNorm:
    return _LayerNorm(check_shape("shape", shape))


def _refuse_unknown(parameters: Mapping[str, inspect.Parameter], options: Mapping[str, object]) -> None:
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    for name in options:
        if name not in parameters:
            known = list(parameters)[2:]
            raise TypeError(
                f"the code takes no option {name!r}; it takes {', '.join(known) or 'no options'}"
                f"{did_you_mean(name, known)}"
            )


def _unwrapped(code: Code) -> Code:
    """Return the code inside a :class:`functools.partial`."""
    inner: Code = getattr(code, "func", code)
    return inner


def _count_direct_steps(
    code: Code, options: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]
) -> int:
    if _unwrapped(code) is single_spike_hybrid:
        return 1
    if "direct_steps" not in parameters:
        return 0
    direct_steps: int = options.get("direct_steps", parameters["direct_steps"].default)
    return direct_steps


def __getattr__(name: str) -> type[Encoder]:
    if name != "HybridEncoder":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn("encoding.HybridEncoder is now encoding.Encoder", DeprecationWarning, stacklevel=2)
    return Encoder
