"""Another number of steps for a whole model: its encoder, first layer, norms, neurons and readout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import nn

from snntorch_asnn.layers import AnalogCarry
from snntorch_asnn.layers.norm_over_time import RunsNorms
from snntorch_asnn.neurons.adaptive import AdaptiveNeuron

if TYPE_CHECKING:
    from snntorch_asnn.models.base import SpikingModel

__all__ = ["check_steps", "resize_model"]


def resize_model(model: SpikingModel, num_steps: int) -> None:
    """Resample all that a model has for each step; everything is checked before anything is changed.

    Raises:
        ValueError: the number of analog steps does not allow it, or a part cannot be resampled.
    """
    check_steps(model)
    direct, before = model.encode.direct_steps, model.num_steps
    if (0 < direct < before) != (0 < direct < num_steps):
        wanted = f"above direct_steps={direct}" if direct < before else f"at most direct_steps={direct}"
        raise ValueError(
            f"num_steps must be {wanted}, as the first layer of the model was built; got {num_steps}"
        )
    parts = list(_parts(model, num_steps))
    model.encode.resize_steps(num_steps)
    for part, steps in parts:
        part.resize_steps(steps)
    model._num_steps = num_steps
    if model.recipe is not None:
        model.recipe["settings"]["num_steps"] = num_steps


def check_steps(model: SpikingModel) -> None:
    """Refuse a model whose parts are for different numbers of steps.

    Raises:
        ValueError: names the part, and what brings them together.
    """
    for module in model.modules():
        own = getattr(module, "num_steps", None)
        if own is not None and own != model.num_steps and _is_of_all_steps(module, model):
            name = next(name for name, found in model.named_modules() if found is module)
            raise ValueError(
                f"model must be for one number of steps, num_steps={model.num_steps}; got {name} for {own}:"
                " change all at once with model.resize_steps"
            )


def _is_of_all_steps(module: nn.Module, model: SpikingModel) -> bool:
    """Whether a part has something for every step of the sequence."""
    if isinstance(module, AdaptiveNeuron):
        return module.on_overrun == "raise"
    return module in (model.encode, model.encode.encoder, model.readout)


def _parts(model: SpikingModel, num_steps: int) -> Iterator[tuple[Any, int]]:
    """Each part of the network with something for each step, and the number of steps that it is to have."""
    direct = model.direct_steps
    of_copies: dict[nn.Module, int] = {}
    for layer in model.modules():
        if isinstance(layer, RunsNorms):
            of_copies |= layer.steps_of_norms(num_steps)
    encoding = set(model.encode.modules())
    for module in model.modules():
        if module in encoding or not hasattr(module, "resize_steps") or module is model:
            continue
        if isinstance(module, AdaptiveNeuron):
            if module.num_steps == model.num_steps and not (module.num_steps == 1 and _holds(module)):
                yield module, num_steps
        elif isinstance(module, AnalogCarry):
            yield module, num_steps - direct
        else:
            yield module, of_copies.get(module, num_steps)


def _holds(neuron: AdaptiveNeuron) -> bool:
    """Whether a neuron's parameters of one step are those of all."""
    return neuron.on_overrun == "hold"
