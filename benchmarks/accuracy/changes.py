"""Single changes to a hybrid-coded network that were tried to reach the accuracy of direct coding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from snntorch_asnn import AdaptiveLeaky, spikegen
from snntorch_asnn.encoding import Encoder
from snntorch_asnn.layers import HybridStem, NormLeaky
from snntorch_asnn.surrogate import sigmoid

Loss = Callable[[Tensor, Tensor], Tensor]
FASHION_MOMENTS = 0.286, 0.353


def mean_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the mean over steps, ``[T, B, C]``."""
    return functional.cross_entropy(logits.mean(0), labels)


def tet_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over steps of the cross-entropy of each."""
    return functional.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)))


@dataclass(frozen=True)
class Change:
    """What is different: the encoder, arguments of the model, the built model, or the loss."""

    about: str
    encode: Callable[[str, int], nn.Module] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    rebuild: Callable[[nn.Module], None] | None = None
    loss: Loss = mean_loss


class PhaseNorms(nn.Module):
    """A batch norm for the analog steps and one for the others, on ``[T * B, ...]``."""

    def __init__(self, norm: nn.Module, groups: list[int]) -> None:
        super().__init__()
        self.groups = groups
        self.norms = nn.ModuleList(type(norm)(norm.num_features) for _ in groups)

    def forward(self, x: Tensor) -> Tensor:
        batch = len(x) // sum(self.groups)
        parts = x.split([steps * batch for steps in self.groups])
        return torch.cat([norm(part) for norm, part in zip(self.norms, parts, strict=True)])


def _norms_by_phase(model: nn.Module) -> None:
    analog = model.direct_steps
    for name, layer in model.named_children():
        if name != "conv1":  # which has one for each
            for pair in layer.modules():
                if isinstance(pair, NormLeaky):
                    pair.norm = PhaseNorms(pair.norm, [analog, model.num_steps - analog])


class ShownOnce(nn.Module):
    """Stem that computes the current of the image once and repeats it, weighed by step, without spikes."""

    def __init__(self, stem: HybridStem) -> None:
        super().__init__()
        self.direct, self.carry = stem.direct, stem.carry

    def forward(self, planes: Tensor) -> Tensor:
        analog = self.direct(planes[:1])
        return torch.cat([analog, self.carry(analog, torch.zeros_like(analog))])


def _without_spikes(model: nn.Module) -> None:
    model.conv1.conv_norm = ShownOnce(model.conv1.conv_norm)


def _carry_from(start: float, learn: bool, model: nn.Module) -> None:
    nn.init.constant_(model.conv1.conv_norm.carry.weight, start).requires_grad_(learn)


class LearnedLevels(nn.Module):
    """Hybrid code whose levels are learned, through a surrogate of slope 20 at each."""

    direct_steps = 1

    def __init__(self, num_steps: int) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.bins = nn.Parameter(torch.zeros(num_steps))
        self.fire = sigmoid(20.0)

    def forward(self, images: Tensor) -> Tensor:
        levels = 1 - self.bins.softmax(0).cumsum(0)[:-1]
        reached = self.fire(images - levels.view(-1, 1, 1, 1, 1))
        first = torch.cat([reached[:1], reached[1:] - reached[:-1]])
        return torch.cat([images[None], first])


class Cumulative(nn.Module):
    """Hybrid code in which a pixel keeps firing."""

    direct_steps = 1

    def __init__(self, code: str, num_steps: int) -> None:
        super().__init__()
        self.num_steps, self.code = num_steps, spikegen.get_code(code)

    def forward(self, images: Tensor) -> Tensor:
        planes = self.code(images, self.num_steps)
        return torch.cat([planes[:1], planes[1:].cumsum(0)])


def _encoder(code: str, num_steps: int, **options: Any) -> nn.Module:
    return Encoder(num_steps, code=code, **options)


def _start(num_steps: int, threshold: float, feature_shape: tuple[int, ...], **values: float) -> nn.Module:
    neuron = AdaptiveLeaky.paper(num_steps, threshold=threshold, feature_shape=feature_shape, sequence=True)
    with torch.no_grad():
        for name, value in values.items():
            getattr(neuron, name).fill_(value)
    return neuron


def _starting_at(**values: float) -> Callable[..., nn.Module]:
    def build(num_steps: int, threshold: float, feature_shape: tuple[int, ...]) -> nn.Module:
        return _start(num_steps, threshold, feature_shape, **values)

    return build


def _not_learned(num_steps: int, threshold: float, feature_shape: tuple[int, ...]) -> nn.Module:
    neuron = _start(num_steps, threshold, feature_shape)
    return neuron.requires_grad_(False)


_QUANTILE = {"levels": "quantile", "squash": "sigmoid"}
_CARRY = {"carry": True}
CHANGES: dict[str, Change] = {
    "quantile": Change(
        "quantile levels, after standardisation and sigmoid",
        encode=partial(_encoder, normalize=FASHION_MOMENTS, **_QUANTILE),
    ),
    "quantile_layer": Change(
        "quantile levels, after LayerNorm and sigmoid",
        encode=partial(_encoder, normalize="layer", **_QUANTILE),
    ),
    "learned_levels": Change("learned levels", encode=lambda code, steps: LearnedLevels(steps)),
    "cumulative": Change("pixels keep firing after their first spike", encode=Cumulative),
    "step_norm": Change("one batch norm per step", settings={"norm_over_time": "step"}),
    "phase_norm": Change("one batch norm for the analog step, one for the others", rebuild=_norms_by_phase),
    "carry": Change("carried current, learned weight per step, initially 1", settings=_CARRY),
    "carry_half": Change(
        "carried current, learned weight per step, initially 0.5",
        settings=_CARRY,
        rebuild=partial(_carry_from, 0.5, True),
    ),
    "carry_fixed": Change(
        "carried current, fixed weight 1", settings=_CARRY, rebuild=partial(_carry_from, 1.0, False)
    ),
    "carry_only": Change(
        "carried current without spikes: direct coding whose first layer is computed once",
        settings=_CARRY,
        rebuild=_without_spikes,
    ),
    "channel": Change("leak and gain per channel", settings={"sharing": "channel"}),
    "tet": Change("loss at every step (TET)", loss=tet_loss),
    "gain_1": Change("input gain starts at 1", settings={"neuron": _starting_at(gain=1.0)}),
    "beta_1": Change("leak starts at 1", settings={"neuron": _starting_at(beta=1.0)}),
    "mean_readout": Change("readout without weights", settings={"readout": "mean"}),
    "not_learned": Change("leak and gain stay at 0.5", settings={"neuron": _not_learned}),
}


def split(change: str) -> list[Change]:
    """``"carry+step_norm"`` as its parts."""
    return [CHANGES[name] for name in change.split("+") if name]


def build(create: Callable[..., nn.Module], change: str, name: str, **settings: Any) -> nn.Module:
    parts = split(change)
    for part in parts:
        settings |= part.settings
        if part.encode is not None:
            settings["encoding"] = part.encode(settings["encoding"], settings["num_steps"])
    model = create(name, **settings)
    for part in parts:
        if part.rebuild is not None:
            part.rebuild(model)
    return model


def criterion(change: str) -> Loss:
    losses = [part.loss for part in split(change) if part.loss is not mean_loss]
    return losses[0] if losses else mean_loss
