"""Whether a tensor holds zeros and spikes only, told from its history without a look at its values."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Worth", "spike_worth"]

_KEEPING = frozenset(
    f"{name}Backward{number}"
    for number in (0, 1)
    for name in (
        "Alias",
        "Clone",
        "Expand",
        "MaxPool2DWithIndices",
        "MaxPool3DWithIndices",
        "Permute",
        "ReshapeAlias",
        "Select",
        "Slice",
        "Squeeze",
        "T",
        "Transpose",
        "UnsafeView",
        "Unsqueeze",
        "View",
    )
)
"""Steps of autograd whose only input's elements are all that there is in their output."""

_CAST = "ToCopyBackward0"
_MOST = 32
"""Steps that are looked at before giving up."""


class Worth(NamedTuple):
    """What every spike of a tensor is worth."""

    value: Tensor
    """One number, float32."""
    written_as: torch.dtype
    """The dtype to which it was rounded first."""


def spike_worth(tensor: Tensor) -> Worth | None:
    """What the spikes in ``tensor`` are worth, if they come from one of the neurons' kernels.

    None if the history of ``tensor`` does not prove that its other elements are zeros.
    """
    node: Any = tensor.grad_fn
    output = tensor.output_nr
    casts = 0
    for _ in range(_MOST):
        if node is None:
            return None
        worth = getattr(node, "spike_worth", None)
        if isinstance(worth, Worth):
            return worth if output == 0 else None
        name = node.name()
        casts += name == _CAST
        # A second cast might be back from a narrower dtype.
        if casts > 1 or (name not in _KEEPING and name != _CAST):
            return None
        node, output = node.next_functions[0]
    return None
