"""Batch norms with their own running averages for every step, and their choice for a whole network."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from snntorch_asnn._arguments import check_choice, check_count
from snntorch_asnn._torch import BatchNormBase
from snntorch_asnn.layers.norm_over_time import (
    NormOverTime,
    RunsNorms,
    has_steps,
    is_plain,
    is_synchronised,
    normalise,
)
from snntorch_asnn.neurons.time_parameters import resample

__all__ = [
    "StepBatchNorm",
    "StepNorm",
    "begin_norm_over_time",
    "join_step_norms",
    "set_norm_over_time",
    "split_norms",
]

_AVERAGES = ("running_mean", "running_var", "num_batches_tracked")
_WEIGHTS = ("weight", "bias")


class StepBatchNorm(BatchNormBase):
    r"""A batch norm with statistics and running averages for every step.

    .. math:: y[t] = \gamma\, \frac{x[t] - \mu[t]}{\sqrt{\sigma^2[t] + \epsilon}} + b

    The steps of a sequence differ in mean and spread, because neurons start from rest. They differ most with
    a hybrid code. A norm over all steps would see the mixture.

    Args:
        norm: PyTorch batch norm. Every step starts with its weights, averages and settings.
        num_steps: Number of steps T.
        each_weight: Whether every step also has its own weight and bias.

    Attributes:
        num_steps: Number of steps T.
        synchronised: Whether statistics are taken over all processes in training.

    Shapes:
        Input and output: ``[T * B, C, ...]``, with time folded into the batch. ``running_mean``,
        ``running_var`` and, with ``each_weight``, ``weight`` and ``bias`` are ``[T, C]``.
        ``num_batches_tracked`` is ``[T]``.

    Raises:
        TypeError: ``norm`` is not a PyTorch batch norm, or ``num_steps`` is not an integer.
        ValueError: ``num_steps`` is below 1, or the input has another number of steps.

    Source: Kim & Panda, Revisiting Batch Normalization for Training Low-Latency Deep Spiking Neural Networks
    From Scratch, Frontiers in Neuroscience 2021, for ``each_weight=True``.

    Example::

        >>> import torch
        >>> norm = StepBatchNorm(nn.BatchNorm1d(3), num_steps=2)
        >>> x = torch.cat([torch.randn(8, 3), 5 + torch.randn(8, 3)])
        >>> bool(norm(x)[8:].mean().abs() < 1e-5)
        True
        >>> norm.running_mean.shape, norm.weight.shape
        (torch.Size([2, 3]), torch.Size([3]))
    """

    has_steps = True
    synchronised = False
    process_group: Any = None
    only_step: int | None = None  # Step of the whole input while its layer calls it step by step.

    def __init__(self, norm: BatchNormBase, num_steps: int, *, each_weight: bool = False) -> None:
        if not is_plain(norm):
            raise TypeError(f"norm must be a batch norm of torch.nn; got {type(norm).__name__}")
        check_count("num_steps", num_steps)
        super().__init__(norm.num_features, norm.eps, norm.momentum, False, False)
        self.affine, self.track_running_stats = norm.affine, norm.track_running_stats
        self.num_steps = num_steps
        self.kind: type[BatchNormBase] = getattr(norm, "kind", type(norm))
        if is_synchronised(norm):
            self.synchronised, self.process_group = True, getattr(norm, "process_group", None)
        for name in (*_WEIGHTS, *_AVERAGES):
            value = getattr(norm, name)
            each = each_weight or name in _AVERAGES
            if each and value is not None and not _differs_by_step(name, value):
                value = _like(value, value.detach().expand(num_steps, *value.shape).clone())
            setattr(self, name, value)
        self.train(norm.training)

    @property
    def each_weight(self) -> bool:
        """Whether every step has its own weight and bias."""
        return self.affine and self.weight.ndim == 2

    def forward(self, input: Tensor, step: int | None = None) -> Tensor:
        """Normalise all steps folded into the batch, or with ``step``, an input of that step only."""
        step = self.only_step if step is None else step
        if step is not None:
            return normalise(self, input[None], "step", step)[0]
        if len(input) % self.num_steps:
            raise ValueError(
                f"input must hold {self.num_steps} steps folded into the batch, so its first size must be a "
                f"multiple of {self.num_steps}; got {len(input)}"
            )
        return normalise(self, input.unflatten(0, (self.num_steps, -1)), "step", None).flatten(0, 1)

    def resize_steps(self, num_steps: int) -> Self:
        """Resample the values of the steps linearly in time to another number of steps.

        Parameters are replaced by new ones, so build the optimizer afterwards.

        Raises:
            ValueError, TypeError: ``num_steps`` is not a positive integer.
        """
        check_count("num_steps", num_steps)
        for name in (*_WEIGHTS, *_AVERAGES):
            value = getattr(self, name)
            if value is not None and _differs_by_step(name, value):
                resampled = resample(value.double(), num_steps)
                whole = value.dtype == torch.long
                setattr(self, name, _like(value, (resampled.round() if whole else resampled).to(value.dtype)))
        self.num_steps = num_steps
        return self

    def extra_repr(self) -> str:
        """Show the settings."""
        plain: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{plain}, num_steps={self.num_steps}, each_weight={self.each_weight}"

    def _check_input_dim(self, input: Tensor) -> None:
        self.kind._check_input_dim(self, input)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Load also a norm that all steps share: every step gets its values, which is exact in evaluation."""
        for name, value in _stacked(state_dict, prefix).items():
            state_dict[name] = value
        for name in (*_WEIGHTS, *_AVERAGES):
            own, given = getattr(self, name), state_dict.get(prefix + name)
            if own is not None and isinstance(given, Tensor) and given.shape == own.shape[1:]:
                state_dict[prefix + name] = given.expand(own.shape) if _differs_by_step(name, own) else given
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class StepNorm(StepBatchNorm):
    """Deprecated name of :class:`StepBatchNorm` with ``each_weight=True``; ``first`` has no effect."""

    def __init__(self, norm: BatchNormBase, num_steps: int, first: int = 0) -> None:
        _warn("StepNorm is deprecated; use StepBatchNorm(norm, num_steps, each_weight=True)")
        super().__init__(norm, num_steps, each_weight=True)


