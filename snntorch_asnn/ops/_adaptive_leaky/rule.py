"""How a neuron fires and resets: the options that do not change with the time step."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, cast, get_args

from torch import Tensor

from snntorch_asnn.surrogate import Surrogate, atan, of_constants

__all__ = ["Reset", "ResetMechanism", "Rule", "RuleOptions", "SpikeFunction", "options_of", "rule_of"]

ResetMechanism = Literal["subtract", "zero", "none"]
Reset = Literal["delayed", "exact", "immediate"]
SpikeFunction = Callable[[Tensor], Tensor]


class RuleOptions(NamedTuple):
    """A rule that fused implementations cover, as the constants that kernels are built for."""

    mechanism: str
    reset: str
    cuts_previous_reset: bool
    cuts_current_reset: bool
    surrogate: str
    surrogate_shape: float
    fires_at_threshold: bool


@dataclass(frozen=True)
class Rule:
    """Firing and reset of an adaptive leaky neuron.

    Args:
        spike_grad: from membrane less threshold to spikes, differentiable through its surrogate.
        reset_mechanism: ``"subtract"`` the threshold, set to ``"zero"``, or ``"none"``.
        reset_delay: whether a spike resets the membrane at the next step (snnTorch's default) or at once.
        exact_reset: with ``reset_delay=False``: reset once per spike, at the spike. ``False`` repeats
            snnTorch's rule, which resets a membrane that is still above the threshold once more before
            the next comparison.
        detach_reset: whether the reset is cut out of the gradient. ``None``: a delayed reset is cut, an
            immediate one is not, as in snnTorch.
        inhibition: only the neuron with the highest membrane of each sample fires.
        state_quant: quantises the membrane after integration.

    Raises:
        ValueError: if ``reset_mechanism`` is unknown, or ``exact_reset`` is asked for with a delay.
        TypeError: if a flag is not a bool or a function is not callable.
    """

    spike_grad: SpikeFunction = field(default_factory=atan)
    reset_mechanism: ResetMechanism = "subtract"
    reset_delay: bool = True
    exact_reset: bool = False
    detach_reset: bool | None = None
    inhibition: bool = False
    state_quant: Callable[[Tensor], Tensor] | None = None
    key: str = field(init=False, compare=False, repr=False)
    """The rule as text, which operators and graphs take as one constant; empty unless it is fusable."""

    def __post_init__(self) -> None:
        if not callable(self.spike_grad):
            raise TypeError(f"spike_grad must be callable or None; got {self.spike_grad!r}")
        if self.reset_mechanism not in get_args(ResetMechanism):
            raise ValueError(
                f"reset_mechanism must be 'subtract', 'zero' or 'none'; got {self.reset_mechanism!r}"
            )
        for name in ("reset_delay", "exact_reset", "inhibition"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be a bool; got {getattr(self, name)!r}")
        if self.detach_reset is not None and not isinstance(self.detach_reset, bool):
            raise TypeError(f"detach_reset must be a bool or None; got {self.detach_reset!r}")
        if self.state_quant is not None and not callable(self.state_quant):
            raise TypeError(f"state_quant must be callable, False or None; got {self.state_quant!r}")
        if self.exact_reset and self.reset_delay:
            raise ValueError("exact_reset=True needs reset_delay=False: a delayed reset is exact already")
        key = ""
        if isinstance(self.spike_grad, Surrogate) and not self.inhibition and self.state_quant is None:
            cuts = f"{self.cuts_previous_reset} {self.cuts_current_reset}"
            key = f"{self.reset_mechanism} {self.reset} {cuts} {self.spike_grad.constants}"
        object.__setattr__(self, "key", key)

    @property
    def reset(self) -> Reset:
        """When a spike resets the membrane."""
        return "delayed" if self.reset_delay else "exact" if self.exact_reset else "immediate"

    @property
    def cuts_previous_reset(self) -> bool:
        """Whether the reset by the previous step's spike is cut out of the gradient."""
        return self.detach_reset is not False

    @property
    def cuts_current_reset(self) -> bool:
        """Whether the reset by this step's own spike is cut out of the gradient."""
        return self.detach_reset is True

    @property
    def is_fusable(self) -> bool:
        """Whether the fused implementations cover this rule; the reference covers all."""
        return self.key != ""

    @functools.cached_property
    def without_reset(self) -> Rule:
        """The same for a state that is never reset, such as a synaptic current."""
        return replace(self, reset_mechanism="none", exact_reset=False)


@functools.cache
def options_of(key: str) -> RuleOptions:
    """The constants in a :attr:`Rule.key`."""
    mechanism, reset, cuts_previous, cuts_current, surrogate, shape, fires_at_threshold = key.split()
    cuts = cuts_previous == "True", cuts_current == "True"
    return RuleOptions(mechanism, reset, *cuts, surrogate, float(shape), fires_at_threshold == "True")


@functools.cache
def rule_of(key: str) -> Rule:
    """The rule whose :attr:`Rule.key` this is."""
    options = options_of(key)
    detach = options.cuts_current_reset or (None if options.cuts_previous_reset else False)
    return Rule(
        of_constants(key.split(maxsplit=4)[4]),
        cast(ResetMechanism, options.mechanism),
        options.reset == "delayed",
        options.reset == "exact",
        detach,
    )
