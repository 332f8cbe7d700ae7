"""The first layer of a hybrid-coded network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from snntorch_asnn._arguments import check_count
from snntorch_asnn.layers.conv_spike import ConvNorm, ConvSpike, NeuronBuilder
from snntorch_asnn.layers.norm_over_time import RunsNorms
from snntorch_asnn.layers.stepping import StepAware, Stepping
from snntorch_asnn.layers.time_folded import TimeFolded, fold_time_of
from snntorch_asnn.neurons.time_parameters import resize_parameter

__all__ = ["AnalogCarry", "AnalogSteps", "HybridStem", "first_conv_norm", "first_conv_spike"]


class AnalogSteps(NamedTuple):
    """Numbers of steps in a code that the first layer depends on."""

    direct_steps: int
    """Number of analog steps. If it is above 0, the layer has a second copy for them."""
    carry_steps: int = 0
    """Number of later steps that receive the analog current. 0 turns this off."""


class AnalogCarry(StepAware, nn.Module):
    r"""Add the current of the analog step to the currents of the spike steps.

    .. math:: I[t] = I_\mathrm{spike}[t] + w[t]\, I_\mathrm{analog}

    Each spike step has one learned weight :math:`w[t]`, which starts at 1. The analog current is computed
    once and reused at every spike step, for one multiplication per neuron. So the first layer multiplies in
    the analog step only, as with a plain hybrid code, but every step sees the image, as with direct coding.

    Args:
        num_steps: Number of spike steps, at least 1.

    Attributes:
        weight: Weight :math:`w` of each spike step, ``(num_steps,)``.

    Shapes:
        Input: the current of the last analog step ``[1, B, ...]`` and the currents of the spike steps
        ``[num_steps, B, ...]``. Output: ``[num_steps, B, ...]``.

    Raises:
        TypeError: ``num_steps`` is not an integer.
        ValueError: ``num_steps`` is below 1.

    Example::

        >>> import torch
        >>> carry = AnalogCarry(2)
        >>> carry(torch.tensor([[0.5]]), torch.tensor([[0.0], [1.0]])).tolist()
        [[0.5], [1.5]]
    """

    time_parameters = ("weight",)

    def __init__(self, num_steps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(check_count("num_steps", num_steps)))

    def resize_steps(self, num_steps: int) -> Self:
        """Resample the weights linearly in time to another number of spike steps.

        Args:
            num_steps: New number of spike steps.

        Returns:
            The module itself.

        Raises:
            ValueError, TypeError: ``num_steps`` is not a positive integer.
        """
        resize_parameter(self, "weight", check_count("num_steps", num_steps))
        return self

    def forward(self, analog: Tensor, spikes: Tensor) -> Tensor:
        """Add the weighted analog current to the currents of the spike steps."""
        if (stepping := self.stepped_by) is not None:
            return self._next_step(stepping, analog, spikes)
        weight = self.weight.to(analog.dtype).view(-1, *[1] * (analog.ndim - 1))
        return torch.addcmul(spikes, weight, analog)

    def _next_step(self, stepping: Stepping, analog: Tensor, spikes: Tensor) -> Tensor:
        """Run one step: store an analog current, or add the stored one to the current of a spike step."""
        if len(analog):
            stepping.store(self, (stepping.step, analog[-1]))
            return spikes
        analog_step, analog = stepping.kept(self)
        weight = self.weight[stepping.step - analog_step - 1].to(spikes.dtype)
        return torch.addcmul(spikes, weight, analog)

    def extra_repr(self) -> str:
        """Show the number of steps."""
        return f"num_steps={len(self.weight)}"


class HybridStem(RunsNorms, nn.Module):
    """A first layer in two copies: one for the analog steps, one for the spike steps after them.

    A hybrid code shows the image itself in its first ``direct_steps`` steps and binary planes in
    the others. Images and planes differ in mean and spread, so each copy has its own weights and norm.

    Args:
        direct: Layer for steps ``0 .. direct_steps - 1``, applied with time folded into the batch.
        spike: Layer for the other steps, with the same output shape.
        direct_steps: Number of analog steps, at least 1 and fewer than the steps of the sequence.
        carry: Adds the analog current to the currents of the spike steps. None gives the paper's network,
            which sees the image in the analog steps only.

    Example::

        >>> import torch
        >>> stem = HybridStem(torch.nn.Conv2d(1, 6, 3), torch.nn.Conv2d(1, 6, 3), direct_steps=1)
        >>> stem(torch.rand(4, 2, 1, 8, 8)).shape
        torch.Size([4, 2, 6, 6, 6])
    """

    runs_any_module = True

    def __init__(
        self, direct: nn.Module, spike: nn.Module, direct_steps: int = 1, carry: AnalogCarry | None = None
    ) -> None:
        super().__init__()
        self.direct = direct
        self.spike = spike
        self.direct_steps = direct_steps
        self.carry = carry

    @staticmethod
    def build(
        layer: Callable[[], nn.Module], direct_steps: int, num_steps: int, carry: bool = False
    ) -> nn.Module:
        """Return a :class:`HybridStem` for a hybrid code, or one time-folded layer for any other code.

        Args:
            layer: Makes one copy of the layer, for example
                ``functools.partial(torch.nn.Conv2d, 3, 32, 3)``.
            direct_steps: Number of analog steps of the code. With 0 or ``num_steps``, one copy is enough.
            num_steps: Number of steps T.
            carry: Whether an :class:`AnalogCarry` adds the analog current to the spike steps.
        """
        if 0 < direct_steps < num_steps:
            later = AnalogCarry(num_steps - direct_steps) if carry else None
            return HybridStem(layer(), layer(), direct_steps, later)
        return TimeFolded(layer())

    def forward(self, planes: Tensor) -> Tensor:
        """Map ``[T, B, ...]`` to ``[T, B, ...]``, each step with its own copy of the layer."""
        first = self.direct_steps
        if self.only_step is None:
            return self._joined(self._run(self.direct, planes[:first]), self._run(self.spike, planes[first:]))
        if self.only_step < first:
            out = self._run(self.direct, planes, self.only_step)
            return self._joined(out, out[:0])
        out = self._run(self.spike, planes, self.only_step - first)
        return self._joined(out[:0], out)

    def _run(self, copy: nn.Module, planes: Tensor, step: int | None = None) -> Tensor:
        """Run one copy on its planes; ``step`` is their first step, counted from the copy's first."""
        return fold_time_of(copy, planes, self.norm_over_time, step)

    def _joined(self, analog: Tensor, spikes: Tensor) -> Tensor:
        """Concatenate the currents of analog and spike steps, with the analog current added if carried."""
        return torch.cat([analog, spikes if self.carry is None else self.carry(analog[-1:], spikes)])

    def steps_of_norms(self, num_steps: int) -> dict[nn.Module, int]:
        """Return the number of steps that each copy's norms see."""
        analog = dict.fromkeys(self.direct.modules(), self.direct_steps)
        return analog | dict.fromkeys(self.spike.modules(), num_steps - self.direct_steps)

    def extra_repr(self) -> str:
        """Show the number of analog steps."""
        return f"direct_steps={self.direct_steps}"


