"""What every adaptive neuron shares: its arguments, and how one step or a sequence is run."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import nullcontext
from typing import Any, Self, cast

import torch
from snntorch import SpikingNeuron
from torch import Tensor, nn

from snntorch_asnn._arguments import check_count, check_step
from snntorch_asnn._torch import is_exporting
from snntorch_asnn.neurons.instances import register, unregister
from snntorch_asnn.neurons.leak_constraint import BetaConstraint, constrain
from snntorch_asnn.neurons.lost_state import check_export
from snntorch_asnn.neurons.membrane_steps import MembraneSteps
from snntorch_asnn.neurons.plan import Plan
from snntorch_asnn.neurons.run_state import State, StepIndex
from snntorch_asnn.neurons.snntorch_checkpoints import adopt_state
from snntorch_asnn.neurons.stateful import Stateful, as_dtype, keep_out_of_graphs
from snntorch_asnn.neurons.time_parameters import check_time_comes_first, resize_parameter
from snntorch_asnn.ops._adaptive_leaky.api import check_input, fits
from snntorch_asnn.ops._adaptive_leaky.engine import Impl
from snntorch_asnn.ops._adaptive_leaky.rule import ResetMechanism, Rule

__all__ = ["AdaptiveNeuron"]


class AdaptiveNeuron(Stateful, SpikingNeuron):
    """Base of neurons whose parameters are ``[T, *feature_shape]``: what they share with ``AdaptiveLeaky``.

    It keeps the current time step beside the membrane. A subclass says in :meth:`_step_of` what one step
    computes.
    """

    time_parameters: tuple[str, ...] = ("beta", "gain", "threshold", "graded_spikes_factor")

    leaks: tuple[str, ...] = ("beta",)
    """Those among them that ``beta_constraint`` applies to."""

    returned_states: tuple[str, ...] = ("mem",)
    """Names of those that ``forward`` returns beside the spikes."""

    _version = 2
    """Of the entries in ``state_dict()``; in version 1, raw leaks under ``"sigmoid"`` were plain logits."""

    beta: Tensor
    beta_constraint: BetaConstraint
    exact_reset: bool
    detach_reset: bool | None
    sequence: bool
    impl: Impl
    _known_rule: tuple[tuple[Any, ...], Rule] | None = None
    """The rule of the last call and what it was made of, since to check it takes a while."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        on_meta = torch.get_default_device().type == "meta"
        try:
            # snnTorch's constructor reads a tensor, and those of the meta device have no values.
            with torch.device("cpu") if on_meta else nullcontext():
                super().__init__(*args, **kwargs)
        except BaseException:
            # snnTorch lists a neuron before it has checked it, and would reset the half-built one for ever.
            unregister(self)
            raise
        if on_meta:
            self.to("meta")
        register(self)

    def __getattr__(self, name: str) -> Any:
        # snnTorch's monitors fetch a state by calling this method, past the property.
        return getattr(type(self), name).fget(self) if name in self.states else super().__getattr__(name)

    def _follow(self, plan: Plan) -> None:
        """Become what ``plan`` says, after snnTorch's constructor has run."""
        keep_out_of_graphs()
        # snnTorch keeps a bound method of its own reset, which would tie the neuron into a cycle.
        del self.state_function
        self.surrogate_disable = plan.surrogate_disable
        self.beta_constraint = plan.beta_constraint
        self.exact_reset = plan.rule.exact_reset
        self.detach_reset = plan.rule.detach_reset
        self.sequence = plan.sequence
        self.impl = plan.impl
        self.feature_shape = plan.feature_shape
        self.on_overrun = plan.on_overrun
        self._membrane_steps = MembraneSteps()
        for name, (value, learn) in plan.values.items():
            self._hold(name, value, learn)
        self.num_steps = plan.num_steps

    @property
    def leak(self) -> Tensor:
        """The membrane's leak at each step after the constraint, ``(T, *feature_shape)``, dimensionless."""
        return constrain(self.beta, self.beta_constraint)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_known_rule": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        register(self)

    def _hold(self, name: str, value: Tensor, learn: bool) -> None:
        """Keep ``value`` as a parameter or buffer called ``name``, in place of snnTorch's own."""
        if hasattr(self, name):
            delattr(self, name)
        if learn:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Tensor],
        prefix: str,
        local_metadata: dict[str, Any],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        errors = args[-1]
        errors.extend(adopt_state(self, state_dict, prefix, local_metadata.get("version")))
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args, **kwargs)
        # The mechanism is part of the checkpoint; snnTorch loads its number and goes on with the old one.
        self.reset_mechanism = list(SpikingNeuron.reset_dict)[int(self.reset_mechanism_val)]

    def _run(
        self, x: Tensor, given: tuple[Tensor | None, ...], step: int | None, **options: Any
    ) -> Tensor | tuple[Tensor, ...]:
        """What ``forward`` does: one step, or with ``sequence=True`` all steps of a sequence.

        ``options`` go to :meth:`_sequence_of`.
        """
        _refuse_outputs(x)
        check_input("input_", x)
        if self.init_hidden and any(state is not None for state in given):
            names = " or ".join(f"`{name}`" for name in self.states)
            raise TypeError(f"{names} should not be passed as an argument while `init_hidden=True`")
        if step is not None:
            step = check_step(step)
        if is_exporting() and not self._state.made_in_export:
            check_export(init_hidden=self.init_hidden, knows_step=self.sequence or step is not None)
        if self.sequence:
            return self._run_sequence(x, given, step, **options)
        return self._run_step(x, given, step)

    def _run_step(
        self, x: Tensor, given: tuple[Tensor | None, ...], step: int | None
    ) -> Tensor | tuple[Tensor, ...]:
        self._check_features(x.shape)
        before, position = self._resume(x, given, step)
        dtype = torch.promote_types(x.dtype, torch.float32)
        rows = self._indices(position, 1)
        parameters = {
            name: as_dtype(self._row(getattr(self, name), rows), dtype) for name in self.time_parameters
        }
        parameters |= self._constrained(parameters)
        previous = self._previous_threshold(position, parameters["threshold"])
        arguments = self._arguments(parameters, previous)
        spikes, after = self._step_of(x, before, arguments, self._rule())
        if self._state.made_in_export or not is_exporting():
            self._keep(after, position, 1)
            self._remember()
        return self._result(as_dtype(spikes, x.dtype), after)

    def _run_sequence(
        self, x: Tensor, given: tuple[Tensor | None, ...], step: int | None, **options: Any
    ) -> Tensor | tuple[Tensor, ...]:
        if x.ndim < 1 or x.shape[0] < 1:
            raise ValueError(f"input_ must be [T, B, ...] with at least one step; got shape {tuple(x.shape)}")
        self._check_features(x.shape[1:])
        steps = x.shape[0]
        if not (self.init_hidden or torch.compiler.is_compiling()) and step is None and given[-1] is None:
            check_time_comes_first(x.shape, self.num_steps, raises=self.on_overrun == "raise")
        before: tuple[Tensor | None, ...]
        before, position = (
            self._resume(x[0], given, step) if self.init_hidden else self._begin(x, given, step)
        )
        dtype = torch.promote_types(x.dtype, torch.float32)
        rows = self._indices(position, steps)
        values = {name: as_dtype(getattr(self, name), dtype) for name in self.time_parameters}
        # Before rows are taken, so that a leak of several steps is led back by the sum of their gradients.
        values |= self._constrained(values)
        parameters = {name: self._rows(value, rows, steps) for name, value in values.items()}
        threshold = parameters["threshold"]
        previous = self._previous_threshold(position, threshold)
        if previous is not threshold:
            previous = torch.cat([previous[None], threshold[:-1]])
        arguments = self._arguments(parameters, previous)
        spikes, after = self._sequence_of(x, before, arguments, self._rule(), **options)
        if self.init_hidden:
            # Copies, since snnTorch detaches the state in place, which no view allows.
            last = tuple((state[-1] if self.output else state).clone() for state in after)
            self._keep(last, position, steps)
        return self._result(as_dtype(spikes, x.dtype), after)

    @abstractmethod
    def _step_of(
        self, x: Tensor, state: State, parameters: dict[str, Tensor], rule: Rule
    ) -> tuple[Tensor, State]:
        """Spikes and state after one step; ``parameters`` are that step's, in the dtype of the state."""

    def _sequence_of(
        self, x: Tensor, state: tuple[Tensor | None, ...], parameters: dict[str, Tensor], rule: Rule
    ) -> tuple[Tensor, State]:
        """Spikes of all steps, and the state after the last one, or with ``output`` after every one."""
        dtype = parameters["beta"].dtype
        now = tuple(torch.zeros_like(x[0], dtype=dtype) if s is None else s for s in state)
        spikes: list[Tensor] = []
        trace: list[State] = []
        for x_t, *values in zip(x.unbind(0), *(p.unbind(0) for p in parameters.values()), strict=True):
            spk, now = self._step_of(x_t, now, dict(zip(parameters, values, strict=True)), rule)
            spikes.append(spk.to(x.dtype))
            trace.append(now)
        after = tuple(map(torch.stack, zip(*trace, strict=True))) if self.output else now
        return torch.stack(spikes), after

    def _constrained(self, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: constrain(parameters[name], self.beta_constraint) for name in self.leaks}

    def _arguments(self, parameters: dict[str, Tensor], previous_threshold: Tensor) -> dict[str, Tensor]:
        """The parameters as the ops call them."""
        scale = parameters.pop("graded_spikes_factor")
        return parameters | {"previous_threshold": previous_threshold, "scale": scale}

    def _result(self, spikes: Tensor, state: State) -> Tensor | tuple[Tensor, ...]:
        if self.init_hidden and not self.output:
            return spikes
        by_name = dict(zip(self.states, state, strict=True))
        return spikes, *(by_name[name] for name in self.returned_states)

    def _check_features(self, shape: torch.Size) -> None:
        if not fits(self.feature_shape, shape):
            raise ValueError(
                f"input_ has the shape {tuple(shape)} at each step, against which "
                f"feature_shape={self.feature_shape} does not broadcast"
            )
        if self.inhibition and len(shape) != 2:
            raise ValueError(f"input_ must be [B, N] at each step with inhibition=True; got {tuple(shape)}")

    def _previous_threshold(self, position: StepIndex, threshold: Tensor) -> Tensor:
        """Threshold of the spike that a delayed reset answers; ``threshold`` where it does not vary."""
        if self.exact_reset or self.threshold.ndim == 0:
            return threshold
        return self._row_before("threshold", position).to(threshold.dtype)

    def _rule(self) -> Rule:
        options = (
            self.spike_grad,
            cast(ResetMechanism, self.reset_mechanism),
            self.reset_delay,
            self.exact_reset,
            self.detach_reset,
            self.inhibition,
            self.state_quant or None,
        )
        if torch.compiler.is_compiling():
            return Rule(*options)
        if self._known_rule is None or self._known_rule[0] != options:
            self._known_rule = options, Rule(*options)
        return self._known_rule[1]

    def resize_steps(self, num_steps: int) -> Self:
        """Resample the time parameters, so that a neuron trained at T steps runs at another number.

        They are interpolated linearly in time; the first and the last step keep their values. Parameters
        become new objects, so build the optimizer afterwards. A new sequence starts.

        Args:
            num_steps: the new T.

        Returns:
            The neuron itself.

        Raises:
            ValueError, TypeError: if ``num_steps`` is not a positive integer.

        Example::

            >>> import snntorch_asnn as asnn
            >>> lif = asnn.AdaptiveLeaky(torch.tensor([0.5, 0.9]), num_steps=2, feature_shape=())
            >>> lif.resize_steps(3).beta.data
            tensor([0.5000, 0.7000, 0.9000])
        """
        num_steps = check_count("num_steps", num_steps)
        for name in self.time_parameters:
            resize_parameter(self, name, num_steps)
        self.num_steps = num_steps
        self._start_over()
        return self

    def extra_repr(self) -> str:
        """What ``print(net)`` shows of the neuron."""
        shown = [f"num_steps={self.num_steps}", f"feature_shape={self.feature_shape}"]
        shown += [f"reset_mechanism={self.reset_mechanism!r}", f"reset_delay={self.reset_delay}"]
        shown += [
            name for name in ("exact_reset", "init_hidden", "output", "sequence") if getattr(self, name)
        ]
        return ", ".join(shown)


def _refuse_outputs(x: object) -> None:
    if isinstance(x, tuple):
        raise TypeError(
            "input_ must be a tensor; got a tuple, as neurons return that do not hide their state; in "
            "nn.Sequential wrap such a neuron in snntorch_asnn.layers.OverTime, or build it with "
            "init_hidden=True"
        )
