"""A convolution or linear layer with its batch norm over time and its neuron."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn

from snntorch_asnn.layers.norm_leaky import NormLeaky
from snntorch_asnn.layers.norm_over_time import RunsNorms, normed
from snntorch_asnn.layers.over_time import OverTime
from snntorch_asnn.layers.time_folded import TimeFolded, fold_time

__all__ = ["ConvNorm", "ConvSpike", "LinearNorm", "LinearSpike", "NeuronBuilder"]

NeuronBuilder = Callable[..., OverTime]
"""Builds the neuron of one layer, called as ``(channel_shape=, threshold=)``.

``channel_shape`` is the shape of a parameter with one value per channel. ``threshold`` is passed only by
layers that need a threshold other than the neuron's default.
"""


class ConvNorm(TimeFolded):
    """Convolution and batch norm over time, on ``[T, B, C, H, W]``.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Kernel size of the convolution, odd. The padding is ``kernel_size // 2``.
        stride: Stride of the convolution.
        groups: Groups of the convolution.
        bias: Whether the convolution has a bias.

    Example::

        >>> import torch
        >>> ConvNorm(3, 8, stride=2)(torch.rand(4, 2, 3, 16, 16)).shape
        torch.Size([4, 2, 8, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=bias
        )
        super().__init__(OrderedDict(conv=conv, norm=nn.BatchNorm2d(out_channels)))


class ConvSpike(nn.Module):
    r"""Convolution, batch norm over time and neuron, :math:`y = \mathrm{SN}(\mathrm{BN}(W * x))`.

    Norm and neuron form a :class:`~snntorch_asnn.layers.NormLeaky`.
    :func:`~snntorch_asnn.layers.fuse_norm` makes them run as one layer.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        spiking: Builds the neuron, see :data:`NeuronBuilder`.
        kernel_size: Kernel size of the convolution, odd. The padding is ``kernel_size // 2``.
        stride: Stride of the convolution.
        bias: Whether the convolution has a bias.

    Example::

        >>> import torch
        >>> from functools import partial
        >>> from snntorch_asnn.models import build_neuron
        >>> layer = ConvSpike(3, 8, partial(build_neuron, "asnn", 4))
        >>> layer(torch.rand(4, 2, 3, 16, 16)).shape
        torch.Size([4, 2, 8, 16, 16])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spiking: NeuronBuilder,
        kernel_size: int = 3,
        stride: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=bias)
        neuron = spiking(channel_shape=(out_channels, 1, 1))
        self.spike = NormLeaky(nn.BatchNorm2d(out_channels), neuron, fused=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[T, B, C, H, W]`` to spikes ``[T, B, C, H, W]``."""
        spikes: Tensor = self.spike(fold_time(self.conv, x))
        return spikes


class LinearNorm(RunsNorms, nn.Module):
    """Linear layer and batch norm over time, on tokens ``[T, B, N, C]`` or features ``[T, B, C]``.

    Args:
        in_features: Channels of the input.
        out_features: Channels of the output.

    Example::

        >>> import torch
        >>> LinearNorm(4, 6)(torch.rand(4, 2, 9, 4)).shape
        torch.Size([4, 2, 9, 6])
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.norm = nn.BatchNorm1d(out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[T, B, ..., C]`` to ``[T, B, ..., C]``."""
        return normed(self.norm, self.linear(x), x.ndim - 1, self.norm_over_time, self.only_step)


class LinearSpike(nn.Module):
    """Linear layer, batch norm over time and neuron: :class:`ConvSpike` for tokens or features.

    Args:
        in_features: Channels of the input.
        out_features: Channels of the output.
        spiking: Builds the neuron, see :data:`NeuronBuilder`.
        bias: Whether the linear layer has a bias.

    Example::

        >>> import torch
        >>> from functools import partial
        >>> from snntorch_asnn.models import build_neuron
        >>> layer = LinearSpike(4, 6, partial(build_neuron, "asnn", 4))
        >>> layer(torch.rand(4, 2, 9, 4)).shape
        torch.Size([4, 2, 9, 6])
    """

    def __init__(
        self, in_features: int, out_features: int, spiking: NeuronBuilder, bias: bool = True
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features, bias)
        neuron = spiking(channel_shape=(out_features,))
        self.spike = NormLeaky(nn.BatchNorm1d(out_features), neuron, channel_dim=-1, fused=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[T, B, ..., C]`` to spikes ``[T, B, ..., C]``."""
        spikes: Tensor = self.spike(self.linear(x))
        return spikes
