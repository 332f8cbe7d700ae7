"""The adaptive leaky integrate-and-fire neuron as a module."""

from __future__ import annotations

from typing import Any, Self, Unpack, cast

import snntorch as snn
from torch import Tensor

from snntorch_asnn.neurons.adaptive import AdaptiveNeuron
from snntorch_asnn.neurons.options import Quantiser, ResetOptions
from snntorch_asnn.neurons.run_state import State
from snntorch_asnn.neurons.spec import NeuronSpec
from snntorch_asnn.neurons.stateful import state_property
from snntorch_asnn.ops._adaptive_leaky import reference
from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
from snntorch_asnn.ops._adaptive_leaky.engine import run, run_step, takes_steps
from snntorch_asnn.ops._adaptive_leaky.rule import ResetMechanism, Rule, SpikeFunction
from snntorch_asnn.surrogate import sigmoid

__all__ = ["AdaptiveLeaky"]


def _step(
    neuron: AdaptiveLeaky, x: Tensor, state: State, parameters: dict[str, Tensor], rule: Rule
) -> tuple[Tensor, State]:
    (mem,) = state
    if takes_steps(neuron.impl, x, rule):
        coefficients = Coefficients(**parameters)
        spikes, mem = run_step(x, mem, coefficients, rule, neuron.feature_shape, impl=neuron.impl)
    else:
        spikes, mem = reference.step(x.to(mem.dtype), mem, rule=rule, **parameters)
    return spikes, (mem,)


def _sequence(
    neuron: AdaptiveLeaky,
    x: Tensor,
    state: tuple[Tensor | None, ...],
    parameters: dict[str, Tensor],
    rule: Rule,
    affine: tuple[Tensor, Tensor] | None = None,
    keep_mem: bool = True,
) -> tuple[Tensor, State]:
    coefficients = Coefficients(**parameters)
    if affine is not None:
        factor, offset = (_over_time(value, x) for value in affine)
        affine = factor.to(coefficients.beta.dtype), offset.to(coefficients.beta.dtype)
    outputs = {"output_mem": neuron.output, "keep_mem": keep_mem}
    spikes, mem = run(x, state[0], coefficients, rule, impl=neuron.impl, affine=affine, **outputs)
    return spikes, (mem,)


def _over_time(value: Tensor, x: Tensor) -> Tensor:
    """A factor or offset of ``x`` ``[T, B, ...]`` as ``[T, *features]``, or ``[1, *features]`` for all steps.

    Raises:
        ValueError: if its shape fits neither case.
    """
    if value.ndim < x.ndim:
        return value[None]
    if value.ndim > x.ndim or value.shape[:2] != (len(x), 1):
        raise ValueError(
            f"affine must broadcast against one step's input, {tuple(x.shape[1:])}, or start with the sizes "
            f"{(len(x), 1)} to have one pair for each step; got shape {tuple(value.shape)}"
        )
    return value.squeeze(1)


