"""The base of all adaptive neurons: construction, and how one step or a sequence is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from inspect import Parameter
from operator import attrgetter
from typing import Any, ClassVar, Self

import torch
from snntorch import SpikingNeuron
from torch import Tensor, nn

from snntorch_asnn._arguments import check_count, check_step
from snntorch_asnn._torch import is_exporting, tell_dynamo
from snntorch_asnn.neurons.arguments import RULE_OPTIONS, NeuronArguments, complete_options
from snntorch_asnn.neurons.documentation import (
    complete_docstring,
    complete_signature,
    option_parameters,
    shared_meanings,
)
from snntorch_asnn.neurons.instances import register, unregister
from snntorch_asnn.neurons.leak_constraint import BetaConstraint, constrain
from snntorch_asnn.neurons.lost_state import check_export
from snntorch_asnn.neurons.membrane_steps import MembraneSteps
from snntorch_asnn.neurons.run_state import State, StepIndex
from snntorch_asnn.neurons.snntorch_checkpoints import spread_checkpoint
from snntorch_asnn.neurons.spec import NeuronSpec
from snntorch_asnn.neurons.stateful import Stateful, as_dtype
from snntorch_asnn.neurons.time_parameters import check_time_comes_first, resize_parameter
from snntorch_asnn.ops._adaptive_leaky.engine import Impl
from snntorch_asnn.ops._adaptive_leaky.rule import Rule
from snntorch_asnn.ops._arguments import check_input, fits
from snntorch_asnn.ops._loop import loop

__all__ = ["AdaptiveNeuron"]

_rule_options = attrgetter(*RULE_OPTIONS)


class AdaptiveNeuron(Stateful, SpikingNeuron):
    """Base of the neurons whose parameters are ``[T, *feature_shape]``.

    A subclass has a :class:`NeuronSpec`, and a constructor with the arguments of its snnTorch neuron followed
    by ``**options: Unpack[AdaptiveOptions]``. The constructor calls ``super().__init__(locals())``; signature
    and docstring of the class are completed with the options.

    Args:
        given: the constructor's arguments by name, its ``locals()``.
        **snntorch: arguments of snnTorch's constructor that differ from those in ``given``.
    """

    spec: ClassVar[NeuronSpec]
    leaks: tuple[str, ...]
    returned_states: tuple[str, ...]

    _snntorch_names: ClassVar[tuple[str, ...]]
    """Names of the constructor's arguments from snnTorch."""
    _options: ClassVar[dict[str, Parameter]]
    """The keyword options that the constructor adds."""
    _version = 2
    """Version of ``state_dict()``; in version 1, leaks under ``"sigmoid"`` were plain logits."""

    beta: Tensor
    beta_constraint: BetaConstraint
    exact_reset: bool = False
    sequence: bool
    impl: Impl
    _known_rule: tuple[tuple[Any, ...], Rule] | None = None
    """The last call's rule and its options; checking a rule at every call would take time."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        spec = vars(cls).get("spec")
        if spec is None:
            return
        cls.leaks, cls.states, cls.returned_states = spec.leaks, spec.states, spec.returned_states
        cls.time_parameters = spec.time_parameters
        init: Any = cls.__init__
        cls._options = option_parameters(init, spec.defaults)
        if "__init__" not in vars(cls):
            return
        init.__signature__ = complete_signature(init, cls._options)
        names = list(init.__signature__.parameters)[1:]
        cls._snntorch_names = tuple(name for name in names if name not in cls._options)
        if cls.__doc__ is not None:
            cls.__doc__ = complete_docstring(cls.__doc__, names, shared_meanings(init))

    def __init__(self, given: Mapping[str, Any], **snntorch: Any) -> None:
        own = {name: given[name] for name in self._snntorch_names}
        options = complete_options(type(self).__name__, given["options"], self._options, own)
        arguments = NeuronArguments.check(self.spec, own, options)
        self._build_snntorch(arguments.snntorch | snntorch)
        # snnTorch keeps a bound method of its own reset, which would tie the neuron into a cycle.
        del self.state_function
        tell_dynamo()
        self._membrane_steps = MembraneSteps()
        for name, (value, learn) in arguments.time_parameters.items():
            self._hold(name, value, learn)
        for name, value in arguments.attributes.items():
            setattr(self, name, value)

    def _build_snntorch(self, arguments: dict[str, Any]) -> None:
        """Run snnTorch's constructor."""
        on_meta = torch.get_default_device().type == "meta"
        try:
            # snnTorch's constructor reads the value of a tensor, which meta tensors do not have.
            with torch.device("cpu") if on_meta else nullcontext():
                super().__init__(**arguments)
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
        errors.extend(spread_checkpoint(self, self.leaks, state_dict, prefix, local_metadata.get("version")))
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args, **kwargs)
        # The checkpoint holds the mechanism's number; snnTorch loads it but keeps on using the old mechanism.
        self.reset_mechanism = list(SpikingNeuron.reset_dict)[int(self.reset_mechanism_val)]

    def _run(
        self, x: Tensor, given: tuple[Tensor | None, ...], step: int | None, **options: Any
    ) -> Tensor | tuple[Tensor, ...]:
        """Compute one step, or with ``sequence=True`` all steps of a sequence.

        Args:
            x: the input.
            given: the states that the caller passes, in the order of ``states``.
            step: the time step that the caller passes.
            **options: keyword arguments of the spec's ``sequence``.
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
        values = self._values(dtype)
        parameters = self._at_step(values, rows)
        parameters |= self._constrained(parameters)
        previous = self._previous_threshold(position, values, parameters)
        arguments = self._arguments(parameters, previous)
        spikes, after = self.spec.step(self, x, before, arguments, self._rule())
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
            check_time_comes_first(x.shape, self._num_steps, raises=self.on_overrun == "raise")
        before: tuple[Tensor | None, ...]
        before, position = (
            self._resume(x[0], given, step) if self.init_hidden else self._begin(x, given, step)
        )
        dtype = torch.promote_types(x.dtype, torch.float32)
        rows = self._indices(position, steps)
        values = self._values(dtype)
        # The whole leak is constrained, so that the sum of its gradients leads it back where steps share it.
        values |= self._constrained(values)
        parameters = self._at_steps(values, rows, steps)
        threshold = parameters["threshold"]
        previous = self._previous_threshold(position, values, parameters)
        if previous is not threshold:
            previous = torch.cat([previous[None], threshold[:-1]])
        arguments = self._arguments(parameters, previous)
        run = self.spec.sequence or type(self).loop
        spikes, after = run(self, x, before, arguments, self._rule(), **options)
        if self.init_hidden:
            # snnTorch detaches the state in place, which fails for a view, so the state is copied.
            last = tuple((state[-1] if self.output else state).clone() for state in after)
            self._keep(last, position, steps)
        return self._result(as_dtype(spikes, x.dtype), after)

    def loop(
        self, x: Tensor, state: tuple[Tensor | None, ...], parameters: dict[str, Tensor], rule: Rule
    ) -> tuple[Tensor, State]:
        """Compute a sequence step by step, with the arguments and results of a spec's ``sequence``."""

        def one(x: Tensor, *state: Tensor, **values: Tensor) -> tuple[Tensor, ...]:
            spikes, after = self.spec.step(self, x, state, values, rule)
            return spikes, *after

        spikes, *after = loop(one, x, state, parameters, output_states=self.output)
        return spikes, tuple(after)

    def _constrained(self, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: constrain(parameters[name], self.beta_constraint) for name in self.leaks}

    def _arguments(self, parameters: dict[str, Tensor], previous_threshold: Tensor) -> dict[str, Tensor]:
        """The parameters as the ops call them."""
        scale = parameters.pop("graded_spikes_factor")
        return parameters | {"previous_threshold": previous_threshold, "scale": scale}

    def _result(self, spikes: Tensor, state: State) -> Tensor | tuple[Tensor, ...]:
        if self.init_hidden and not self.output:
            return spikes
        if self.returned_states == self.states:
            return spikes, *state
        by_name = dict(zip(self.states, state, strict=True))
        return spikes, *(by_name[name] for name in self.returned_states)

    def _check_features(self, shape: torch.Size) -> None:
        if self.feature_shape and not fits(self.feature_shape, shape):
            raise ValueError(
                f"feature_shape={self.feature_shape} does not broadcast with input_, which has the shape "
                f"{tuple(shape)} at each step"
            )
        if self.inhibition and len(shape) != 2:
            raise ValueError(f"input_ must be [B, N] at each step with inhibition=True; got {tuple(shape)}")

    def _previous_threshold(
        self, position: StepIndex, values: dict[str, Tensor], parameters: dict[str, Tensor]
    ) -> Tensor:
        """Threshold of the step before, whose spikes cause a delayed reset; this step's if it is constant."""
        if self.exact_reset or values["threshold"].ndim == 0:
            return parameters["threshold"]
        return self._row_before(values["threshold"], position)

    def _rule(self) -> Rule:
        if torch.compiler.is_compiling():
            return _make_rule([getattr(self, name) for name in RULE_OPTIONS])
        options = _rule_options(self)
        if self._known_rule is None or self._known_rule[0] != options:
            self._known_rule = options, _make_rule(options)
        return self._known_rule[1]

    def resize_steps(self, num_steps: int) -> Self:
        """Resample the time parameters, so that a neuron trained at T steps runs at another number of steps.

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
        """The options that ``print(net)`` shows."""
        shown = [f"num_steps={self.num_steps}", f"feature_shape={self.feature_shape}"]
        shown += [f"reset_mechanism={self.reset_mechanism!r}", f"reset_delay={self.reset_delay}"]
        shown += [
            name for name in ("exact_reset", "init_hidden", "output", "sequence") if getattr(self, name)
        ]
        return ", ".join(shown)


def _make_rule(options: Sequence[Any]) -> Rule:
    by_name = dict(zip(RULE_OPTIONS, options, strict=True))
    return Rule(**by_name | {"state_quant": by_name["state_quant"] or None})


def _refuse_outputs(x: object) -> None:
    if isinstance(x, tuple):
        raise TypeError(
            "input_ must be a tensor; got a tuple, which is the output of a neuron without init_hidden=True; "
            "in nn.Sequential wrap that neuron in snntorch_asnn.layers.OverTime, or build it with "
            "init_hidden=True"
        )
