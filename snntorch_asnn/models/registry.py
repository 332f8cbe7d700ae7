"""Models by name."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from difflib import get_close_matches
from fnmatch import fnmatchcase
from inspect import Parameter, signature
from typing import Any, TypeVar, get_type_hints

import numpy as np
from torch import Tensor

from snntorch_asnn._arguments import check_choice
from snntorch_asnn.encoding import Moments
from snntorch_asnn.layers import NormOverTime, fuse_norm, set_norm_over_time
from snntorch_asnn.models.base import SpikingModel
from snntorch_asnn.models.encodings import EncodingLike
from snntorch_asnn.models.neurons import NeuronLike, Sharing
from snntorch_asnn.models.readouts import ReadoutLike

__all__ = ["builder", "create_model", "list_models", "register_model"]

Builder = TypeVar("Builder", bound=Callable[..., SpikingModel])

_BUILDERS: dict[str, Callable[..., SpikingModel]] = {}


def register_model(build: Builder) -> Builder:
    """Add the function to the zoo, under its own name.

    Args:
        build: takes the arguments of :func:`create_model` as keywords, gives the model.

    Returns:
        ``build`` itself, so that this is a decorator.

    Raises:
        ValueError: another model has this name.

    Example::

        >>> from snntorch_asnn.models import LeNet
        >>> @register_model
        ... def narrow_lenet(**settings):
        ...     return LeNet(channels=[4, 8, 8], hidden=32, **settings)
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
        ValueError: there is none.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string; got {name!r}")
    if name not in _BUILDERS:
        nearest = get_close_matches(name, _BUILDERS, n=3, cutoff=0.0)
        raise ValueError(
            f"name must be one of list_models(); got {name!r}, nearest: {', '.join(map(repr, nearest))}"
        )
    return _BUILDERS[name]


