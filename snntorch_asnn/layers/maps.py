"""Convolutions with batch norm, on sequences of images."""

from __future__ import annotations

from torch import Tensor, nn

from snntorch_asnn.layers.hybrid_stem import AnalogCarry, AnalogSteps, TwoCopies
from snntorch_asnn.layers.norm_leaky import normed_spikes
from snntorch_asnn.layers.norm_over_time import normed
from snntorch_asnn.layers.time_folded import fold_time, fold_time_of

__all__ = ["ConvLayers"]


class ConvLayers(TwoCopies):
    """Base of modules made of convolutions with batch norm.

    Each layer is a pair of children under the key names of published checkpoints. The first layer of a
    hybrid-coded network has a second copy for the analog steps, ``direct``.

    Attributes:
        direct: convolution and norm of the analog steps, None where one copy serves all steps.
        first: names of the first layer's convolution and norm.
        fused: whether a norm runs in one with the neuron behind it, see :class:`NormLeaky`.
    """

    direct: nn.Sequential | None
    first: tuple[str, str]
    fused = False

    def _add(
        self,
        conv: str,
        norm: str,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        padding = kernel_size // 2
        layer = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=bias)
        self.add_module(conv, layer)
        self.add_module(norm, nn.BatchNorm2d(out_channels))

    def _add_first(
        self,
        conv: str,
        norm: str,
        in_channels: int,
        out_channels: int,
        analog: AnalogSteps,
        kernel_size: int = 3,
        stride: int = 1,
    ) -> None:
        """The first layer, with a copy of its own for the analog steps."""
        self._add(conv, norm, in_channels, out_channels, kernel_size, stride)
        self.first = (conv, norm)
        self.analog_planes = analog.steps
        self.direct = self.carry = None
        if analog.steps:
            own = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
            self.direct = nn.Sequential(own, nn.BatchNorm2d(out_channels))
            self.carry = AnalogCarry(analog.carried_to) if analog.carried_to else None

    def _run(
        self, conv: str, norm: str, x: Tensor, neuron: nn.Module | None = None, step: int | None = None
    ) -> Tensor:
        """Convolution ``conv``, its norm and, where given, the neuron behind it, on ``[T, B, C, H, W]``."""
        out = fold_time(getattr(self, conv), x)
        step = self.only_step if step is None else step
        if neuron is None:
            return normed(getattr(self, norm), out, 2, self.norm_over_time, step)
        spikes: Tensor = normed_spikes(
            getattr(self, norm), neuron, out, fused=self.fused, over_time=self.norm_over_time, norm_step=step
        )
        return spikes

    def _run_first(self, planes: Tensor, neuron: nn.Module | None = None) -> Tensor:
        """The first layer, each step through the copy that it belongs to, and the neuron behind it."""
        direct = self.direct
        if direct is None:
            return self._run(*self.first, planes, neuron)
        out = self._run_copies(
            planes,
            lambda planes, step: fold_time_of(direct, planes, self.norm_over_time, step),
            lambda planes, step: self._run(*self.first, planes, step=step),
        )
        return out if neuron is None else neuron(out)

    def copies(self) -> tuple[nn.Module, ...]:
        """Return the copy for the analog steps, and the layers of the others."""
        return tuple(self.get_submodule(name) for name in ("direct", *self.first))
