"""Count the operations of a network and compute their energy."""

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
"""Function that runs a whole sequence through a network."""


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
    r"""Run a network on images, count its operations, and compute their energy.

    The energy is a sum over every convolution, linear layer and matrix product :math:`l` and every step
    :math:`t`:

    .. math::

        E = \sum_{l, t} M_l \cdot \begin{cases}
            r_l[t] \, e_\mathrm{AC} & \text{binary input, with firing rate } r_l[t] \\
            e_\mathrm{MAC} & \text{analog input}
        \end{cases}

    Here :math:`M_l` is the number of multiply-accumulates of the layer in one step. Input is binary at a step
    if all its values are 0 or plus or minus one constant, which can be multiplied into the weights. So with
    direct coding, the first layer multiplies at every step; with a hybrid code, only at the analog steps.

    Integers, such as sums of spikes, are counted as ``nonbinary`` says. A product of activations, as in
    spiking attention, only adds if one of them is binary, at the lower of the two rates. Neurons, norms,
    pooling, biases and other elementwise operations are not counted, as is usual in the field.

    A copy of the network runs, in evaluation mode and from the start of a sequence. The network itself is not
    changed.

    Args:
        model: A network of :mod:`snntorch_asnn.models` or any other network. Time may come first in its
            tensors, be folded into the batch, or be a loop over its layers.
        batch: Input of the model, or an iterable of inputs.
        num_steps: Number of steps T. None takes the model's ``num_steps`` or, without it, the number of steps
            that its neurons run.
        batch_dim: Dimension of the images in ``batch``: 1 for sequences ``[T, B, ...]``, 0 otherwise. None
            takes the right one for a model of the zoo, and 0 for other models.
        run: Function that runs a whole sequence as ``run(model, batch)``, if the loop over time is outside of
            the model. None means ``model(batch)``.
        preset: A key of :data:`~snntorch_asnn.energy.PRESETS`, or the picojoules of a MAC and of an AC.
        nonbinary: How integers above 1 are counted: ``"mac"`` counts them like analog input, and
            ``"multi_ac"`` counts an integer ``n`` as ``n`` accumulates.
        attention: Order of the products of :class:`~snntorch_asnn.layers.SpikingSelfAttention`:
            ``"as_run"``, ``"qk_first"`` for :math:`(Q K^\top) V` or ``"kv_first"`` for
            :math:`Q (K^\top V)`.

    Returns:
        Operations, firing rates and energy by layer and step, each for one image.

    Raises:
        TypeError: ``model`` is not a module, or ``batch`` does not hold tensors.
        ValueError: Another argument's value does not fit, ``batch`` is empty, or the number of steps is not
            known.

    Warns:
        SilentLayersWarning: Some layers of neurons never fire, so the energy is too low.

    Source: Zhou et al., Spikformer, ICLR 2023, for the formula and its conventions. For the energies of
    operations, see :data:`~snntorch_asnn.energy.PRESETS`.

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
    net = _copy_to_run(model, attention)
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
    """Count the multiply-accumulates of every layer and step from shapes alone.

    A copy of the network runs on the meta device, which computes nothing. So networks of any size are counted
    at once, but firing rates are not known. The same operations count as in :func:`profile`.

    Args:
        model: The network, as in :func:`profile`. It may be on the meta device.
        input_shape: Shape of one image without the batch, or with ``batch_dim=1``, of one step of it. None
            takes the shape that a model of the zoo was built for.
        num_steps: See :func:`profile`.
        batch_dim: See :func:`profile`.
        run: See :func:`profile`.
        attention: See :func:`profile`.

    Returns:
        Multiply-accumulates by layer and step, for one image.

    Raises:
        TypeError: ``model`` is not a module, or ``input_shape`` does not hold integers.
        ValueError: Another argument's value does not fit, or the number of steps is not known.

    Example::

        >>> import snntorch_asnn as asnn
        >>> model = asnn.models.create_model("spikformer_4_384", num_classes=10, num_steps=4)
        >>> count_macs(model).per_step
        (927747840, 927747840, 927747840, 927747840)
        >>> count_macs(model, attention="qk_first").per_step[0]  # as in the published code
        934039296
    """
    net = _copy_to_run(model, attention).to("meta")
    dim = _batch_dim(net, batch_dim)
    if input_shape is None:
        if not isinstance(net, SpikingModel):
            raise ValueError("input_shape must be given for a model outside of the zoo; got None")
        input_shape = (net.in_channels, *net.image_size)
    input_shape = check_shape("input_shape", input_shape)
    batch = 3  # Few other sizes are 3, so the batch is easy to find.
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
    """Compute the energy of a network from firing rates that were measured elsewhere or published.

    Args:
        macs: Result of :func:`count_macs`.
        firing_rates: Firing rate of the input of every layer in ``macs``: one rate for all steps, or one for
            each step. None means analog input. For a product of activations, give the lower of the two rates.
        preset: See :func:`profile`.

    Returns:
        Operations and energy by layer and step, each for one image.

    Raises:
        ValueError: A layer is missing or unknown, a rate is negative or not finite, or the number of rates is
            not the number of steps.

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
            f"firing_rates must have a rate, or None for analog input, for every layer of macs; "
            f"{missing[0]!r} is missing"
        )
    if unknown := [name for name in firing_rates if name not in names]:
        raise ValueError(f"firing_rates must have layers of macs only; got {unknown[0]!r}")
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
        raise ValueError(
            f"firing_rates[{name!r}] must be one rate or {num_steps} rates, one per step; got {len(by_step)}"
        )
    for rate in by_step:
        if rate is not None and not 0 <= rate < math.inf:
            raise ValueError(f"firing_rates[{name!r}] must be finite and not negative; got {rate}")
    return by_step


