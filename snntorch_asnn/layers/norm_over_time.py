r"""Batch norms of sequences, with statistics over all steps together or for each step alone.

.. math:: y[t] = \gamma\, \frac{x[t] - \mu[t]}{\sqrt{\sigma^2[t] + \epsilon}} + b

``"pooled"`` computes one mean and variance over time and batch. The other kinds compute a mean and variance
for each step. They differ in what they store:

- ``"sequential"`` stores one pair of running averages, updated at each step, as in a loop over time.
- ``"step_statistics"`` stores one pair of running averages for each step.
- ``"step"`` also stores a weight and a bias for each step.

The functions here take PyTorch's norms. Tensors with values for each step have the shape ``[T, C]``, see
:class:`~snntorch_asnn.layers.StepBatchNorm`.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from snntorch_asnn._torch import BatchNormBase, has_hooks, transforms_active
from snntorch_asnn.layers.stepping import StepAware
from snntorch_asnn.ops._batch_moments.moments import batch_moments

__all__ = [
    "AnyBatchNorm",
    "NormOverTime",
    "NormSteps",
    "RunsNorms",
    "Statistics",
    "check_channels",
    "check_input",
    "has_steps",
    "is_plain",
    "is_synchronised",
    "move_running_averages",
    "normalise",
    "normed",
    "num_steps_of",
    "own_weights",
    "spread_over",
    "statistics",
    "statistics_group",
    "steps_of",
    "takes_batch_statistics",
    "values_at",
]

NormOverTime = Literal["pooled", "sequential", "step_statistics", "step"]


class AnyBatchNorm(nn.BatchNorm2d):
    """A batch norm for features, signals, images and volumes alike."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected an input [B, C, ...] (got {input.ndim}D input)")


_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, AnyBatchNorm)


class RunsNorms(StepAware):
    """Base of modules that run batch norms on sequences.

    Attributes:
        norm_over_time: Which steps a norm takes its statistics from.
    """

    norm_over_time: NormOverTime = "pooled"
    runs_any_module = False
    """Whether norms may be nested in any module inside it, and not only in ``nn.Sequential``."""

    def steps_of_norms(self, num_steps: int) -> dict[nn.Module, int]:
        """Return the number of steps that a norm sees, for norms that do not see all ``num_steps``."""
        return {}


class NormSteps(NamedTuple):
    """Range of a norm's steps that a sequence covers, for a norm with values for each step.

    This is not a slice, because a compiled graph would then be specialised to the step.
    """

    first: int
    steps: int


class Statistics(NamedTuple):
    """Moments and parameters that normalise a sequence, each ``[C]`` or ``[T, C]``."""

    x: Tensor
    """The input, through which the gradient of its moments flows."""
    mean: Tensor
    variance: Tensor
    weight: Tensor | None
    bias: Tensor | None


def normed(
    norm: nn.Module,
    x: Tensor,
    channel_dim: int = 2,
    over_time: NormOverTime = "pooled",
    step: int | None = None,
) -> Tensor:
    """Run a norm on a sequence.

    Args:
        norm: Norm. Anything but a batch norm treats all steps alike.
        x: Input ``[T, B, C, ...]``, or ``[T, B, ..., C]`` if ``channel_dim`` is the last dimension.
        channel_dim: 2 or the last dimension of ``x``.
        over_time: Which steps a batch norm takes its statistics from.
        step: First step of ``x`` if it is part of a sequence.
    """
    if not isinstance(norm, BatchNormBase) or _sees_one_batch(norm, over_time):
        if channel_dim == 2 and is_plain(norm):
            check_input(cast(BatchNormBase, norm), x)
        if channel_dim == 2:
            out: Tensor = norm(x.flatten(0, 1))
            return out.view(x.shape[:2] + out.shape[1:])
        return norm(x.flatten(0, -2)).view(x.shape)  # type: ignore[no-any-return]
    if channel_dim != 2:
        return normed(norm, x.flatten(1, -2), 2, over_time, step).view(x.shape)
    if has_hooks(norm) or not is_plain(norm):
        return _in_a_loop(norm, x, step)
    return normalise(norm, x, over_time, step)


