"""Warn of layers that never fire: layers after them do not see the images and do not learn."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

__all__ = ["SilentLayersWarning", "describe_silence", "silent_layers", "warn_of_silence"]

_MOST_NAMES = 6


class SilentLayersWarning(UserWarning):
    """Some layers of neurons never fired."""


def silent_layers(firing_rates: Mapping[str, Sequence[float]]) -> tuple[str, ...]:
    """Return the names of the layers that never fired.

    Args:
        firing_rates: Spikes per neuron at each step, for every layer, as in
            :meth:`~snntorch_asnn.energy.FiringRates.per_layer` and
            :attr:`EnergyReport.firing_rates <snntorch_asnn.energy.EnergyReport.firing_rates>`. Layers with
            unknown rates (NaN) are skipped.

    Example::

        >>> silent_layers({"conv": [0.2, 0.1], "fc": [0.0, 0.0]})
        ('fc',)
    """
    return tuple(name for name, rates in firing_rates.items() if rates and all(rate == 0 for rate in rates))


def describe_silence(firing_rates: Mapping[str, Sequence[float]], images: str = "images") -> str | None:
    """Return a warning that names the silent layers and possible causes; None if all layers fire.

    Args:
        firing_rates: See :func:`silent_layers`.
        images: Name of the images in the warning, such as ``"validation images"``.

    Example::

        >>> print(describe_silence({"conv": [0.2, 0.1], "fc": [0.0, 0.0]}))
        1 of 2 layers of neurons never fired on the images: fc. ...
    """
    silent = silent_layers(firing_rates)
    if not silent:
        return None
    names = ", ".join(name or "the network" for name in silent[:_MOST_NAMES])
    more = f" and {len(silent) - _MOST_NAMES} more" if len(silent) > _MOST_NAMES else ""
    return (
        f"{len(silent)} of {len(firing_rates)} layers of neurons never fired on the {images}:"
        f" {names}{more}. Layers after them get no input. Possible causes: a threshold that is too high for"
        " the currents, a learning rate that is too high, or norms whose running averages have seen too few"
        " batches"
    )


def warn_of_silence(
    firing_rates: Mapping[str, Sequence[float]], images: str = "images", *, stacklevel: int = 2
) -> tuple[str, ...]:
    """Warn of layers that never fired, and return their names.

    Args:
        firing_rates: See :func:`silent_layers`.
        images: See :func:`describe_silence`.
        stacklevel: See :func:`warnings.warn`; counted from the caller of this function.

    Warns:
        SilentLayersWarning: A layer never fired.
    """
    message = describe_silence(firing_rates, images)
    if message is not None:
        warnings.warn(message, SilentLayersWarning, stacklevel=stacklevel + 1)
    return silent_layers(firing_rates)
