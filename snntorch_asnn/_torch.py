"""Private names of PyTorch that the package needs."""

from __future__ import annotations

import torch

__all__ = ["is_exporting"]


def is_exporting() -> bool:
    """Whether :func:`torch.export.export` is running.

    In torch 2.11, :func:`torch.compiler.is_exporting` is true in every compiled graph.
    """
    return torch.compiler._is_exporting_flag
