r"""Export a network to the Neuromorphic Intermediate Representation (NIR).

NIR has one time constant per neuron. So a network is exported as it is at one time step, or at all steps if
its neurons do not change with time. This needs the packages ``nir`` and ``nirtorch``.

NIR's leaky neuron is :math:`\tau \dot v = (v_\mathrm{leak} - v) + r\, i`. With steps of length ``dt``, a
simulator computes

.. math:: v[t] = \beta\, v[t-1] + r\, (1 - \beta)\, i[t]

So a leak corresponds to a time constant, and an input gain to :math:`r = g / (1 - \beta)`. Not every
simulator reads r, so :func:`export` multiplies it into the weights before the neuron, and r becomes 1.

Source: Pedersen et al., Neuromorphic Intermediate Representation, Nature Communications 2024.
"""

from __future__ import annotations

import math
import warnings
from functools import partial
from typing import Any, Literal

import numpy as np
import snntorch as snn
import torch
from torch import Tensor, nn

from snntorch_asnn._arguments import check_choice, check_number, check_step
from snntorch_asnn._extras import require
from snntorch_asnn.neurons._reset import reset
from snntorch_asnn.neurons.adaptive import AdaptiveNeuron
from snntorch_asnn.neurons.convert import TWINS, constrained, snntorch_neuron
from snntorch_asnn.neurons.lapicque import AdaptiveLapicque
from snntorch_asnn.neurons.leaky import AdaptiveLeaky
from snntorch_asnn.neurons.replacing import replace
from snntorch_asnn.neurons.rleaky import AdaptiveRLeaky
from snntorch_asnn.neurons.traversal import check_net, copy_net, input_shapes, names_of

__all__ = ["export"]


Consumer = Literal["nir", "snntorch", "sinabs"]
_DT = 1e-4  # snnTorch's length of a time step.