def create_model(
    name: str,
    *,
    num_classes: int,
    num_steps: int,
    neuron: NeuronLike = "asnn",
    sharing: Sharing = "layer",
    encoding: EncodingLike | None = None,
    readout: ReadoutLike = "time_weighted",
    in_channels: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    normalize: Moments | None = None,
    unnormalize: Moments | None = None,
    carry: bool = False,
    norm_over_time: NormOverTime | None = None,
    step_norm: bool = False,
    fused: bool = False,
    **model_args: Any,
) -> SpikingModel:
    """Build a model of the zoo: ``model(images)`` gives logits ``[B, num_classes]``.

    Args:
        name: one of :func:`list_models`.
        num_classes: number of classes.
        num_steps: T, the number of time steps.
        neuron: ``"asnn"``, the paper's neuron, with a learned leak and gain for each step; ``"lif"``, a
            fixed LIF (time constant 2, hard reset that is cut out of the gradient), or ``"if"``, the same
            without a leak; ``"tebn"`` (learned gain per step), ``"dalif"`` (learned leak and gain, the
            same at every step) or ``"plif"`` (learned time constant), to compare with; or a callable that
            builds one neuron, such as ``lambda: snn.Leaky(beta=0.9, init_hidden=True)``. The callable is
            given, by keyword, those of ``num_steps``, ``threshold``, ``channel_shape`` (shape of a
            parameter with one value per channel) and ``feature_shape`` (shape that ``sharing`` asks for)
            that it has no default for.
        sharing: whether a neuron's parameters are one for each ``"layer"`` or one for each
            ``"channel"``.
        encoding: how images become a sequence: the name of a code of :mod:`snntorch_asnn.spikegen`;
            a callable ``(images, num_steps) -> [T, B, C, H, W]``; a module such as
            :class:`~snntorch_asnn.encoding.HybridEncoder`; or ``"none"`` for input that is a
            sequence already. A hybrid code gives the analog steps a first convolution and norm of
            their own. None for the model's default: ``"hybrid"``, or ``"none"`` for event data.
        readout: ``"time_weighted"``, ``"mean"``, or a :class:`~snntorch_asnn.layers.MeanReadout`.
        in_channels: channels of the images; None for the model's default.
        image_size: height and width of the images, one number if they are equal; None for the
            model's default.
        normalize: ``(mean, std)``, each one number or one for each channel. The model takes images in
            ``[0, 1]``; its analog steps show ``(images - mean) / std``, and spikes are made of the images
            themselves. None: analog steps show the images as they are. The moments are buffers, saved and
            exported with the model.
        unnormalize: ``(mean, std)`` with which the images have been normalised when the model gets them:
            analog steps show them, and spikes are made of ``images * std + mean``.
        carry: with a hybrid code: whether the current of the analog step is carried on to the later steps,
            see :class:`~snntorch_asnn.layers.AnalogCarry`. False is the paper's network.
        norm_over_time: which steps batch norms take their statistics from: ``"pooled"``, time and batch
            together; ``"sequential"``, each step, as in a loop over time; ``"step_statistics"`` and
            ``"step"``, each step, with running averages, and a weight and bias, of its own. See
            :func:`~snntorch_asnn.layers.set_norm_over_time`. None is what the model's reference does:
            ``"sequential"`` for the LeNet, ``"pooled"`` for all others.
        step_norm: deprecated; True is ``norm_over_time="step"``.
        fused: whether each norm runs in one with the neuron behind it, see
            :class:`~snntorch_asnn.layers.NormLeaky`: in less memory, with the same weights; see the page on
            speed.
        **model_args: what only this model takes: see its class.

    Returns:
        The model, with fresh weights.

    Raises:
        TypeError: an argument of a wrong type, or one that this model does not take.
        ValueError: an unknown name, or a value that is out of range.

    Example::

        >>> import torch
        >>> model = create_model("lenet", num_classes=10, num_steps=4, in_channels=1, image_size=8)
        >>> model(torch.rand(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    optional = {
        "encoding": encoding,
        "in_channels": in_channels,
        "image_size": image_size,
        "normalize": _plain_moments(normalize),
        "unnormalize": _plain_moments(unnormalize),
    }
    settings = {
        "num_classes": num_classes,
        "num_steps": num_steps,
        "neuron": neuron,
        "sharing": sharing,
        "readout": readout,
        **{key: value for key, value in optional.items() if value is not None},
        **({"carry": carry} if carry else {}),
        **model_args,
    }
    settings = with_tuples(settings)
    for argument, value in {"step_norm": step_norm, "fused": fused}.items():
        if not isinstance(value, bool):
            raise TypeError(f"{argument} must be True or False; got {value!r}")
    if step_norm:
        norm_over_time = _of_step_norm(norm_over_time)
    if norm_over_time is not None:
        check_choice("norm_over_time", norm_over_time, NormOverTime)
    model = _build(name, settings)
    set_norm_over_time(model, norm_over_time or model.norm_over_time)
    later = {"norm_over_time": model.norm_over_time, **({"fused": True} if fused else {})}
    model.recipe = _recipe(name, settings | later)
    model._by_hand = {key: settings[key] for key in model.recipe["by_hand"]}
    if fused:
        fuse_norm(model)
    return model


_SAME = {
    "T": "num_steps",
    "time_steps": "num_steps",
    "timesteps": "num_steps",
    "time_step": "num_steps",
    "num_channels": "in_channels",
    "in_chans": "in_channels",
    "mean": "normalize",
    "code": "encoding",
    "share": "sharing",
}
"""What other packages call an argument."""


def _build(name: str, settings: dict[str, Any]) -> SpikingModel:
    """Build a model; where it does not take an argument, say which one was probably meant."""
    build = builder(name)
    try:
        return build(**settings)
    except TypeError as error:
        found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if found is None or found[1] not in settings:
            raise
        unknown = found[1]
        known = _arguments_of(build)
        nearest = [_SAME[unknown]] if unknown in _SAME else get_close_matches(unknown, known, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"it takes {', '.join(known)}"
        raise TypeError(f"{unknown} is no argument of the model {name!r}; {hint}") from error


def _arguments_of(build: Callable[..., SpikingModel]) -> list[str]:
    """Names of what :func:`create_model` takes for a model: its own arguments, and those of its class."""
    names = dict.fromkeys(signature(create_model).parameters)
    made = get_type_hints(build).get("return")
    for owner in (build, *(made.__mro__ if isinstance(made, type) else ())):
        parameters = signature(owner).parameters.values() if callable(owner) else ()
        names |= {p.name: None for p in parameters if p.kind is Parameter.KEYWORD_ONLY}
        if isinstance(owner, type) and owner.__name__ == "SpikingModel":
            break
    return [name for name in names if name not in ("name", "model_args")]


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
    """Return settings as arguments: tuples for lists, which are all that JSON knows, and Python's numbers."""
    if isinstance(value, dict):
        return {key: with_tuples(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return tuple(map(with_tuples, value))
    return value.item() if isinstance(value, np.generic) else value


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
