"""The adaptive Lapicque neuron as a module."""

from __future__ import annotations

from typing import Any, Literal, Unpack, cast

import snntorch as snn
import torch
from torch import Tensor, nn

from snntorch_asnn.neurons.adaptive import AdaptiveNeuron
from snntorch_asnn.neurons.circuit import check_circuit, is_decay, leak_of
from snntorch_asnn.neurons.leak_constraint import unconstrain
from snntorch_asnn.neurons.options import AdaptiveOptions, Quantiser
from snntorch_asnn.neurons.run_state import State
from snntorch_asnn.neurons.spec import NeuronSpec
from snntorch_asnn.neurons.stateful import state_property
from snntorch_asnn.neurons.time_parameters import spread
from snntorch_asnn.ops._adaptive_lapicque import step as adaptive_lapicque
from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
from snntorch_asnn.ops._adaptive_leaky.engine import run, run_step, takes_steps
from snntorch_asnn.ops._adaptive_leaky.rule import ResetMechanism, Rule, SpikeFunction
from snntorch_asnn.ops._adaptive_leaky.triton import implementation as triton

__all__ = ["AdaptiveLapicque"]


def _why_loop(rule: Rule) -> str | None:
    return "the reset to zero of an AdaptiveLapicque" if rule.reset_mechanism == "zero" else None


def _step(
    neuron: AdaptiveLapicque, x: Tensor, state: State, parameters: dict[str, Tensor], rule: Rule
) -> tuple[Tensor, State]:
    (mem,) = state
    drive = neuron._drive(x, mem.dtype)
    if _why_loop(rule) is None and takes_steps(neuron.impl, x, rule):
        coefficients = Coefficients(**parameters)
        spikes, mem = run_step(drive, mem, coefficients, rule, neuron.feature_shape, impl=neuron.impl)
    else:
        spikes, mem = adaptive_lapicque.step(drive, mem, rule=rule, **parameters)
    return spikes, (mem,)


def _sequence(
    neuron: AdaptiveLapicque,
    x: Tensor,
    state: tuple[Tensor | None, ...],
    parameters: dict[str, Tensor],
    rule: Rule,
) -> tuple[Tensor, State]:
    if neuron.impl == "reference" or _why_loop(rule):
        return neuron.loop(x, state, parameters, rule)
    drive = neuron._drive(x, parameters["beta"].dtype)
    coefficients = Coefficients(**parameters)
    spikes, mem = run(drive, state[0], coefficients, rule, output_mem=neuron.output, impl=neuron.impl)
    return spikes, (mem,)


