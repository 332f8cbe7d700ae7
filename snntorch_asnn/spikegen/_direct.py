"""The direct code, in which every step is the image itself."""

from __future__ import annotations

from torch import Tensor

from snntorch_asnn._arguments import check_count
from snntorch_asnn.spikegen._checks import check_analog

__all__ = ["direct"]


def direct(data: Tensor, num_steps: int, *, check: bool = True) -> Tensor:
    r"""Direct code: every step is the image itself, :math:`x_t = p`.

    Args:
        data: The image, normalised or not, any shape.
        num_steps: Number of steps T, at least 1.
        check: Whether to raise ValueError for NaN and infinite values.

    Returns:
        ``[num_steps, *data.shape]``, a view of ``data``; clone it before writing to it. Gradients flow to
        ``data``.

    Raises:
        ValueError: ``num_steps`` is below 1, or ``data`` is not finite.

    Example::

        >>> import torch
        >>> from snntorch_asnn import spikegen
        >>> spikegen.direct(torch.tensor([0.2, 0.9]), 2)
        tensor([[0.2000, 0.9000],
                [0.2000, 0.9000]])
    """
    num_steps = check_count("num_steps", num_steps)
    check_analog(data, check=check)
    return data.expand(num_steps, *data.shape)