class AdaptiveLeaky(AdaptiveNeuron, snn.Leaky):
    r"""A leaky integrate-and-fire neuron with a leak, an input gain and a threshold for every time step.

    .. math::

        u[t] &= \beta[t]\, v[t-1] + g[t]\, x[t] \\
        s[t] &= H(u[t] - \theta[t]) \\
        v[t] &= \begin{cases}
            u[t] - \theta[t]\, s[t] & \text{subtract} \\
            u[t]\,(1 - s[t]) & \text{zero} \\
            u[t] & \text{none}
        \end{cases}

    with ``exact_reset=True``; by default the reset comes one step later, as in :class:`snntorch.Leaky`. The
    neuron is a drop-in replacement: ``AdaptiveLeaky(beta, num_steps=T)`` starts as an exact
    ``snn.Leaky(beta)``, to the bit, and training changes the leak :math:`\beta[t]` and the gain
    :math:`g[t]` of each step.

    The current time step belongs to the state. It returns to 0 with :func:`snntorch_asnn.reset`,
    :func:`snntorch.utils.reset`, :meth:`reset_mem`, ``snn.Leaky.reset_hidden()`` and an assignment to
    ``mem``. It is kept by ``detach_hidden()``, copies, pickling and moves between devices. Like the
    membrane, it is not part of ``state_dict()``.

    Args:
        beta: leak, dimensionless: a number, one per feature (as snnTorch takes it), ``(T,)``, or
            ``(T, *feature_shape)``.
        threshold: membrane at which a neuron fires, in units of the input; shapes as ``beta``.
        graded_spikes_factor: value of a spike in the output; shapes as ``beta``.
        learn_graded_spikes_factor: whether ``graded_spikes_factor`` is a Parameter, with one value per step.
        gain: input gain, dimensionless; shapes as ``beta``.
        **options: see :class:`~snntorch_asnn.neurons.options.ResetOptions`.

    Shapes:
        One step: input ``[B, ...]``, spikes and membrane likewise. With ``sequence=True``: input and spikes
        ``[T, B, ...]``; the membrane is the last one ``[B, ...]``, or with ``output=True`` that of every
        step. Spikes have the dtype of the input; the membrane is float32 for half precision input.

    Raises:
        ValueError: if an argument's value or shape does not fit, a parameter is not finite, or an input comes
            after step ``num_steps``.
        TypeError: if an argument is unknown or of the wrong type, or ``mem`` is passed with ``init_hidden``.

    Source: Adaptive Spiking Neural Networks with Hybrid Coding, arXiv 2408.12407.

    Example::

        >>> import torch
        >>> lif = AdaptiveLeaky(0.9, num_steps=3)
        >>> mem = lif.reset_mem()
        >>> for current in torch.tensor([[0.6], [0.6], [0.6]]):
        ...     spk, mem = lif(current, mem)
        ...     print(int(spk.item()), round(mem.item(), 3))
        0 0.6
        1 1.14
        0 0.626

        >>> lif = AdaptiveLeaky(0.9, num_steps=3, sequence=True)
        >>> spk, mem = lif(torch.full((3, 8, 10), 0.6))
        >>> spk.shape, mem.shape
        (torch.Size([3, 8, 10]), torch.Size([8, 10]))
    """

    spec = NeuronSpec(("beta",), states=("mem",), returned_states=("mem",), step=_step, sequence=_sequence)

    mem = state_property("mem", "The membrane after the last step, in units of the input")

    def __init__(
        self,
        beta: float | Tensor,
        threshold: float | Tensor = 1.0,
        spike_grad: SpikeFunction | None = None,
        surrogate_disable: bool = False,
        init_hidden: bool = False,
        inhibition: bool = False,
        learn_beta: bool = True,
        learn_threshold: bool = False,
        reset_mechanism: ResetMechanism = "subtract",
        state_quant: Quantiser = False,
        output: bool = False,
        graded_spikes_factor: float | Tensor = 1.0,
        learn_graded_spikes_factor: bool = False,
        reset_delay: bool = True,
        **options: Unpack[ResetOptions],
    ) -> None:
        super().__init__(locals())

    @classmethod
    def paper(cls, num_steps: int, **overrides: Any) -> Self:
        """The neuron of the method's published code.

        ``beta=0.5`` and ``gain=0.5``, learned without a constraint; exact reset by subtraction, with the
        gradient through it; sigmoid surrogate of slope 4.

        Args:
            num_steps: T, the number of time steps that have parameters.
            **overrides: any argument of the class, in place of the paper's.

        Example::

            >>> lif = AdaptiveLeaky.paper(num_steps=4, sequence=True)
            >>> lif.gain.data
            tensor([0.5000, 0.5000, 0.5000, 0.5000])
        """
        arguments: dict[str, Any] = {
            "beta": 0.5,
            "gain": 0.5,
            "reset_mechanism": "subtract",
            "reset_delay": False,
            "exact_reset": True,
            "detach_reset": False,
            "beta_constraint": "none",
            "spike_grad": sigmoid(slope=4),
        }
        return cls(**(arguments | overrides), num_steps=num_steps)

    def reset_mem(self) -> Tensor:
        """Start a new sequence: zero membrane, first time step. Returns the membrane."""
        (mem,) = self._start_over()
        return mem

    @property
    def takes_affine(self) -> bool:
        """Whether a fused implementation can apply ``affine`` to the input while it reads it."""
        return self.sequence and self._rule().is_fusable

    def forward(
        self,
        input_: Tensor,
        mem: Tensor | None = None,
        step: int | None = None,
        *,
        affine: tuple[Tensor, Tensor] | None = None,
        spikes_only: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Compute one step, or with ``sequence=True`` all steps of a sequence.

        Args:
            input_: input current ``[B, ...]``, or ``[T, B, ...]`` with ``sequence=True``.
            mem: membrane before the input ``[B, ...]``. None means the membrane that the module holds; with
                ``sequence=True`` and without ``init_hidden`` it means zeros, and the module keeps nothing.
            step: time step of the (first) input. None means the step after ``mem``, also if a reset or other
                calls came in between; without ``mem``, the step after the last call. The neuron recognises
                the tensors that it has returned, and views of them. It cannot recognise a copy, such as
                ``mem.clone()``: in the middle of a sequence a copy raises an error, after a reset it counts
                as the initial membrane of a new sequence. So pass ``step`` with a copy.
            affine: with ``sequence=True``, a factor and an offset of the input: the neuron computes from
                ``factor * input_ + offset``, which is never written to memory. Both have the same shape:
                one that broadcasts against the last dimensions of the input, or ``[T, 1, ...]`` with as
                many dimensions as the input, for a pair of their own at each step. A batch norm is such a
                pair, see :class:`~snntorch_asnn.layers.NormLeaky`.
            spikes_only: with ``sequence=True``, return no membrane, which spares a GPU from writing it.

        Returns:
            ``spikes`` with ``init_hidden`` and without ``output``, or with ``spikes_only``; otherwise
            ``(spikes, membrane)``.
        """
        options: dict[str, Any] = {}
        if affine is not None:
            options["affine"] = affine
        if spikes_only:
            options["keep_mem"] = self.init_hidden
        if options and not self.sequence:
            given = "affine must be None" if affine is not None else "spikes_only must be False"
            raise ValueError(f"{given} with sequence=False")
        result = self._run(input_, (mem,), step, **options)
        if spikes_only and isinstance(result, tuple):
            return result[0]
        return cast(Tensor | tuple[Tensor, Tensor], result)
