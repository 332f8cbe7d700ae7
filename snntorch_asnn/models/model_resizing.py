"""Another number of steps for a whole model: its encoder, first layer, norms, neurons and readout."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from snntorch_asnn.layers import AnalogCarry
from snntorch_asnn.layers.norm_over_time import RunsNorms
from snntorch_asnn.models.earlier_keys import take_earlier_keys
from snntorch_asnn.neurons.adaptive import AdaptiveNeuron

if TYPE_CHECKING:
    from snntorch_asnn.models.base import SpikingModel

__all__ = ["check_steps", "resize_model", "resized_state", "steps_of_state"]


def resize_model(model: SpikingModel, num_steps: int) -> None:
    """Resample all that a model has for each step; everything is checked before anything is changed.

    Raises:
        ValueError: The number of analog steps does not allow it, or a part cannot be resampled.
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


def steps_of_state(model: SpikingModel, state: Mapping[str, Any], prefix: str = "") -> int:
    """Number of steps of the model that a state dict is of; the model's own where nothing tells.

    Args:
        model: A model of the same architecture.
        state: The state dict.
        prefix: Beginning of the model's keys in it.
    """
    names = {module: name for name, module in model.named_modules()}
    for part, steps in _parts(model, model.num_steps):
        if steps != model.num_steps or isinstance(part, AnalogCarry):
            continue
        if isinstance(part, AdaptiveNeuron) and f"{prefix}{names[part]}.gain" not in state:
            continue  # one of snnTorch's, whose values are for all steps
        for key, own in part.state_dict().items():
            found = state.get(f"{prefix}{names[part]}.{key}")
            if isinstance(found, Tensor) and 0 < own.ndim == found.ndim and own.shape[1:] == found.shape[1:]:
                return len(found)
    return model.num_steps


def resized_state(
    model: SpikingModel, state: Mapping[str, Any], strict: bool
) -> tuple[dict[str, Tensor], Any]:
    """A state dict of another number of steps, resampled to the model's.

    Returns:
        The resampled tensors, and what ``load_state_dict`` says of the keys.

    Raises:
        RuntimeError: The state dict does not fit the model in anything but the number of steps.
        ValueError: The model cannot have the state dict's number of steps.
    """
    state = dict(state)
    take_earlier_keys(model, state)
    twin = copy.deepcopy(model)
    resize_model(twin, steps_of_state(model, state))
    result = twin.load_state_dict(state, strict=strict)
    resize_model(twin, model.num_steps)
    tensors = {key: value for key, value in twin.state_dict().items() if key not in result.missing_keys}
    return tensors, result


def check_steps(model: SpikingModel) -> None:
    """Refuse a model whose parts are for different numbers of steps.

    Raises:
        ValueError: Names the part, and what brings them together.
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
