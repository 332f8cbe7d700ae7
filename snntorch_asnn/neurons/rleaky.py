"""The adaptive recurrent leaky neuron as a module."""

from __future__ import annotations

from typing import Unpack, cast

import snntorch as snn
from torch import Tensor

from snntorch_asnn._arguments import check_flags
from snntorch_asnn.neurons.adaptive import AdaptiveNeuron
from snntorch_asnn.neurons.options import Quantiser, ResetOptions
from snntorch_asnn.neurons.run_state import State
from snntorch_asnn.neurons.spec import NeuronSpec
from snntorch_asnn.neurons.stateful import state_property
from snntorch_asnn.ops._adaptive_leaky.rule import ResetMechanism, Rule, SpikeFunction
from snntorch_asnn.ops._adaptive_rleaky import step as adaptive_rleaky

__all__ = ["AdaptiveRLeaky"]


def _why_loop(rule: Rule) -> str:
    return "an AdaptiveRLeaky, where each step needs the spikes of the step before"


def _step(
    neuron: AdaptiveRLeaky, x: Tensor, state: State, parameters: dict[str, Tensor], rule: Rule
) -> tuple[Tensor, State]:
    spk, mem = state

    def feedback() -> Tensor:
        return neuron._feed_back(spk.to(x.dtype))

    options = parameters, rule, neuron.feature_shape
    spikes, mem = adaptive_rleaky.run_step(x, feedback, mem, *options, impl=neuron.impl)
    return spikes, (spikes.to(x.dtype), mem)


class AdaptiveRLeaky(AdaptiveNeuron, snn.RLeaky):
    r"""A leaky neuron that receives its own spikes, with a leak and a gain for every time step.

    .. math::

        u[t] = \beta[t]\, v[t-1] + g[t]\, x[t] + V(s[t-1])

    with spikes and reset as in :class:`AdaptiveLeaky`; :math:`V` is a linear layer, a convolution, or one
    weight per neuron, the same at every step. ``AdaptiveRLeaky(beta, ..., num_steps=T)`` starts as an exact
    :class:`snntorch.RLeaky`, to the bit. State and time step behave as in :class:`AdaptiveLeaky`. snnTorch's
    reset to zero drops the input that arrives in the step of the reset; this neuron does the same unless
    ``exact_reset`` is set. Every step needs the spikes of the step before, so a sequence runs
    as a loop.

    Args:
        beta: leak, dimensionless: a number, one per feature, ``(T,)``, or ``(T, *feature_shape)``.
        V: weight of the feedback with ``all_to_all=False``: a number or one per neuron.
        all_to_all: feed back through a linear layer or a convolution instead of ``V``.
        linear_features: width of that linear layer.
        conv2d_channels: channels of that convolution.
        kernel_size: its kernel size, a number or (height, width), odd.
        threshold: membrane at which a neuron fires, in units of the input; shapes as ``beta``.
        learn_recurrent: whether the weights of the feedback are learned.
        gain: gain of the input, not of the feedback, dimensionless; shapes as ``beta``.
        impl: ``"auto"`` or ``"reference"``. On a GPU, ``"auto"`` computes all but the feedback in one kernel.
        **options: see :class:`~snntorch_asnn.neurons.options.ResetOptions`.

    Shapes:
        As :class:`AdaptiveLeaky`'s; input ``[B, linear_features]`` or ``[B, conv2d_channels, H, W]``.

    Raises:
        ValueError, TypeError: as :class:`AdaptiveLeaky`, and TypeError unless the feedback is described in
            exactly one way.

    Example::

        >>> import torch
        >>> neuron = AdaptiveRLeaky(0.9, V=0.5, all_to_all=False, num_steps=3)
        >>> spk, mem = neuron.reset_mem()
        >>> for current in torch.tensor([[0.6], [0.6], [0.6]]):
        ...     spk, mem = neuron(current, spk, mem)
        ...     print(int(spk.item()), round(mem.item(), 3))
        0 0.6
        1 1.14
        1 1.126
    """

    spec = NeuronSpec(
        ("beta",), states=("spk", "mem"), returned_states=("mem",), step=_step, why_loop=_why_loop
    )

    spk = state_property("spk", "The spikes of the last step")
    mem = state_property("mem", "The membrane after the last step, in units of the input")

    def __init__(
        self,
        beta: float | Tensor,
        V: float | Tensor = 1.0,
        all_to_all: bool = True,
        linear_features: int | None = None,
        conv2d_channels: int | None = None,
        kernel_size: int | tuple[int, int] | None = None,
        threshold: float | Tensor = 1.0,
        spike_grad: SpikeFunction | None = None,
        surrogate_disable: bool = False,
        init_hidden: bool = False,
        inhibition: bool = False,
        learn_beta: bool = True,
        learn_threshold: bool = False,
        learn_recurrent: bool = True,
        reset_mechanism: ResetMechanism = "subtract",
        state_quant: Quantiser = False,
        output: bool = False,
        reset_delay: bool = True,
        **options: Unpack[ResetOptions],
    ) -> None:
        check_flags(all_to_all=all_to_all, learn_recurrent=learn_recurrent)
        super().__init__(locals())

    def reset_mem(self) -> tuple[Tensor, Tensor]:
        """Start a new sequence: no spikes, zero membrane, first time step. Returns spikes and membrane."""
        spk, mem = self._start_over()
        return spk, mem

    def forward(
        self, input_: Tensor, spk: Tensor | None = None, mem: Tensor | None = None, step: int | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Compute one step, or with ``sequence=True`` all steps of a sequence.

        Args:
            input_: input current ``[B, ...]``, or ``[T, B, ...]`` with ``sequence=True``.
            spk: this neuron's spikes in the step before ``[B, ...]``; None as for ``mem``.
            mem: membrane before the input ``[B, ...]``. None means the membrane that the module holds; with
                ``sequence=True`` and without ``init_hidden`` it means zeros, and the module keeps nothing.
            step: time step of the (first) input; None as in :meth:`AdaptiveLeaky.forward`. Pass it with a
                copy of an earlier membrane.

        Returns:
            ``spikes`` with ``init_hidden`` and without ``output``; otherwise ``(spikes, membrane)``.
        """
        return cast(Tensor | tuple[Tensor, Tensor], self._run(input_, (spk, mem), step))

    def _feed_back(self, spk: Tensor) -> Tensor:
        """The feedback of the last step's spikes, in units of the input."""
        # snnTorch's own module for V holds a copy that does not follow `.to()` when V is not learned.
        fed: Tensor = self.recurrent(spk) if self.all_to_all else spk * self.V
        return fed
