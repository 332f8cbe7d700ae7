"""Arguments as parameters ``[T, *feature_shape]``, with a value for every time step."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from snntorch_asnn._arguments import check_shape

__all__ = [
    "Overrun",
    "check_time_comes_first",
    "resample",
    "resize_parameter",
    "shape_features",
    "spread",
    "spread_unless_fixed",
    "warn_of_guesses",
]

Overrun = Literal["raise", "hold", "cycle"]


def shape_features(
    num_steps: int, feature_shape: Sequence[int] | None, **values: float | Tensor
) -> tuple[int, ...]:
    """The shape of one step's parameters: the given one, or inferred from the shapes of the values."""
    if feature_shape is not None:
        feature_shape = check_shape("feature_shape", feature_shape)
        return tuple(feature_shape)
    found: tuple[int, ...] = ()
    for name, value in values.items():
        if not isinstance(value, Tensor) or value.numel() == 1:
            continue
        shape = tuple(value.shape[1:] if value.shape[0] == num_steps else value.shape)
        try:
            found = tuple(torch.broadcast_shapes(found, shape))
        except RuntimeError as error:
            raise ValueError(
                f"{name} has the feature shape {shape}, which does not broadcast with {found} of another "
                "parameter; pass parameters of shapes that do"
            ) from error
    return found


def warn_of_guesses(num_steps: int, **values: float | Tensor) -> None:
    """Warn of parameters that are read as values per step because their first size is T.

    The constructors' check calls it where the caller has not passed ``feature_shape``.
    """
    for name, value in values.items():
        # With one step, both readings give the same values.
        if not isinstance(value, Tensor) or value.numel() == 1 or num_steps == 1:
            continue
        if value.shape[0] != num_steps:
            continue
        shape, rest = tuple(value.shape), tuple(value.shape[1:])
        each = f"{rest} values" if rest else "one value"
        warnings.warn(
            f"{name} of shape {shape} is read as {each} per time step; pass feature_shape={rest} to "
            f"confirm, or feature_shape={shape} for one per {'feature' if rest else 'neuron'}",
            UserWarning,
            stacklevel=5,
        )


def check_time_comes_first(shape: Sequence[int], num_steps: int, *, raises: bool) -> None:
    """Warn of a sequence that looks like ``[B, T, ...]``; raise if it has more than T steps.

    Raises:
        ValueError: if its first size is above T and its second is T.
    """
    if len(shape) < 3 or shape[1] != num_steps or shape[0] == num_steps or num_steps == 1:
        return
    message = (
        f"input_ of shape {tuple(shape)} is read as {shape[0]} steps, since time comes first, [T, B, ...], "
        f"but its second size is num_steps={num_steps}; for a batch-first input pass input_.transpose(0, 1)"
    )
    if shape[0] < num_steps:
        warnings.warn(f"{message}; pass step=0 to confirm", UserWarning, stacklevel=3)
    elif raises:
        raise ValueError(message)


def spread(name: str, value: float | Tensor, num_steps: int, feature_shape: tuple[int, ...]) -> Tensor:
    """``value`` as a new tensor ``[T, *feature_shape]``.

    ``value`` may be a number, one value per feature (like snnTorch's parameters), one value per step, or a
    tensor of the full shape.
    """
    if not isinstance(value, int | float | Tensor):
        raise TypeError(f"{name} must be a real number or tensor; got {value!r}")
    tensor = torch.as_tensor(value)
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name} must be a real number or tensor; got {tensor.dtype}")
    tensor = tensor.detach().to(tensor.dtype if tensor.is_floating_point() else torch.get_default_dtype())
    if not tensor.is_meta and not torch.isfinite(tensor).all():
        raise ValueError(f"{name} must be finite; got {value!r}")
    full = (num_steps, *feature_shape)
    if tensor.numel() == 1 or tensor.shape == feature_shape:
        return tensor.reshape(tensor.shape if tensor.shape == feature_shape else ()).expand(full).clone()
    if tensor.shape[0] == num_steps:
        rest = tensor.shape[1:]
        missing = (1,) * (len(feature_shape) - len(rest))
        try:
            return tensor.reshape(num_steps, *missing, *rest).expand(full).clone()
        except RuntimeError:
            pass
    shape = tuple(tensor.shape)
    each = shape[1:] if shape[0] == num_steps and len(shape) > 1 else shape
    raise ValueError(
        f"{name} must be a number or of shape {feature_shape}, ({num_steps},) or {full}; got shape {shape}"
        + ("" if feature_shape else f"; for one value per feature, pass feature_shape={each}")
    )


def spread_unless_fixed(
    name: str, value: float | Tensor, num_steps: int, feature_shape: tuple[int, ...], *, learn: bool
) -> Tensor:
    """Like :func:`spread`, but a number that is not learned stays a number, as in snnTorch."""
    values = spread(name, value, num_steps, feature_shape)
    if learn or (isinstance(value, Tensor) and value.numel() > 1):
        return values
    return values.flatten()[0].clone()


def resample(values: Tensor, num_steps: int) -> Tensor:
    """Resample ``[T, ...]`` to ``[num_steps, ...]``, linearly in time; the ends keep their values."""
    steps = values.detach().reshape(1, values.shape[0], -1).transpose(1, 2)
    stretched = functional.interpolate(
        steps.to(torch.promote_types(values.dtype, torch.float32)),
        size=num_steps,
        mode="linear",
        align_corners=True,
    )
    return stretched.transpose(1, 2).reshape(num_steps, *values.shape[1:]).to(values.dtype)


def resize_parameter(module: nn.Module, name: str, num_steps: int) -> None:
    """Resample a parameter or buffer ``[T, ...]`` of a module in place, linearly in time.

    If PyTorch's pruning or parametrization computes the parameter, its sources are resampled; a pruning mask
    is taken from the nearest step. A tensor without dimensions is the same at every step and stays as it is.
    """
    if parametrize.is_parametrized(module, name):
        parts = cast(nn.ModuleDict, module.parametrizations)[name]
        for part in [key for key, _ in parts.named_parameters(recurse=False)]:
            _replace(parts, part, num_steps)
    elif f"{name}_orig" in module._parameters:
        _replace(module, f"{name}_orig", num_steps)
        mask = getattr(module, f"{name}_mask")
        if mask.ndim:
            places = torch.linspace(0, len(mask) - 1, num_steps, device=mask.device).round().long()
            setattr(module, f"{name}_mask", mask[places])
        setattr(module, name, getattr(module, f"{name}_orig") * getattr(module, f"{name}_mask"))
    else:
        _replace(module, name, num_steps)


def _replace(module: nn.Module, name: str, num_steps: int) -> None:
    value: Tensor = getattr(module, name)
    if value.ndim == 0:
        return
    resampled = resample(value, num_steps)
    is_parameter = isinstance(value, nn.Parameter)
    setattr(module, name, nn.Parameter(resampled, value.requires_grad) if is_parameter else resampled)
