"""Anytime inference: stop computing an image as soon as the network is confident."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from snntorch_asnn._arguments import check_choice, check_count
from snntorch_asnn._torch import uncompiled
from snntorch_asnn.layers.over_time import neurons_alone, takes_sequence
from snntorch_asnn.layers.stepping import Stepping, keep_rows, private_copy
from snntorch_asnn.models.base import SpikingModel
from snntorch_asnn.neurons.traversal import check_net

__all__ = ["AnytimeResult", "anytime"]

Criterion = Literal["confidence", "entropy"]


class AnytimeResult(NamedTuple):
    """Result of :func:`anytime`."""

    logits: Tensor
    """Mean of the logits over the steps that each image ran, ``[B, classes]``."""
    steps: Tensor
    """Number of steps that each image ran, ``[B]``."""


@torch.no_grad()
def anytime(
    model: nn.Module,
    images: Tensor,
    *,
    threshold: float,
    criterion: Criterion = "confidence",
    num_steps: int | None = None,
    encode: Callable[[Tensor], Tensor] | None = None,
) -> AnytimeResult:
    r"""Classify images with as few steps as each image needs.

    After every step, images with a confident readout leave the batch, so the next step computes a smaller
    batch. An image that runs all steps gets the logits of ``model(images)``. The model and the states of its
    neurons do not change.

    A single logit :math:`o` decides between two classes with probabilities :math:`\sigma(o)` and
    :math:`1 - \sigma(o)`.

    Args:
        model: Network in evaluation mode: a model of :mod:`snntorch_asnn.models`, or a network that maps the
            input of one step ``[B, ...]`` to logits ``[B, classes]``, or to a tuple that starts with them.
            Neurons of such a network must hide their state (``init_hidden=True``).
        images: Input of the model, ``[B, ...]``.
        threshold: Smallest confidence, or largest entropy, at which an image stops.
        criterion: ``"confidence"`` is the highest probability, in (0, 1]. ``"entropy"`` is the entropy of the
            probabilities in nats, from 0 to ln(classes), or to ln(2) for a single logit.
        num_steps: Maximum number of steps. None means all steps of a model of the zoo; other models need it.
        encode: Function from images to the inputs of all steps ``[T, B, ...]``. None shows the images at
            every step. It must be None for a model of the zoo, which has its own encoding.

    Raises:
        TypeError: ``model`` is not a module.
        ValueError: ``model`` is in training mode or has neurons that cannot run step by step, or another
            argument's value does not fit.

    Example::

        >>> from snntorch_asnn.models import create_model
        >>> model = create_model("lenet", num_classes=10, num_steps=4).eval()
        >>> logits, steps = anytime(model, torch.rand(8, 3, 32, 32), threshold=0.1)
        >>> logits.shape, steps.tolist()
        (torch.Size([8, 10]), [1, 1, 1, 1, 1, 1, 1, 1])
    """
    check_net(model)
    check_choice("criterion", criterion, Criterion)
    if not (0 < threshold <= 1 if criterion == "confidence" else threshold >= 0):
        wanted = "in (0, 1]" if criterion == "confidence" else "at least 0"
        raise ValueError(f"threshold must be {wanted} for criterion={criterion!r}; got {threshold!r}")
    model = uncompiled(model)
    if model.training:
        raise ValueError("model must be in evaluation mode; got training mode; call model.eval()")
    steps_of_model, planes = _steps_of(model, images, num_steps, encode)
    active = torch.arange(planes.shape[1], device=images.device)
    steps = torch.zeros_like(active)
    logits = total = None
    with steps_of_model as run_step:
        for t, plane in enumerate(planes):
            now = run_step(plane[active])
            total = now if total is None else total + now
            mean = total / (t + 1)
            if logits is None:
                logits = mean.new_zeros(len(steps), *mean.shape[1:])
            logits[active] = mean
            steps[active] = t + 1
            unsure = ~_is_sure(mean, threshold, criterion)
            if not bool(unsure.any()):
                break
            active, total = active[unsure], total[unsure]
            run_step.keep(unsure)
    assert logits is not None
    return AnytimeResult(logits, steps)


def _is_sure(logits: Tensor, threshold: float, criterion: Criterion) -> Tensor:
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if logits.shape[-1] == 1:
        logits = torch.cat([logits, torch.zeros_like(logits)], -1)
    probabilities = logits.softmax(-1)
    if criterion == "confidence":
        return probabilities.amax(-1) >= threshold
    entropy: Tensor = torch.special.entr(probabilities).sum(-1)
    return entropy <= threshold


class _Steps(Protocol):
    """A network that runs one step at a time."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return the logits of the next step, ``[B, classes]``."""

    def keep(self, rows: Tensor) -> None:
        """Continue with some samples of the batch only."""


class _NetSteps(Stepping):
    """Run a copy of a network outside of the zoo step by step, with its own states."""

    def __init__(self, net: nn.Module) -> None:
        self.net = private_copy(net)
        super().__init__(self.net)
        for name, neuron in neurons_alone(self.net):
            if not neuron.init_hidden or takes_sequence(neuron):
                raise ValueError(
                    f"layer {name!r} of the model must hide its state (init_hidden=True) and take one step "
                    f"at a time; got {type(neuron).__name__} with init_hidden={neuron.init_hidden}"
                )

    def __call__(self, x: Tensor) -> Tensor:
        return self.run(self._logits, x)

    def _logits(self, x: Tensor) -> Tensor:
        out = self.net(x)
        logits: Tensor = out[0] if isinstance(out, tuple) else out
        return logits

    def keep(self, rows: Tensor) -> None:
        super().keep(rows)
        keep_rows(self.net, rows)


def _steps_of(
    model: nn.Module, images: Tensor, num_steps: int | None, encode: Callable[[Tensor], Tensor] | None
) -> tuple[AbstractContextManager[_Steps], Tensor]:
    """Return a stepping of the model, and the inputs of all steps ``[T, B, ...]``."""
    if num_steps is not None:
        num_steps = check_count("num_steps", num_steps)
    if isinstance(model, SpikingModel):
        if encode is not None:
            raise ValueError("encode must be None, because a model of the zoo has its own encoding")
        if num_steps is not None and num_steps > model.num_steps:
            raise ValueError(
                f"num_steps must be at most {model.num_steps}, the model's number of steps; got {num_steps}"
            )
        return model.stepping(), model.encode(images)[:num_steps]
    if encode is None:
        if num_steps is None:
            raise ValueError("num_steps must be given for a model outside of the zoo; got None")
        return _NetSteps(model), images.expand(num_steps, *images.shape)
    planes = encode(images)
    if num_steps is not None and num_steps > len(planes):
        raise ValueError(
            f"num_steps must be at most {len(planes)}, the number of steps from encode; got {num_steps}"
        )
    return _NetSteps(model), planes[:num_steps]
