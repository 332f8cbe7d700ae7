"""Arguments that all adaptive neurons share: name, type, default and meaning of each in one place.

A new option needs an entry here and the code that reads it. Constructors, checks, signatures, docstrings and
attributes of the neurons follow from the entry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import Parameter
from typing import Annotated, Any, Literal, Required, TypedDict

from torch import Tensor

from snntorch_asnn.neurons.leak_constraint import BetaConstraint
from snntorch_asnn.neurons.time_parameters import Overrun
from snntorch_asnn.ops._adaptive_leaky.engine import Impl

__all__ = ["SNNTORCH_ARGUMENTS", "AdaptiveOptions", "Option", "Quantiser", "ResetOptions"]

Quantiser = Callable[[Tensor], Tensor] | Literal[False] | None
"""A function that quantises states, or False or None for no quantisation."""


@dataclass(frozen=True)
class Option:
    """Meaning and default of a keyword argument; without a default, callers must pass it."""

    meaning: str
    default: Any = Parameter.empty


class AdaptiveOptions(TypedDict, total=False):
    """Keyword arguments of every adaptive neuron that snnTorch's neurons do not have."""

    num_steps: Required[Annotated[int, Option("T, the number of time steps that have parameters.")]]
    gain: Annotated[float | Tensor, Option("input gain, dimensionless; shapes as ``threshold``.", 1.0)]
    learn_gain: Annotated[bool, Option("whether ``gain`` is a Parameter.", True)]
    feature_shape: Annotated[
        Sequence[int] | None,
        Option(
            "shape of one step's parameters, broadcast against the input without its batch dimension: ``()`` "
            "per layer, ``(C, 1, 1)`` per channel of a convolution, ``(N,)`` per neuron. None infers it from "
            "the leaks and ``threshold``.",
            None,
        ),
    ]
    beta_constraint: Annotated[
        BetaConstraint,
        Option(
            'how leaks are kept in [0, 1]. ``"clamp"`` clamps them as snnTorch does, but on the bounds and '
            "beyond the gradient passes where a descent step leads back, so that a leak that has left the "
            'range returns; ``"sigmoid"`` makes the leak :math:`\\sigma(10\\,\\texttt{beta})`; ``"none"`` '
            "leaves it as it is.",
            "clamp",
        ),
    ]
    detach_reset: Annotated[
        bool | None,
        Option(
            "whether the reset is cut out of the gradient. None does as snnTorch: a delayed reset is cut, an "
            "immediate one is not.",
            None,
        ),
    ]
    on_overrun: Annotated[
        Overrun,
        Option(
            'behaviour at a step past ``num_steps``: ``"raise"`` an error, ``"hold"`` the last step\'s '
            'parameters, or ``"cycle"`` back to the first step\'s.',
            "raise",
        ),
    ]
    sequence: Annotated[
        bool,
        Option(
            "whether the input is a whole ``[T, B, ...]`` sequence, time first, computed in one call. A "
            "batch ``[B, T, F]`` needs ``x.transpose(0, 1)``. In ``nn.Sequential``, which passes on one "
            "tensor, wrap the neuron in :class:`~snntorch_asnn.layers.OverTime`.",
            False,
        ),
    ]
    impl: Annotated[
        Impl,
        Option(
            'how a sequence, and on a GPU a single step, is computed: ``"auto"``, ``"reference"``, '
            '``"cpp"``, ``"triton"`` or ``"compile"``; see :func:`snntorch_asnn.ops.adaptive_leaky`.',
            "auto",
        ),
    ]


class ResetOptions(AdaptiveOptions, total=False):
    """Keyword arguments of the adaptive neurons that can also reset at the spike."""

    exact_reset: Annotated[
        bool,
        Option(
            "with ``reset_delay=False``, reset once per spike, at the spike. False repeats snnTorch's rule, "
            "under which a membrane still above the threshold after its reset is reset again before the next "
            "comparison, so that spikes are missed.",
            False,
        ),
    ]


SNNTORCH_ARGUMENTS = {
    "threshold": (
        "membrane at which a neuron fires, in units of the input: a number, one per feature, ``(T,)``, or "
        "``(T, *feature_shape)``."
    ),
    "spike_grad": (
        "surrogate gradient, from :mod:`snntorch_asnn.surrogate` or :mod:`snntorch.surrogate`; None for the "
        "arc tangent, snnTorch's default."
    ),
    "surrogate_disable": "whether spikes have no gradient at all.",
    "init_hidden": "whether the module keeps the state, so that ``forward`` takes only the input.",
    "inhibition": "only the neuron with the highest membrane of each sample fires; input ``[B, N]``.",
    "learn_beta": "whether ``beta`` is a Parameter.",
    "learn_threshold": "whether ``threshold`` is a Parameter, with one value per step.",
    "reset_mechanism": '``"subtract"`` the threshold, reset to ``"zero"``, or ``"none"``.',
    "state_quant": "a function that quantises the states, or False.",
    "output": "whether to return the states beside the spikes also with ``init_hidden``.",
    "reset_delay": "reset at the step after the spike (True) or at once (False).",
}
"""Meaning of the arguments that snnTorch's neurons share; each class has its own order and defaults."""
