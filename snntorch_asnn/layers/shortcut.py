"""Shortcuts around spiking layers."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Residual", "sew_add", "sew_and", "sew_iand"]


def sew_add(branch: Tensor, identity: Tensor) -> Tensor:
    """Spike-element-wise ADD, ``A + S``: the sums of spikes are integers.

    Source: Fang et al., Deep Residual Learning in Spiking Neural Networks, NeurIPS 2021.

    Example::

        >>> import torch
        >>> sew_add(torch.tensor([0.0, 1.0, 1.0]), torch.tensor([1.0, 0.0, 1.0]))
        tensor([1., 1., 2.])
    """
    return branch + identity


def sew_and(branch: Tensor, identity: Tensor) -> Tensor:
    """Spike-element-wise AND, ``A * S``: a spike where both fire.

    Source: Fang et al., Deep Residual Learning in Spiking Neural Networks, NeurIPS 2021.

    Example::

        >>> import torch
        >>> sew_and(torch.tensor([0.0, 1.0, 1.0]), torch.tensor([1.0, 0.0, 1.0]))
        tensor([0., 0., 1.])
    """
    return branch * identity


def sew_iand(branch: Tensor, identity: Tensor) -> Tensor:
    """Spike-element-wise IAND, ``(1 - A) * S``: the identity's spike, unless the branch fires.

    Source: Fang et al., Deep Residual Learning in Spiking Neural Networks, NeurIPS 2021.

    Example::

        >>> import torch
        >>> sew_iand(torch.tensor([0.0, 1.0, 1.0]), torch.tensor([1.0, 0.0, 1.0]))
        tensor([1., 0., 0.])
    """
    return (1 - branch) * identity


class Residual(nn.Module):
    """Branches one after the other, each with its input added: ``x = x + branch(x)``.

    If the branches end in a neuron, the residual stream is integer. If they begin with a neuron, this is the
    membrane shortcut (MS) of spike-driven residual networks.

    Args:
        **branches: Named modules, each of which keeps the shape ``[T, B, ...]``.

    Example::

        >>> import torch
        >>> block = Residual(attn=nn.Identity(), mlp=nn.Identity())
        >>> block(torch.ones(1))
        tensor([4.])
    """

    def __init__(self, **branches: nn.Module) -> None:
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[T, B, ...]`` to ``[T, B, ...]``."""
        for branch in self.children():
            x = x + branch(x)
        return x
