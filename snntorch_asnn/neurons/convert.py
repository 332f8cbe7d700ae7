"""Converting one neuron of snnTorch to an adaptive one, and back."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import FunctionType
from typing import Any

import snntorch as snn
import torch
from snntorch import surrogate as snntorch_surrogate
from torch import Tensor, nn

from snntorch_asnn import surrogate
from snntorch_asnn._torch import HOOKS
from snntorch_asnn.neurons.adaptive import AdaptiveNeuron
from snntorch_asnn.neurons.lapicque import AdaptiveLapicque
from snntorch_asnn.neurons.leak_constraint import BetaConstraint, constrain
from snntorch_asnn.neurons.leaky import AdaptiveLeaky
from snntorch_asnn.neurons.rleaky import AdaptiveRLeaky
from snntorch_asnn.neurons.synaptic import AdaptiveSynaptic
from snntorch_asnn.ops._adaptive_leaky.rule import SpikeFunction

__all__ = ["TWINS", "adapt_neuron", "constrained", "own_surrogate", "snntorch_neuron", "why_adaptive"]

TWINS: dict[type[nn.Module], type[AdaptiveNeuron]] = {
    snn.Leaky: AdaptiveLeaky,
    snn.Synaptic: AdaptiveSynaptic,
    snn.RLeaky: AdaptiveRLeaky,
    snn.Lapicque: AdaptiveLapicque,
}
"""The adaptive class for each class of snnTorch."""


def adapt_neuron(
    neuron: nn.Module,
    features: tuple[int, ...],
    *,
    num_steps: int,
    learn_beta: bool,
    learn_gain: bool,
    beta_constraint: BetaConstraint | None,
    sequence: bool,
) -> AdaptiveNeuron:
    """The adaptive twin of a neuron of snnTorch.

    Args:
        neuron: the neuron.
        features: shape of one step's parameters, which broadcasts with those of the neuron.
        num_steps, learn_beta, learn_gain, beta_constraint, sequence: see :func:`~snntorch_asnn.adapt`.
    """
    own = _own_values(neuron)
    many = [value.shape for value in own.values() if value.numel() > 1]
    features = tuple(torch.broadcast_shapes(features, *many))
    arguments = _shared_arguments(neuron) | {
        name: value.detach().expand(features) if value.numel() > 1 else value.detach()
        for name, value in own.items()
    }
    arguments["learn_beta"] = learn_beta
    if isinstance(neuron, snn.Synaptic):
        arguments["learn_alpha"] = learn_beta
    if isinstance(neuron, snn.Leaky):
        arguments["learn_graded_spikes_factor"] = isinstance(neuron.graded_spikes_factor, nn.Parameter)
    if isinstance(neuron, snn.Lapicque):
        del arguments["beta"]
        arguments |= {"R": neuron.R, "C": neuron.C, "time_step": neuron.time_step}
    elif beta_constraint in ("none", "sigmoid"):
        # snnTorch clamps these leaks.
        arguments |= {name: arguments[name].clamp(0, 1) for name in ("alpha", "beta") if name in arguments}
    if beta_constraint is not None:
        arguments["beta_constraint"] = beta_constraint
    twin = _build(
        TWINS[type(neuron)],
        neuron,
        arguments,
        num_steps=num_steps,
        learn_gain=learn_gain,
        feature_shape=features,
        sequence=sequence,
    )
    assert isinstance(twin, AdaptiveNeuron)
    if (
        isinstance(twin, AdaptiveLapicque)
        and twin.beta_constraint == "clamp"
        and not 0 <= twin.circuit_leak.item() <= 1
    ):
        leak = twin.circuit_leak.item()
        raise ValueError(
            f"beta_constraint='clamp' would change the leak 1 - time_step / (R * C) = {leak:.3g}; use 'none'"
        )
    return twin


def snntorch_neuron(neuron: AdaptiveNeuron, step: int = 0) -> nn.Module:
    """The neuron of snnTorch that equals an adaptive one at ``step``, but for gain and exact reset."""
    counterpart = next(theirs for theirs, ours in TWINS.items() if type(neuron) is ours)
    arguments = _shared_arguments(neuron)
    for name in neuron.time_parameters:
        value = constrained(neuron, name)
        arguments[name] = value if value.ndim == 0 else value[step].clone()
        arguments[f"learn_{name}"] = isinstance(getattr(neuron, name), nn.Parameter)
    arguments = {name: value for name, value in arguments.items() if not name.endswith("gain")}
    if not isinstance(neuron, snn.Leaky):
        arguments = {name: value for name, value in arguments.items() if "graded" not in name}
    if isinstance(neuron, snn.Lapicque):
        circuit = {"R": neuron.R, "C": neuron.C, "time_step": neuron.time_step}
        arguments |= circuit | {"beta": False, "learn_beta": False}
    return _build(counterpart, neuron, arguments)


def why_adaptive(neuron: AdaptiveNeuron) -> str | None:
    """The reason for which snnTorch has no equal of an adaptive neuron; None if it has one."""
    if type(neuron) not in TWINS.values():
        return f"{type(neuron).__name__} has no counterpart in snnTorch"
    if neuron.sequence:
        return "it takes whole sequences"
    resets = neuron.reset_mechanism != "none"
    if resets and neuron.exact_reset:
        return "its reset is exact"
    if resets and neuron.detach_reset not in (None, *((True,) if neuron.reset_delay else ())):
        return f"its detach_reset={neuron.detach_reset} changes the gradient"
    if not bool((neuron.gain == 1).all()):
        return "its gain is not 1"
    for name in neuron.time_parameters:
        value = constrained(neuron, name)
        if value.ndim > 0 and not bool((value == value[:1]).all()):
            return f"its {name} changes with time"
    if isinstance(neuron, AdaptiveLapicque):
        # snnTorch computes this leak from R and C and does not clamp it.
        same = bool((neuron.leak == neuron.circuit_leak).all())
        return None if same else "its leak no longer follows from R and C"
    for name in neuron.leaks:
        value = constrained(neuron, name)
        if not bool(((value >= 0) & (value <= 1)).all()):
            return f"its {name} is outside [0, 1], to which snnTorch clamps it"
    return None


def own_surrogate(spike_grad: SpikeFunction) -> SpikeFunction:
    """This package's surrogate that equals ``spike_grad`` to the bit, or else ``spike_grad`` itself."""
    if not isinstance(spike_grad, FunctionType) or spike_grad.__module__ != snntorch_surrogate.__name__:
        return spike_grad
    factory = _OWN_SURROGATES.get(spike_grad.__qualname__.partition(".")[0])
    shape = [cell.cell_contents for cell in spike_grad.__closure__ or ()]
    if factory is None or not all(isinstance(value, (int, float)) and value > 0 for value in shape):
        return spike_grad
    return factory(*map(float, shape))


