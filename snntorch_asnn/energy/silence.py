"""Layers that never fire, told to the user: nothing behind them sees the images, and nothing learns."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

__all__ = ["SilentLayersWarning", "describe_silence", "silent_layers", "warn_of_silence"]

_MOST_NAMES = 6


class SilentLayersWarning(UserWarning):
    """Some layers of neurons have fired at no step."""


def silent_layers(firing_rates: Mapping[str, Sequence[float]]) -> tuple[str, ...]:
    """Return the names of the layers that have fired at no step.

    Args:
        firing_rates: Spikes per neuron at each step, for every layer, as
            :meth:`~snntorch_asnn.energy.FiringRates.per_layer` and
            :attr:`EnergyReport.firing_rates <snntorch_asnn.energy.EnergyReport.firing_rates>` hold them. A
            layer whose rates are not known, NaN, is not counted.

    Example::

        >>> silent_layers({"conv": [0.2, 0.1], "fc": [0.0, 0.0]})
        ('fc',)
    """
    return tuple(name for name, rates in firing_rates.items() if rates and all(rate == 0 for rate in rates))


def describe_silence(firing_rates: Mapping[str, Sequence[float]], images: str = "images") -> str | None:
    """Return one sentence on the layers that never fire and one on what to do, None if all fire.

    Args:
        firing_rates: As for :func:`silent_layers`.
        images: What the network has seen, such as ``"validation images"``.

    Example::

        >>> print(describe_silence({"conv": [0.2, 0.1], "fc": [0.0, 0.0]}))
        1 of 2 layers of neurons fired at no step of the images: fc. ...
    """
    silent = silent_layers(firing_rates)
    if not silent:
        return None
    names = ", ".join(name or "the network" for name in silent[:_MOST_NAMES])
    more = f" and {len(silent) - _MOST_NAMES} more" if len(silent) > _MOST_NAMES else ""
    return (
        f"{len(silent)} of {len(firing_rates)} layers of neurons fired at no step of the {images}:"
        f" {names}{more}. What follows them gets no input. Norms whose running averages have seen few"
        " batches, a threshold that is too high for the currents, or a learning rate that is too high can be"
        " the cause"
    )


def warn_of_silence(
    firing_rates: Mapping[str, Sequence[float]], images: str = "images", *, stacklevel: int = 2
) -> tuple[str, ...]:
    """Warn of the layers that never fire, by name, and return these names.

    Args:
        firing_rates: As for :func:`silent_layers`.
        images: As for :func:`describe_silence`.
        stacklevel: As for :func:`warnings.warn`, counted from the caller of this function.

    Warns:
        SilentLayersWarning: Some layer has fired at no step.
    """
    message = describe_silence(firing_rates, images)
    if message is not None:
        warnings.warn(message, SilentLayersWarning, stacklevel=stacklevel + 1)
    return silent_layers(firing_rates)
