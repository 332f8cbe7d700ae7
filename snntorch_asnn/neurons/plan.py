"""What a neuron is going to be: all arguments checked and spread over the steps before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snntorch_asnn._arguments import check_choice, check_count, check_flags
from snntorch_asnn.neurons.leak_constraint import BetaConstraint, unconstrain
from snntorch_asnn.neurons.time_parameters import (
    Overrun,
    shape_features,
    spread,
    spread_unless_fixed,
    warn_of_guesses,
)
from snntorch_asnn.ops._adaptive_leaky.engine import Impl
from snntorch_asnn.ops._adaptive_leaky.rule import ResetMechanism, Rule, SpikeFunction
from snntorch_asnn.surrogate import atan

__all__ = ["Plan"]

Learned = tuple[float | Tensor, bool]
"""A time parameter as the caller gives it, and whether it is learned."""


@dataclass(frozen=True)
class Plan:
    """Checked options of an adaptive neuron, and the values of its time parameters."""

    rule: Rule
    num_steps: int
    feature_shape: tuple[int, ...]
    beta_constraint: BetaConstraint
    on_overrun: Overrun
    sequence: bool
    impl: Impl
    surrogate_disable: bool
    values: dict[str, tuple[Tensor, bool]]

    @classmethod
    def build(
        cls,
        *,
        leaks: dict[str, Learned],
        threshold: Learned,
        spike_grad: SpikeFunction | None,
        surrogate_disable: bool,
        init_hidden: bool,
        inhibition: bool,
        reset_mechanism: ResetMechanism,
        state_quant: Callable[[Tensor], Tensor] | bool | None,
        output: bool,
        num_steps: int,
        gain: Learned,
        feature_shape: Sequence[int] | None,
        beta_constraint: BetaConstraint,
        on_overrun: Overrun,
        sequence: bool,
        impl: Impl,
        graded_spikes_factor: Learned = (1.0, False),
        reset_delay: bool = True,
        exact_reset: bool = False,
        detach_reset: bool | None = None,
    ) -> Plan:
        """Check everything; the leaks are those that ``beta_constraint`` applies to."""
        leaks = {name: (_as_tensor(value), learn) for name, (value, learn) in leaks.items()}
        threshold = _as_tensor(threshold[0]), threshold[1]
        gain = _as_tensor(gain[0]), gain[1]
        graded_spikes_factor = _as_tensor(graded_spikes_factor[0]), graded_spikes_factor[1]
        num_steps = check_count("num_steps", num_steps)
        check_choice("beta_constraint", beta_constraint, BetaConstraint)
        check_choice("on_overrun", on_overrun, Overrun)
        check_choice("impl", impl, Impl)
        learned = {**leaks, "threshold": threshold, "gain": gain}
        check_flags(
            surrogate_disable=surrogate_disable,
            init_hidden=init_hidden,
            **{f"learn_{name}": learn for name, (_, learn) in learned.items()},
            output=output,
            learn_graded_spikes_factor=graded_spikes_factor[1],
            sequence=sequence,
        )
        rule = Rule(
            _heaviside if surrogate_disable else atan() if spike_grad is None else spike_grad,
            reset_mechanism,
            reset_delay,
            exact_reset,
            detach_reset,
            inhibition,
            _quantiser(state_quant),
        )
        read_off = {name: value for name, (value, _) in (leaks | {"threshold": threshold}).items()}
        features = shape_features(num_steps, feature_shape, **read_off)
        values = {}
        for name, (value, learn) in leaks.items():
            leak = spread(name, value, num_steps, features)
            values[name] = (unconstrain(leak, beta_constraint, name), learn)
        values["gain"] = (spread("gain", gain[0], num_steps, features), gain[1])
        for name, (value, learn) in (
            ("threshold", threshold),
            ("graded_spikes_factor", graded_spikes_factor),
        ):
            values[name] = (spread_unless_fixed(name, value, num_steps, features, learn=learn), learn)
        if feature_shape is None:
            others = {"gain": gain[0], "graded_spikes_factor": graded_spikes_factor[0]}
            warn_of_guesses(num_steps, **read_off, **others)
        divides_by_factor = not (rule.reset_delay or rule.exact_reset or rule.reset_mechanism == "none")
        if divides_by_factor and bool((values["graded_spikes_factor"][0] == 0).any()):
            raise ValueError(
                "graded_spikes_factor must not be 0 with reset_delay=False, whose reset divides by it; got 0"
            )
        return cls(
            rule,
            num_steps,
            features,
            beta_constraint,
            on_overrun,
            sequence,
            impl,
            surrogate_disable,
            values,
        )

    def refuse_fused(self, reason: str) -> None:
        """Refuse an ``impl`` that asks for a fused run, where there is none."""
        if self.impl not in ("auto", "reference"):
            raise ValueError(f"impl={self.impl!r} does not cover {reason}; use impl='auto' or 'reference'")

    def snntorch_arguments(self) -> dict[str, Any]:
        """What snnTorch's own constructors are to be told of it."""
        return {
            "spike_grad": self.rule.spike_grad,
            "inhibition": self.rule.inhibition,
            "reset_mechanism": self.rule.reset_mechanism,
            "state_quant": self.rule.state_quant or False,
        }


def _quantiser(state_quant: Callable[[Tensor], Tensor] | bool | None) -> Callable[[Tensor], Tensor] | None:
    # snnTorch's "no quantiser" is False; whatever else is not callable, Rule refuses.
    return None if state_quant is False else state_quant  # type: ignore[return-value]


def _as_tensor(value: Any) -> Any:
    """NumPy's numbers and arrays, which snnTorch takes and its NIR import passes, as tensors."""
    return torch.as_tensor(value) if isinstance(value, (np.ndarray, np.generic)) else value


def _heaviside(above: Tensor) -> Tensor:
    return (above > 0).to(above.dtype)
