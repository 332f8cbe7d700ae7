"""A deprecated layer."""

from __future__ import annotations

import warnings

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Pointwise"]


class Pointwise(nn.Linear):
    """Deprecated: a linear layer whose weight has the shape of a convolution with kernel size 1.

    Use ``nn.Linear`` instead. :func:`~snntorch_asnn.models.load_reference_weights` loads weights of this
    shape into it.

    Args:
        in_features: Channels of the input.
        out_features: Channels of the output.
        bias: Whether the layer has a bias.
        kernel_dims: 0 for a weight ``[out, in]``, 1 for ``[out, in, 1]``, 2 for ``[out, in, 1, 1]``.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, kernel_dims: int = 0) -> None:
        warnings.warn("Pointwise is deprecated; use torch.nn.Linear", DeprecationWarning, stacklevel=2)
        super().__init__(in_features, out_features, bias)
        self.weight = nn.Parameter(
            self.weight.detach().reshape(out_features, in_features, *[1] * kernel_dims)
        )

    def forward(self, input: Tensor) -> Tensor:
        """Map ``[..., in_features]`` to ``[..., out_features]``."""
        return functional.linear(input, self.weight.flatten(1), self.bias)
