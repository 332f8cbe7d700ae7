"""Batch norm and an adaptive neuron in one, without the tensor in between."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import fusion

from snntorch_asnn.layers.over_time import OverTime
from snntorch_asnn.layers.time_folded import TimeFolded, fold_time
from snntorch_asnn.neurons import AdaptiveLeaky
from snntorch_asnn.ops.batch_moments import Moments, NormState, batch_moments, gpu_kernels
from snntorch_asnn.ops.first_derivative import first_derivative_only

__all__ = ["NormLeaky", "fold_norm", "folded_spikes", "fuse_norm", "normed", "normed_spikes"]

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
SMALL = 1 << 17
"""Elements of float32 or float64 on a CPU, below which two layers take less time than one."""
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class NormLeaky(nn.Module):
    r"""Batch norm over time, batch and space, and the neuron behind it, as one layer.

    .. math::

        u[t] &= \beta[t]\, v[t-1] + g[t] \left( \gamma\, \frac{x[t] - \mu}{\sqrt{\sigma^2 + \epsilon}} + b
        \right)

    and spikes and reset as in :class:`~snntorch_asnn.AdaptiveLeaky`. A convolution's output is kept once for
    the backward pass, where norm and membrane are computed again; the normalised current is never written. In
    training and in evaluation it computes what the pair computes, up to rounding, and moves the same running
    averages. In half precision it is nearer to float32: what is not written is not rounded.

    Norm and neuron are its children ``norm`` and ``neuron``, so that ``adapt``, ``reset``, hooks on the
    neuron and ``nn.SyncBatchNorm.convert_sync_batchnorm`` work as on the pair; a ``state_dict`` has the keys
    of the norm behind ``norm.`` and those of the neuron behind ``neuron.``. Statistics are taken over several
    processes for an ``nn.SyncBatchNorm``, or with ``process_group``, which works on CPU and under
    DistributedDataParallel there too.

    What cannot be fused runs as the pair: a surrogate that is not from :mod:`snntorch_asnn.surrogate`,
    ``inhibition``, ``state_quant``, a neuron other than ``AdaptiveLeaky``, a norm or neuron with hooks, and
    whatever runs under :mod:`torch.func` transforms. So does an input of float32 or float64 on a CPU with
    fewer than 131,072 elements, for which the two are faster.

    Args:
        norm: ``nn.BatchNorm1d``, ``2d``, ``3d`` or ``nn.SyncBatchNorm``, over the channels of one step's
            input; a number is short for ``nn.BatchNorm2d`` of so many channels.
        neuron: ``AdaptiveLeaky`` with ``sequence=True``, or any neuron in
            :class:`~snntorch_asnn.layers.OverTime`.
        process_group: processes of :mod:`torch.distributed` whose batches count as one in training, such as
            ``torch.distributed.group.WORLD``; None leaves it to the norm.

    Shapes:
        Input ``[T, B, C]``, ``[T, B, C, L]``, ``[T, B, C, H, W]`` or ``[T, B, C, D, H, W]``, as the norm
        takes it without T. Output: what the neuron returns.

    Raises:
        TypeError: ``norm`` is no batch norm, or ``neuron`` none of the above.
        ValueError: ``neuron`` computes single steps, or an input has the wrong number of channels.

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
    ) -> None:
        super().__init__()
        norm = nn.BatchNorm2d(norm) if isinstance(norm, int) else norm
        if not isinstance(norm, nn.modules.batchnorm._BatchNorm):
            raise TypeError(f"norm must be a batch norm or a number of channels; got {type(norm).__name__}")
        if not isinstance(neuron, AdaptiveLeaky | OverTime):
            raise TypeError(f"neuron must be an AdaptiveLeaky or OverTime; got {type(neuron).__name__}")
        if isinstance(neuron, AdaptiveLeaky) and not neuron.sequence:
            raise ValueError("neuron must have sequence=True; got an AdaptiveLeaky with sequence=False")
        self.norm = norm
        self.neuron = neuron
        self.process_group = process_group

    def forward(self, x: Tensor, **options: Any) -> Any:
        """Map currents ``[T, B, C, ...]`` to what the neuron returns; ``options`` are the neuron's."""
        return normed_spikes(self.norm, self.neuron, x, process_group=self.process_group, **options)