def set_norm_over_time(
    model: nn.Module, norm_over_time: NormOverTime, num_steps: int | None = None
) -> nn.Module:
    """Choose which steps the batch norms of a network take their statistics from.

    ==================  ======================  ============  ===========================================
    value               statistics in training  weight, bias  running averages
    ==================  ======================  ============  ===========================================
    "pooled"            over time and batch     one           one
    "sequential"        of each step            one           one, updated at each step
    "step_statistics"   of each step            one           of each step
    "step"              of each step            of each step  of each step
    ==================  ======================  ============  ===========================================

    Every step starts with the weights and averages of the norm that it replaces, so a trained network
    computes the same in evaluation. The change can be undone while all steps are still equal.
    :func:`~snntorch_asnn.models.create_model` takes ``norm_over_time=`` instead.

    Args:
        model: Model of the zoo, or a network of its layers, :class:`TimeFolded` or :class:`NormLeaky`.
        norm_over_time: Value from the table.
        num_steps: Number of steps T. It may be None if the model knows it, or for ``"pooled"`` and
            ``"sequential"``.

    Returns:
        The model itself, changed in place. With ``"step"``, weights are new Parameters, so build the
        optimizer afterwards.

    Raises:
        TypeError: ``model`` is not a module.
        ValueError: ``norm_over_time`` is unknown, ``num_steps`` is missing or does not fit the norms, no
            layer of this package runs one of the norms, or a norm's steps already differ and would be lost.
            The model is then unchanged.

    Source: ``"pooled"`` is used by Spikformer, SEW-ResNet and SpikingJelly, ``"sequential"`` by the published
    LeNet and every loop over time; ``"step"`` is from Kim & Panda, Frontiers in Neuroscience 2021.

    Example::

        >>> from snntorch_asnn.models import create_model
        >>> model = create_model("lenet", num_classes=10, num_steps=4)
        >>> model = set_norm_over_time(model, "step_statistics")
        >>> model.conv2.spike.norm.running_mean.shape
        torch.Size([4, 48])
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}")
    check_choice("norm_over_time", norm_over_time, NormOverTime)
    runners: list[RunsNorms] = [m for m in model.modules() if isinstance(m, RunsNorms)]
    replacements: dict[nn.Module, BatchNormBase] = {}
    if norm_over_time != "pooled":
        _check_places(model)
    if norm_over_time in ("pooled", "sequential"):
        keys = (*_WEIGHTS, *_AVERAGES)
        replacements |= {norm: _merged(norm, name, keys) for name, norm in _norms(model) if has_steps(norm)}
    else:
        steps = _steps_of(model, runners, num_steps)
        each_weight = norm_over_time == "step"
        replacements |= {norm: _split(norm, name, steps[norm], each_weight) for name, norm in _norms(model)}
    for module in list(model.modules()):
        for name, child in list(module._modules.items()):
            if child in replacements:
                module._modules[name] = replacements[child]
        if isinstance(module, RunsNorms) or hasattr(module, "norm_over_time"):
            module.norm_over_time = norm_over_time  # type: ignore[assignment]
    return model


def begin_norm_over_time(
    module: nn.Module, norm_over_time: NormOverTime | None, num_steps: int | None
) -> None:
    """Apply ``norm_over_time`` to a new module; None takes the setting from the module's norms."""
    if norm_over_time is not None:
        set_norm_over_time(module, norm_over_time, num_steps)
        return
    step_norms = [norm for norm in module.modules() if isinstance(norm, StepBatchNorm)]
    if step_norms and isinstance(module, RunsNorms):
        module.norm_over_time = "step" if step_norms[0].each_weight else "step_statistics"