class AdaptiveLapicque(AdaptiveNeuron, snn.Lapicque):
    r"""A neuron defined by its resistance and capacitance, with a leak and a gain for every time step.

    .. math::

        u[t] = \beta[t]\, v[t-1] + g[t]\, \frac{\Delta t}{C}\, x[t], \qquad
        \beta[t] = 1 - \frac{\Delta t}{R C} \text{ at the start}

    with the delayed reset of :class:`AdaptiveLeaky`. ``AdaptiveLapicque(beta, R, C, num_steps=T)`` starts as
    an exact :class:`snntorch.Lapicque`, to the bit. State and time step behave as in :class:`AdaptiveLeaky`.
    Like snnTorch's, the reset to zero drops the input that arrives in the step of the reset.

    The argument ``beta`` is snnTorch's :math:`e^{-\Delta t/RC}`, from which :math:`R` or :math:`C` follows
    if one of them is missing. The attribute ``beta`` is the factor of the membrane at each step.

    Args:
        beta: :math:`e^{-\Delta t/RC}`, dimensionless, a number; False where R and C are given.
        R: resistance, a number; False for 1, or for the value that follows from beta and C.
        C: capacitance, a number; False for the value that follows from beta and R.
        time_step: :math:`\Delta t`, in the unit of :math:`RC`.
        threshold: membrane at which a neuron fires, in units of the membrane: a number, one per feature,
            ``(T,)``, or ``(T, *feature_shape)``.
        learn_beta: whether the leak of every step is a Parameter.
        gain: input gain on top of :math:`\Delta t/C`, dimensionless; shapes as ``threshold``.
        beta_constraint: how the attribute ``beta`` is kept in [0, 1]: ``"none"`` as snnTorch, ``"clamp"`` or
            ``"sigmoid"``, see :class:`AdaptiveLeaky`.
        **options: see :class:`~snntorch_asnn.neurons.options.AdaptiveOptions`.

    Shapes:
        As :class:`AdaptiveLeaky`'s.

    Raises:
        ValueError, TypeError: as :class:`AdaptiveLeaky`, and ValueError if neither ``beta`` nor both ``R``
            and ``C`` are given.

    Example::

        >>> import torch
        >>> neuron = AdaptiveLapicque(R=5, C=2, num_steps=3)
        >>> neuron.leak.data
        tensor([0.9000, 0.9000, 0.9000])
        >>> mem = neuron.reset_mem()
        >>> for current in torch.tensor([[1.2], [1.2], [1.2]]):
        ...     spk, mem = neuron(current, mem)
        ...     print(int(spk.item()), round(mem.item(), 3))
        0 0.6
        1 1.14
        0 0.626
    """

    spec = NeuronSpec(
        ("beta",),
        states=("mem",),
        returned_states=("mem",),
        step=_step,
        sequence=_sequence,
        why_loop=_why_loop,
        defaults={"beta_constraint": "none"},
    )
    reset_delay = True

    R: Tensor
    C: Tensor
    time_step: Tensor

    mem = state_property("mem", "The membrane after the last step")

    def __init__(
        self,
        beta: float | Tensor | Literal[False] = False,
        R: float | Tensor | Literal[False] = False,
        C: float | Tensor | Literal[False] = False,
        time_step: float | Tensor = 1,
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
        **options: Unpack[AdaptiveOptions],
    ) -> None:
        circuit = check_circuit(beta=beta, R=R, C=C, time_step=time_step)
        # The leak follows from R and C, which snnTorch's constructor completes; 0.5 is only its place.
        super().__init__(locals() | {"beta": 0.5}, **circuit)
        leak = spread("beta", self.circuit_leak, self.num_steps, self.feature_shape)
        start = unconstrain(leak, self.beta_constraint)
        self.beta = nn.Parameter(start) if learn_beta else start

    @property
    def circuit_leak(self) -> Tensor:
        r"""The leak at which ``beta`` starts, :math:`1 - \Delta t/RC`, dimensionless."""
        return leak_of(self.R, self.C, self.time_step)

    def reset_mem(self) -> Tensor:
        """Start a new sequence: zero membrane, first time step. Returns the membrane."""
        (mem,) = self._start_over()
        return mem

    def forward(
        self, input_: Tensor, mem: Tensor | None = None, step: int | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Compute one step, or with ``sequence=True`` all steps of a sequence.

        Args:
            input_: input current ``[B, ...]``, or ``[T, B, ...]`` with ``sequence=True``.
            mem: membrane before the input ``[B, ...]``. None means the membrane that the module holds; with
                ``sequence=True`` and without ``init_hidden`` it means zeros, and the module keeps nothing.
            step: time step of the (first) input; None as in :meth:`AdaptiveLeaky.forward`. Pass it with a
                copy of an earlier membrane.

        Returns:
            ``spikes`` with ``init_hidden`` and without ``output``; otherwise ``(spikes, membrane)``.
        """
        return cast(Tensor | tuple[Tensor, Tensor], self._run(input_, (mem,), step))

    def _drive(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        r"""The input times :math:`\Delta t/C`, in units of the membrane."""
        # In snnTorch's order of operations, to agree with it to the bit.
        factors = self.R, 1 / (self.R * self.C), self.time_step
        are_plain = all(f.dtype == torch.float32 and not f.requires_grad and f.numel() == 1 for f in factors)
        if are_plain and triton.is_real(x) and takes_steps(self.impl, x, self._rule()):
            from snntorch_asnn.ops._adaptive_lapicque.triton import products as triton_products

            return triton_products.products(x, *factors)
        x = x.to(dtype)
        for factor in factors:
            x = x * factor
        return x

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        names = [f"{prefix}{name}" for name in ("beta", "R", "C", "time_step")]
        if f"{prefix}gain" not in state_dict and all(name in state_dict for name in names):
            beta, *circuit = (state_dict[name] for name in names)
            if beta.shape != self.beta.shape or is_decay(beta, *circuit):
                # A number, so that a leak of one step is not read as one leak per step.
                state_dict[f"{prefix}beta"] = leak_of(*circuit).reshape(())
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
