"""Sequences of images and of tokens: two views of the same memory, and layers that act on tokens."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from snntorch_asnn.layers.norm_leaky import normed_spikes
from snntorch_asnn.layers.norm_over_time import RunsNorms, normed

__all__ = ["NeuronBuilder", "Pointwise", "SpikingMLP", "TokenLayers", "to_maps", "to_tokens"]

NeuronBuilder = Callable[..., nn.Module]
"""Builds the neuron of one layer, a module over ``[T, B, ...]``, called as ``(channel_shape=, threshold=)``.

``channel_shape`` is the shape of a parameter with one value per channel; ``threshold`` is left out where it
is the neuron's own.
"""


def to_tokens(maps: Tensor) -> Tensor:
    """``[T, B, C, H, W]`` to ``[T, B, H * W, C]``; without a copy where channels are last in memory.

    Example::

        >>> import torch
        >>> to_tokens(torch.rand(4, 2, 8, 3, 5)).shape
        torch.Size([4, 2, 15, 8])
    """
    return maps.flatten(3).transpose(2, 3).contiguous()


def to_maps(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """``[T, B, H * W, C]`` to ``[T, B, C, H, W]``, channels last in memory, without a copy.

    Example::

        >>> import torch
        >>> to_maps(torch.rand(4, 2, 15, 8), (3, 5)).shape
        torch.Size([4, 2, 8, 3, 5])
    """
    maps: Tensor = tokens.transpose(2, 3).unflatten(3, size)
    return maps


class Pointwise(nn.Linear):
    """A linear layer whose weight has the shape of a convolution with kernel size 1.

    It computes what the convolution does, on tokens ``[..., C]``, and shares its checkpoints.

    Args:
        in_features: channels of the input.
        out_features: channels of the output.
        bias: whether there is one.
        kernel_dims: 0 for a weight ``[out, in]``, 1 for ``[out, in, 1]``, 2 for ``[out, in, 1, 1]``.

    Example::

        >>> import torch
        >>> layer = Pointwise(4, 6, kernel_dims=1)
        >>> layer.weight.shape, layer(torch.rand(2, 9, 4)).shape
        (torch.Size([6, 4, 1]), torch.Size([2, 9, 6]))
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, kernel_dims: int = 0) -> None:
        super().__init__(in_features, out_features, bias)
        self.weight = nn.Parameter(
            self.weight.detach().reshape(out_features, in_features, *[1] * kernel_dims)
        )

    def forward(self, input: Tensor) -> Tensor:
        """Map ``[..., in_features]`` to ``[..., out_features]``."""
        return functional.linear(input, self.weight.flatten(1), self.bias)


class TokenLayers(RunsNorms, nn.Module):
    """Base of modules made of linear layers with batch norm on tokens.

    Each layer is a pair of children, ``NAME_linear`` and ``NAME_bn``, or ``NAME_conv`` and ``NAME_bn`` where
    ``kernel_dims`` says that the weights are those of convolutions: the key names of published checkpoints.

    Args:
        kernel_dims: see :class:`Pointwise`.

    Attributes:
        fused: whether a norm runs in one with the neuron behind it, see :class:`NormLeaky`.
    """

    fused = False

    def __init__(self, kernel_dims: int) -> None:
        super().__init__()
        self.kernel_dims = kernel_dims
        self._kind = "conv" if kernel_dims else "linear"

    def _add(self, name: str, in_features: int, out_features: int, *, bias: bool = True) -> None:
        layer = Pointwise(in_features, out_features, bias, self.kernel_dims)
        self.add_module(f"{name}_{self._kind}", layer)
        self.add_module(f"{name}_bn", nn.BatchNorm1d(out_features))

    def _run(self, name: str, x: Tensor, neuron: nn.Module | None = None) -> Tensor:
        """Layer ``name``, its norm and, where given, the neuron behind it, on ``[T, B, N, C]``."""
        out: Tensor = getattr(self, f"{name}_{self._kind}")(x)
        norm: nn.Module = getattr(self, f"{name}_bn")
        if neuron is None:
            return normed(norm, out, 3, self.norm_over_time, self.only_step)
        over_time, step = self.norm_over_time, self.only_step
        spikes: Tensor = normed_spikes(
            norm, neuron, out, 3, fused=self.fused, over_time=over_time, norm_step=step
        )
        return spikes


class SpikingMLP(TokenLayers):
    r"""Two linear layers with batch norm and neurons, on each token alone.

    .. math:: y = \mathrm{SN}(\mathrm{BN}(W_2\, \mathrm{SN}(\mathrm{BN}(W_1 x))))

    or with ``spike_first``, for a residual stream of membranes,
    :math:`y = \mathrm{BN}(W_2\, \mathrm{SN}(\mathrm{BN}(W_1\, \mathrm{SN}(x))))`.

    Args:
        dim: C, channels of the input and output.
        hidden: channels in between.
        spiking: builds each neuron, see :data:`NeuronBuilder`.
        spike_first: whether the neurons come before the linear layers instead of after the norms.
        names: of the two layers.
        kernel_dims: see :class:`Pointwise`.

    Source: Zhou et al., Spikformer, ICLR 2023; ``spike_first``: Zhou et al., Spikingformer,
    arXiv 2304.11954.

    Example::

        >>> import torch
        >>> from snntorch_asnn import AdaptiveLeaky
        >>> from snntorch_asnn.layers import OverTime
        >>> def spiking(channel_shape):
        ...     return OverTime(AdaptiveLeaky.paper(num_steps=4, sequence=True))
        >>> SpikingMLP(16, 64, spiking)(torch.rand(4, 2, 9, 16)).shape
        torch.Size([4, 2, 9, 16])
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        spiking: NeuronBuilder,
        *,
        spike_first: bool = False,
        names: tuple[str, str] = ("fc1", "fc2"),
        kernel_dims: int = 0,
    ) -> None:
        super().__init__(kernel_dims)
        self.names = names
        self.spike_first = spike_first
        for name, (before, after) in zip(names, ((dim, hidden), (hidden, dim)), strict=True):
            self._add(name, before, after)
            neuron = spiking(channel_shape=(before if spike_first else after,))
            self.add_module(f"{name}_lif", neuron)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[T, B, N, C]`` to ``[T, B, N, C]``."""
        first, second = self.names
        neurons = [getattr(self, f"{name}_lif") for name in self.names]
        if self.spike_first:
            return self._run(second, self._run(first, neurons[0](x), neurons[1]))
        return self._run(second, self._run(first, x, neurons[0]), neurons[1])
