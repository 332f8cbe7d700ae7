"""Types of the arguments that all models of the zoo take."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter, signature
from typing import Required, TypedDict

from snntorch_asnn._arguments import did_you_mean
from snntorch_asnn.encoding import Moments
from snntorch_asnn.layers import NormOverTime
from snntorch_asnn.models.image_encoder import EncodingLike
from snntorch_asnn.models.named_neurons import NeuronLike, Sharing
from snntorch_asnn.models.readouts import ReadoutLike

__all__ = ["BaseSettings", "ModelSettings", "refuse_unknown"]


class BaseSettings(TypedDict, total=False):
    """Arguments of :class:`~snntorch_asnn.models.SpikingModel`, to type the ``**settings`` of a subclass.

    None means the model's default. See :func:`~snntorch_asnn.models.create_model` for each argument.
    """

    num_classes: Required[int]
    num_steps: Required[int]
    encoding: EncodingLike | None
    readout: ReadoutLike
    in_channels: int | None
    image_size: int | tuple[int, int] | None
    carry: bool
    normalize: Moments | None
    unnormalize: Moments | None
    norm_over_time: NormOverTime | None


class ModelSettings(BaseSettings, total=False):
    """Arguments that every model of the zoo takes, to type the ``**settings`` of a registered function.

    Example::

        >>> from typing import Unpack
        >>> from snntorch_asnn.models import LeNet
        >>> def narrow_lenet(**settings: Unpack[ModelSettings]) -> LeNet:
        ...     return LeNet(channels=(4, 8, 8), hidden=32, **settings)
        >>> narrow_lenet(num_classes=10, num_steps=4).head
        Linear(in_features=32, out_features=10, bias=True)
    """

    neuron: NeuronLike
    sharing: Sharing


_ONLY_CREATE_MODEL = ("fused", "step_norm")
"""Arguments that only :func:`create_model` takes."""

_OTHER_NAMES = {
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
"""Names of arguments in other packages."""


def refuse_unknown(model: type, unknown: Mapping[str, object]) -> None:
    """Refuse keyword arguments that a class of models does not take.

    Raises:
        TypeError: There is one. The message names the nearest argument, or all known arguments.
    """
    for name in unknown:
        if name in _ONLY_CREATE_MODEL:
            raise TypeError(f"{model.__name__} takes no argument {name!r}; pass it to create_model")
        known = [*_arguments_of(model), *_ONLY_CREATE_MODEL]
        hint = did_you_mean(name, known, other_names=_OTHER_NAMES)
        raise TypeError(
            f"{model.__name__} takes no argument {name!r}{hint or '; it takes ' + ', '.join(known)}"
        )


def _arguments_of(model: type) -> list[str]:
    """Names of the keyword arguments of a class and its bases, beginning with the bases."""
    names: dict[str, None] = {}
    for owner in reversed(model.__mro__):
        if "__init__" in vars(owner):
            parameters = signature(vars(owner)["__init__"]).parameters.values()
            names |= {p.name: None for p in parameters if p.kind is Parameter.KEYWORD_ONLY}
    return list(names)
