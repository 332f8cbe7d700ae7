"""A batch norm for every time step."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from snntorch_asnn._arguments import check_count
from snntorch_asnn.layers.hybrid_stem import TwoCopies

__all__ = ["StepNorm", "split_norms"]


class StepNorm(nn.Module):
    r"""Batch norms of their own for every step, with weights and statistics of their own.

    .. math:: y[t] = \mathrm{BN}_t(x[t])

    The steps of a sequence differ in mean and spread: those of a hybrid code most, and those of every
    network because its neurons start from rest. A norm that all steps share sees the mixture.

    Args:
        norm: a batch norm, which every step gets a copy of.
        num_steps: T, the number of steps that it sees.
        first: which step of the sequence the first of them is.

    Shapes:
        ``[T * B, ...]``, time folded into the batch, to the same.

    Raises:
        TypeError: ``norm`` is no batch norm, or a number no integer.
        ValueError: ``num_steps`` is below 1, or does not divide the first dimension of the input.

    Source: Kim & Panda, Revisiting Batch Normalization for Training Low-Latency Deep Spiking Neural Networks
    From Scratch, Frontiers in Neuroscience 2021.

    Example::

        >>> import torch
        >>> norm = StepNorm(nn.BatchNorm1d(3), num_steps=2)
        >>> x = torch.cat([torch.randn(8, 3), 5 + torch.randn(8, 3)])
        >>> bool(norm(x)[8:].mean().abs() < 1e-5)
        True
    """

    step: int | None = None  # the one step that the input is of, where a network runs step by step

    def __init__(self, norm: _BatchNorm, num_steps: int, first: int = 0) -> None:
        super().__init__()
        if not isinstance(norm, _BatchNorm):
            raise TypeError(f"norm must be a batch norm of torch.nn; got {type(norm).__name__}")
        check_count("num_steps", num_steps)
        self.first = first
        self.norms = nn.ModuleList(copy.deepcopy(norm) for _ in range(num_steps))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise every step by its own norm."""
        if self.step is not None:
            index = min(max(self.step - self.first, 0), len(self.norms) - 1)
            one: Tensor = self.norms[index](x)
            return one
        batch, rest = divmod(len(x), len(self.norms))
        if rest:
            raise ValueError(f"x must have {len(self.norms)} steps in its first dimension; got {len(x)} rows")
        steps = x.reshape(len(self.norms), batch, *x.shape[1:]).unbind()
        return torch.cat([norm(step) for norm, step in zip(self.norms, steps, strict=True)])


def split_norms(model: nn.Module, num_steps: int) -> nn.Module:
    """Give every batch norm of a network a copy for each step.

    Every copy begins with the weights and statistics of the one, so that a trained network computes what it
    did. The analog steps of a hybrid-coded network keep to the copies of the first layer that are theirs.
    Models of :func:`~snntorch_asnn.models.create_model` take ``step_norm=True`` instead.

    Args:
        model: a model of the zoo, or a network made of its layers, that folds time into the batch.
        num_steps: T.

    Returns:
        The model itself, changed in place.

    Raises:
        TypeError: ``model`` is no module.
        ValueError: ``num_steps`` is below 1, the norms are split already, or run in one with the neurons.

    Example::

        >>> from snntorch_asnn.models import create_model
        >>> model = split_norms(create_model("lenet", num_classes=10, num_steps=4), num_steps=4)
        >>> len(model.conv2[1].norms)
        4
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}")
    check_count("num_steps", num_steps)
    modules = list(model.modules())
    if any(isinstance(module, StepNorm) for module in modules):
        raise ValueError("model must have one norm for all steps; its norms are split already")
    if any(getattr(module, "fused", False) for module in modules):
        raise ValueError(
            "model must not be fused: its norms run in one with the neurons, for all steps alike"
        )
    spans = _spans_of_first_layers(modules, num_steps)
    for module in modules:
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm):
                steps, first = spans.get(child, (num_steps, 0))
                setattr(module, name, StepNorm(child, steps, first))
    return model


def _spans_of_first_layers(modules: list[nn.Module], num_steps: int) -> dict[nn.Module, tuple[int, int]]:
    """Number of steps, and the first, that the norms of a hybrid-coded network's first layers see."""
    spans: dict[nn.Module, tuple[int, int]] = {}
    for module in modules:
        if not isinstance(module, TwoCopies) or not module.analog_planes:
            continue
        analog, (own, *others) = module.analog_planes, module.copies()
        for parts, span in (([own], (analog, 0)), (others, (num_steps - analog, analog))):
            inner = (layer for part in parts for layer in part.modules())
            spans |= {layer: span for layer in inner if isinstance(layer, _BatchNorm)}
    return spans
