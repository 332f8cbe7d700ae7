"""Registry of the models, which builds and lists them by name."""

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
    """Add a function to the zoo under its own name.

    Args:
        build: Takes the arguments of :func:`create_model` as keywords, and returns the model.

    Returns:
        ``build`` itself, so that this function works as a decorator.

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
        raise ValueError(f"build must have a new name; got {name!r}, which is registered already")
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
        ValueError: No model has this name.
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
@overload  # Arguments of one family only.
def create_model(
    name: str, *, num_classes: int, num_steps: int, step_norm: bool = ..., fused: bool = ..., **settings: Any
) -> SpikingModel: ...
def create_model(name: str, *, step_norm: bool = False, fused: bool = False, **settings: Any) -> SpikingModel:
    """Build a model of the zoo, which maps images to logits ``[B, num_classes]``.

    Args:
        name: One of :func:`list_models`.
        num_classes: Number of classes.
        num_steps: Number of time steps T.
        neuron: Name of a neuron, or a callable that builds one. ``"asnn"`` is the paper's neuron, with a
            learned leak and gain for each step. ``"lif"`` is a fixed LIF neuron with time constant 2 and a
            detached hard reset, and ``"if"`` is the same without a leak. The others serve for comparison:
            ``"tebn"`` (learned gain for each step), ``"dalif"`` (learned leak and gain, shared by all
            steps) and ``"plif"`` (learned time constant).

            An example of a callable is ``lambda: snn.Leaky(beta=0.9, init_hidden=True)``. Arguments without
            a default are passed to it as keywords: ``num_steps``, ``threshold``, ``channel_shape`` (shape of
            a parameter with one value per channel) and ``feature_shape`` (shape that follows ``sharing``).
        sharing: Part of the network that shares one set of neuron parameters: each ``"layer"`` or each
            ``"channel"``.
        encoding: How images become a sequence. It may be the name of a code in
            :mod:`snntorch_asnn.spikegen`, a callable ``(images, num_steps) -> [T, B, C, H, W]``, a module
            such as :class:`~snntorch_asnn.encoding.Encoder`, or ``"none"`` for input that is already a
            sequence. With a hybrid code, the analog steps have their own first convolution and norm. None
            takes the model's default: ``"hybrid"``, or ``"none"`` for event data.
        readout: ``"time_weighted"``, ``"mean"``, or a :class:`~snntorch_asnn.layers.MeanReadout`.
        in_channels: Channels of the images. None takes the model's default.
        image_size: Height and width of the images, or one number for both. None takes the model's default.
        normalize: ``(mean, std)`` for images in ``[0, 1]``, each one number or one for each channel. Analog
            steps show ``(images - mean) / std``, and spikes are made from the images themselves. With None,
            analog steps show the images unchanged. The moments are buffers, so they are saved and exported
            with the model.
        unnormalize: ``(mean, std)`` with which the given images were normalised. Analog steps show these
            images, and spikes are made from ``images * std + mean``.
        carry: Whether a hybrid code adds the current of the analog step to the later steps, see
            :class:`~snntorch_asnn.layers.AnalogCarry`. False gives the paper's network.
        norm_over_time: Which steps batch norms take their statistics from. ``"pooled"`` takes them over time
            and batch, the others at each step. ``"sequential"`` updates one pair of running averages, as in
            a loop over time, ``"step_statistics"`` has its own averages for each step, and ``"step"`` also
            its own weight and bias. See :func:`~snntorch_asnn.layers.set_norm_over_time`. None follows the
            model's reference: ``"sequential"`` for the LeNet, ``"pooled"`` for all others.
        step_norm: Deprecated. True means ``norm_over_time="step"``.
        fused: Whether each norm and the neuron after it run as one layer, see
            :class:`~snntorch_asnn.layers.NormLeaky`. This takes less memory and has the same weights; the
            page on speed says when it is faster.
        **settings: Other arguments of the model's class.

    Returns:
        The model with freshly initialised weights.

    Raises:
        TypeError: An argument has a wrong type, or the model does not take it. The message suggests the
            nearest argument.
        ValueError: The name is unknown, or a value is out of range.

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
        norm_over_time = _from_step_norm(norm_over_time)
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
"""Arguments for which None means the model's default."""

_MOMENTS = {"normalize", "unnormalize"}


def _from_step_norm(norm_over_time: NormOverTime | None) -> NormOverTime:
    """Return the ``norm_over_time`` that the deprecated ``step_norm=True`` means."""
    if norm_over_time not in (None, "step"):
        raise ValueError(f"step_norm must be False with norm_over_time={norm_over_time!r}; got True")
    warnings.warn("step_norm=True is deprecated; use norm_over_time='step'", DeprecationWarning, stacklevel=3)
    return "step"


def _recipe(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with which :func:`from_pretrained` rebuilds the model, as far as they are plain."""
    plain = {key: value for key, value in settings.items() if _is_plain(value)}
    return {"name": name, "settings": plain, "by_hand": sorted(settings.keys() - plain.keys())}


def _plain_moments(moments: Any) -> Any:
    """Convert mean and standard deviation to tuples, which a recipe can hold; keep anything else."""
    if not isinstance(moments, tuple | list) or len(moments) != 2:
        return moments
    arrays = Tensor | np.ndarray
    return tuple(with_tuples(m.tolist() if isinstance(m, arrays) else m) for m in moments)


def with_tuples(value: Any) -> Any:
    """Convert settings to arguments: JSON's lists to tuples, and NumPy's numbers to Python's."""
    if isinstance(value, dict):
        return {key: with_tuples(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return tuple(map(with_tuples, value))
    return value.item() if isinstance(value, np.generic) else value


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
