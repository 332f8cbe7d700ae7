"""Validated constructor arguments of a neuron."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from inspect import Parameter
from typing import Any, Literal, get_origin

import numpy as np
import torch
from torch import Tensor

from snntorch_asnn._arguments import check_choice, check_count, check_flags, did_you_mean
from snntorch_asnn.neurons.leak_constraint import unconstrain
from snntorch_asnn.neurons.options import SNNTORCH_ARGUMENTS, ResetOptions
from snntorch_asnn.neurons.spec import NeuronSpec
from snntorch_asnn.neurons.time_parameters import (
    shape_features,
    spread,
    spread_unless_fixed,
    warn_of_guesses,
)
from snntorch_asnn.ops._adaptive_leaky.rule import Rule
from snntorch_asnn.surrogate import atan

__all__ = ["RULE_OPTIONS", "NeuronArguments", "complete_options", "heaviside"]

RULE_OPTIONS = tuple(option.name for option in fields(Rule) if option.init)
"""Names of the arguments that make up a neuron's :class:`Rule`."""

_OTHER_NAMES = {
    "T": "num_steps",
    "time_steps": "num_steps",
    "timesteps": "num_steps",
    "surrogate_function": "spike_grad",
    "v_threshold": "threshold",
    "sharing": "feature_shape",
}
"""Names that other packages, or other functions of this one, give to an argument."""

_OF_SOME_NEURONS = {*SNNTORCH_ARGUMENTS, *ResetOptions.__annotations__, "graded_spikes_factor"}
"""Arguments that only some adaptive neurons have, besides those that all have."""


@dataclass(frozen=True)
class NeuronArguments:
    """Validated constructor arguments of a neuron, with its parameters spread over the time steps.

    Args:
        rule: how the neuron fires and resets.
        time_parameters: value ``[T, *feature_shape]`` of each time parameter, and whether it is learned.
        attributes: the other options, which the neuron keeps under their names.
        snntorch: arguments of snnTorch's constructor.
    """

    rule: Rule
    time_parameters: dict[str, tuple[Tensor, bool]]
    attributes: dict[str, Any]
    snntorch: dict[str, Any]

    @classmethod
    def check(cls, spec: NeuronSpec, given: Mapping[str, Any], options: Mapping[str, Any]) -> NeuronArguments:
        """Check the arguments of snnTorch (``given``) and the keyword options, all with their defaults."""
        names = spec.time_parameters
        values = {**given, **options, "num_steps": check_count("num_steps", options["num_steps"])}
        learned = {name: values.get(f"learn_{name}", False) for name in names}
        flags = {f"learn_{name}": learn for name, learn in learned.items()}
        check_flags(
            **flags, **{name: values[name] for name in ("surrogate_disable", "init_hidden", "output")}
        )
        rule = _rule_of(values)
        if values["impl"] not in ("auto", "reference") and (reason := spec.why_loop(rule)):
            raise ValueError(
                f"impl={values['impl']!r} does not cover {reason}; use impl='auto' or 'reference'"
            )
        starts = {name: _as_tensor(values.get(name, 1.0)) for name in names}
        features, spread_values = _spread_over_steps(spec, starts, learned, values)
        if values["feature_shape"] is None:
            warn_of_guesses(values["num_steps"], **starts)
        _check_factor(rule, spread_values["graded_spikes_factor"])
        attributes = {**options, "feature_shape": features, "num_steps": values["num_steps"]}
        return cls(
            rule,
            {name: (spread_values[name], learned[name]) for name in names},
            {name: value for name, value in attributes.items() if name not in {*names, *flags}},
            {
                name: value
                for name, value in given.items()
                if name not in {*names, *flags, "surrogate_disable"}
            }
            | {"spike_grad": rule.spike_grad, "state_quant": rule.state_quant or False}
            | dict.fromkeys(spec.leaks, 0.0),
        )


def complete_options(
    neuron: str, given: Mapping[str, Any], options: Mapping[str, Parameter], others: Collection[str]
) -> dict[str, Any]:
    """The keyword options of a neuron with their defaults, each checked against its type.

    Args:
        neuron: name of the neuron's class.
        given: the options that the caller passed.
        options: the options that the class has.
        others: names of its other arguments.

    Raises:
        TypeError: if an option is unknown or missing, or is not a bool where it must be one.
        ValueError: if the value of an option is not one of its choices.
    """
    for name in given:
        if name in options:
            continue
        if name in _OF_SOME_NEURONS:
            raise TypeError(f"{neuron} takes no argument {name!r}; only other adaptive neurons do")
        hint = did_you_mean(name, [*others, *options], other_names=_OTHER_NAMES)
        raise TypeError(f"{neuron} takes no argument {name!r}{hint or f'; see help({neuron})'}")
    complete = {}
    for name, option in options.items():
        value = complete[name] = given.get(name, option.default)
        if value is Parameter.empty:
            raise TypeError(f"{neuron} needs {name}=, for instance {neuron}(..., {name}=25)")
        if get_origin(option.annotation) is Literal:
            check_choice(name, value, option.annotation)
        elif option.annotation is bool:
            check_flags(**{name: value})
    return complete


def _rule_of(values: Mapping[str, Any]) -> Rule:
    options = {name: values[name] for name in RULE_OPTIONS if name in values}
    if values["surrogate_disable"]:
        options["spike_grad"] = heaviside
    elif values["spike_grad"] is None:
        options["spike_grad"] = atan()
    if values["state_quant"] is False:  # snnTorch's default
        options["state_quant"] = None
    return Rule(**options)


def _spread_over_steps(
    spec: NeuronSpec, starts: dict[str, Any], learned: dict[str, bool], values: Mapping[str, Any]
) -> tuple[tuple[int, ...], dict[str, Tensor]]:
    """The shape of one step's parameters, and every time parameter as ``[T, *feature_shape]``."""
    steps, given_shape = values["num_steps"], values["feature_shape"]
    features = shape_features(steps, given_shape, **{n: starts[n] for n in (*spec.leaks, "threshold")})
    spread_values = {}
    for name, start in starts.items():
        if name in spec.leaks:
            leak = spread(name, start, steps, features)
            spread_values[name] = unconstrain(leak, values["beta_constraint"], name)
        elif name == "gain":
            spread_values[name] = spread(name, start, steps, features)
        else:
            spread_values[name] = spread_unless_fixed(name, start, steps, features, learn=learned[name])
    return features, spread_values


def _check_factor(rule: Rule, factor: Tensor) -> None:
    divides_by_factor = not (rule.reset_delay or rule.exact_reset or rule.reset_mechanism == "none")
    if divides_by_factor and not factor.is_meta and bool((factor == 0).any()):
        raise ValueError(
            "graded_spikes_factor must not be 0 with reset_delay=False, whose reset divides by it; got 0"
        )


def _as_tensor(value: Any) -> Any:
    """NumPy numbers and arrays, which snnTorch takes and its NIR import passes, as tensors."""
    return torch.as_tensor(value) if isinstance(value, (np.ndarray, np.generic)) else value


def heaviside(above: Tensor) -> Tensor:
    """Spikes of a neuron whose surrogate gradient is disabled."""
    return (above > 0).to(above.dtype)