def normed_spikes(
    norm: nn.Module,
    neuron: nn.Module,
    x: Tensor,
    channel_dim: int = 2,
    *,
    fused: bool = True,
    process_group: dist.ProcessGroup | None = None,
    **options: Any,
) -> Any:
    """Run a neuron on a sequence that a norm has normalised, as :class:`NormLeaky` does.

    Args:
        norm: the norm; anything but a batch norm runs as it is.
        neuron: the neuron.
        x: ``[T, B, C, ...]``, or ``[T, B, ..., C]`` where ``channel_dim`` is the last.
        channel_dim: 2 or the last dimension of ``x``.
        fused: False to run the one and then the other.
        process_group: see :class:`NormLeaky`.
        **options: the neuron's.

    Returns:
        What the neuron returns.
    """
    fused = fused and (process_group is not None or _pays(norm, x)) and _fuses(norm, neuron, x, channel_dim)
    if not fused and process_group is None:
        return neuron(normed(norm, x, channel_dim), **options)
    x, factor, offset = _as_affine(cast(BatchNorm, norm), x, channel_dim, process_group)
    if not fused:
        return neuron((factor * x + offset).to(x.dtype), **options)
    return neuron(x, affine=(factor, offset), **options)


def folded_spikes(layers: nn.Module, neuron: nn.Module, x: Tensor, *, fused: bool) -> Tensor:
    """Run a neuron behind ``layers``; if ``fused``, in one with the norm at the end of a ``TimeFolded``."""
    if not fused or not isinstance(layers, TimeFolded):
        return neuron(layers(x))  # type: ignore[no-any-return]
    *before, norm = layers
    for layer in before:
        x = fold_time(layer, x)
    return normed_spikes(norm, neuron, x)  # type: ignore[no-any-return]


def _fuses(norm: nn.Module, neuron: nn.Module, x: Tensor, channel_dim: int) -> bool:
    inner = neuron.neuron if isinstance(neuron, OverTime) else neuron
    if type(norm) not in _NORMS or not isinstance(inner, AdaptiveLeaky) or not inner.takes_affine:
        return False
    if any(map(_has_hooks, (norm, neuron, inner))) or x.numel() <= x.shape[channel_dim]:
        return False  # hooks are to see the normalised current, and a norm refuses a single value by itself
    if torch.compiler.is_compiling():
        return not isinstance(norm, nn.SyncBatchNorm)
    return not torch._C._are_functorch_transforms_active()


def _has_hooks(module: nn.Module) -> bool:
    return any(
        (
            module._forward_pre_hooks,
            module._forward_hooks,
            module._backward_pre_hooks,
            module._backward_hooks,
        )
    )


def _pays(norm: nn.Module, x: Tensor) -> bool:
    """Whether norm and neuron in one are faster than the two; in half precision they are also more exact."""
    if torch.compiler.is_compiling() or isinstance(norm, nn.SyncBatchNorm) or x.device.type != "cpu":
        return True
    return x.numel() >= SMALL or x.dtype not in (torch.float32, torch.float64)


def normed(norm: nn.Module, x: Tensor, channel_dim: int = 2) -> Tensor:
    """Run a norm that knows no time on a sequence, its statistics over all but the channels."""
    if channel_dim == 2:
        return fold_time(norm, x)
    return norm(x.flatten(0, -2)).view(x.shape)  # type: ignore[no-any-return]


