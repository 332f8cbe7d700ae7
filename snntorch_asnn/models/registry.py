"""Models by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, TypeVar, Unpack, overload

import numpy as np
from torch import Tensor

from snntorch_asnn._arguments import check_choice, check_flags, did_you_mean
from snntorch_asnn.layers import NormOverTime, fuse_norm, set_norm_over_time
from snntorch_asnn.models.base import SpikingModel
from snntorch_asnn.models.model_settings import ModelSettings

__all__ = ["builder", "create_model", "list_models", "register_model"]

Builder = TypeVar("Builder", bound=Callable[..., SpikingModel])

_BUILDERS: dict[str, Callable[..., SpikingModel]] = {}


def register_model(build: Builder) -> Builder:
    """Add the function to the zoo, under its own name.

    Args:
        build: Takes the arguments of :func:`create_model` as keywords, gives the model.

    Returns:
        ``build`` itself, so that this is a decorator.

    Raises:
        ValueError: Another model has this name.

    Example::

        >>> from typing import Unpack
        >>> from snntorch_asnn.models import LeNet, ModelSettings
        >>> @register_model
        ... def narrow_lenet(**settings: Unpack[ModelSettings]) -> LeNet:
        ...     return LeNet(channels=(4, 8, 8), hidden=32, **settings)
        >>> model = create_model("narrow_lenet", num_classes=10, num_steps=4)
        >>> _ = _BUILDERS.pop("narrow_lenet")  # for this example only
    """
    name = build.__name__
    if name in _BUILDERS:
        raise ValueError(f"build must have a name of its own; a model called {name!r} is registered already")
    _BUILDERS[name] = build
    return build


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of the zoo's models that match a shell-style pattern, sorted.

    Example::

        >>> list_models("le*")
        ['lenet']
    """
    return sorted(name for name in _BUILDERS if fnmatchcase(name, pattern))


