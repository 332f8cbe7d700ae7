"""Spiking attention: products of spikes without a softmax."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from snntorch_asnn._arguments import check_divides
from snntorch_asnn.layers.conv_spike import LinearNorm, LinearSpike, NeuronBuilder

__all__ = ["ProductOrder", "SpikingSelfAttention", "TokenQKAttention", "spiking_attention"]

ProductOrder = Literal["cheaper", "qk_first", "kv_first"]
"""Which product of ``Q Kᵀ V`` comes first; ``"cheaper"`` takes the order with fewer operations."""

ATTENTION_THRESHOLD = 0.5
"""Threshold of the neuron after the product, in every published network."""


def spiking_attention(
    q: Tensor, k: Tensor, v: Tensor, scale: float = 0.125, order: ProductOrder = "cheaper"
) -> Tensor:
    r"""Attention without a softmax, :math:`Q K^\top V` times ``scale``.

    Without a softmax, the product is associative. For ``N`` tokens with ``d`` channels per head,
    ``(q kᵀ) v`` costs :math:`2 N^2 d` multiply-accumulates. ``q (kᵀ v)`` costs :math:`2 N d^2`, which is
    linear in the number of tokens and cheaper for ``N > d``. By default, the shapes decide.

    For spikes, both orders sum the same integers, so float32 results below :math:`2^{24}` are bit-identical.

    Args:
        q: Queries ``[..., N, d]``.
        k: Keys ``[..., M, d]``.
        v: Values ``[..., M, e]``.
        scale: Factor of the result.
        order: ``"qk_first"``, ``"kv_first"``, or ``"cheaper"``, which chooses by the shapes.

    Returns:
        ``[..., N, e]``.

    Raises:
        ValueError: The shapes do not fit each other, or ``order`` is unknown.

    Source: Zhou et al., Spikformer, ICLR 2023.

    Example::

        >>> import torch
        >>> q = k = v = torch.ones(2, 64, 8)
        >>> spiking_attention(q, k, v, scale=0.125)[0, 0, 0]  # 64 tokens times 8 channels
        tensor(64.)
    """
    if q.shape[-1] != k.shape[-1] or k.shape[:-1] != v.shape[:-1] or q.shape[:-2] != k.shape[:-2]:
        raise ValueError(
            "q, k and v must be [..., N, d], [..., M, d] and [..., M, e]; "
            f"got {tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
        )
    if order not in ("cheaper", "qk_first", "kv_first"):
        raise ValueError(f"order must be one of 'cheaper', 'qk_first', 'kv_first'; got {order!r}")
    (queries, d), (keys, e) = q.shape[-2:], v.shape[-2:]
    kv_first = keys * d * e + queries * d * e < queries * keys * d + queries * keys * e
    if order == "kv_first" or (order == "cheaper" and kv_first):
        return q @ (k.transpose(-2, -1) @ v * scale)
    return (q @ k.transpose(-2, -1) * scale) @ v


class SpikingSelfAttention(nn.Module):
    r"""Multi-head self-attention of spikes.

    .. math::

        Q, K, V &= \mathrm{SN}(\mathrm{BN}(W_{Q, K, V}\, x)) \\
        y &= \mathrm{SN}(\mathrm{BN}(W\, \mathrm{SN}_{0.5}(c\, Q K^\top V)))

    where :math:`\mathrm{SN}_{0.5}` has threshold 0.5. With ``spike_first``, the residual stream carries
    membranes: a neuron precedes :math:`W_{Q, K, V}`, and the output has no neuron.

    Args:
        dim: C, channels of the tokens.
        num_heads: Number of heads; it must divide ``dim``.
        spiking: Builds each neuron, see :data:`NeuronBuilder`.
        scale: Factor :math:`c` of the product.
        spike_first: Whether the input is membranes instead of spikes.
        qkv_bias: Whether the query, key and value layers have a bias.

    Attributes:
        order: Order of the product, see :func:`~snntorch_asnn.layers.spiking_attention`. It may be changed.

    Raises:
        ValueError: ``num_heads`` does not divide ``dim``.

    Source: Zhou et al., Spikformer, ICLR 2023; ``spike_first``: Zhou et al., Spikingformer,
    arXiv 2304.11954.

    Example::

        >>> import torch
        >>> from functools import partial
        >>> from snntorch_asnn.models import build_neuron
        >>> attention = SpikingSelfAttention(16, 2, partial(build_neuron, "asnn", 4))
        >>> attention(torch.rand(4, 3, 9, 16)).shape
        torch.Size([4, 3, 9, 16])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        spiking: NeuronBuilder,
        *,
        scale: float = 0.125,
        spike_first: bool = False,
        qkv_bias: bool = True,
    ) -> None:
        super().__init__()
        check_divides("num_heads", num_heads, "dim", dim)
        self.num_heads = num_heads
        self.scale = scale
        self.order: ProductOrder = "cheaper"
        self.spike = spiking(channel_shape=(dim,)) if spike_first else nn.Identity()
        self.q = LinearSpike(dim, dim, spiking, bias=qkv_bias)
        self.k = LinearSpike(dim, dim, spiking, bias=qkv_bias)
        self.v = LinearSpike(dim, dim, spiking, bias=qkv_bias)
        self.attn_spike = spiking(channel_shape=(dim,), threshold=ATTENTION_THRESHOLD)
        self.proj = LinearNorm(dim, dim) if spike_first else LinearSpike(dim, dim, spiking)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[T, B, N, C]`` to ``[T, B, N, C]``."""
        x = self.spike(x)
        q, k, v = (_heads(layer(x), self.num_heads).transpose(2, 3) for layer in (self.q, self.k, self.v))
        mixed = spiking_attention(q, k, v, self.scale, self.order).transpose(2, 3).flatten(3)
        out: Tensor = self.proj(self.attn_spike(mixed))
        return out


class TokenQKAttention(nn.Module):
    r"""Attention with queries and keys only, whose cost is linear in tokens and channels.

    .. math::

        Q, K &= \mathrm{SN}(\mathrm{BN}(W_{Q, K}\, x)) \\
        A &= \mathrm{SN}_{0.5}\Big(\sum_{\text{channels of a head}} Q\Big) \\
        y &= \mathrm{SN}(\mathrm{BN}(W\, (A \odot K)))

    :math:`A` holds one spike per token and head. Keys pass where it is 1.

    Args:
        dim: C, channels of the tokens.
        num_heads: Number of heads; it must divide ``dim``.
        spiking: Builds each neuron, see :data:`NeuronBuilder`.

    Raises:
        ValueError: ``num_heads`` does not divide ``dim``.

    Source: Zhou et al., QKFormer, NeurIPS 2024.
    """

    def __init__(self, dim: int, num_heads: int, spiking: NeuronBuilder) -> None:
        super().__init__()
        check_divides("num_heads", num_heads, "dim", dim)
        self.num_heads = num_heads
        self.q = LinearSpike(dim, dim, spiking, bias=False)
        self.k = LinearSpike(dim, dim, spiking, bias=False)
        self.attn_spike = spiking(channel_shape=(num_heads,), threshold=ATTENTION_THRESHOLD)
        self.proj = LinearSpike(dim, dim, spiking)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[T, B, N, C]`` to ``[T, B, N, C]``."""
        q, k = _heads(self.q(x), self.num_heads), _heads(self.k(x), self.num_heads)
        passes = self.attn_spike(q.sum(-1)).unsqueeze(-1)
        out: Tensor = self.proj((passes * k).flatten(3))
        return out


def _heads(x: Tensor, num_heads: int) -> Tensor:
    """Split ``[T, B, N, C]`` into ``[T, B, N, heads, C / heads]``."""
    heads: Tensor = x.unflatten(3, (num_heads, -1))
    return heads
