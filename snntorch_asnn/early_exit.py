"""Anytime inference: stop each image as soon as the network is sure of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, cast

import torch
from snntorch import SpikingNeuron
from torch import Tensor, nn

from snntorch_asnn._arguments import check_choice, check_count
from snntorch_asnn.layers import AnalogCarry, OverTime
from snntorch_asnn.layers.hybrid_stem import TwoCopies
from snntorch_asnn.layers.norm_over_time import RunsNorms
from snntorch_asnn.layers.over_time import snntorch_neurons, spikes_of, takes_sequence
from snntorch_asnn.models.base import SpikingModel
from snntorch_asnn.neurons.adaptive import AdaptiveNeuron
from snntorch_asnn.neurons.network import check_net

__all__ = ["AnytimeResult", "anytime"]

Criterion = Literal["confidence", "entropy"]


class AnytimeResult(NamedTuple):
    """What :func:`anytime` found."""

    logits: Tensor
    """Mean of the logits over the steps that each image ran, ``[B, classes]``."""
    steps: Tensor
    """Number of those steps, ``[B]``."""


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
    r"""Classify images with as few steps as each one needs.

    After every step, images whose readout so far is sure enough leave the batch, so that the next step
    computes a smaller one. An image that runs all steps gets the logits of ``model(images)``. The model and
    the states of its neurons are left as they are. A single logit is that of one class against another:
    its probabilities are :math:`\sigma(o)` and :math:`1 - \sigma(o)`.

    Args:
        model: in evaluation mode: one of :mod:`snntorch_asnn.models`, or any network that maps one step's
            input ``[B, ...]`` to that step's logits ``[B, classes]``, or to a tuple that starts with them,
            and whose neurons hide their state (``init_hidden=True``).
        images: what the model takes, ``[B, ...]``.
        threshold: stop at a confidence of at least, or an entropy of at most this.
        criterion: ``"confidence"``, the highest probability, in (0, 1], or ``"entropy"`` of the
            probabilities, in nats, from 0 to ln(classes), or ln(2) for a single logit.
        num_steps: the most steps to run. None for all that a model of the zoo has; required for others.
        encode: from images to the inputs of all steps ``[T, B, ...]``; None shows the images in every step.
            A model of the zoo brings its own.

    Raises:
        TypeError: if ``model`` is not a module.
        ValueError: if it is in training mode or has neurons that cannot run step by step, or another
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
    model = getattr(model, "_orig_mod", model)
    if model.training:
        raise ValueError("model must be in evaluation mode; call model.eval()")
    stepper = _stepper(model, images, num_steps, encode)
    active = torch.arange(stepper.batch, device=images.device)
    logits = total = steps = None
    for t in range(stepper.num_steps):
        now = stepper(t, active)
        total = now if total is None else total + now
        mean = total / (t + 1)
        if logits is None or steps is None:
            logits = mean.new_zeros(stepper.batch, *mean.shape[1:])
            steps = torch.zeros_like(active)
        logits[active] = mean
        steps[active] = t + 1
        unsure = ~_is_sure(mean, threshold, criterion)
        if not bool(unsure.any()):
            break
        active, total = active[unsure], total[unsure]
        stepper.keep(unsure)
    assert logits is not None
    assert steps is not None
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


class _Stepper:
    """A network that runs one step at a time, on the images that are still in."""

    def __init__(self, net: nn.Module, inputs: Callable[[int, Tensor], Tensor], num_steps: int, batch: int):
        self.net = _view(net)
        self.inputs = inputs
        self.num_steps = num_steps
        self.batch = batch
        self.neurons = snntorch_neurons(self.net)
        self.advanced = [module for module in self.net.modules() if isinstance(module, _Advanced)]
        for neuron in self.neurons:
            neuron.reset_mem()

    def __call__(self, t: int, active: Tensor) -> Tensor:
        """Logits ``[B, classes]`` of step ``t``."""
        out = self.net(self.inputs(t, active))
        logits: Tensor = out[0] if isinstance(out, tuple) else out
        return logits

    def keep(self, rows: Tensor) -> None:
        """Drop the others from the states of the neurons."""
        for neuron in self.neurons:
            if isinstance(neuron, AdaptiveNeuron):
                neuron.keep_samples(rows)
                continue
            for name in neuron._non_persistent_buffers_set:
                state = getattr(neuron, name)
                if state.ndim > 0 and len(state) == len(rows):
                    neuron._buffers[name] = state[rows]
        for layer in self.advanced:
            layer.state = layer.state[rows]