def _copy_to_run(model: nn.Module, attention: Attention) -> nn.Module:
    """Copy the network, in evaluation mode."""
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
    """Number of images in a batch, which must hold values."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"batch must be a tensor or an iterable of tensors; got an iterable of {type(x).__name__}"
        )
    if x.is_meta:
        raise ValueError(
            "batch must hold values to measure firing rates; got a tensor on the meta device; use count_macs"
        )
    if x.ndim <= dim or x.numel() == 0:
        raise ValueError(f"batch must hold images; got shape {tuple(x.shape)}")
    return x.shape[dim]


def _peek(batch: Tensor | Iterable[Tensor]) -> tuple[Tensor, Iterable[Tensor]]:
    """Return the first batch, and an iterable of all batches."""
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
    """Number of steps, if it was given or the network has it; otherwise None."""
    if num_steps is not None:
        num_steps = check_count("num_steps", num_steps)
    own = getattr(net, "num_steps", None)
    return num_steps if num_steps is not None or not isinstance(own, int) else own


def _num_steps(net: nn.Module, x: Tensor, num_steps: int | None, run: Run | None) -> int:
    """Number of steps: given, the network's, or counted in its neurons."""
    known = _own_steps(net, num_steps)
    if known is not None:
        return known
    with record_firing_rates(net, 1) as rates:
        _record(net, x, run)
    taken = sorted(set(rates.steps_taken().values()))
    if len(taken) != 1:
        found = (
            f"the model's neurons ran {taken} steps"
            if taken
            else "the model has no snnTorch neurons to count steps in"
        )
        raise ValueError(f"num_steps must be given, because {found}; got None")
    return taken[0]


def _record(net: nn.Module, x: Tensor, run: Run | None) -> list[Call]:
    """Record the products that ``net`` computes for one batch, from the start of a sequence."""
    reset(net)
    devices = [x.device] if x.is_cuda else []
    with torch.random.fork_rng(devices), record_calls(net) as calls:
        if run is None:
            net(x)
        else:
            run(net, x)
    return calls
