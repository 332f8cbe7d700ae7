"""The adaptive synaptic neuron as a module."""

from __future__ import annotations

from typing import Unpack, cast

import snntorch as snn
from torch import Tensor

from snntorch_asnn.neurons.adaptive import AdaptiveNeuron
from snntorch_asnn.neurons.leak_constraint import constrain
from snntorch_asnn.neurons.options import Quantiser, ResetOptions
from snntorch_asnn.neurons.run_state import State
from snntorch_asnn.neurons.spec import NeuronSpec
from snntorch_asnn.neurons.stateful import state_property
from snntorch_asnn.ops._adaptive_leaky.engine import takes_steps
from snntorch_asnn.ops._adaptive_leaky.rule import ResetMechanism, Rule, SpikeFunction
from snntorch_asnn.ops._adaptive_synaptic import sequence as adaptive_synaptic

__all__ = ["AdaptiveSynaptic"]


def _why_loop(rule: Rule) -> str | None:
    """The reason for which current and membrane are not one call of the leaky op each; None if they are."""
    if rule.state_quant is not None:
        return "state_quant in an AdaptiveSynaptic"
    if rule.reset_mechanism == "zero" and not rule.exact_reset:
        return "snnTorch's reset to zero in an AdaptiveSynaptic"
    return None


def _step(
    neuron: AdaptiveSynaptic, x: Tensor, state: State, parameters: dict[str, Tensor], rule: Rule
) -> tuple[Tensor, State]:
    syn, mem = state
    if _why_loop(rule) is None and takes_steps(neuron.impl, x, rule):
        given = x, syn, mem, parameters, rule, neuron.feature_shape
        spikes, *after = adaptive_synaptic.run_step(*given, impl=neuron.impl)
    else:
        spikes, *after = adaptive_synaptic.step(x.to(mem.dtype), syn, mem, rule=rule, **parameters)
    return spikes, tuple(after)


def _sequence(
    neuron: AdaptiveSynaptic,
    x: Tensor,
    state: tuple[Tensor | None, ...],
    parameters: dict[str, Tensor],
    rule: Rule,
) -> tuple[Tensor, State]:
    if neuron.impl == "reference" or _why_loop(rule):
        return neuron.loop(x, state, parameters, rule)
    spikes, *after = adaptive_synaptic.sequence(
        x, *state, rule=rule, output_states=neuron.output, impl=neuron.impl, **parameters
    )
    return spikes, tuple(after)


class AdaptiveSynaptic(AdaptiveNeuron, snn.Synaptic):
    r"""A leaky neuron behind a decaying synapse, with both leaks and a gain for every time step.

    .. math::

        i[t] &= \alpha[t]\, i[t-1] + g[t]\, x[t] \\
        u[t] &= \beta[t]\, v[t-1] + i[t]

    with spikes and reset as in :class:`AdaptiveLeaky`. ``AdaptiveSynaptic(alpha, beta, num_steps=T)`` starts
    as an exact :class:`snntorch.Synaptic`, to the bit. State and time step behave as in
    :class:`AdaptiveLeaky`. snnTorch's reset to zero drops the current that arrives in the step of the reset;
    this neuron does the same unless ``exact_reset`` is set.

    Args:
        alpha: leak of the synaptic current, dimensionless: a number, one per feature, ``(T,)``, or
            ``(T, *feature_shape)``.
        beta: leak of the membrane, dimensionless; shapes as ``alpha``.
        threshold: membrane at which a neuron fires, in units of the input; shapes as ``alpha``.
        learn_alpha: whether ``alpha`` is a Parameter.
        state_quant: a function that quantises membrane and current, or False.
        output: whether to return current and membrane beside the spikes also with ``init_hidden``.
        impl: how a sequence is computed: as two calls of :func:`snntorch_asnn.ops.adaptive_leaky`, or as a
            loop over the steps, for ``"reference"`` and for options that the op does not cover.
        **options: see :class:`~snntorch_asnn.neurons.options.ResetOptions`.

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

    spec = NeuronSpec(
        leaks=("alpha", "beta"),
        states=("syn", "mem"),
        returned_states=("syn", "mem"),
        step=_step,
        sequence=_sequence,
        why_loop=_why_loop,
    )

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
        state_quant: Quantiser = False,
        output: bool = False,
        reset_delay: bool = True,
        **options: Unpack[ResetOptions],
    ) -> None:
        super().__init__(locals())

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
            syn: synaptic current before the input ``[B, ...]``; None as for ``mem``.
            mem: membrane before the input ``[B, ...]``. None means the membrane that the module holds; with
                ``sequence=True`` and without ``init_hidden`` it means zeros, and the module keeps nothing.
            step: time step of the (first) input; None as in :meth:`AdaptiveLeaky.forward`. Pass it with a
                copy of an earlier membrane.

        Returns:
            ``spikes`` with ``init_hidden`` and without ``output``; otherwise ``(spikes, current, membrane)``.
        """
        return cast(Tensor | tuple[Tensor, Tensor, Tensor], self._run(input_, (syn, mem), step))
