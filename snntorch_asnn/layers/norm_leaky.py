"""Batch norm and adaptive neuron as one layer, without the intermediate tensor."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from snntorch_asnn._torch import BatchNormBase, has_hooks, transforms_active
from snntorch_asnn.layers.norm_over_time import (
    AnyBatchNorm,
    NormOverTime,
    RunsNorms,
    check_channels,
    check_input,
    is_plain,
    is_synchronised,
    move_running_averages,
    normed,
    num_steps_of,
    own_weights,
    spread_over,
    statistics,
    statistics_group,
    steps_of,
    takes_batch_statistics,
    values_at,
)
from snntorch_asnn.layers.over_time import OverTime
from snntorch_asnn.layers.step_norm import begin_norm_over_time
from snntorch_asnn.neurons import AdaptiveLeaky
from snntorch_asnn.ops._batch_moments.moments import gpu_kernels
from snntorch_asnn.ops._batch_moments.norm_state import NormState
from snntorch_asnn.ops._first_derivative import first_derivative_only

__all__ = ["BatchNorm", "NormLeaky", "affine_of", "normed_spikes"]

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
FUSING_PAYS_FROM = 1 << 17
"""Number of float32 or float64 elements from which fusing is faster on a CPU."""


class NormLeaky(RunsNorms, nn.Module):
    r"""Batch norm of a sequence and the neuron after it, as one layer.

    .. math::

        u[t] &= \beta[t]\, v[t-1] + g[t] \left( \gamma\, \frac{x[t] - \mu}{\sqrt{\sigma^2 + \epsilon}} + b
        \right)

    Spikes and reset are as in :class:`~snntorch_asnn.AdaptiveLeaky`. Autograd saves only the input: the
    backward pass recomputes norm and membrane, and the normalised current is never stored. Up to rounding,
    the layer computes the same as norm and neuron one after the other, and updates the same running averages.
    In half precision it is closer to float32, because the normalised current is not rounded.

    Norm and neuron are the children ``norm`` and ``neuron``. So ``adapt``, ``reset``, hooks on the neuron and
    ``nn.SyncBatchNorm.convert_sync_batchnorm`` work as usual, and the keys of the ``state_dict`` begin with
    ``norm.`` and ``neuron.``. Statistics are taken over several processes with an ``nn.SyncBatchNorm`` or
    with ``process_group``, which also works on a CPU and under DistributedDataParallel.

    Norm and neuron run one after the other if they cannot be fused: if the surrogate is not from
    :mod:`snntorch_asnn.surrogate`, with ``inhibition`` or ``state_quant``, with a neuron other than
    ``AdaptiveLeaky``, with hooks on norm or neuron, and under :mod:`torch.func` transforms. They also run
    one after the other if that is faster: for a float32 or float64 input on a CPU with fewer than 131,072
    elements, and for training on a GPU without Triton or in float64.

    Args:
        norm: ``nn.BatchNorm1d``, ``2d``, ``3d`` or ``nn.SyncBatchNorm`` over the channels of one step's
            input, or a :class:`~snntorch_asnn.layers.StepBatchNorm`. An integer is the number of channels of
            a new norm, which takes any of the shapes below.
        neuron: ``AdaptiveLeaky`` with ``sequence=True``, or any neuron in
            :class:`~snntorch_asnn.layers.OverTime`.
        process_group: Processes of :mod:`torch.distributed` whose joint batch gives the statistics in
            training, for example ``torch.distributed.group.WORLD``. None leaves the choice to the norm.
        norm_over_time: Which steps the norm takes its statistics from, see
            :func:`~snntorch_asnn.layers.set_norm_over_time`. None means ``"pooled"``, or the kind of a
            given :class:`~snntorch_asnn.layers.StepBatchNorm`.
        num_steps: Number of steps T, for ``"step_statistics"`` and ``"step"``. None takes the neuron's.
        channel_dim: Dimension of the channels: 2, or -1 for channels last, as in tokens.
        fused: False runs norm and neuron one after the other, see
            :func:`~snntorch_asnn.layers.fuse_norm`.

    Shapes:
        Input: ``[T, B, C]``, ``[T, B, C, L]``, ``[T, B, C, H, W]`` or ``[T, B, C, D, H, W]``, which is the
        norm's input shape after T; ``[T, B, ..., C]`` with ``channel_dim=-1``. Output: as the neuron's.

    Raises:
        TypeError: ``norm`` is not a batch norm, or ``neuron`` is not one of the neurons above.
        ValueError: ``neuron`` computes single steps, ``norm_over_time`` is unknown, ``channel_dim`` is
            neither 2 nor -1, or an input has the wrong number of dimensions, channels or steps.

    Example::

        >>> import torch
        >>> import snntorch_asnn as asnn
        >>> layer = NormLeaky(8, asnn.AdaptiveLeaky(0.9, num_steps=4, sequence=True))
        >>> spikes, mem = layer(torch.rand(4, 2, 8, 16, 16))
        >>> spikes.shape
        torch.Size([4, 2, 8, 16, 16])
        >>> [name for name, _ in layer.named_parameters()]
        ['norm.weight', 'norm.bias', 'neuron.beta', 'neuron.gain']
    """

    def __init__(
        self,
        norm: int | BatchNorm,
        neuron: AdaptiveLeaky | OverTime,
        *,
        process_group: dist.ProcessGroup | None = None,
        norm_over_time: NormOverTime | None = None,
        num_steps: int | None = None,
        channel_dim: Literal[2, -1] = 2,
        fused: bool = True,
    ) -> None:
        super().__init__()
        if channel_dim not in (2, -1):
            raise ValueError(f"channel_dim must be 2, or -1 for channels last; got {channel_dim!r}")
        norm = AnyBatchNorm(norm) if isinstance(norm, int) else norm
        if not isinstance(norm, BatchNormBase):
            raise TypeError(f"norm must be a batch norm or a number of channels; got {type(norm).__name__}")
        if not isinstance(neuron, AdaptiveLeaky | OverTime):
            raise TypeError(f"neuron must be an AdaptiveLeaky or OverTime; got {type(neuron).__name__}")
        if isinstance(neuron, AdaptiveLeaky) and not neuron.sequence:
            raise ValueError("neuron must have sequence=True; got an AdaptiveLeaky with sequence=False")
        self.norm = norm
        self.neuron = neuron
        self.process_group = process_group
        self.channel_dim = channel_dim
        self.fused = fused
        inner = neuron.neuron if isinstance(neuron, OverTime) else neuron
        begin_norm_over_time(self, norm_over_time, num_steps or getattr(inner, "num_steps", None))

    def forward(self, x: Tensor, **options: Any) -> Any:
        """Map currents ``[T, B, C, ...]`` to the neuron's output; ``options`` go to the neuron."""
        return normed_spikes(
            self.norm,
            self.neuron,
            x,
            2 if self.channel_dim == 2 else x.ndim - 1,
            fused=self.fused,
            over_time=self.norm_over_time,
            norm_step=self._first_step(len(x), options.get("step")),
            process_group=self.process_group,
            **options,
        )

    def extra_repr(self) -> str:
        """Show ``fused=False``."""
        return "" if self.fused else "fused=False"

    def _first_step(self, steps: int, given: int | None) -> int | None:
        """First step of the input if it is part of a sequence; None for a whole sequence."""
        if given is not None or self.only_step is not None:
            return self.only_step if given is None else given
        if num_steps_of(self.norm) in (None, steps):
            return None
        if isinstance(self.neuron, AdaptiveLeaky) and self.neuron.init_hidden:
            return self.neuron.step
        return None


