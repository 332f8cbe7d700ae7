"""The adaptive leaky integrate-and-fire neuron as a module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Self, cast

import snntorch as snn
import torch
from torch import Tensor

from snntorch_asnn.neurons.adaptive import AdaptiveNeuron, StepIndex
from snntorch_asnn.neurons.arguments import check_choice, check_count, check_flags, check_step
from snntorch_asnn.neurons.time_parameters import (
    BetaConstraint,
    Overrun,
    constrain,
    shape_features,
    spread,
    spread_unless_fixed,
    unconstrain,
)
from snntorch_asnn.ops.adaptive_leaky import reference
from snntorch_asnn.ops.adaptive_leaky.api import Impl, check_input, check_mem, fits, run
from snntorch_asnn.ops.adaptive_leaky.rule import ResetMechanism, Rule, SpikeFunction
from snntorch_asnn.surrogate import atan, sigmoid

__all__ = ["AdaptiveLeaky"]


class AdaptiveLeaky(AdaptiveNeuron, snn.Leaky):
    r"""A leaky integrate-and-fire neuron with a leak, an input gain and a threshold for every time step.

    .. math::

        u[t] &= \beta[t]\, v[t-1] + g[t]\, x[t] \\
        s[t] &= H(u[t] - \theta[t]) \\
        v[t] &= u[t] - \theta[t]\, s[t] \quad (\text{"subtract"}), \quad
                u[t]\,(1 - s[t]) \quad (\text{"zero"}), \quad u[t] \quad (\text{"none"})

    with ``exact_reset=True``; by default the reset follows :class:`snntorch.Leaky`, one step later. A
    drop-in replacement: ``AdaptiveLeaky(beta, num_steps=T)`` starts as an exact ``snn.Leaky(beta)``, to the
    bit, and training moves each step's leak :math:`\beta[t]` and gain :math:`g[t]` on its own.

    The current time step belongs to the state. It starts again with :func:`snntorch_asnn.reset`,
    :func:`snntorch.utils.reset`, :meth:`reset_mem`, ``snn.Leaky.reset_hidden()`` and with an assignment to
    ``mem``; it survives ``detach_hidden()``, copies, pickling and moves between devices. Like the membrane
    it is not part of ``state_dict()``.

    Args:
        beta: leak, dimensionless: a number, one per feature (as snnTorch takes it), ``(T,)``, or
            ``(T, *feature_shape)``.
        threshold: membrane at which a neuron fires, in units of the input; shapes as ``beta``.
        spike_grad: surrogate gradient, from :mod:`snntorch_asnn.surrogate` or :mod:`snntorch.surrogate`;
            None for the arc tangent, snnTorch's default.
        surrogate_disable: spike without any gradient.
        init_hidden: keep the membrane in the module, out of sight of the caller.
        inhibition: only the neuron with the highest membrane of each sample fires; input ``[B, N]``.
        learn_beta: whether ``beta`` is a Parameter.
        learn_threshold: whether ``threshold`` is a Parameter, one value per step.
        reset_mechanism: ``"subtract"``, ``"zero"`` or ``"none"``.
        state_quant: a function that quantises the membrane, or False.
        output: return the membrane beside the spikes also with ``init_hidden``.
        graded_spikes_factor: what a spike is worth in the output; shapes as ``beta``.
        learn_graded_spikes_factor: whether it is a Parameter, one value per step.
        reset_delay: reset at the step after the spike (True) or at once.
        num_steps: T, the number of time steps that have parameters.
        gain: input gain, dimensionless; shapes as ``beta``.
        learn_gain: whether ``gain`` is a Parameter.
        feature_shape: shape of one step's parameters, broadcast against the input without its batch
            dimension: ``()`` per layer, ``(C, 1, 1)`` per channel of a convolution, ``(N,)`` per neuron.
            None reads it off ``beta`` and ``threshold``.
        beta_constraint: ``"clamp"`` to [0, 1] as snnTorch does, ``"sigmoid"`` (``beta`` then holds the
            logit), or ``"none"``.
        detach_reset: whether the reset is cut out of the gradient; None does as snnTorch: a delayed reset
            is cut, an immediate one is not.
        exact_reset: with ``reset_delay=False``, reset once per spike, at the spike. False repeats snnTorch's
            rule, under which a membrane still above the threshold after its reset is reset again before
            the next comparison and so misses spikes.
        on_overrun: at a step past ``num_steps``: ``"raise"``, ``"hold"`` the last, or ``"cycle"``.
        sequence: the input is a whole ``[T, B, ...]`` sequence, run in one fused call.
        impl: how a sequence runs: ``"auto"``, ``"reference"``, ``"compile"`` or ``"triton"``; see
            :func:`snntorch_asnn.ops.adaptive_leaky`.

    Shapes:
        One step: input ``[B, ...]``, spikes and membrane likewise. With ``sequence=True``: input and spikes
        ``[T, B, ...]``; the membrane is the last one ``[B, ...]``, or with ``output=True`` that of every
        step. Spikes have the dtype of the input; the membrane is float32 for half precision input.

    Raises:
        ValueError: if an argument's value or shape does not fit, a parameter is not finite, or a step past
            ``num_steps`` is asked for.
        TypeError: if an argument is of the wrong type, or ``mem`` is passed although ``init_hidden``.

    Source: Adaptive Spiking Neural Networks with Hybrid Coding, arXiv 2408.12407.

    Example::

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

    time_parameters = ("beta", "gain", "threshold", "graded_spikes_factor")
    _mem: Tensor

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
        state_quant: Callable[[Tensor], Tensor] | Literal[False] | None = False,
        output: bool = False,
        graded_spikes_factor: float | Tensor = 1.0,
        learn_graded_spikes_factor: bool = False,
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
        check_count("num_steps", num_steps)
        check_choice("beta_constraint", beta_constraint, BetaConstraint)
        check_choice("on_overrun", on_overrun, Overrun)
        check_choice("impl", impl, Impl)
        check_flags(
            surrogate_disable=surrogate_disable,
            init_hidden=init_hidden,
            learn_beta=learn_beta,
            learn_threshold=learn_threshold,
            output=output,
            learn_graded_spikes_factor=learn_graded_spikes_factor,
            learn_gain=learn_gain,
            sequence=sequence,
        )
        spike_grad = atan() if spike_grad is None else spike_grad
        rule = Rule(
            _heaviside if surrogate_disable else spike_grad,
            reset_mechanism,
            reset_delay,
            exact_reset,
            detach_reset,
            inhibition,
            state_quant or None,
        )
        features = shape_features(num_steps, feature_shape, beta=beta, threshold=threshold)
        leak = spread("beta", beta, num_steps, features)
        values = {
            "beta": (unconstrain(leak, beta_constraint), learn_beta),
            "gain": (spread("gain", gain, num_steps, features), learn_gain),
        }
        for name, value, learn in (
            ("threshold", threshold, learn_threshold),
            ("graded_spikes_factor", graded_spikes_factor, learn_graded_spikes_factor),
        ):
            held = spread_unless_fixed(name, value, num_steps, features, learn=learn)
            values[name] = (held, learn)
        super().__init__(
            beta=0.0,
            spike_grad=rule.spike_grad,
            init_hidden=init_hidden,
            inhibition=inhibition,
            reset_mechanism=reset_mechanism,
            state_quant=state_quant or False,
            output=output,
            reset_delay=reset_delay,
        )
        # snnTorch keeps a bound method of its own reset, which would tie the neuron into a cycle.
        del self.state_function
        self.surrogate_disable = surrogate_disable
        self.beta_constraint = beta_constraint
        self.detach_reset = detach_reset
        self.exact_reset = exact_reset
        self.sequence = sequence
        self.impl = impl
        self._init_time(num_steps, features, on_overrun)
        for name, (held, learn) in values.items():
            self._hold(name, held, learn)

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

    @property
    def leak(self) -> Tensor:
        """The leak at each step after the constraint, ``(T, *feature_shape)``, dimensionless."""
        return constrain(self.beta, self.beta_constraint)

    @property
    def mem(self) -> Tensor:
        """The membrane after the last step, in units of the input; assign to it to start a new sequence."""
        return self._mem

    @mem.setter
    def mem(self, mem: Tensor) -> None:
        self._mem = mem
        self._restart()

    def _init_mem(self) -> None:
        self.register_buffer("_mem", torch.zeros(0), persistent=False)

    def reset_mem(self) -> Tensor:
        """Start a new sequence: zero membrane, first time step. Returns the membrane."""
        self._mem = torch.zeros_like(self._mem)
        self._restart()
        return self._mem

    def forward(
        self, input_: Tensor, mem: Tensor | None = None, step: int | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Compute one step, or with ``sequence=True`` all steps of a sequence.

        Args:
            input_: input current ``[B, ...]``, or ``[T, B, ...]`` with ``sequence=True``.
            mem: membrane before it ``[B, ...]``. None takes the one in the module; with ``sequence=True``
                and without ``init_hidden`` it means zeros, and the module keeps nothing.
            step: time step of the (first) input; None for the one after the last call's.

        Returns:
            ``spikes`` with ``init_hidden`` and without ``output``; otherwise ``(spikes, membrane)``.
        """
        check_input("input_", input_)
        if self.init_hidden and mem is not None:
            raise TypeError("`mem` should not be passed as an argument while `init_hidden=True`")
        if step is not None:
            check_step(step)
        if self.sequence:
            return self._forward_sequence(input_, mem, step)
        return self._forward_step(input_, mem, step)

    def _forward_step(
        self, x: Tensor, mem: Tensor | None, step: int | None
    ) -> Tensor | tuple[Tensor, Tensor]:
        self._check_features(x)
        before, position = self._resume(x, mem, step)
        rows = self._indices(position, 1)
        dtype = before.dtype
        threshold = self._row("threshold", rows).to(dtype)
        spikes, after = reference.step(
            x.to(dtype),
            before,
            constrain(self._row("beta", rows), self.beta_constraint).to(dtype),
            self._row("gain", rows).to(dtype),
            threshold,
            self._previous_threshold(position, threshold),
            self._row("graded_spikes_factor", rows).to(dtype),
            self._rule(),
        )
        self._mem = after
        self._advance(position, 1)
        return self._result(spikes.to(x.dtype), after)

    def _forward_sequence(
        self, x: Tensor, mem: Tensor | None, step: int | None
    ) -> Tensor | tuple[Tensor, Tensor]:
        if x.ndim < 1 or x.shape[0] < 1:
            raise ValueError(f"input_ must be [T, B, ...] with at least one step; got shape {tuple(x.shape)}")
        self._check_features(x[0])
        steps = x.shape[0]
        before, position = self._resume(x[0], mem, step) if self.init_hidden else self._begin(x, mem, step)
        rows = self._indices(position, steps)
        dtype = torch.promote_types(x.dtype, torch.float32)
        threshold = self._rows("threshold", rows, steps).to(dtype)
        previous = self._previous_threshold(position, threshold)
        if previous is not threshold:
            previous = torch.cat([previous[None], threshold[:-1]])
        spikes, after = run(
            x,
            before,
            constrain(self._rows("beta", rows, steps), self.beta_constraint).to(dtype),
            self._rows("gain", rows, steps).to(dtype),
            threshold,
            previous,
            self._rows("graded_spikes_factor", rows, steps).to(dtype),
            self._rule(),
            output_mem=self.output,
            impl=self.impl,
        )
        if self.init_hidden:
            # A copy, since snnTorch detaches the state in place, which no view allows.
            self._mem = (after[-1] if self.output else after).clone()
            self._advance(position, steps)
        return self._result(spikes, after)

    def _result(self, spikes: Tensor, mem: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return spikes if self.init_hidden and not self.output else (spikes, mem)

    def _begin(self, x: Tensor, mem: Tensor | None, step: int | None) -> tuple[Tensor | None, StepIndex]:
        """The membrane before a sequence whose state the caller keeps, and its first step."""
        if mem is None:
            return None, step or 0
        check_mem(mem, x[0])
        if step is None and x.shape[0] < self.num_steps:
            raise ValueError(
                f"step: with mem passed by hand and {x.shape[0]} of num_steps={self.num_steps} steps, the "
                "time step of the first input is unknown; pass step="
            )
        return mem, step or 0

    def _resume(self, x: Tensor, mem: Tensor | None, step: int | None) -> tuple[Tensor, StepIndex]:
        """The membrane before one step's input ``x``, and that step."""
        before = self._mem if mem is None else mem
        state_dtype = torch.promote_types(x.dtype, torch.float32)
        held = before is self._mem or before.shape == (0,)
        if held and before.shape != x.shape:
            return torch.zeros_like(x, dtype=state_dtype), 0 if step is None else step
        if not held:
            check_mem(before, x)
            if step is None:
                self._check_continues(before)
        return before.to(state_dtype), self._position(step)

    def _check_continues(self, mem: Tensor) -> None:
        """Refuse a membrane from elsewhere in the middle of a sequence: its step would be a guess."""
        if torch.compiler.is_compiling() or self.step == 0 or _same_memory(mem, self._mem):
            return
        raise ValueError(
            f"mem is not the membrane that this neuron returned last, at step {self.step - 1}, so its time "
            "step is unknown: pass step=, or start a new sequence with reset_mem()"
        )

    def _check_features(self, x: Tensor) -> None:
        if not fits(self.feature_shape, x.shape):
            raise ValueError(
                f"input_ has the shape {tuple(x.shape)} at each step, against which "
                f"feature_shape={self.feature_shape} does not broadcast"
            )
        if self.inhibition and x.ndim != 2:
            raise ValueError(f"input_ must be [B, N] at each step with inhibition=True; got {tuple(x.shape)}")

    def _previous_threshold(self, position: StepIndex, threshold: Tensor) -> Tensor:
        """Threshold of the spike that a delayed reset answers; ``threshold`` where it does not vary."""
        if self.exact_reset or self.threshold.ndim == 0:
            return threshold
        before = position - 1
        if self.on_overrun == "cycle":
            before = before % self.num_steps
        elif isinstance(before, Tensor):
            before = before.clamp(min=0)
        else:
            before = max(before, 0)
        return self._row("threshold", self._indices(before, 1)).to(threshold.dtype)

    def _rule(self) -> Rule:
        return Rule(
            self.spike_grad,
            cast(ResetMechanism, self.reset_mechanism),
            self.reset_delay,
            self.exact_reset,
            self.detach_reset,
            self.inhibition,
            self.state_quant or None,
        )

    def extra_repr(self) -> str:
        """What ``print(net)`` shows of the neuron."""
        shown = [f"num_steps={self.num_steps}", f"feature_shape={self.feature_shape}"]
        shown += [f"reset_mechanism={self.reset_mechanism!r}", f"reset_delay={self.reset_delay}"]
        shown += [
            name for name in ("exact_reset", "init_hidden", "output", "sequence") if getattr(self, name)
        ]
        return ", ".join(shown)


def _heaviside(above: Tensor) -> Tensor:
    return (above > 0).to(above.dtype)


def _same_memory(a: Tensor, b: Tensor) -> bool:
    """Whether ``a`` is ``b`` or a view of it, such as ``b.detach()``."""
    try:
        return a is b or a.data_ptr() == b.data_ptr()
    except RuntimeError:
        return True  # a tensor without storage, inside torch.func or torch.export: nothing to compare