def builder(name: str) -> Callable[..., SpikingModel]:
    """Return the function that was registered under a name.

    Raises:
        TypeError: ``name`` is not a string.
        ValueError: There is none.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string; got {name!r}")
    if name not in _BUILDERS:
        raise ValueError(
            f"name must be one of list_models(); got {name!r}{did_you_mean(name, _BUILDERS, count=3)}"
        )
    return _BUILDERS[name]


@overload
def create_model(
    name: str, *, step_norm: bool = ..., fused: bool = ..., **settings: Unpack[ModelSettings]
) -> SpikingModel: ...
@overload  # what only one family takes
def create_model(
    name: str, *, num_classes: int, num_steps: int, step_norm: bool = ..., fused: bool = ..., **settings: Any
) -> SpikingModel: ...
def create_model(name: str, *, step_norm: bool = False, fused: bool = False, **settings: Any) -> SpikingModel:
    """Build a model of the zoo: ``model(images)`` gives logits ``[B, num_classes]``.

    Args:
        name: One of :func:`list_models`.
        num_classes: Number of classes.
        num_steps: Number of steps T, the number of time steps.
        neuron: ``"asnn"``, the paper's neuron, with a learned leak and gain for each step; ``"lif"``, a
            fixed LIF (time constant 2, hard reset that is cut out of the gradient), or ``"if"``, the same
            without a leak; ``"tebn"`` (learned gain per step), ``"dalif"`` (learned leak and gain, the
            same at every step) or ``"plif"`` (learned time constant), to compare with; or a callable that
            builds one neuron, such as ``lambda: snn.Leaky(beta=0.9, init_hidden=True)``. The callable is
            given, by keyword, those of ``num_steps``, ``threshold``, ``channel_shape`` (shape of a
            parameter with one value per channel) and ``feature_shape`` (shape that ``sharing`` asks for)
            that it has no default for.
        sharing: Whether a neuron's parameters are one for each ``"layer"`` or one for each
            ``"channel"``.
        encoding: How images become a sequence: the name of a code of :mod:`snntorch_asnn.spikegen`;
            a callable ``(images, num_steps) -> [T, B, C, H, W]``; a module such as
            :class:`~snntorch_asnn.encoding.Encoder`; or ``"none"`` for input that is a
            sequence already. A hybrid code gives the analog steps a first convolution and norm of
            their own. None for the model's default: ``"hybrid"``, or ``"none"`` for event data.
        readout: ``"time_weighted"``, ``"mean"``, or a :class:`~snntorch_asnn.layers.MeanReadout`.
        in_channels: Channels of the images; None for the model's default.
        image_size: Height and width of the images, one number if they are equal; None for the
            model's default.
        normalize: ``(mean, std)``, each one number or one for each channel. The model takes images in
            ``[0, 1]``; its analog steps show ``(images - mean) / std``, and spikes are made of the images
            themselves. None: analog steps show the images as they are. The moments are buffers, saved and
            exported with the model.
        unnormalize: ``(mean, std)`` with which the images have been normalised when the model gets them:
            analog steps show them, and spikes are made of ``images * std + mean``.
        carry: With a hybrid code: whether the current of the analog step is carried on to the later steps,
            see :class:`~snntorch_asnn.layers.AnalogCarry`. False is the paper's network.
        norm_over_time: Which steps batch norms take their statistics from: ``"pooled"``, time and batch
            together; ``"sequential"``, each step, as in a loop over time; ``"step_statistics"`` and
            ``"step"``, each step, with running averages, and a weight and bias, of its own. See
            :func:`~snntorch_asnn.layers.set_norm_over_time`. None is what the model's reference does:
            ``"sequential"`` for the LeNet, ``"pooled"`` for all others.
        step_norm: Deprecated; True is ``norm_over_time="step"``.
        fused: Whether each norm runs in one with the neuron behind it, see
            :class:`~snntorch_asnn.layers.NormLeaky`: in less memory, with the same weights; see the page on
            speed.
        **settings: What only this model takes: see its class.

    Returns:
        The model, with fresh weights.

    Raises:
        TypeError: An argument of a wrong type, or one that this model does not take; the message names the
            nearest one.
        ValueError: An unknown name, or a value that is out of range.

    Example::

        >>> import torch
        >>> model = create_model("lenet", num_classes=10, num_steps=4, in_channels=1, image_size=8)
        >>> model(torch.rand(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    check_flags(step_norm=step_norm, fused=fused)
    defaults = {"neuron": "asnn", "sharing": "layer", "readout": "time_weighted"}
    given = {key: value for key, value in settings.items() if value is not None or key not in _OR_DEFAULT}
    plain = with_tuples(
        defaults | given | {key: _plain_moments(given[key]) for key in _MOMENTS & given.keys()}
    )
    norm_over_time = plain.pop("norm_over_time", None)
    if step_norm:
        norm_over_time = _of_step_norm(norm_over_time)
    if norm_over_time is not None:
        check_choice("norm_over_time", norm_over_time, NormOverTime)
    model = builder(name)(**plain)
    set_norm_over_time(model, norm_over_time or model.norm_over_time)
    plain["norm_over_time"] = model.norm_over_time
    if fused:
        plain["fused"] = True
        fuse_norm(model)
    model.recipe = _recipe(name, plain)
    model._create = create_model
    model._by_hand = {key: plain[key] for key in model.recipe["by_hand"]}
    return model


_OR_DEFAULT = ("encoding", "in_channels", "image_size", "normalize", "unnormalize", "norm_over_time")
"""Arguments of which None is the model's default."""

_MOMENTS = {"normalize", "unnormalize"}


def _of_step_norm(norm_over_time: NormOverTime | None) -> NormOverTime:
    """What the deprecated ``step_norm=True`` stands for."""
    if norm_over_time not in (None, "step"):
        raise ValueError(f"step_norm must be left out with norm_over_time={norm_over_time!r}; got True")
    warnings.warn("step_norm=True is deprecated; use norm_over_time='step'", DeprecationWarning, stacklevel=3)
    return "step"


def _recipe(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What :func:`from_pretrained` needs to build the model again, less what is no plain value."""
    plain = {key: value for key, value in settings.items() if _is_plain(value)}
    return {"name": name, "settings": plain, "by_hand": sorted(settings.keys() - plain.keys())}


def _plain_moments(moments: Any) -> Any:
    """Mean and standard deviation as tuples, which a recipe can hold; anything else as it is."""
    if not isinstance(moments, tuple | list) or len(moments) != 2:
        return moments
    arrays = Tensor | np.ndarray
    return tuple(with_tuples(m.tolist() if isinstance(m, arrays) else m) for m in moments)


def with_tuples(value: Any) -> Any:
    """Return settings as arguments: tuples for lists, which are all that JSON knows, Python's numbers."""
    if isinstance(value, dict):
        return {key: with_tuples(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return tuple(map(with_tuples, value))
    return value.item() if isinstance(value, np.generic) else value


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
