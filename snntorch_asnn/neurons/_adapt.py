"""Turning the neurons of a snnTorch network into adaptive ones."""

from __future__ import annotations

import warnings
from typing import Any, Literal, TypeVar

import snntorch as snn
from torch import nn

from snntorch_asnn._arguments import check_choice, check_count, check_flags
from snntorch_asnn._torch import BatchNormBase
from snntorch_asnn.neurons.adaptive import AdaptiveNeuron
from snntorch_asnn.neurons.convert import TWINS, adapt_neuron
from snntorch_asnn.neurons.leak_constraint import BetaConstraint
from snntorch_asnn.neurons.references import Reference, references
from snntorch_asnn.neurons.replacing import logger, names_of_replaceable, replace_references
from snntorch_asnn.neurons.traversal import check_net, input_shapes, names_of

__all__ = ["Sharing", "adapt"]

Net = TypeVar("Net", bound=nn.Module)

Sharing = Literal["layer", "channel", "neuron"]
"""Neurons that share one step's parameters: the whole layer, each channel, or no two neurons."""


def adapt(
    net: Net,
    num_steps: int,
    *,
    learn_beta: bool = True,
    learn_gain: bool = True,
    sharing: Sharing | None = None,
    beta_constraint: BetaConstraint | None = None,
    sequence: bool = False,
    sample: Any = None,
    feature_shape: Literal["layer", "channel"] | None = None,
) -> Net:
    """Replace every ``Leaky``, ``Synaptic``, ``RLeaky`` and ``Lapicque`` of a network by its adaptive twin.

    The network is changed in place, at any depth. Its outputs stay the same to the bit until it is trained.
    A neuron that several layers share stays shared; weights, recurrent weights, states, hooks, device, dtype
    and train mode are kept. Surrogates of :mod:`snntorch.surrogate` are exchanged for this package's where
    the two agree to the bit, because fused implementations know only this package's. The neurons' Parameters
    are new objects, so build the optimizer afterwards, for instance from :func:`optim_groups`. A Parameter
    that had ``requires_grad=False`` keeps it.

    Neurons in plain lists, tuples, dicts, closures, partials and bound methods are replaced, too, with a
    warning where PyTorch does not see them. A neuron that a function reads from a global variable cannot be
    replaced and gives a warning, and so does a network without neurons.

    Each replacement is logged at level INFO under ``snntorch_asnn.neurons.adapt``, and each neuron without
    an adaptive twin (other classes, subclasses) at WARNING; :func:`describe` lists the result. A neuron that
    is already adaptive stays as it is.

    Args:
        net: the network, or a single neuron.
        num_steps: T, the number of time steps that get parameters of their own.
        learn_beta: whether the leaks (of a ``Synaptic``, ``alpha`` too) become Parameters.
        learn_gain: whether the gains become Parameters.
        sharing: which neurons share one step's parameters: all of a ``"layer"``, all of a ``"channel"``, or
            no two, with ``"neuron"``. None means ``"layer"``. A parameter that already has one value per
            neuron keeps them.
        beta_constraint: how learned leaks are kept in [0, 1]: ``"clamp"``, ``"sigmoid"`` or ``"none"``, see
            :class:`AdaptiveLeaky`. None means the default of each class, which is snnTorch's. With
            ``"sigmoid"``, outputs stay the same up to rounding.
        sequence: let the neurons take whole ``[T, B, ...]`` sequences; the network must then be called with
            sequences. Batch norms that a loop over time ran are logged at WARNING: over a sequence,
            ``layers.TimeFolded(..., norm_over_time="sequential")`` gives the results of the loop.
        sample: an input of the network, a tuple for several arguments. A copy of the network is run on it
            once to find the shape of each neuron's input. Only ``"channel"`` and ``"neuron"`` need it.
        feature_shape: deprecated name of ``sharing``.

    Returns:
        The network itself; for a single neuron, its adaptive twin.

    Raises:
        TypeError: if ``net`` is not a module or another argument is of the wrong type.
        ValueError: if an argument's value does not fit, the shape of a neuron's input is unknown, or a neuron
            is already adaptive with another number of steps. The network is then unchanged.

    Example::

        >>> import snntorch as snn
        >>> net = nn.Sequential(nn.Linear(3, 2), snn.Leaky(0.9, init_hidden=True))
        >>> adapt(net, num_steps=25)
        Sequential(
          (0): Linear(in_features=3, out_features=2, bias=True)
          (1): AdaptiveLeaky(num_steps=25, feature_shape=(), reset_mechanism='subtract', ...)
        )
    """
    check_net(net)
    num_steps = check_count("num_steps", num_steps)
    sharing = _checked_sharing(sharing, feature_shape)
    check_flags(learn_beta=learn_beta, learn_gain=learn_gain, sequence=sequence)
    if beta_constraint is not None:
        check_choice("beta_constraint", beta_constraint, BetaConstraint)
    places = references(net)
    names = names_of_replaceable(net, places)
    _check_num_steps(names, num_steps)
    neurons = [module for module in names if type(module) in TWINS]
    shapes = {} if sharing == "layer" else _feature_shapes(net, neurons, sharing, sample)
    replacements: dict[nn.Module, nn.Module] = {}
    for neuron in neurons:
        try:
            replacements[neuron] = adapt_neuron(
                neuron,
                shapes.get(neuron, ()),
                num_steps=num_steps,
                learn_beta=learn_beta,
                learn_gain=learn_gain,
                beta_constraint=beta_constraint,
                sequence=sequence,
            )
        except (TypeError, ValueError) as error:
            error.add_note(f"while adapting the neuron {names[neuron][0]!r}")
            raise
    for module in names:
        kept = module not in replacements and not isinstance(module, AdaptiveNeuron)
        if kept and isinstance(module, snn.SpikingNeuron):
            logger.warning("%s: %s has no adaptive twin", ", ".join(names[module]), type(module).__name__)
    _warn_of_what_is_missed(names, places)
    if sequence:
        _warn_of_norms(net)
    return replace_references(net, replacements, places)


