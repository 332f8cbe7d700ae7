"""Rebuild a model from its recipe and its tensors, after checking both."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from snntorch_asnn.models.earlier_keys import take_earlier_keys

__all__ = ["check_finite", "check_integers", "first_difference", "rebuild"]

Model = TypeVar("Model", bound=nn.Module)

_SPARE = 64
"""Number of parameters beyond the file's that building a model may create and discard again."""


def rebuild(
    build: Callable[[], Model],
    tensors: Mapping[str, Tensor],
    source: str | os.PathLike[str],
    *,
    keep_dtype: bool = True,
) -> Model:
    """Build a model and load its tensors, if they fit.

    The model is first built on the meta device, which takes no memory, and with no more parameters than there
    are tensors. So a file cannot cause allocations beyond its own size.

    Args:
        build: Builds the model, with any weights.
        tensors: ``state_dict`` of the model.
        source: File of the tensors, for error messages.
        keep_dtype: Whether the model takes the dtype of the tensors. Otherwise they are copied into the
            model's dtype.

    Raises:
        ValueError: ``build`` fails, or the tensors differ from the model's in name, shape or kind, or are not
            finite. The message names the file and the key.
    """
    check_finite(tensors, source)
    with _no_more_than(tensors, source), torch.device("meta"):
        plan = _built(build, source)
    tensors = dict(tensors)
    take_earlier_keys(plan, tensors)
    if difference := first_difference(plan.state_dict(), tensors):
        raise ValueError(f"{_quoted(source)} must hold the weights of its model: {difference}")
    model = _built(build, source)
    model.load_state_dict(tensors, assign=keep_dtype)
    return model


def first_difference(own: Mapping[str, Tensor], found: Mapping[str, Any]) -> str | None:
    """Describe the first difference between the model's state dict and another; None if they match."""
    for key in sorted(own.keys() | found.keys()):
        mine, theirs = _shown(own.get(key)), _shown(found.get(key))
        if mine != theirs:
            return f"{key!r} is {mine} in the model; got {theirs}"
    return None


def check_finite(tensors: Mapping[str, Any], source: str | os.PathLike[str]) -> None:
    """Refuse NaN and infinite weights, with which a network gives random answers."""
    for key, value in tensors.items():
        if isinstance(value, Tensor) and value.is_floating_point() and not bool(value.isfinite().all()):
            raise ValueError(f"{_quoted(source)} must hold finite weights; got NaN or infinity in {key!r}")


def check_integers(settings: Any, tensors: Mapping[str, Tensor], source: str | os.PathLike[str]) -> None:
    """Refuse integers in the settings that are too large for these tensors.

    With few exceptions, a width or a number of classes, layers or steps of n needs at least n weights.
    """
    most = max(1 << 16, sum(value.numel() for value in tensors.values()))
    for key, value in settings.items() if isinstance(settings, Mapping) else enumerate(settings):
        if isinstance(value, Mapping | list | tuple):
            check_integers(value, tensors, source)
        elif isinstance(value, int | float) and abs(value) > most:
            raise ValueError(
                f"{_quoted(source)} must hold settings that fit its tensors; got {key}={value!r}, "
                "which is too large"
            )


@contextmanager
def _no_more_than(tensors: Mapping[str, Tensor], source: str | os.PathLike[str]) -> Iterator[None]:
    """Stop building when the parameters become more or larger than the tensors."""
    count, size = len(tensors) + _SPARE, 4 * sum(value.numel() for value in tensors.values()) + (1 << 16)

    def hook(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal count, size
        if parameter is not None:
            count, size = count - 1, size - parameter.numel()
        if count < 0 or size < 0:
            raise ValueError("they ask for more weights than it holds")

    handle = register_module_parameter_registration_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _built(build: Callable[[], Model], source: str | os.PathLike[str]) -> Model:
    try:
        return build()
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"{_quoted(source)} must hold the settings of a model of the zoo: {error}"
        ) from error


def _shown(value: Any) -> str:
    if value is None:
        return "missing"
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__} instead of a tensor"
    kind = "floating point" if value.is_floating_point() else str(value.dtype)
    return f"of shape {tuple(value.shape)}, {kind}"


def _quoted(source: str | os.PathLike[str]) -> str:
    return repr(os.fspath(source))
