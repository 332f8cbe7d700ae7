"""The parametric LIF neuron, a baseline."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snntorch_asnn.ops import adaptive_leaky
from snntorch_asnn.surrogate import sigmoid

__all__ = ["ParametricLeaky"]


class ParametricLeaky(nn.Module):
    r"""A leaky neuron that learns its time constant, the same at every step.

    .. math:: u[t] = (1 - \sigma(w))\, v[t-1] + \sigma(w)\, x[t]

    The parameter :math:`w` sets both leak and gain. It starts at 0, which is a time constant of 2. Reset and
    surrogate are as in :meth:`AdaptiveLeaky.paper() <snntorch_asnn.AdaptiveLeaky.paper>`, so a comparison of
    the two neurons differs only in the learned parameters.

    Args:
        threshold: Membrane potential at which the neuron fires, in units of the input.
        feature_shape: Shape of :math:`w`, broadcast against one step's input without its batch.

    Source: Fang et al., Incorporating Learnable Membrane Time Constants, ICCV 2021.

    Example::

        >>> neuron = ParametricLeaky()
        >>> neuron(torch.full((4, 1, 1), 1.5)).flatten().tolist()
        [0.0, 1.0, 0.0, 1.0]
    """

    time_parameters = ("w",)  # No weight decay, see optim_groups.

    def __init__(self, threshold: float = 1.0, feature_shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.threshold = threshold
        self.w = nn.Parameter(torch.zeros(feature_shape))

    def forward(self, x: Tensor) -> Tensor:
        """Map currents ``[T, B, ...]`` to spikes ``[T, B, ...]``."""
        return self.advance(x, None)[0]

    def advance(self, x: Tensor, mem: Tensor | None) -> tuple[Tensor, Tensor]:
        """Run from a membrane ``[B, ...]``, or from rest if None; return spikes and the new membrane."""
        gain = torch.sigmoid(self.w).expand(len(x), *self.w.shape)
        return adaptive_leaky(
            x,
            beta=1 - gain,
            gain=gain,
            threshold=self.threshold,
            mem=mem,
            spike_grad=sigmoid(4.0),
            reset_delay=False,
            exact_reset=True,
            detach_reset=False,
        )

    def extra_repr(self) -> str:
        """Show the threshold."""
        return f"threshold={self.threshold}"
