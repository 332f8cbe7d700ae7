"""Counting a network's operations, and pricing them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Literal

import torch
from torch import Tensor, nn

from snntorch_asnn._arguments import check_choice, check_count, check_shape
from snntorch_asnn._torch import uncompiled
from snntorch_asnn.energy.call_steps import layer_calls
from snntorch_asnn.energy.firing import record_firing_rates
from snntorch_asnn.energy.macs import Attention, LayerMacs, MacCount, macs_by_step
from snntorch_asnn.energy.operations import Nonbinary, OpEnergy, StepOperations, op_energy
from snntorch_asnn.energy.recorder import Call, record_calls
from snntorch_asnn.energy.report import EnergyReport
from snntorch_asnn.energy.silence import warn_of_silence
from snntorch_asnn.energy.totals import LayerTotals, price
from snntorch_asnn.layers import SpikingSelfAttention
from snntorch_asnn.models.base import SpikingModel
from snntorch_asnn.neurons._reset import reset
from snntorch_asnn.neurons.traversal import check_net, copy_net

__all__ = ["count_macs", "estimate", "profile"]

Run = Callable[[nn.Module, Tensor], object]
"""Runs a whole sequence through a network."""


def profile(
    model: nn.Module,
    batch: Tensor | Iterable[Tensor],
    *,
    num_steps: int | None = None,
    batch_dim: Literal[0, 1] | None = None,
    run: Run | None = None,
    preset: str | OpEnergy | tuple[float, float] = "45nm-fp32",
    nonbinary: Nonbinary = "mac",
    attention: Attention = "as_run",
) -> EnergyReport:
    r"""Run a network on images, and count and price what it computes.

    For every convolution, linear layer and matrix product :math:`l` and every step :math:`t`, of what went
    into it then:

    .. math::

        E = \sum_{l, t} M_l \cdot \begin{cases}
            r_l[t] \, e_\mathrm{AC} & \text{binary input, with firing rate } r_l[t] \\
            e_\mathrm{MAC} & \text{analog input}
        \end{cases}

    with :math:`M_l` the layer's multiply-accumulates in one step. Input is binary where all its values at
    that step are 0 or one constant, of either sign: the constant goes into the weights. So direct coding pays
    for its first layer with multiplications at every step, a hybrid code at its analog steps alone. Integers,
    which sums of spikes are, are billed as ``nonbinary`` says. A product of activations, as in spiking
    attention, only adds where one of them is binary, at the lower of their rates. Neurons, norms, pooling,
    biases and what else works on single values are left out, as is the field's custom.

    A copy of the network is run, in evaluation mode and from the start of a sequence; the network itself
    stays as it is.

    Args:
        model: The network: one of :mod:`snntorch_asnn.models` or any other, with time first in its tensors,
            or folded into the batch, or in a loop over its layers.
        batch: What the model takes, or an iterable of such batches.
        num_steps: Number of steps T; None for the model's own ``num_steps``, or as many as its neurons take.
        batch_dim: Where the images of ``batch`` are counted: 1 for sequences ``[T, B, ...]``, 0 otherwise.
            None knows it for a model of the zoo, and means 0 for others.
        run: Runs a whole sequence, as ``run(model, batch)``, where the loop over time is outside of the
            model; None for ``model(batch)``.
        preset: A key of :data:`~snntorch_asnn.energy.PRESETS`, or the picojoules of a MAC and of an AC.
        nonbinary: Integers above 1 as ``"mac"``, like analog input, or as ``"multi_ac"``, an integer ``n`` as
            ``n`` accumulates.
        attention: Order of the products of :class:`~snntorch_asnn.layers.SpikingSelfAttention`:
            ``"as_run"``, ``"qk_first"`` for :math:`(Q K^\top) V` or ``"kv_first"`` for
            :math:`Q (K^\top V)`.

    Returns:
        Operations, firing rates and energy by layer and step, each for one image.

    Raises:
        TypeError: ``model`` is not a module, or ``batch`` holds no tensors.
        ValueError: Another argument's value does not fit, ``batch`` is empty, or the number of steps is not
            known.

    Warns:
        SilentLayersWarning: Some layers of neurons fire at no step: the energy is that of a dead network.

    Source: the formula and its conventions: Zhou et al., Spikformer, ICLR 2023; energies of operations: see
    :data:`~snntorch_asnn.energy.PRESETS`.

    Example::

        >>> import torch
        >>> import snntorch_asnn as asnn
        >>> model = asnn.models.create_model("lenet", num_classes=10, num_steps=4, encoding="hybrid")
        >>> report = profile(model, torch.rand(8, 3, 32, 32))
        >>> stem = report.layers[:2]
        >>> [(layer.name, layer.inputs) for layer in stem]
        [('conv1.conv_norm.direct.conv', ('analog', 'none', 'none', 'none')),
         ('conv1.conv_norm.spike.conv', ('none', 'binary', 'binary', 'binary'))]
        >>> stem[0].macs, stem[0].pj[0] == 4.6 * 884736
        ((884736.0, 0.0, 0.0, 0.0), True)
    """
    costs = op_energy(preset)
    check_choice("nonbinary", nonbinary, Nonbinary)
    net = _twin(model, attention)
    dim = _batch_dim(net, batch_dim)
    first, batches = _peek(batch)
    steps = _num_steps(net, first, num_steps, run)
    totals: dict[str, LayerTotals] = {}
    images = 0
    with record_firing_rates(net, steps) as rates:
        for x in batches:
            size = _batch_size(x, dim)
            calls = _record(net, x, run)
            for layer in layer_calls(calls, steps, size):
                totals.setdefault(layer.name, LayerTotals(layer, steps, size)).add(layer, size, nonbinary)
            images += size
    firing_rates = rates.per_layer()
    warn_of_silence(firing_rates)
    return EnergyReport(
        layers=tuple(account.close(costs) for account in totals.values()),
        num_steps=steps,
        preset=preset if isinstance(preset, str) else "own",
        op_energy=costs,
        nonbinary=nonbinary,
        attention=attention,
        images=images,
        firing_rates=firing_rates,
    )


def count_macs(
    model: nn.Module,
    input_shape: Sequence[int] | None = None,
    *,
    num_steps: int | None = None,
    batch_dim: Literal[0, 1] | None = None,
    run: Run | None = None,
    attention: Attention = "as_run",
) -> MacCount:
    """Count the multiply-accumulates of every layer and step, from shapes alone.

    A copy of the network runs on the meta device, which computes nothing: networks of any size are counted
    in no time, but no firing rates are known. What is counted is what :func:`profile` counts.

    Args:
        model: The network, as for :func:`profile`; it may stand on the meta device itself.
        input_shape: Shape of one image, or with ``batch_dim=1`` of one step of it, without the batch. None
            for what a model of the zoo was built for.
        num_steps: As for :func:`profile`.
        batch_dim: As for :func:`profile`.
        run: As for :func:`profile`.
        attention: As for :func:`profile`.

    Returns:
        Multiply-accumulates by layer and step, for one image.

    Raises:
        TypeError: ``model`` is not a module, or ``input_shape`` holds no integers.
        ValueError: Another argument's value does not fit, or the number of steps is not known.

    Example::

        >>> import snntorch_asnn as asnn
        >>> model = asnn.models.create_model("spikformer_4_384", num_classes=10, num_steps=4)
        >>> count_macs(model).per_step
        (927747840, 927747840, 927747840, 927747840)
        >>> count_macs(model, attention="qk_first").per_step[0]  # as in the published code
        934039296
    """
    net = _twin(model, attention).to("meta")
    dim = _batch_dim(net, batch_dim)
    if input_shape is None:
        if not isinstance(net, SpikingModel):
            raise ValueError("input_shape must be given for a model that is not of the zoo; got None")
        input_shape = (net.in_channels, *net.image_size)
    input_shape = check_shape("input_shape", input_shape)
    batch = 3  # a number that few other sizes have
    shape = (batch, *input_shape)
    if dim == 1:
        known = _own_steps(net, num_steps)
        if known is None:
            raise ValueError("num_steps must be given with batch_dim=1; got None")
        shape = (known, *shape)
    x = torch.empty(shape, device="meta")
    steps = _num_steps(net, x, num_steps, run)
    called = layer_calls(_record(net, x, run), steps, batch)
    layers = tuple(LayerMacs(layer.name, layer.kind, macs_by_step(layer, steps, batch)) for layer in called)
    return MacCount(layers, steps, attention)


def estimate(
    macs: MacCount,
    firing_rates: Mapping[str, float | Sequence[float | None] | None],
    *,
    preset: str | OpEnergy | tuple[float, float] = "45nm-fp32",
) -> EnergyReport:
    """Price a network from firing rates that were measured elsewhere, or published.

    Args:
        macs: What :func:`count_macs` gives.
        firing_rates: For every layer of ``macs`` the firing rate of its input, for all steps or one for each;
            None where the input is analog. A product of activations has the lower rate of the two.
        preset: As for :func:`profile`.

    Returns:
        Operations and energy by layer and step, each for one image.

    Raises:
        ValueError: A layer is missing or unknown, or a rate is negative, not finite, or not one for each
            step.

    Example::

        >>> macs = MacCount((LayerMacs("conv", "conv2d", (1000, 1000)),), num_steps=2)
        >>> report = estimate(macs, {"conv": [None, 0.25]})
        >>> report.macs, report.acs, round(report.mj * 1e9)
        (1000, 250.0, 4825)
    """
    costs = op_energy(preset)
    names = [layer.name for layer in macs.layers]
    if missing := [name for name in names if name not in firing_rates]:
        raise ValueError(
            f"firing_rates must name every layer of macs, None where it is analog; got no {missing[0]!r}"
        )
    if unknown := [name for name in firing_rates if name not in names]:
        raise ValueError(f"firing_rates must name layers of macs only; got {unknown[0]!r}")
    layers = []
    for layer in macs.layers:
        rates = _rates_by_step(layer.name, firing_rates[layer.name], macs.num_steps)
        operations = [
            StepOperations("none", None, 0, 0)
            if count == 0
            else StepOperations("analog", None, count, 0)
            if rate is None
            else StepOperations("binary", rate, 0, count * rate)
            for count, rate in zip(layer.macs, rates, strict=True)
        ]
        layers.append(price(layer, operations, costs))
    return EnergyReport(
        layers=tuple(layers),
        num_steps=macs.num_steps,
        preset=preset if isinstance(preset, str) else "own",
        op_energy=costs,
        nonbinary=None,
        attention=macs.attention,
    )


def _rates_by_step(
    name: str, rates: float | Sequence[float | None] | None, num_steps: int
) -> Sequence[float | None]:
    by_step = [rates] * num_steps if rates is None or isinstance(rates, int | float) else list(rates)
    if len(by_step) != num_steps:
        raise ValueError(f"firing_rates[{name!r}] must have {num_steps} steps; got {len(by_step)}")
    for rate in by_step:
        if rate is not None and not 0 <= rate < math.inf:
            raise ValueError(f"firing_rates[{name!r}] must be finite and not negative; got {rate}")
    return by_step


def _twin(model: nn.Module, attention: Attention) -> nn.Module:
    """A copy to be run, in evaluation mode."""
    check_choice("attention", attention, Attention)
    model = uncompiled(model)
    check_net(model)
    net = copy_net(model).eval()
    if attention != "as_run":
        for module in net.modules():
            if isinstance(module, SpikingSelfAttention):
                module.order = attention
    return net


def _batch_dim(net: nn.Module, batch_dim: int | None) -> int:
    if batch_dim is None:
        return int(isinstance(net, SpikingModel) and net.encode.encoder is None)
    if batch_dim not in (0, 1):
        raise ValueError(f"batch_dim must be 0 or 1; got {batch_dim!r}")
    return batch_dim


def _batch_size(x: Tensor, dim: int) -> int:
    """Number of images, in a batch that can be profiled."""
    if not isinstance(x, Tensor):
        raise TypeError(f"batch must be a tensor or an iterable of tensors; got one of {type(x).__name__}")
    if x.is_meta:
        raise ValueError(
            "batch must hold values to know firing rates from; on the meta device use count_macs"
        )
    if x.ndim <= dim or x.numel() == 0:
        raise ValueError(f"batch must hold images; got shape {tuple(x.shape)}")
    return x.shape[dim]


def _peek(batch: Tensor | Iterable[Tensor]) -> tuple[Tensor, Iterable[Tensor]]:
    """The first batch, and all of them."""
    if isinstance(batch, Tensor):
        return batch, [batch]
    if not isinstance(batch, Iterable):
        raise TypeError(f"batch must be a tensor or an iterable of tensors; got {type(batch).__name__}")
    batches = iter(batch)
    first = next(batches, None)
    if first is None:
        raise ValueError("batch must hold images; got an empty iterable")
    return first, chain([first], batches)


def _own_steps(net: nn.Module, num_steps: int | None) -> int | None:
    """The number of steps, if it was given or the network names it."""
    if num_steps is not None:
        num_steps = check_count("num_steps", num_steps)
    own = getattr(net, "num_steps", None)
    return num_steps if num_steps is not None or not isinstance(own, int) else own


def _num_steps(net: nn.Module, x: Tensor, num_steps: int | None, run: Run | None) -> int:
    """The number of steps; if nobody names it, as many as the neurons take."""
    known = _own_steps(net, num_steps)
    if known is not None:
        return known
    with record_firing_rates(net, 1) as rates:
        _record(net, x, run)
    taken = sorted(set(rates.steps_taken().values()))
    if len(taken) != 1:
        found = "there are no snnTorch neurons to count" if not taken else f"neurons took {taken} steps"
        raise ValueError(f"num_steps must be given; {found}")
    return taken[0]


def _record(net: nn.Module, x: Tensor, run: Run | None) -> list[Call]:
    """What ``net`` computes for one batch, from the start of a sequence."""
    reset(net)
    devices = [x.device] if x.is_cuda else []
    with torch.random.fork_rng(devices), record_calls(net) as calls:
        if run is None:
            net(x)
        else:
            run(net, x)
    return calls