def normed_spikes(
    norm: nn.Module,
    neuron: nn.Module,
    x: Tensor,
    channel_dim: int = 2,
    *,
    fused: bool = True,
    over_time: NormOverTime = "pooled",
    norm_step: int | None = None,
    process_group: dist.ProcessGroup | None = None,
    **options: Any,
) -> Any:
    """Normalise a sequence and run a neuron on it, as :class:`NormLeaky` does.

    Args:
        norm: Norm. Anything but a batch norm is applied unchanged.
        neuron: Neuron.
        x: Input ``[T, B, C, ...]``, or ``[T, B, ..., C]`` if ``channel_dim`` is the last dimension.
        channel_dim: 2 or the last dimension of ``x``.
        fused: False runs norm and neuron one after the other.
        over_time: Which steps the norm takes its statistics from.
        norm_step: First step of ``x``, counted in the norm's steps, if ``x`` is part of a sequence.
        process_group: See :class:`NormLeaky`.
        **options: Passed to the neuron.

    Returns:
        Output of the neuron.
    """
    fused = fused and _fuses(norm, neuron, x, channel_dim, over_time)
    fused = fused and (process_group is not None or _pays(cast(BatchNorm, norm), x))
    if not fused and process_group is None:
        return neuron(normed(norm, x, channel_dim, over_time, norm_step), **options)
    x, factor, offset = _as_affine(cast(BatchNorm, norm), x, channel_dim, over_time, norm_step, process_group)
    if not fused:
        return neuron((factor * x + offset).to(x.dtype), **options)
    return neuron(x, affine=(factor, offset), **options)


def _fuses(norm: nn.Module, neuron: nn.Module, x: Tensor, channel_dim: int, over_time: NormOverTime) -> bool:
    inner = neuron.neuron if isinstance(neuron, OverTime) else neuron
    if not is_plain(norm) or not isinstance(inner, AdaptiveLeaky) or not inner.takes_affine:
        return False
    together = x if over_time == "pooled" else x[:1]
    if any(map(has_hooks, (norm, neuron, inner))) or together.numel() <= x.shape[channel_dim]:
        return False  # Hooks must see the normalised current; for a single value, the norm itself raises.
    if torch.compiler.is_compiling():
        return not is_synchronised(norm)
    return not transforms_active()