def normalise(norm: BatchNormBase, x: Tensor, over_time: NormOverTime, step: int | None) -> Tensor:
    """Normalise each step of ``x`` ``[T, B, C, ...]`` alone, as a PyTorch norm in a loop over time does."""
    check_input(norm, x)
    if x.numel() == 0 and not norm.training:
        return x
    group = statistics_group(norm, None)
    traced = torch.compiler.is_compiling() or transforms_active()
    if traced or group is not None or not takes_batch_statistics(norm):
        return _affine(statistics(norm, x, 2, over_time, step, group), norm.eps)
    if x.shape[1:].numel() <= x.shape[2]:
        raise ValueError(
            f"x must have more than 1 value per channel at each step in training; got shape {tuple(x.shape)}"
        )
    span = steps_of(norm, over_time, len(x), step)
    moves = norm.training and norm.track_running_stats
    momenta = _momenta(norm, len(x), span) if moves else None
    running = (norm.running_mean, norm.running_var) if moves else (None, None)
    tensors = (None if p is None else values_at(p, span) for p in (*own_weights(norm), *running))
    return _EachStep.apply(x, *tensors, momenta, norm.eps)  # type: ignore[no-any-return]


def statistics(
    norm: BatchNormBase,
    x: Tensor,
    channel_dim: int,
    over_time: NormOverTime,
    step: int | None,
    group: dist.ProcessGroup | None,
) -> Statistics:
    """Return the statistics that a norm applies to ``x``; in training, update its running averages."""
    span = steps_of(norm, over_time, len(x), step)
    weight, bias, mean, variance = (
        None if p is None else values_at(p, span)
        for p in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    if takes_batch_statistics(norm):
        moments = batch_moments(x, channel_dim, group, each_step=over_time != "pooled")
        if norm.training and norm.track_running_stats:
            unbiased = moments.variance * (moments.elements / (moments.elements - 1))
            move_running_averages(norm, moments.mean, unbiased, span)
        x, mean, variance, _ = moments
    wide = torch.promote_types(x.dtype, torch.float32)
    return Statistics(x, cast(Tensor, mean).to(wide), cast(Tensor, variance).to(wide), weight, bias)


def is_plain(norm: nn.Module) -> bool:
    """Whether a norm computes like PyTorch's norms, so that its tensors and settings describe it fully."""
    return type(norm) in _PLAIN or has_steps(norm)


def has_steps(norm: nn.Module) -> bool:
    """Whether a norm is made for values at each step, like StepBatchNorm."""
    return getattr(norm, "has_steps", False)


def num_steps_of(norm: nn.Module) -> int | None:
    """Number of steps for which a norm has its own values; None if all steps share them."""
    tensors = (getattr(norm, name, None) for name in ("running_mean", "weight"))
    return next((len(p) for p in tensors if p is not None and p.ndim == 2), None)


def own_weights(norm: BatchNormBase) -> tuple[Tensor | None, Tensor | None]:
    """Weight and bias of a norm; both are None with ``affine=False``."""
    return norm.weight, norm.bias


def takes_batch_statistics(norm: BatchNormBase) -> bool:
    """Whether a norm normalises by the statistics of its input, not by running averages."""
    return norm.training or norm.running_mean is None or norm.running_var is None


def check_input(norm: BatchNormBase, x: Tensor) -> None:
    """Refuse a sequence ``[T, B, C, ...]`` that does not fit a norm.

    Raises:
        ValueError: The number of dimensions or channels is wrong.
    """
    try:
        norm._check_input_dim(x[:1].flatten(0, 1))
    except ValueError as error:
        fitting = {3: "1d", 4: "1d", 5: "2d", 6: "3d"}.get(x.ndim)
        cure = f"; use nn.BatchNorm{fitting} for this shape" if fitting else ""
        raise ValueError(
            f"x of shape {tuple(x.shape)} does not fit its norm after time is folded into the batch: "
            f"{error}{cure}"
        ) from error
    check_channels(norm, x, 2)


def check_channels(norm: BatchNormBase, x: Tensor, channel_dim: int) -> None:
    """Refuse a sequence whose number of channels differs from the norm's.

    Raises:
        ValueError: The numbers differ.
    """
    if x.shape[channel_dim] != norm.num_features:
        raise ValueError(
            f"x must have {norm.num_features} channels in dimension {channel_dim}, like its norm; "
            f"got shape {tuple(x.shape)}"
        )


def statistics_group(norm: BatchNormBase, group: dist.ProcessGroup | None) -> dist.ProcessGroup | None:
    """Return the processes over which a norm takes its statistics; None for this process alone."""
    if not norm.training or not dist.is_available() or not dist.is_initialized():
        return None
    if group is None and is_synchronised(norm):
        group = cast("dist.ProcessGroup", getattr(norm, "process_group", None) or dist.group.WORLD)
    return group if group is not None and dist.get_world_size(group) > 1 else None


def is_synchronised(norm: nn.Module) -> bool:
    """Whether a norm takes its statistics over several processes in training."""
    return isinstance(norm, nn.SyncBatchNorm) or getattr(norm, "synchronised", False)


def spread_over(p: Tensor, x: Tensor, channel_dim: int) -> Tensor:
    """Reshape ``[C]`` or ``[T, C]`` so that it broadcasts against ``x``."""
    inside = (1,) * (x.ndim - channel_dim - 1)
    if p.ndim == 1:
        return p.view(-1, *inside)
    return p.view(len(p), *(1,) * (channel_dim - 1), p.shape[1], *inside)


def _sees_one_batch(norm: BatchNormBase, over_time: NormOverTime) -> bool:
    """Whether a norm treats all steps of a sequence as one batch."""
    if over_time == "sequential":
        return not takes_batch_statistics(norm)
    return over_time == "pooled"


def _in_a_loop(norm: nn.Module, x: Tensor, step: int | None) -> Tensor:
    """Call a norm step by step, because it has hooks or is not one of PyTorch's."""
    if not has_steps(norm):
        return torch.stack([norm(x_t) for x_t in x.unbind()])
    span = steps_of(cast(BatchNormBase, norm), "step", len(x), step)
    first = 0 if span is None else span.first
    return torch.stack([norm(x_t, step=first + t) for t, x_t in enumerate(x.unbind())])


def steps_of(norm: BatchNormBase, over_time: NormOverTime, steps: int, step: int | None) -> NormSteps | None:
    """Return which of the norm's steps a sequence covers; None if the norm is the same at every step.

    Raises:
        ValueError: The norm does not fit ``over_time``, or the sequence does not fit the norm's steps.
    """
    known = num_steps_of(norm)
    each = over_time == "step" or (over_time == "step_statistics" and norm.running_mean is not None)
    if (known is not None and not each) or (known is None and each and norm.running_mean is not None):
        kept = "one pair of running averages" if known is None else f"running averages of {known} steps"
        raise ValueError(
            f"norm_over_time={over_time!r} does not fit the norm, which has {kept}; "
            "set both with snntorch_asnn.layers.set_norm_over_time"
        )
    if known is None:
        return None
    first = step if step is not None else 0 if steps == known else None
    if first is None or not 0 <= first <= known - steps:
        raise ValueError(
            f"x must have {known} steps, like its norm; got {steps}"
            + ("" if step is None else f", which begin at step {step}")
        )
    return NormSteps(first, steps)


def values_at(p: Tensor, span: NormSteps | None) -> Tensor:
    """Return the part of a norm's tensor for the given steps, or all of it if the steps share it."""
    return p if span is None or p.ndim < 2 or len(p) == span.steps else p.narrow(0, *span)


def _momenta(norm: BatchNormBase, steps: int, span: NormSteps | None) -> list[float]:
    """Return the momentum of each step's update of the running averages, and count the updates."""
    counts = cast(Tensor, norm.num_batches_tracked)
    if span is not None:
        counts = counts.narrow(0, *span).add_(1)
        return (1 / counts).tolist() if norm.momentum is None else [norm.momentum] * steps
    counts += steps
    if norm.momentum is not None:
        return [norm.momentum] * steps
    return [1 / (int(counts) - after) for after in reversed(range(steps))]


@torch.no_grad()
def move_running_averages(
    norm: BatchNormBase, mean: Tensor, variance: Tensor, span: NormSteps | None
) -> None:
    """Update one pair of running averages step by step, or each step's own pair.

    Args:
        norm: Norm with the running averages.
        mean: Means ``[C]`` or ``[T, C]``.
        variance: Variances of the same shape.
        span: Steps whose own averages are updated; None for one pair.
    """
    counts = cast(Tensor, norm.num_batches_tracked)
    in_order = span is None and variance.ndim == 2
    steps = len(variance) if in_order else 1
    counts = counts if span is None else counts.narrow(0, *span)
    counts.add_(steps)
    for running, value in ((norm.running_mean, mean), (norm.running_var, variance)):
        assert running is not None
        running, value = (
            running if span is None else running.narrow(0, *span),
            value.to(running.dtype),
        )
        count = counts.to(running.dtype)
        if in_order:
            running.copy_(_moved_in_order(running, value, norm.momentum, count))
        else:
            running.lerp_(value, (1 / count)[..., None] if norm.momentum is None else norm.momentum)


def _moved_in_order(running: Tensor, values: Tensor, momentum: float | None, count: Tensor) -> Tensor:
    """Return a running average after one update with each of ``values`` ``[T, C]``, in order."""
    steps = len(values)
    if momentum is None:
        return torch.lerp(running, values.mean(0), steps / count)
    keeps = [(1 - momentum) ** (steps - 1 - t) for t in range(steps)]
    weights = values.new_tensor(keeps) * momentum
    return running * (1 - momentum) ** steps + (weights[:, None] * values).sum(0)


def _affine(found: Statistics, eps: float) -> Tensor:
    x, *given = found
    mean, variance, weight, bias = (None if p is None else spread_over(p, x, 2) for p in given)
    assert mean is not None
    assert variance is not None
    factor = (variance + eps).rsqrt()
    y = (x - mean) * (factor if weight is None else factor * weight)
    return (y if bias is None else y + bias).to(x.dtype)


class _EachStep(torch.autograd.Function):
    """PyTorch's batch norm kernels, called for each step: bit-identical to a loop over time."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        x, weight, bias, mean, variance, momenta, ctx.eps = inputs
        y = torch.empty_like(x)
        # On a CPU, PyTorch stores moments in half precision only if all of the norm's tensors have it.
        alike = all(p is None or p.dtype == x.dtype for p in (weight, bias, mean, variance))
        dtype = x.dtype if alike and not x.is_cuda else torch.promote_types(x.dtype, torch.float32)
        saved = x.new_empty(2, len(x), x.shape[2], dtype=dtype)
        for t, x_t in enumerate(x.unbind()):
            given = (_at_step(p, t) for p in (weight, bias, mean, variance))
            momentum = 0.0 if momenta is None else momenta[t]
            to = {"out": y[t], "save_mean": saved[0, t], "save_invstd": saved[1, t]}
            torch.ops.aten.native_batch_norm.out(x_t, *given, True, momentum, ctx.eps, **to)
        ctx.save_for_backward(x, weight, bias, saved)
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, saved = ctx.saved_tensors
        wanted = list(ctx.needs_input_grad[:3])
        if torch.is_grad_enabled():
            return *_differentiable_gradients(grad_y, (x, weight, bias), ctx.eps, wanted), *(None,) * 4
        grad_x = torch.empty_like(x) if wanted[0] else None
        affine_grads: list[tuple[Tensor, Tensor]] = []
        for t, x_t in enumerate(x.unbind()):
            given = _at_step(weight, t), None, None, saved[0, t], saved[1, t]
            grad_x_t, *others = torch.ops.aten.native_batch_norm_backward(
                grad_y[t], x_t, *given, True, ctx.eps, wanted
            )
            affine_grads.append(tuple(others))
            if grad_x is not None:
                grad_x[t] = grad_x_t
        sums: list[Tensor | None] = []
        for p, steps, want in zip((weight, bias), zip(*affine_grads, strict=True), wanted[1:], strict=True):
            stacked = torch.stack(steps) if want else None
            sums.append(stacked if stacked is None or p.ndim == 2 else stacked.sum(0))
        return grad_x, *sums, *(None,) * 4


def _differentiable_gradients(
    grad_y: Tensor, tensors: tuple[Tensor, Tensor | None, Tensor | None], eps: float, wanted: list[bool]
) -> list[Tensor | None]:
    """Compute gradients of input, weight and bias by the formula, so that they can be differentiated."""
    x, weight, bias = tensors
    others = [d for d in range(1, x.ndim) if d != 2]
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    variance, mean = torch.var_mean(wide, others, correction=0)
    y = _affine(Statistics(x, mean, variance, weight, bias), eps)
    inputs = [p for p, want in zip(tensors, wanted, strict=True) if want and p is not None]
    found = iter(torch.autograd.grad(y, inputs, grad_y, create_graph=True))
    return [next(found) if want else None for want in wanted]


def _at_step(p: Tensor | None, t: int) -> Tensor | None:
    return p if p is None or p.ndim == 1 else p[t]
