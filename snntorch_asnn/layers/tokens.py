"""Conversion between feature maps and tokens, and layers on tokens."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from snntorch_asnn.layers.conv_spike import ConvNorm, LinearNorm, LinearSpike, NeuronBuilder

__all__ = ["DepthwiseMixer", "SpikingMLP", "on_tokens", "to_maps", "to_tokens"]


def to_tokens(maps: Tensor) -> Tensor:
    """Map ``[T, B, C, H, W]`` to ``[T, B, H * W, C]``, without a copy if channels are last in memory.

    Example::

        >>> import torch
        >>> to_tokens(torch.rand(4, 2, 8, 3, 5)).shape
        torch.Size([4, 2, 15, 8])
    """
    return maps.flatten(3).transpose(2, 3).contiguous()


def to_maps(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """Map ``[T, B, H * W, C]`` to ``[T, B, C, H, W]`` with channels last in memory, without a copy.

    Example::

        >>> import torch
        >>> to_maps(torch.rand(4, 2, 15, 8), (3, 5)).shape
        torch.Size([4, 2, 8, 3, 5])
    """
    maps: Tensor = tokens.transpose(2, 3).unflatten(3, size)
    return maps


def on_tokens(layer: Callable[[Tensor], Tensor], maps: Tensor) -> Tensor:
    """Run a layer for tokens ``[T, B, N, C]`` on feature maps ``[T, B, C, H, W]``."""
    height, width = maps.shape[3:]
    return to_maps(layer(to_tokens(maps)), (height, width))


class DepthwiseMixer(nn.Module):
    """Neuron, depthwise convolution and batch norm on the tokens of feature maps.

    Args:
        channels: C.
        kernel_size: Kernel size of the convolution, odd.
        size: Height and width of the feature maps.
        spiking: Builds the neuron, see :data:`NeuronBuilder`.

    Source: Fang et al., Spiking Neural Networks Need High-Frequency Information, NeurIPS 2025.

    Example::

        >>> import torch
        >>> from functools import partial
        >>> from snntorch_asnn.models import build_neuron
        >>> mixer = DepthwiseMixer(8, 3, (4, 5), partial(build_neuron, "asnn", 4))
        >>> mixer(torch.rand(4, 2, 20, 8)).shape
        torch.Size([4, 2, 20, 8])
    """

    def __init__(
        self, channels: int, kernel_size: int, size: tuple[int, int], spiking: NeuronBuilder
    ) -> None:
        super().__init__()
        self.size = size
        self.spike = spiking(channel_shape=(channels,))
        self.depthwise = ConvNorm(channels, channels, kernel_size, groups=channels, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[T, B, H * W, C]`` to ``[T, B, H * W, C]``."""
        return to_tokens(self.depthwise(to_maps(self.spike(x), self.size)))


class SpikingMLP(nn.Module):
    r"""Two linear layers with batch norm and neurons, applied to each token.

    .. math:: y = \mathrm{SN}(\mathrm{BN}(W_2\, \mathrm{SN}(\mathrm{BN}(W_1 x))))

    or with ``spike_first``, for a residual stream of membranes,
    :math:`y = \mathrm{BN}(W_2\, \mathrm{SN}(\mathrm{BN}(W_1\, \mathrm{SN}(x))))`.

    Args:
        dim: C, channels of the input and output.
        hidden: Channels in between.
        spiking: Builds each neuron, see :data:`NeuronBuilder`.
        spike_first: Whether the input is membranes instead of spikes.

    Source: Zhou et al., Spikformer, ICLR 2023; ``spike_first``: Zhou et al., Spikingformer,
    arXiv 2304.11954.

    Example::

        >>> import torch
        >>> from functools import partial
        >>> from snntorch_asnn.models import build_neuron
        >>> SpikingMLP(16, 64, partial(build_neuron, "asnn", 4))(torch.rand(4, 2, 9, 16)).shape
        torch.Size([4, 2, 9, 16])
    """

    def __init__(self, dim: int, hidden: int, spiking: NeuronBuilder, *, spike_first: bool = False) -> None:
        super().__init__()
        self.spike = spiking(channel_shape=(dim,)) if spike_first else nn.Identity()
        self.fc1 = LinearSpike(dim, hidden, spiking)
        self.fc2 = LinearNorm(hidden, dim) if spike_first else LinearSpike(hidden, dim, spiking)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[T, B, N, C]`` to ``[T, B, N, C]``."""
        out: Tensor = self.fc2(self.fc1(self.spike(x)))
        return out