class _ZooStepper(_Stepper):
    """A model of the zoo, whose layers take sequences: here of one step each."""

    net: SpikingModel

    def __init__(self, model: SpikingModel, planes: Tensor, num_steps: int):
        super().__init__(model, lambda t, active: planes[t, active], num_steps, planes.shape[1])
        modules = list(self.net.modules())
        self.in_time = [module for module in modules if isinstance(module, RunsNorms)]
        self.carries = []
        for layer in modules:
            whole = getattr(layer, "carry", None) if isinstance(layer, TwoCopies) else None
            if isinstance(whole, AnalogCarry):
                layer._modules["carry"] = carry = _StepCarry(whole)
                self.carries.append(carry)

    def __call__(self, t: int, active: Tensor) -> Tensor:
        for layer in self.in_time:
            layer.only_step = t
        logits = self.net.step_logits(self.inputs(t, active)[None])
        # The readout weighs every step on its own, so the other steps may hold anything.
        weighed: Tensor = self.net.readout.weigh(logits.expand(self.net.num_steps, *logits.shape[1:]))
        return weighed[t]

    def keep(self, rows: Tensor) -> None:
        super().keep(rows)
        for carry in self.carries:
            carry.keep(rows)


class _StepCarry(nn.Module):
    """:class:`AnalogCarry`, called for one step at a time."""

    analog: Tensor

    def __init__(self, whole: AnalogCarry) -> None:
        super().__init__()
        self.weight = whole.weight
        self.step = 0

    def forward(self, analog: Tensor, spikes: Tensor) -> Tensor:
        if len(analog):
            self.analog = analog
            return spikes
        self.step += 1
        return torch.addcmul(spikes, self.weight[self.step - 1].to(spikes.dtype), self.analog)

    def keep(self, rows: Tensor) -> None:
        self.analog = self.analog[:, rows]


def _stepper(
    model: nn.Module, images: Tensor, num_steps: int | None, encode: Callable[[Tensor], Tensor] | None
) -> _Stepper:
    if num_steps is not None:
        num_steps = check_count("num_steps", num_steps)
    if isinstance(model, SpikingModel):
        if encode is not None:
            raise ValueError("encode must be None: a model of the zoo has its own encoding")
        if num_steps is not None and num_steps > model.num_steps:
            raise ValueError(f"num_steps must be at most the model's, {model.num_steps}; got {num_steps}")
        return _ZooStepper(model, model.encode(images), num_steps or model.num_steps)
    if encode is None:
        if num_steps is None:
            raise ValueError("num_steps must be given for a model that is not of the zoo")
        return _Stepper(model, lambda _, active: images[active], num_steps, len(images))
    planes = encode(images)
    if num_steps is not None and num_steps > len(planes):
        raise ValueError(f"num_steps must be at most what encode gives, {len(planes)}; got {num_steps}")
    return _Stepper(model, lambda t, active: planes[t, active], num_steps or len(planes), planes.shape[1])


class _Continued(OverTime):
    """:class:`OverTime`, but the state goes on from one call to the next."""

    by_step: bool

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        spikes = spikes_of(self.neuron(x[0] if self.by_step else x, **options))
        return spikes[None] if self.by_step else spikes


class _Advanced(OverTime):
    """:class:`OverTime` of a neuron that is given its state and returns it, which goes on here."""

    state: Any = None

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        spikes, self.state = cast(Any, self.neuron).advance(x, self.state)
        return cast(Tensor, spikes)


def _view(net: nn.Module) -> nn.Module:
    """``net`` with the same parameters, but with neurons that keep a state of their own between calls."""
    # Whatever reaches a module, through a list too, must reach the copy's: only tensors are shared.
    shared = {id(tensor): tensor for tensor in (*net.parameters(), *net.buffers())}
    view = copy.deepcopy(net, shared)
    over_time = {name: module for name, module in view.named_modules() if isinstance(module, OverTime)}
    in_time = {inner for module in over_time.values() for inner in module.modules()}
    for name, module in view.named_modules():
        if isinstance(module, SpikingNeuron):
            _keep_state(module, name, in_time=module in in_time)
    for name, module in over_time.items():
        neurons = snntorch_neurons(module)
        if hasattr(module.neuron, "advance"):
            module.__class__ = _Advanced
            continue
        if not neurons:
            raise ValueError(f"model: {name} keeps no state, so it cannot run step by step")
        module.__class__ = _Continued
        cast(_Continued, module).by_step = not all(map(takes_sequence, neurons))
    return view


def _keep_state(neuron: Any, name: str, *, in_time: bool) -> None:
    is_adaptive = isinstance(neuron, AdaptiveNeuron)
    if is_adaptive and in_time:
        neuron.init_hidden, neuron.output = True, False
    elif not neuron.init_hidden or takes_sequence(neuron):
        raise ValueError(f"model: {name} must hide its state (init_hidden=True) and take one step at a time")
