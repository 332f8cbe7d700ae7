"""The adaptive synaptic neuron as a module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, cast

import snntorch as snn
from torch import Tensor

from snntorch_asnn.neurons.adaptive import AdaptiveNeuron
from snntorch_asnn.neurons.leak_constraint import BetaConstraint, constrain
from snntorch_asnn.neurons.plan import Plan
from snntorch_asnn.neurons.run_state import State
from snntorch_asnn.neurons.stateful import state_property
from snntorch_asnn.neurons.time_parameters import Overrun
from snntorch_asnn.ops._adaptive_leaky.engine import Impl, takes_steps
from snntorch_asnn.ops._adaptive_leaky.rule import ResetMechanism, Rule, SpikeFunction
from snntorch_asnn.ops._adaptive_synaptic import sequence as adaptive_synaptic

__all__ = ["AdaptiveSynaptic"]


class AdaptiveSynaptic(AdaptiveNeuron, snn.Synaptic):
    r"""A leaky neuron behind a decaying synapse, with both leaks and a gain for every time step.

    .. math::

        i[t] &= \alpha[t]\, i[t-1] + g[t]\, x[t] \\
        u[t] &= \beta[t]\, v[t-1] + i[t]

    with spikes and reset as in :class:`AdaptiveLeaky`. ``AdaptiveSynaptic(alpha, beta, num_steps=T)`` starts
    as an exact :class:`snntorch.Synaptic`, to the bit; its state and its time step are handled as
    :class:`AdaptiveLeaky` handles them. snnTorch's reset to zero drops the current that arrives in the step
    of the reset, and so does this one unless ``exact_reset``.

    Args:
        alpha: leak of the synaptic current, dimensionless: a number, one per feature, ``(T,)``, or
            ``(T, *feature_shape)``.
        beta: leak of the membrane, dimensionless; shapes as ``alpha``.
        threshold: membrane at which a neuron fires, in units of the input; shapes as ``alpha``.
        spike_grad, surrogate_disable, init_hidden, inhibition: see :class:`AdaptiveLeaky`.
        learn_alpha, learn_beta, learn_threshold: whether each is a Parameter.
        reset_mechanism: ``"subtract"``, ``"zero"`` or ``"none"``.
        state_quant: a function that quantises membrane and current, or False.
        output: return current and membrane beside the spikes also with ``init_hidden``.
        reset_delay: reset at the step after the spike (True) or at once.
        num_steps: T, the number of time steps that have parameters.
        gain: input gain, dimensionless; shapes as ``alpha``.
        learn_gain: whether ``gain`` is a Parameter.
        beta_constraint: ``"clamp"``, ``"sigmoid"`` or ``"none"``, for ``alpha`` and ``beta``.
        feature_shape, detach_reset, exact_reset, on_overrun, sequence: see :class:`AdaptiveLeaky`.
        impl: how a sequence runs: as two runs of :func:`snntorch_asnn.ops.adaptive_leaky`, or for
            ``"reference"`` and where that does not cover the options, as a loop over the steps.

    Shapes:
        As :class:`AdaptiveLeaky`'s; the current's are the membrane's.

    Raises:
        ValueError, TypeError: as :class:`AdaptiveLeaky`.

    Example::

        >>> import torch
        >>> neuron = AdaptiveSynaptic(0.9, 0.8, num_steps=3)
        >>> syn, mem = neuron.reset_mem()
        >>> for current in torch.tensor([[0.4], [0.4], [0.4]]):
        ...     spk, syn, mem = neuron(current, syn, mem)
        ...     print(int(spk.item()), round(syn.item(), 3), round(mem.item(), 3))
        0 0.4 0.4
        1 0.76 1.08
        0 1.084 0.948
    """

    time_parameters = ("alpha", *AdaptiveNeuron.time_parameters)
    leaks = ("alpha", "beta")
    states = ("syn", "mem")
    returned_states = ("syn", "mem")

    alpha: Tensor

    syn = state_property("syn", "The synaptic current after the last step, in units of the input")
    mem = state_property("mem", "The membrane after the last step, in units of the input")

    def __init__(
        self,
        alpha: float | Tensor,
        beta: float | Tensor,
        threshold: float | Tensor = 1.0,
        spike_grad: SpikeFunction | None = None,
        surrogate_disable: bool = False,
        init_hidden: bool = False,
        inhibition: bool = False,
        learn_alpha: bool = True,
        learn_beta: bool = True,
        learn_threshold: bool = False,
        reset_mechanism: ResetMechanism = "subtract",
        state_quant: Callable[[Tensor], Tensor] | Literal[False] | None = False,
        output: bool = False,
        reset_delay: bool = True,
        *,
        num_steps: int,
        gain: float | Tensor = 1.0,
        learn_gain: bool = True,
        feature_shape: Sequence[int] | None = None,
        beta_constraint: BetaConstraint = "clamp",
        detach_reset: bool | None = None,
        exact_reset: bool = False,
        on_overrun: Overrun = "raise",
        sequence: bool = False,
        impl: Impl = "auto",
    ) -> None:
        plan = Plan.build(
            leaks={"alpha": (alpha, learn_alpha), "beta": (beta, learn_beta)},
            threshold=(threshold, learn_threshold),
            spike_grad=spike_grad,
            surrogate_disable=surrogate_disable,
            init_hidden=init_hidden,
            inhibition=inhibition,
            reset_mechanism=reset_mechanism,
            state_quant=state_quant,
            output=output,
            reset_delay=reset_delay,
            num_steps=num_steps,
            gain=(gain, learn_gain),
            feature_shape=feature_shape,
            beta_constraint=beta_constraint,
            detach_reset=detach_reset,
            exact_reset=exact_reset,
            on_overrun=on_overrun,
            sequence=sequence,
            impl=impl,
        )
        if not _is_two_runs(plan.rule):
            plan.refuse_fused("state_quant and snnTorch's reset to zero in an AdaptiveSynaptic")
        super().__init__(
            alpha=0.0,
            beta=0.0,
            init_hidden=init_hidden,
            output=output,
            reset_delay=reset_delay,
            **plan.snntorch_arguments(),
        )
        self._follow(plan)

    @property
    def synaptic_leak(self) -> Tensor:
        """The current's leak at each step after the constraint, ``(T, *feature_shape)``, dimensionless."""
        return constrain(self.alpha, self.beta_constraint)

    def reset_mem(self) -> tuple[Tensor, Tensor]:
        """Start a new sequence: zero current and membrane, first time step. Returns both."""
        syn, mem = self._start_over()
        return syn, mem

    def forward(
        self, input_: Tensor, syn: Tensor | None = None, mem: Tensor | None = None, step: int | None = None
    ) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Compute one step, or with ``sequence=True`` all steps of a sequence.

        Args:
            input_: input current ``[B, ...]``, or ``[T, B, ...]`` with ``sequence=True``.
            syn: synaptic current before it ``[B, ...]``; None as for ``mem``.
            mem: membrane before it ``[B, ...]``. None takes the one in the module; with ``sequence=True``
                and without ``init_hidden`` it means zeros, and the module keeps nothing.
            step: time step of the (first) input; None for the one after the last call's.

        Returns:
            ``spikes`` with ``init_hidden`` and without ``output``; otherwise ``(spikes, current, membrane)``.
        """
        return cast(Tensor | tuple[Tensor, Tensor, Tensor], self._run(input_, (syn, mem), step))

    def _step_of(
        self, x: Tensor, state: State, parameters: dict[str, Tensor], rule: Rule
    ) -> tuple[Tensor, State]:
        syn, mem = state
        if _is_two_runs(rule) and takes_steps(self.impl, x, rule):
            given = x, syn, mem, parameters, rule, self.feature_shape
            spikes, *after = adaptive_synaptic.run_step(*given, impl=self.impl)
        else:
            spikes, *after = adaptive_synaptic.step(x.to(mem.dtype), syn, mem, rule=rule, **parameters)
        return spikes, tuple(after)

    def _sequence_of(
        self, x: Tensor, state: tuple[Tensor | None, ...], parameters: dict[str, Tensor], rule: Rule
    ) -> tuple[Tensor, State]:
        if self.impl == "reference" or not _is_two_runs(rule):
            return super()._sequence_of(x, state, parameters, rule)
        syn, mem = state
        spikes, *after = adaptive_synaptic.sequence(
            x, syn, mem, rule=rule, output_states=self.output, impl=self.impl, **parameters
        )
        return spikes, tuple(after)


def _is_two_runs(rule: Rule) -> bool:
    """Whether a sequence is one run of the leaky op for the current and one for the membrane."""
    return rule.state_quant is None and (rule.exact_reset or rule.reset_mechanism != "zero")
