"""Exporting a network to the Neuromorphic Intermediate Representation (NIR).

NIR knows one time constant per neuron, so a network is exported as it is at one time step, or as it is at
all steps if its neurons do not change. Needs the packages ``nir`` and ``nirtorch``.

Source: Pedersen et al., Neuromorphic Intermediate Representation, Nature Communications 2024.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import snntorch as snn
import torch
from torch import Tensor, nn

from snntorch_asnn._arguments import check_step
from snntorch_asnn._extras import require
from snntorch_asnn.neurons.adaptive import AdaptiveNeuron
from snntorch_asnn.neurons.convert import TWINS, constrained, freeze_neuron
from snntorch_asnn.neurons.lapicque import AdaptiveLapicque
from snntorch_asnn.neurons.leaky import AdaptiveLeaky
from snntorch_asnn.neurons.network import check_net, copy_net, input_shapes, names_of, replace
from snntorch_asnn.neurons.rleaky import AdaptiveRLeaky

__all__ = ["export"]


def export(net: nn.Module, sample: Tensor, *, step: int | None = None, ignore_reset: bool = False) -> Any:
    """Export a network to NIR as it is at one time step.

    The adaptive neurons become snnTorch's, a constant gain becomes NIR's resistance, and
    ``snntorch.export_nir.export_to_nir`` does the rest. The network itself is not changed. Leaks go
    through NIR in double precision, so that ``snntorch.import_nir.import_from_nir(graph)`` followed by
    ``.float()`` gives back the leaks and thresholds that went in.

    NIR's neurons reset to zero at their spike. snnTorch exports every reset as that one, and reads every
    neuron back with ``reset_mechanism="zero", reset_delay=False``.

    Args:
        net: the network; its neurons hide their state and take one step at a time.
        sample: an input of one step ``[B, ...]``, on which the network is run once to find its graph.
        step: the time step to export. None for networks whose neurons do not change with time.
        ignore_reset: export neurons that do not reset to zero at their spike, too, as snnTorch does.

    Returns:
        The ``nir.NIRGraph``, to be written with ``nir.write``.

    Raises:
        ModuleNotFoundError: if ``nir`` or ``nirtorch`` is not installed; the extra ``nir`` brings both.
        TypeError: if ``net`` is not a module or ``step`` is not an integer.
        ValueError: if a neuron cannot be expressed: it changes with time and ``step`` is None, ``step`` is
            past its ``num_steps``, a leak is not in [0, 1), its reset is not NIR's, it takes whole sequences,
            or its class is derived from one of ours. The message names it.

    Example::

        >>> import pytest; _ = pytest.importorskip("nirtorch")
        >>> import snntorch_asnn as asnn
        >>> lif = asnn.AdaptiveLeaky(
        ...     0.9, init_hidden=True, num_steps=4, reset_mechanism="zero", reset_delay=False
        ... )
        >>> net = nn.Sequential(nn.Linear(3, 2), lif)
        >>> sorted(export(net, torch.rand(1, 3)).nodes)
        ['0', '1', 'input', 'output']
    """
    check_net(net)
    if step is not None:
        step = check_step(step)
    require("nir", extra="nir")
    export_to_nir = require("snntorch.export_nir", extra="nir").export_to_nir
    for name, module in net.named_modules():
        if reason := _why_not(module, step, ignore_reset):
            raise ValueError(f"{name or 'net'}: this {type(module).__name__} is not one of NIR's: {reason}")
    frozen, gains = _frozen(net, sample, step or 0)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "nirtorch.extract_nir_graph is being deprecated", DeprecationWarning
        )
        graph = export_to_nir(frozen, sample, ignore_dims=[0])
    for name, gain in gains.items():
        node = graph.nodes[name or next(key for key in graph.nodes if key not in ("input", "output"))]
        # snnTorch makes the input's share of a step, r·dt/tau or w_in·dt/tau_syn, 1: here it is the gain.
        share = "w_in" if hasattr(node, "w_in") else "r"
        setattr(node, share, getattr(node, share) * gain)
    return graph


def _why_not(module: nn.Module, step: int | None, ignore_reset: bool) -> str | None:
    """What keeps a module from being exported; None if nothing does, or if snnTorch is to judge."""
    if isinstance(module, AdaptiveNeuron):
        return _why_not_adaptive(module, step, ignore_reset)
    if isinstance(module, (snn.Leaky, snn.Synaptic, snn.RLeaky, snn.RSynaptic)):
        return _why_no_tau(
            {name: getattr(module, name) for name in ("alpha", "beta") if hasattr(module, name)}
        )
    return None


def _why_not_adaptive(neuron: AdaptiveNeuron, step: int | None, ignore_reset: bool) -> str | None:
    if isinstance(neuron, AdaptiveLapicque):
        return "snnTorch exports no Lapicque"
    if type(neuron) not in TWINS.values():
        return "snnTorch has counterparts of this package's own classes only, not of those derived from them"
    if neuron.sequence or not neuron.init_hidden:
        return "it must hide its state (init_hidden=True) and take one step at a time"
    if step is not None and step >= neuron.num_steps:
        return f"step={step} is past its num_steps={neuron.num_steps}"
    for name in neuron.time_parameters:
        value = constrained(neuron, name)
        if step is None and value.ndim > 0 and not bool((value == value[:1]).all()):
            return f"its {name} changes with time; pass step="
    if reason := _why_no_tau({name: _at(neuron, name, step or 0) for name in neuron.leaks}):
        return reason
    if not bool((_at(neuron, "graded_spikes_factor", step or 0) == 1).all()):
        return "its graded_spikes_factor is not 1"
    if isinstance(neuron, AdaptiveRLeaky) and not bool((_at(neuron, "gain", step or 0) == 1).all()):
        return "its gain is not 1, and NIR would apply it to the feedback too"
    if not (ignore_reset or _resets_to_zero_at_the_spike(neuron)):
        return "it does not reset to zero at the spike; pass ignore_reset=True to export it as if it did"
    return None


def _why_no_tau(leaks: dict[str, Tensor]) -> str | None:
    """What keeps leaks from having the time constants that snnTorch exports; None if nothing does."""
    for name, leak in leaks.items():
        if not bool(((leak >= 0) & (leak < 1)).all()):
            found = f"{float(leak.min())} to {float(leak.max())}"
            return f"its {name} must be in [0, 1) to give a time constant dt / (1 - {name}); got {found}"
    return None


def _resets_to_zero_at_the_spike(neuron: AdaptiveNeuron) -> bool:
    # A Leaky that resets later has lost its membrane before the next input, all the same.
    return neuron.reset_mechanism == "zero" and (isinstance(neuron, AdaptiveLeaky) or not neuron.reset_delay)


def _at(neuron: AdaptiveNeuron, name: str, step: int) -> Tensor:
    value = constrained(neuron, name)
    return value if value.ndim == 0 else value[step]


def _frozen(net: nn.Module, sample: Tensor, step: int) -> tuple[nn.Module, dict[str, Any]]:
    """A copy of ``net`` with the neurons it has at ``step``, and those of their gains that are not 1."""
    net = copy_net(net)
    names = names_of(net)
    neurons = [module for module in names if isinstance(module, AdaptiveNeuron)]
    replacements: dict[nn.Module, nn.Module] = {}
    gains = {}
    for neuron, shapes in input_shapes(net, neurons, sample).items():
        assert isinstance(neuron, AdaptiveNeuron)
        twin = replacements[neuron] = freeze_neuron(neuron, step)
        shape = max(shapes)
        for name in (*neuron.leaks, "threshold"):
            delattr(twin, name)
            twin.register_buffer(name, _at(neuron, name, step).double().expand(shape).clone())
        setattr(twin, "spike_grad", partial(_spike, dtype=sample.dtype))  # noqa: B010
        gain = _at(neuron, "gain", step).double().expand(shape)
        if not bool((gain == 1).all()):
            gains.update(dict.fromkeys(names[neuron], gain.numpy()))
    return replace(net, replacements), gains


def _spike(above: Tensor, dtype: torch.dtype) -> Tensor:
    return (above > 0).to(dtype)