def _pays(norm: BatchNorm, x: Tensor) -> bool:
    """Whether fusing is faster, or in half precision more exact."""
    if torch.compiler.is_compiling() or is_synchronised(norm):
        return True
    if x.device.type != "cpu":
        # Without Triton kernels, the norm's backward pass costs more memory traffic than fusing saves.
        return gpu_kernels(x) is not None or not takes_batch_statistics(norm)
    return x.numel() >= FUSING_PAYS_FROM or x.dtype not in (torch.float32, torch.float64)


def _as_affine(
    norm: BatchNorm,
    x: Tensor,
    channel_dim: int,
    over_time: NormOverTime,
    step: int | None,
    group: dist.ProcessGroup | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``x`` and the norm's factor and offset, which all steps share or which are ``[T, 1, ...]``."""
    if channel_dim == 2:
        check_input(norm, x)
    check_channels(norm, x, channel_dim)
    group = statistics_group(norm, group)
    kernels = gpu_kernels(x) if group is None and takes_batch_statistics(norm) else None
    if kernels is not None:
        return _as_affine_in_kernels(kernels, norm, x, channel_dim, over_time, step)
    x, mean, variance, weight, bias = statistics(norm, x, channel_dim, over_time, step, group)
    if torch.compiler.is_compiling() or transforms_active():
        factor, offset, _ = affine_of(mean, variance, weight, bias, norm.eps)
    else:
        factor, offset = _Affine.apply(mean, variance, weight, bias, norm.eps)
    return x, spread_over(factor, x, channel_dim), spread_over(offset, x, channel_dim)


def _as_affine_in_kernels(
    kernels: ModuleType,
    norm: BatchNorm,
    x: Tensor,
    channel_dim: int,
    over_time: NormOverTime,
    step: int | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Do the work of :func:`_as_affine` for batch statistics in Triton kernels."""
    span = steps_of(norm, over_time, len(x), step)
    if over_time == "pooled":
        return kernels.norm_affine(x, channel_dim, _norm_state(norm))  # type: ignore[no-any-return]
    weight, bias = (None if p is None else values_at(p, span) for p in own_weights(norm))
    shared = weight is None or weight.ndim == 1
    # Averages that start at 0 and are updated with momentum 1 are the moments themselves.
    moves = norm.training and norm.track_running_stats
    moments = x.new_zeros(2, len(x), norm.num_features, dtype=torch.float32) if moves else None
    state = NormState(
        weight if shared else None,
        bias if shared else None,
        None if moments is None else (moments[0], moments[1]),
        None,
        1.0,
        norm.eps,
    )
    x, factor, offset = kernels.norm_affine(x, channel_dim, state, each_step=True)
    if moments is not None:
        move_running_averages(norm, moments[0], moments[1], span)
    factor, offset = factor.flatten(1), offset.flatten(1)
    if not shared:
        factor, offset = factor * weight, offset * weight if bias is None else offset * weight + bias
    return x, spread_over(factor, x, channel_dim), spread_over(offset, x, channel_dim)


def _norm_state(norm: BatchNorm) -> NormState:
    """Return a norm's parameters, with its running averages if this call updates them; count the call."""
    running = tracked = None
    if norm.training and norm.track_running_stats:
        counts = cast(Tensor, norm.num_batches_tracked)
        counts.add_(1)
        running = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
        tracked = counts if norm.momentum is None else None
    return NormState(norm.weight, norm.bias, running, tracked, norm.momentum or 0.0, norm.eps)


def affine_of(
    mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a norm's factor, offset and inverse standard deviation."""
    scale = (variance + eps).rsqrt()
    factor = scale if weight is None else weight * scale
    offset = -mean * factor if bias is None else torch.addcmul(bias, mean, factor, value=-1)
    return factor, offset, scale


class _Affine(torch.autograd.Function):
    """:func:`affine_of` as one autograd node instead of seven, whose overhead would exceed the arithmetic."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        mean, _, weight, bias, _ = inputs
        factor, offset, scale = affine_of(*inputs)
        ctx.save_for_backward(mean, weight, factor, scale)
        ctx.bias_shape = None if bias is None else bias.shape
        return factor, offset

    @staticmethod
    @first_derivative_only("a fused NormLeaky", "unfuse_norm(model)")
    def backward(ctx: Any, grad_factor: Tensor, grad_offset: Tensor) -> tuple[Tensor | None, ...]:
        mean, weight, factor, scale = ctx.saved_tensors
        grad_factor = torch.addcmul(grad_factor, mean, grad_offset, value=-1)
        grad_weight = None if weight is None else (grad_factor * scale).sum_to_size(weight.shape)
        grad_variance = grad_factor * factor * scale.square() * -0.5
        grad_bias = None if ctx.bias_shape is None else grad_offset.sum_to_size(ctx.bias_shape)
        return -factor * grad_offset, grad_variance, grad_weight, grad_bias, None