_OWN_SURROGATES: dict[str, Callable[..., surrogate.Surrogate]] = {
    "atan": surrogate.atan,
    "fast_sigmoid": surrogate.fast_sigmoid,
    "straight_through_estimator": surrogate.straight_through,
}


def _own_values(neuron: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a neuron of snnTorch that may be indexed by time."""
    names = ["beta", "threshold"]
    if isinstance(neuron, snn.Synaptic):
        names.append("alpha")
    if isinstance(neuron, snn.Leaky):
        names.append("graded_spikes_factor")
    return {name: getattr(neuron, name) for name in names}


def _shared_arguments(neuron: Any) -> dict[str, Any]:
    """Values of the constructor arguments that snnTorch's neurons and the adaptive ones share."""
    arguments: dict[str, Any] = {
        "spike_grad": None if neuron.surrogate_disable else own_surrogate(neuron.spike_grad),
        "surrogate_disable": neuron.surrogate_disable,
        "init_hidden": neuron.init_hidden,
        "inhibition": neuron.inhibition,
        "learn_threshold": isinstance(neuron.threshold, nn.Parameter),
        "reset_mechanism": neuron.reset_mechanism,
        "state_quant": neuron.state_quant,
        "output": neuron.output,
    }
    if not isinstance(neuron, snn.Lapicque):
        arguments["reset_delay"] = neuron.reset_delay
    if isinstance(neuron, snn.RLeaky):
        for name in ("all_to_all", "linear_features", "conv2d_channels", "kernel_size", "learn_recurrent"):
            arguments[name] = getattr(neuron, name)
    return arguments


def _build(cls: type[nn.Module], neuron: nn.Module, arguments: dict[str, Any], **own: Any) -> nn.Module:
    """A neuron of ``cls`` that takes over weights, states, device, dtype, mode and hooks of ``neuron``."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        # The user has seen this warning for ``neuron``; the random weights are replaced below.
        warnings.filterwarnings("ignore", "Inhibition is an unstable feature", UserWarning)
        twin = cls(**arguments, **own)
    threshold: Any = neuron.threshold
    twin.to(threshold.device, threshold.dtype if threshold.is_floating_point() else None)
    if isinstance(neuron, snn.RLeaky):
        twin.recurrent = neuron.recurrent
        if not neuron.all_to_all:
            twin.V = neuron.V
    for name, parameter in twin.named_parameters(recurse=False):
        if name in neuron._parameters:
            parameter.requires_grad_(getattr(neuron, name).requires_grad)
    states = neuron.states if isinstance(neuron, AdaptiveNeuron) else twin.states
    for name in states:  # type: ignore[union-attr]
        held: Any = getattr(neuron, name)
        setattr(twin, name, held.detach())
    twin.train(neuron.training)
    for hooks in HOOKS:
        twin.__dict__[hooks] = neuron.__dict__[hooks]
    return twin


def constrained(neuron: AdaptiveNeuron, name: str) -> Tensor:
    """The values of a time parameter as the neuron uses them, without a gradient."""
    value: Tensor = getattr(neuron, name).detach()
    return constrain(value, neuron.beta_constraint) if name in neuron.leaks else value
