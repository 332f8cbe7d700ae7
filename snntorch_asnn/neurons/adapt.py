"""Turning the neurons of a snnTorch network into adaptive ones, and back."""

from __future__ import annotations

import logging
import warnings
from typing import Any, Literal, NamedTuple, TypeVar, cast

import snntorch as snn
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from snntorch_asnn._arguments import check_choice, check_count, check_flags
from snntorch_asnn.neurons.adaptive import AdaptiveNeuron
from snntorch_asnn.neurons.convert import TWINS, adapt_neuron, constrained, freeze_neuron, why_not_frozen
from snntorch_asnn.neurons.leak_constraint import BetaConstraint
from snntorch_asnn.neurons.network import check_net, input_shapes, names_of, parameters_behind
from snntorch_asnn.neurons.references import Reference, references

__all__ = ["Description", "LeaksAtBounds", "adapt", "describe", "freeze", "leaks_at_bounds"]

logger = logging.getLogger(__name__)

Net = TypeVar("Net", bound=nn.Module)
Sharing = Literal["layer", "channel"]


class LeaksAtBounds(NamedTuple):
    """How many learned leaks of a neuron have reached the ends of their range, or left it."""

    parameter: str
    low: int
    """Leaks of 0 and below, which remember nothing."""
    high: int
    """Leaks of 1 and above, which forget nothing."""
    total: int


class Description(NamedTuple):
    """One spiking neuron of a network."""

    names: tuple[str, ...]
    """Where it stands, more than once if it is shared."""
    kind: str
    num_steps: int | None
    """T; None for a neuron without time parameters."""
    feature_shape: tuple[int, ...] | None
    learned: tuple[str, ...]
    """Names of its time parameters that are learned, or computed from something learned."""
    leaks_at_bounds: tuple[LeaksAtBounds, ...] = ()
    """Learned leaks that have reached 0 or 1, where any have."""