def export(
    net: nn.Module,
    sample: Tensor,
    *,
    step: int | None = None,
    ignore_reset: bool = False,
    dt: float | None = None,
    consumer: Consumer = "nir",
) -> Any:
    r"""Export a network to NIR as it is at one time step.

    Adaptive neurons become snnTorch neurons, and ``snntorch.export_nir.export_to_nir`` turns them into a
    graph. Input gains are multiplied into the weights before a neuron. The network itself does not change and
    needs no reset. NIR's neurons reset to zero at the spike, and snnTorch exports every reset as this one.
    Leaks are stored in double precision.

    To give the same spikes, simulators need these settings:

    ============ =====================================================================================
    norse        ``norse.torch.from_nir(graph, dt=dt)`` with the ``dt`` of the export, 1e-4
    snnTorch     ``consumer="snntorch"``; then ``snntorch.import_nir.import_from_nir(graph).float()`` has the
                 leaks and thresholds that went in, and ``reset_mechanism="zero", reset_delay=False``
    sinabs       ``consumer="sinabs"``; after ``sinabs.nir.from_nir``, in every spiking layer
                 ``layer.spike_fn = SingleSpike`` and ``layer.reset_fn = MembraneReset()`` of
                 ``sinabs.activation``, since sinabs does not read the reset
    ============ =====================================================================================

    Args:
        net: Network whose neurons hide their state and take one step at a time.
        sample: Input of one step ``[B, ...]``. The network runs on it once to find the graph.
        step: Time step to export. None is for networks whose neurons do not change with time.
        ignore_reset: Whether to export neurons with another reset too, as if they reset to zero at the spike.
        dt: Length of a time step, in the unit of the time constants; None means 1e-4. It is for
            ``consumer="nir"`` only, since the other consumers have their own unit.
        consumer: Simulator that runs the graph. ``"nir"`` is any simulator that integrates NIR's equation; r
            and the input weight of a synaptic current are 1, so it need not read them. ``"snntorch"`` adds
            its input without a factor, so :math:`r = \tau / dt`. ``"sinabs"`` measures time constants in
            steps and decays by :math:`e^{-1/\tau}` per step. If no linear or convolution layer of its own
            precedes a neuron, or the gain differs between pixels, r keeps the value of NIR's equation, with a
            warning.

    Returns:
        The ``nir.NIRGraph``, which ``nir.write`` writes to a file.

    Raises:
        ModuleNotFoundError: ``nir`` or ``nirtorch`` is not installed; the extra ``nir`` brings both.
        TypeError: ``net`` is not a module, ``step`` is not an integer, or ``dt`` is not a number.
        ValueError: ``consumer`` is unknown, ``dt`` is not positive or does not fit ``consumer``, or NIR
            cannot represent a neuron. The message then names the neuron and the reason: it changes with time
            and ``step`` is None, ``step`` is not below its ``num_steps``, a leak is not in [0, 1), its reset
            differs from NIR's, it takes whole sequences, or its class is derived from one of ours.

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
    check_choice("consumer", consumer, Consumer)
    dt = _checked_dt(dt, consumer)
    require("nir", extra="nir")
    export_to_nir = require("snntorch.export_nir", extra="nir").export_to_nir
    for name, module in net.named_modules():
        if reason := _why_not(module, step, ignore_reset):
            raise ValueError(
                f"NIR cannot represent the {type(module).__name__} at {name or 'net'!r}: {reason}"
            )
    frozen, gains = _frozen(net, sample, step or 0)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "nirtorch.extract_nir_graph is being deprecated", DeprecationWarning
        )
        graph = export_to_nir(frozen, sample, ignore_dims=[0])
    for name, gain in gains.items():
        node = graph.nodes[name or next(key for key in graph.nodes if key not in ("input", "output"))]
        # snnTorch sets the factor of the input, r·dt/tau or w_in·dt/tau_syn, to 1; here it is the gain.
        factor = "w_in" if hasattr(node, "w_in") else "r"
        setattr(node, factor, getattr(node, factor) * gain)
    for name, node in graph.nodes.items():
        if hasattr(node, "v_threshold") and hasattr(node, "v_leak"):
            _fold(graph, name, consumer)
            _set_time(node, name, dt, consumer)
    if consumer == "sinabs":
        _give_biases(graph)
    return graph


def _give_biases(graph: Any) -> None:
    """Turn linear nodes into affine ones, because sinabs silently skips linear nodes."""
    nir = require("nir", extra="nir")
    for name, node in graph.nodes.items():
        if type(node) is nir.Linear:
            graph.nodes[name] = nir.Affine(node.weight, np.zeros(len(node.weight)))


def _checked_dt(dt: float | None, consumer: Consumer) -> float:
    if dt is None:
        return _DT
    check_number("dt", dt)
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"dt must be positive; got {dt}")
    if consumer != "nir":
        raise ValueError(
            f"dt must be None for consumer={consumer!r}, which has its own unit of time; got {dt}"
        )
    return float(dt)


def _fold(graph: Any, name: str, consumer: Consumer) -> None:
    """Move the factor of a neuron's input into the weights before it, as the consumer needs."""
    node = graph.nodes[name]
    is_current = hasattr(node, "w_in")
    kept = {"r": node.tau_mem / _DT, "w_in": node.tau_syn / _DT} if is_current else {"r": node.tau / _DT}
    if consumer == "nir":
        kept = {key: np.ones_like(value) for key, value in kept.items()}
    factor = np.ones_like(node.v_threshold)
    for key, value in kept.items():
        factor = factor * getattr(node, key) / value
    if np.allclose(factor, 1, rtol=1e-12):
        return
    sources = [source for source, target in graph.edges if target == name]
    weights = [_weights_with(graph, source, name, factor) for source in sources]
    if not weights or any(found is None for found in weights):
        message = f"neuron {name!r} keeps its r, because no weights of its own directly precede it"
        if consumer == "sinabs":
            raise ValueError(f"{message}, but sinabs does not read r")
        warnings.warn(f"{message}; not every simulator reads r", UserWarning, stacklevel=3)
        return
    for source, scaled in zip(sources, weights, strict=True):
        for key, value in (scaled or {}).items():
            setattr(graph.nodes[source], key, value)
    for key, value in kept.items():
        setattr(node, key, value)


def _weights_with(graph: Any, source: str, target: str, factor: np.ndarray) -> dict[str, np.ndarray] | None:
    """Return a node's weights times one factor per output; None without weights or if others use them."""
    node = graph.nodes[source]
    if not hasattr(node, "weight") or [end for start, end in graph.edges if start == source] != [target]:
        return None
    weight = np.asarray(node.weight, dtype=np.float64)
    by_output = factor.reshape(len(factor), -1)
    if len(factor) != len(weight) or not np.all(by_output == by_output[:, :1]):
        return None
    rows = by_output[:, 0]
    scaled = {"weight": weight * rows.reshape(-1, *(1,) * (weight.ndim - 1))}
    if getattr(node, "bias", None) is not None:
        scaled["bias"] = np.asarray(node.bias, dtype=np.float64) * rows
    return scaled