def _as_affine(
    norm: BatchNorm, x: Tensor, channel_dim: int, group: dist.ProcessGroup | None
) -> tuple[Tensor, Tensor, Tensor]:
    """``x`` and what the norm multiplies it by and adds to it, shaped to broadcast against one step."""
    if x.shape[channel_dim] != norm.num_features:
        raise ValueError(
            f"x must have {norm.num_features} channels in dimension {channel_dim}, as its norm has; "
            f"got shape {tuple(x.shape)}"
        )
    if channel_dim == 2:
        norm._check_input_dim(x.flatten(0, 1))
    mean, variance = norm.running_mean, norm.running_var
    if norm.training or mean is None or variance is None:
        group = _joint(norm, group)
        kernels = gpu_kernels(x) if group is None else None
        if kernels is not None:
            return kernels.norm_affine(x, channel_dim, _to_move(norm))  # type: ignore[no-any-return]
        moments = batch_moments(x, channel_dim, group)
        if norm.training and norm.track_running_stats:
            _move_running_averages(norm, moments)
        x, mean, variance, _ = moments
    wide = torch.promote_types(x.dtype, torch.float32)
    given = (mean.to(wide), variance.to(wide), norm.weight, norm.bias, norm.eps)
    traced = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    shape = (-1, *(1,) * (x.ndim - channel_dim - 1))
    if traced:
        factor, offset, _ = _affine_of(*given)
        return x, factor.view(shape), offset.view(shape)
    factor, offset = _Affine.apply(*given, shape)
    return x, factor, offset


def _affine_of(
    mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """What a norm multiplies its input by and adds to it, and the inverse of the standard deviation."""
    scale = (variance + eps).rsqrt()
    factor = scale if weight is None else weight * scale
    offset = -mean * factor if bias is None else torch.addcmul(bias, mean, factor, value=-1)
    return factor, offset, scale


class _Affine(torch.autograd.Function):
    """:func:`_affine_of` as one step of autograd instead of seven, each of which would outlast its sum."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        mean, _, weight, bias, _, shape = inputs
        factor, offset, scale = _affine_of(*inputs[:5])
        ctx.save_for_backward(mean, weight, factor, scale)
        ctx.has_bias = bias is not None
        return factor.view(shape), offset.view(shape)

    @staticmethod
    @first_derivative_only("norm and neuron in one", "the one after the other")
    def backward(ctx: Any, grad_factor: Tensor, grad_offset: Tensor) -> tuple[Tensor | None, ...]:
        mean, weight, factor, scale = ctx.saved_tensors
        grad_offset = grad_offset.flatten()
        grad_factor = torch.addcmul(grad_factor.flatten(), mean, grad_offset, value=-1)
        grad_weight = None if weight is None else grad_factor * scale
        grad_variance = grad_factor * factor * scale.square() * -0.5
        grad_bias = grad_offset if ctx.has_bias else None
        return -factor * grad_offset, grad_variance, grad_weight, grad_bias, None, None


def _to_move(norm: BatchNorm) -> NormState:
    """Parameters of a norm, and its running averages if this call is to move them; counts the call."""
    running = tracked = None
    if norm.training and norm.track_running_stats:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        running = (norm.running_mean, norm.running_var)
        tracked = norm.num_batches_tracked if norm.momentum is None else None
    return NormState(norm.weight, norm.bias, running, tracked, norm.momentum or 0.0, norm.eps)


@torch.no_grad()
def _move_running_averages(norm: BatchNorm, moments: Moments) -> None:
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    unbiased = moments.variance * (moments.elements / (moments.elements - 1))
    for running, value in ((norm.running_mean, moments.mean), (norm.running_var, unbiased)):
        assert running is not None
        new = 1 / norm.num_batches_tracked.to(running.dtype) if norm.momentum is None else norm.momentum
        running.lerp_(value.to(running.dtype), new)


def _joint(norm: BatchNorm, group: dist.ProcessGroup | None) -> dist.ProcessGroup | None:
    """The processes over which a norm takes its statistics; None for this one alone."""
    if not norm.training or not dist.is_available() or not dist.is_initialized():
        return None
    if group is None and isinstance(norm, nn.SyncBatchNorm):
        group = cast("dist.ProcessGroup", norm.process_group or dist.group.WORLD)
    return group if group is not None and dist.get_world_size(group) > 1 else None


def fuse_norm(model: nn.Module, fused: bool = True) -> nn.Module:
    """Let the networks of the zoo run each norm together with the neuron behind it, or no longer.

    Nothing but the order of computation changes: modules, keys of the ``state_dict`` and, up to rounding,
    results stay as they are. Models of :func:`~snntorch_asnn.models.create_model` take ``fused=`` instead.

    Args:
        model: a model of the zoo, or a network made of its layers.
        fused: whether to.

    Returns:
        The model itself, changed in place.

    Raises:
        TypeError: ``model`` is no module.
        ValueError: ``model`` has no layers of the zoo; put :class:`NormLeaky` into it instead.

    Example::

        >>> import snntorch_asnn as asnn
        >>> model = asnn.models.create_model("spikformer_tiny", num_classes=10, num_steps=4)
        >>> model = fuse_norm(model)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}")
    layers = [module for module in model.modules() if hasattr(module, "fused")]
    if not layers:
        raise ValueError(
            "model must hold layers of the zoo, whose norms and neurons are known by name; "
            f"{type(model).__name__} holds none: build it with NormLeaky"
        )
    for module in layers:
        module.fused = fused  # type: ignore[assignment]
    return model