def _warn_of_norms(net: nn.Module) -> None:
    """Log the batch norms outside of layers over time, which would take all steps for one batch."""
    runners = [name for name, module in net.named_modules() if hasattr(module, "norm_over_time")]
    over_time = tuple(f"{name}." if name else "" for name in runners)
    for name, module in net.named_modules():
        if isinstance(module, BatchNormBase) and not name.startswith(over_time):
            logger.warning(
                "%s: a loop over time normalised each step by itself; to compute the same over a sequence, "
                "put this %s into snntorch_asnn.layers.TimeFolded(..., norm_over_time='sequential')",
                name,
                type(module).__name__,
            )


def _check_num_steps(names: dict[nn.Module, list[str]], num_steps: int) -> None:
    """Refuse a number of steps that differs from that of a neuron that is already adaptive."""
    for module, places in names.items():
        if isinstance(module, AdaptiveNeuron) and module.num_steps != num_steps:
            raise ValueError(
                f"num_steps must be {module.num_steps}, that of the adaptive neuron {places[0] or 'net'!r}; "
                f"got {num_steps}; call the neuron's resize_steps({num_steps}) first"
            )


def _warn_of_what_is_missed(names: dict[nn.Module, list[str]], places: list[Reference]) -> None:
    """Warn of neurons that cannot be replaced or that PyTorch does not see, and of a net without neurons."""
    neurons = [place for place in places if isinstance(place.module, snn.SpikingNeuron)]
    seen = {place.module for place in neurons if place.registered}
    for place in neurons:
        if place.put is None and not isinstance(place.module, AdaptiveNeuron):
            _warn(
                f"{place.name}: this {type(place.module).__name__} cannot be replaced here and stays "
                "snnTorch's; make it an attribute of the network and call it by that name"
            )
        elif place.put is not None and place.module not in seen:
            _warn(
                f"{place.name}: the network's parameters(), state_dict(), .to() and snntorch_asnn.reset do "
                "not see this neuron; make it an attribute of a module, or use nn.ModuleList or nn.ModuleDict"
            )
    if not neurons and not any(isinstance(module, snn.SpikingNeuron) for module in names):
        _warn(
            "net has no spiking neuron of snnTorch that can be found, so nothing was adapted; neurons must "
            "be attributes of the network or of its modules"
        )


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=4)


def _checked_sharing(sharing: Sharing | None, feature_shape: Literal["layer", "channel"] | None) -> Sharing:
    """``sharing``, also under its deprecated name; the default if neither is given."""
    if feature_shape is not None:
        check_choice("feature_shape", feature_shape, Literal["layer", "channel"])
        if sharing is not None:
            raise ValueError(
                f"feature_shape is the deprecated name of sharing; got feature_shape={feature_shape!r} and "
                f"sharing={sharing!r}; pass only sharing"
            )
        warnings.warn(
            f"adapt(feature_shape={feature_shape!r}) is deprecated; use sharing={feature_shape!r}",
            DeprecationWarning,
            stacklevel=3,
        )
        sharing = feature_shape
    sharing = "layer" if sharing is None else sharing
    check_choice("sharing", sharing, Sharing)
    return sharing


def _feature_shapes(
    net: nn.Module, neurons: list[nn.Module], sharing: Literal["channel", "neuron"], sample: Any
) -> dict[nn.Module, tuple[int, ...]]:
    """Shape of one step's parameters for each neuron, found from the shape of its input."""
    if sample is None:
        raise ValueError(
            f"sample must be an input of the network for sharing={sharing!r}, which runs the network on it "
            "once to find the shape of each neuron's input; got None"
        )
    found = {}
    for neuron, inputs in input_shapes(net, neurons, sample).items():
        per_channel = {(*shape[:1], *(1 for _ in shape[1:])) for shape in inputs}
        shapes = per_channel if sharing == "channel" else inputs
        if len(shapes) > 1:
            raise ValueError(
                f"sharing={sharing!r} does not suit {names_of(net)[neuron][0]!r}, one neuron for inputs that "
                f"need parameters of different shapes {sorted(shapes)}; use sharing='layer'"
            )
        found[neuron] = shapes.pop()
    return found