def adapt(
    net: Net,
    num_steps: int,
    *,
    learn_beta: bool = True,
    learn_gain: bool = True,
    feature_shape: Sharing = "layer",
    beta_constraint: BetaConstraint | None = None,
    sequence: bool = False,
    sample: Any = None,
) -> Net:
    """Replace every ``Leaky``, ``Synaptic``, ``RLeaky`` and ``Lapicque`` of a network by its adaptive twin.

    The network is changed in place, at any depth. Its outputs stay the same to the bit until it is trained.
    A neuron that stands in several places stays shared; weights, recurrent weights, states, hooks, device,
    dtype and train mode are kept. Surrogates of :mod:`snntorch.surrogate` are exchanged for this package's
    where the two agree to the bit, so that fused implementations know them. Parameters of the neurons are
    new objects: build the optimizer afterwards, for instance from :func:`optim_groups`. One that had
    ``requires_grad=False`` has it again.

    Neurons in plain lists, tuples, dicts, closures, partials and bound methods are replaced, too, with a
    warning where PyTorch does not see them; a neuron that a function takes from a global variable is only
    warned of. A network without neurons gives a warning.

    Each replacement is logged at level INFO under ``snntorch_asnn.neurons.adapt``, each neuron that has
    no adaptive twin (other classes, subclasses) at WARNING; :func:`describe` lists the result. A neuron that
    is adaptive already stays as it is.

    Args:
        net: the network, or a single neuron.
        num_steps: T, the number of time steps that get parameters of their own.
        learn_beta: whether the leaks (of a ``Synaptic``, ``alpha`` too) become Parameters.
        learn_gain: whether the gains do.
        feature_shape: share one step's parameters over a ``"layer"`` or per ``"channel"``. A parameter that
            is per neuron already stays so.
        beta_constraint: how learned leaks are kept in [0, 1]: ``"clamp"``, ``"sigmoid"`` or ``"none"``, see
            :class:`AdaptiveLeaky`; None for the default of each class, which is snnTorch's. With
            ``"sigmoid"``, outputs stay the same up to rounding.
        sequence: let the neurons take whole ``[T, B, ...]`` sequences; the network must then be called so.
            Batch norms that a loop over time ran are logged at WARNING: over a sequence,
            ``layers.TimeFolded(..., norm_over_time="sequential")`` keeps what the loop did.
        sample: an input of the network, a tuple for several arguments, on which a copy of it is run once to
            find the channels of each neuron. Only ``"channel"`` needs it.

    Returns:
        The network itself; of a single neuron, its adaptive twin.

    Raises:
        TypeError: if ``net`` is not a module or another argument is of the wrong type.
        ValueError: if an argument's value does not fit, the channels of a neuron are unknown, or a neuron is
            adaptive already with another number of steps. The network is then unchanged.

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
    check_choice("feature_shape", feature_shape, Sharing)
    check_flags(learn_beta=learn_beta, learn_gain=learn_gain, sequence=sequence)
    if beta_constraint is not None:
        check_choice("beta_constraint", beta_constraint, BetaConstraint)
    places = references(net)
    names = _names_of_all(net, places)
    _check_num_steps(names, num_steps)
    neurons = [module for module in names if type(module) in TWINS]
    channels = _channels(net, neurons, sample) if feature_shape == "channel" else {}
    replacements: dict[nn.Module, nn.Module] = {}
    for neuron in neurons:
        try:
            replacements[neuron] = adapt_neuron(
                neuron,
                channels.get(neuron, ()),
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
    return _replaced(net, replacements, places)


def freeze(net: Net) -> Net:
    """Replace adaptive neurons by snnTorch's own, where what they have learned allows it.

    A neuron goes back if its gain is 1, its other parameters do not change with time and its leaks lie in
    [0, 1], to which snnTorch clamps all but a ``Lapicque``'s, and if it has none of the options that snnTorch
    lacks (``sequence``, ``exact_reset``, another ``detach_reset``). Any other is kept, with the reason logged
    at level WARNING under ``snntorch_asnn.neurons.adapt``. The network is changed in place; its outputs stay
    the same to the bit. A Parameter that had ``requires_grad=False`` has it again.

    Args:
        net: the network, or a single neuron.

    Returns:
        The network itself; of a single neuron, what it became.

    Raises:
        TypeError: if ``net`` is not a module.

    Example::

        >>> import snntorch as snn
        >>> freeze(adapt(snn.Leaky(0.9), num_steps=25))
        Leaky()
    """
    check_net(net)
    replacements: dict[nn.Module, nn.Module] = {}
    places = references(net)
    for module, names in _names_of_all(net, places).items():
        if not isinstance(module, AdaptiveNeuron):
            continue
        reason = why_not_frozen(module)
        if reason is None:
            replacements[module] = freeze_neuron(module)
        else:
            logger.warning("%s: %s kept, %s", ", ".join(names), type(module).__name__, reason)
    return _replaced(net, replacements, places)


def describe(net: nn.Module) -> list[Description]:
    """List the spiking neurons of a network: which have time parameters, and which of these are learned.

    Raises:
        TypeError: if ``net`` is not a module.

    Example::

        >>> import snntorch as snn
        >>> net = nn.Sequential(nn.Linear(3, 2), snn.Leaky(0.9), snn.Alpha(0.9, 0.8))
        >>> for neuron in describe(adapt(net, num_steps=25)):
        ...     print(neuron.names, neuron.kind, neuron.num_steps, neuron.learned)
        ('1',) AdaptiveLeaky 25 ('beta', 'gain')
        ('2',) Alpha None ()
    """
    check_net(net)
    return [
        _describe(neuron, tuple(names))
        for neuron, names in names_of(net).items()
        if isinstance(neuron, snn.SpikingNeuron)
    ]


def _warn_of_norms(net: nn.Module) -> None:
    """Name the batch norms that no layer over time runs: they would see all steps as one batch."""
    runners = [name for name, module in net.named_modules() if hasattr(module, "norm_over_time")]
    over_time = tuple(f"{name}." if name else "" for name in runners)
    for name, module in net.named_modules():
        if isinstance(module, _BatchNorm) and not name.startswith(over_time):
            logger.warning(
                "%s: a loop over time normalised each step by itself; for the same over whole sequences put "
                "this %s into snntorch_asnn.layers.TimeFolded(..., norm_over_time='sequential')",
                name,
                type(module).__name__,
            )


def _describe(neuron: nn.Module, names: tuple[str, ...]) -> Description:
    if not isinstance(neuron, AdaptiveNeuron):
        return Description(names, type(neuron).__name__, None, None, ())
    learned = tuple(
        name
        for name in neuron.time_parameters
        if any(parameter.requires_grad for parameter in parameters_behind(neuron, name))
    )
    bounds = leaks_at_bounds(neuron)
    return Description(names, type(neuron).__name__, neuron.num_steps, neuron.feature_shape, learned, bounds)


def leaks_at_bounds(neuron: AdaptiveNeuron) -> tuple[LeaksAtBounds, ...]:
    """Count the learned leaks of a neuron that are 0 or less, or 1 or more: one entry for each kind with any.

    Example::

        >>> from snntorch_asnn import AdaptiveLeaky
        >>> leaks_at_bounds(AdaptiveLeaky(1.0, num_steps=4))
        (LeaksAtBounds(parameter='beta', low=0, high=4, total=4),)
    """
    found = []
    for name in neuron.leaks:
        if not any(parameter.requires_grad for parameter in parameters_behind(neuron, name)):
            continue
        leak = constrained(neuron, name)
        low, high = int((leak <= 0).sum()), int((leak >= 1).sum())
        if low or high:
            found.append(LeaksAtBounds(name, low, high, leak.numel()))
    return tuple(found)


def _check_num_steps(names: dict[nn.Module, list[str]], num_steps: int) -> None:
    """Refuse a number of steps that is not that of the neurons that are adaptive already."""
    for module, places in names.items():
        if isinstance(module, AdaptiveNeuron) and module.num_steps != num_steps:
            raise ValueError(
                f"num_steps must be {module.num_steps}, that of the adaptive neuron {places[0] or 'net'!r}; "
                f"got {num_steps}; call the neuron's resize_steps({num_steps}) first"
            )


def _names_of_all(net: nn.Module, places: list[Reference]) -> dict[nn.Module, list[str]]:
    """As :func:`names_of`, with the modules that can be replaced although PyTorch does not see them."""
    names = names_of(net)
    for place in places:
        if not place.registered and place.put is not None:
            names.setdefault(place.module, []).append(place.name)
    return names


def _replaced(net: Net, replacements: dict[nn.Module, nn.Module], places: list[Reference]) -> Net:
    """Put new modules into ``net``, in place, and log it; what was shared stays so."""
    for module, names in _names_of_all(net, places).items():
        if module in replacements:
            logger.info("%s: %s -> %s", ", ".join(names), type(module).__name__, replacements[module])
    for place in places:
        if place.module in replacements and place.put is not None:
            place.put(replacements[place.module])
    return cast(Net, replacements.get(net, net))


def _warn_of_what_is_missed(names: dict[nn.Module, list[str]], places: list[Reference]) -> None:
    """Warn of neurons that cannot be replaced, or that PyTorch does not see, and of a net without any."""
    neurons = [place for place in places if isinstance(place.module, snn.SpikingNeuron)]
    seen = {place.module for place in neurons if place.registered}
    for place in neurons:
        if place.put is None and not isinstance(place.module, AdaptiveNeuron):
            _warn(
                f"{place.name}: this {type(place.module).__name__} cannot be replaced here and stays "
                "snnTorch's; make it an attribute of the network and refer to that"
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


def _channels(net: nn.Module, neurons: list[nn.Module], sample: Any) -> dict[nn.Module, tuple[int, ...]]:
    """Shape of a parameter with one value per channel, for each neuron, read off its input."""
    if sample is None:
        raise ValueError(
            "sample must be an input of the network for feature_shape='channel', which finds the channels "
            "of each neuron by running the network on it once"
        )
    found = {}
    for neuron, shapes in input_shapes(net, neurons, sample).items():
        channels = {(*shape[:1], *(1 for _ in shape[1:])) for shape in shapes}
        if len(channels) > 1:
            raise ValueError(
                f"feature_shape='channel' does not suit {names_of(net)[neuron]}, one neuron for inputs of "
                f"different channels {sorted(channels)}; use 'layer'"
            )
        found[neuron] = channels.pop()
    return found