def first_conv_norm(
    in_channels: int,
    out_channels: int,
    code: AnalogSteps,
    kernel_size: int = 3,
    stride: int = 1,
    bias: bool = False,
) -> ConvNorm | HybridStem:
    """Build the first layer of a network: a :class:`ConvNorm`, in two copies for a hybrid code.

    Args:
        in_channels: Channels of the images.
        out_channels: Channels of the output.
        code: Steps of the code, as in ``analog_steps`` of :class:`~snntorch_asnn.models.SpikingModel`.
        kernel_size: See :class:`ConvNorm`.
        stride: See :class:`ConvNorm`.
        bias: See :class:`ConvNorm`.
    """
    layer = partial(ConvNorm, in_channels, out_channels, kernel_size, stride, bias=bias)
    if not code.direct_steps:
        return layer()
    carry = AnalogCarry(code.carry_steps) if code.carry_steps else None
    return HybridStem(layer(), layer(), code.direct_steps, carry)


def first_conv_spike(
    in_channels: int,
    out_channels: int,
    spiking: NeuronBuilder,
    code: AnalogSteps,
    kernel_size: int = 3,
    stride: int = 1,
    bias: bool = False,
) -> ConvSpike | nn.Sequential:
    """Build the first layer of a network with its neuron.

    This is a :class:`ConvSpike`, or for a hybrid code a :class:`HybridStem` followed by a neuron. The
    arguments are as in :func:`first_conv_norm`; ``spiking`` builds the neuron.
    """
    if not code.direct_steps:
        return ConvSpike(in_channels, out_channels, spiking, kernel_size, stride, bias)
    stem = first_conv_norm(in_channels, out_channels, code, kernel_size, stride, bias)
    return nn.Sequential(OrderedDict(conv_norm=stem, neuron=spiking(channel_shape=(out_channels, 1, 1))))