def fold_norm(layer: nn.Module, norm_leaky: NormLeaky) -> tuple[nn.Module, nn.Module]:
    """Fold the norm of a :class:`NormLeaky` into the convolution or linear layer before it, for inference.

    Args:
        layer: a convolution or ``nn.Linear``, in evaluation mode.
        norm_leaky: what follows it, in evaluation mode.

    Returns:
        A new layer with the norm inside, and the neuron, to be run on its output.

    Raises:
        TypeError: ``layer`` is neither, or ``norm_leaky`` no :class:`NormLeaky`.
        ValueError: one of them is in training mode, the norm has no running averages or another number of
            channels than ``layer`` puts out, or ``layer`` is a transposed convolution with groups.

    Example::

        >>> import torch
        >>> import snntorch_asnn as asnn
        >>> conv = torch.nn.Conv2d(3, 8, 3).eval()
        >>> after = NormLeaky(8, asnn.AdaptiveLeaky(0.9, num_steps=4, sequence=True)).eval()
        >>> conv, neuron = fold_norm(conv, after)
    """
    if not isinstance(norm_leaky, NormLeaky):
        raise TypeError(f"norm_leaky must be a NormLeaky; got {type(norm_leaky).__name__}")
    norm = norm_leaky.norm
    if not isinstance(layer, nn.modules.conv._ConvNd | nn.Linear):
        raise TypeError(f"layer must be a convolution or nn.Linear; got {type(layer).__name__}")
    if layer.training or norm.training:
        raise ValueError("layer and norm_leaky must be in evaluation mode; call eval() first")
    if norm.running_mean is None:
        raise ValueError("norm_leaky must have running averages; got track_running_stats=False")
    channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    if norm.num_features != channels:
        raise ValueError(
            f"norm_leaky must have the {channels} channels that layer puts out; got {norm.num_features}"
        )
    if isinstance(layer, nn.Linear):
        return fusion.fuse_linear_bn_eval(layer, norm), norm_leaky.neuron
    if layer.transposed and layer.groups > 1:
        # PyTorch lays out the weights of one group only as those of a transposed convolution.
        raise ValueError(f"layer must have groups=1 as a transposed convolution; got groups={layer.groups}")
    return fusion.fuse_conv_bn_eval(layer, norm, layer.transposed), norm_leaky.neuron
