"""How a neuron fires and resets: the options that do not change with the time step."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, get_args

from torch import Tensor

from snntorch_asnn.surrogate import Surrogate, atan

__all__ = ["ResetMechanism", "Rule", "RuleOptions", "SpikeFunction"]

ResetMechanism = Literal["subtract", "zero", "none"]
SpikeFunction = Callable[[Tensor], Tensor]


class RuleOptions(NamedTuple):
    """A rule that is fusable, as the constants that kernels are built for."""

    mechanism: str
    reset: str
    """``"delayed"``, ``"exact"`` or ``"immediate"``."""
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
        return isinstance(self.spike_grad, Surrogate) and not self.inhibition and self.state_quant is None

    @functools.cached_property
    def without_reset(self) -> Rule:
        """The same for a state that is never reset, such as a synaptic current."""
        return replace(self, reset_mechanism="none", exact_reset=False)

    @functools.cached_property
    def options(self) -> RuleOptions:
        """The rule as the constants of kernels, if it is fusable."""
        surrogate = self.spike_grad
        assert isinstance(surrogate, Surrogate)
        reset = "delayed" if self.reset_delay else "exact" if self.exact_reset else "immediate"
        return RuleOptions(
            self.reset_mechanism,
            reset,
            self.cuts_previous_reset,
            self.cuts_current_reset,
            surrogate.kind,
            surrogate.shape,
            surrogate.fires_at_threshold,
        )
