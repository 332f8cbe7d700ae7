"""Change the number of steps of a whole model: encoder, first layer, norms, neurons and readout."""

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
    """Resample all parts of a model that depend on the step, after checking that this is possible.

    Raises:
        ValueError: The number of analog steps does not allow it, or a part cannot be resampled.
    """
    check_steps(model)
    direct, before = model.encode.direct_steps, model.num_steps
    if (0 < direct < before) != (0 < direct < num_steps):
        wanted = f"above direct_steps={direct}" if direct < before else f"at most direct_steps={direct}"
        raise ValueError(
            f"num_steps must be {wanted}, because the first layer was built for that; got {num_steps}"
        )
    parts = list(_parts(model, num_steps))
    model.encode.resize_steps(num_steps)
    for part, steps in parts:
        part.resize_steps(steps)
    model._num_steps = num_steps
    if model.recipe is not None:
        model.recipe["settings"]["num_steps"] = num_steps


def steps_of_state(model: SpikingModel, state: Mapping[str, Any], prefix: str = "") -> int:
    """Return the number of steps in a state dict, or the model's own if no tensor shows it.

    Args:
        model: Model of the same architecture.
        state: The state dict.
        prefix: Prefix of the model's keys in it.
    """
    names = {module: name for name, module in model.named_modules()}
    for part, steps in _parts(model, model.num_steps):
        if steps != model.num_steps or isinstance(part, AnalogCarry):
            continue
        if isinstance(part, AdaptiveNeuron) and f"{prefix}{names[part]}.gain" not in state:
            continue  # A snnTorch neuron's values hold for all steps.
        for key, own in part.state_dict().items():
            found = state.get(f"{prefix}{names[part]}.{key}")
            if isinstance(found, Tensor) and 0 < own.ndim == found.ndim and own.shape[1:] == found.shape[1:]:
                return len(found)
    return model.num_steps


def resized_state(
    model: SpikingModel, state: Mapping[str, Any], strict: bool
) -> tuple[dict[str, Tensor], Any]:
    """Resample a state dict to the model's number of steps.

    Returns:
        The resampled tensors, and the missing and unexpected keys.

    Raises:
        RuntimeError: The state dict does not fit the model, even apart from the number of steps.
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
    """Refuse a model whose parts have different numbers of steps.

    Raises:
        ValueError: A part has another number of steps than the model. The message names the part.
    """
    for module in model.modules():
        own = getattr(module, "num_steps", None)
        if own is not None and own != model.num_steps and _is_of_all_steps(module, model):
            name = next(name for name, found in model.named_modules() if found is module)
            raise ValueError(
                f"all parts of the model must have num_steps={model.num_steps}; got {name} with "
                f"num_steps={own}; change them together with model.resize_steps"
            )


def _is_of_all_steps(module: nn.Module, model: SpikingModel) -> bool:
    """Whether a part has values for every step of the sequence."""
    if isinstance(module, AdaptiveNeuron):
        return module.on_overrun == "raise"
    return module in (model.encode, model.encode.encoder, model.readout)


def _parts(model: SpikingModel, num_steps: int) -> Iterator[tuple[Any, int]]:
    """Yield each part of the network that depends on the step, and the part's new number of steps."""
    direct = model.direct_steps
    steps_in_copies: dict[nn.Module, int] = {}
    for layer in model.modules():
        if isinstance(layer, RunsNorms):
            steps_in_copies |= layer.steps_of_norms(num_steps)
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
            yield module, steps_in_copies.get(module, num_steps)


def _holds(neuron: AdaptiveNeuron) -> bool:
    """Whether a neuron uses the parameters of one step at all steps."""
    return neuron.on_overrun == "hold"