def split_norms(model: nn.Module, num_steps: int) -> nn.Module:
    """Deprecated: :func:`set_norm_over_time` with ``"step"``."""
    _warn('split_norms is deprecated; use set_norm_over_time(model, "step", num_steps)')
    return set_norm_over_time(model, "step", num_steps)


def join_step_norms(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stack the tensors of norms that a file stores once per step, ``NAME.norms.0.weight``, to one norm's."""
    stacked = _stacked(tensors, "")
    rest = {name: value for name, value in tensors.items() if not _COPY.fullmatch(name)}
    return rest | stacked


_COPY = re.compile(rf"(.*?)norms\.(\d+)\.({'|'.join((*_WEIGHTS, *_AVERAGES))})")


def _stacked(tensors: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
    copies: dict[str, dict[int, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(prefix) and (found := _COPY.fullmatch(name)):
            copies.setdefault(found[1] + found[3], {})[int(found[2])] = value
    return {name: torch.stack([steps[t] for t in sorted(steps)]) for name, steps in copies.items()}


def _differs_by_step(name: str, value: Tensor) -> bool:
    return value.ndim == (1 if name == "num_batches_tracked" else 2)


def _like(old: Tensor, value: Tensor) -> Tensor:
    """``value`` as a Parameter where ``old`` is one."""
    if not isinstance(old, nn.Parameter):
        return value
    return nn.Parameter(value, requires_grad=old.requires_grad)


def _norms(model: nn.Module) -> list[tuple[str, BatchNormBase]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, BatchNormBase)]


def _merged(norm: BatchNormBase, name: str, keys: tuple[str, ...]) -> BatchNormBase:
    """Return a PyTorch norm with the values of ``keys`` that all steps of ``norm`` share.

    Raises:
        ValueError: The steps differ.
    """
    assert isinstance(norm, StepBatchNorm)
    merged = norm.kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    for key in keys:
        value = getattr(norm, key)
        if value is not None and _differs_by_step(key, value):
            if not bool((value == value[:1]).all()):
                raise ValueError(
                    f"norm_over_time must keep a {key} for each step of the norm {name!r}, because its steps "
                    "already differ"
                )
            value = _like(value, value[0].detach().clone())
        setattr(merged, key, value)
    return merged.train(norm.training)


def _split(norm: BatchNormBase, name: str, steps: int, each_weight: bool) -> StepBatchNorm:
    """Return a norm with running averages for each step, and with weights for each step if ``each_weight``.

    Raises:
        ValueError: The norm has another number of steps, or its weights would be lost.
    """
    if isinstance(norm, StepBatchNorm) and norm.num_steps != steps:
        raise ValueError(f"num_steps must be {norm.num_steps} for the norm {name!r}; got {steps}")
    if not isinstance(norm, StepBatchNorm) or (each_weight and not norm.each_weight):
        return StepBatchNorm(norm, steps, each_weight=each_weight)
    if each_weight or not norm.each_weight:
        return norm
    split = StepBatchNorm(_merged(norm, name, _WEIGHTS), steps)
    for key in _AVERAGES:
        setattr(split, key, getattr(norm, key))
    return split


def _steps_of(model: nn.Module, runners: list[RunsNorms], num_steps: int | None) -> dict[nn.Module, int]:
    """Number of steps that each norm sees: T, except in the two copies of a hybrid-coded first layer."""
    if num_steps is None:
        num_steps = getattr(model, "num_steps", None)
    if num_steps is None:
        raise ValueError(
            "num_steps must be given for norms with values at each step, because the model has no num_steps; "
            "got None"
        )
    check_count("num_steps", num_steps)
    steps: dict[nn.Module, int] = {norm: num_steps for _, norm in _norms(model)}
    for runner in runners:
        steps |= runner.steps_of_norms(num_steps)
    return steps


def _check_places(model: nn.Module) -> None:
    """Refuse norms that no layer of this package runs.

    Raises:
        ValueError: The model has such a norm.
    """
    for name, _ in _norms(model):
        place, above = model, name
        only_sequentials = True
        while above:
            above = above.rpartition(".")[0]
            place = model.get_submodule(above)
            if isinstance(place, RunsNorms):
                break
            only_sequentials = only_sequentials and isinstance(place, nn.Sequential)
        if not isinstance(place, RunsNorms) or not (only_sequentials or place.runs_any_module):
            raise ValueError(
                f"norm_over_time must be 'pooled' for the norm {name!r}, which no layer of this package "
                "runs; put it into a TimeFolded or NormLeaky"
            )


def _warn(message: str) -> None:
    warnings.warn(message, DeprecationWarning, stacklevel=3)