def _set_time(node: Any, name: str, dt: float, consumer: Consumer) -> None:
    """Convert time constants to the consumer's unit; snnTorch exports them for steps of 1e-4."""
    is_current = hasattr(node, "tau_syn")
    if consumer != "sinabs":
        for key in ("tau_syn", "tau_mem") if is_current else ("tau",):
            setattr(node, key, getattr(node, key) * (dt / _DT))
        return
    if is_current:
        raise ValueError(f"neuron {name!r} has a synaptic current, which sinabs does not support")
    leak = 1 - _DT / node.tau
    with np.errstate(divide="ignore"):
        node.tau = (-1 / np.log(leak)).astype(np.float32)
    node.v_threshold = node.v_threshold.astype(np.float32)


def _why_not(module: nn.Module, step: int | None, ignore_reset: bool) -> str | None:
    """Return the reason why a module cannot be exported; None if there is none or snnTorch decides."""
    if isinstance(module, AdaptiveNeuron):
        return _why_not_adaptive(module, step, ignore_reset)
    if isinstance(module, (snn.Leaky, snn.Synaptic, snn.RLeaky, snn.RSynaptic)):
        return _why_no_tau(
            {name: getattr(module, name) for name in ("alpha", "beta") if hasattr(module, name)}
        )
    return None


def _why_not_adaptive(neuron: AdaptiveNeuron, step: int | None, ignore_reset: bool) -> str | None:
    if isinstance(neuron, AdaptiveLapicque):
        return "snnTorch does not export Lapicque neurons"
    if type(neuron) not in TWINS.values():
        return "only this package's own classes have a counterpart in snnTorch, and derived classes do not"
    if neuron.sequence or not neuron.init_hidden:
        return "it must hide its state (init_hidden=True) and take one step at a time"
    if step is not None and step >= neuron.num_steps:
        return f"step={step} must be below its num_steps={neuron.num_steps}"
    for name in neuron.time_parameters:
        value = constrained(neuron, name)
        if step is None and value.ndim > 0 and not bool((value == value[:1]).all()):
            return f"its {name} changes with time; pass step="
    if reason := _why_no_tau({name: _at(neuron, name, step or 0) for name in neuron.leaks}):
        return reason
    if not bool((_at(neuron, "graded_spikes_factor", step or 0) == 1).all()):
        return "its graded_spikes_factor must be 1"
    if isinstance(neuron, AdaptiveRLeaky) and not bool((_at(neuron, "gain", step or 0) == 1).all()):
        return "its gain must be 1, because NIR would also apply it to the feedback"
    if not (ignore_reset or _resets_to_zero_at_the_spike(neuron)):
        return "it does not reset to zero at the spike; pass ignore_reset=True to export it as if it did"
    return None


def _why_no_tau(leaks: dict[str, Tensor]) -> str | None:
    """Return the reason why leaks have no time constant; None if they have one."""
    for name, leak in leaks.items():
        if not bool(((leak >= 0) & (leak < 1)).all()):
            found = f"{float(leak.min())} to {float(leak.max())}"
            return f"its {name} must be in [0, 1) to give a time constant dt / (1 - {name}); got {found}"
    return None


def _resets_to_zero_at_the_spike(neuron: AdaptiveNeuron) -> bool:
    # A Leaky with a delayed reset also loses its membrane before the next input.
    return neuron.reset_mechanism == "zero" and (isinstance(neuron, AdaptiveLeaky) or not neuron.reset_delay)


def _at(neuron: AdaptiveNeuron, name: str, step: int) -> Tensor:
    value = constrained(neuron, name)
    return value if value.ndim == 0 else value[step]


def _frozen(net: nn.Module, sample: Tensor, step: int) -> tuple[nn.Module, dict[str, Any]]:
    """Return a copy of ``net`` with snnTorch neurons for ``step``, and their gains other than 1."""
    net = copy_net(net)
    reset(net)
    names = names_of(net)
    neurons = [module for module in names if isinstance(module, AdaptiveNeuron)]
    replacements: dict[nn.Module, nn.Module] = {}
    gains = {}
    for neuron, shapes in input_shapes(net, neurons, sample).items():
        assert isinstance(neuron, AdaptiveNeuron)
        twin = replacements[neuron] = snntorch_neuron(neuron, step)
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
