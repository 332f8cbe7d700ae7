"""Walking over the modules of a network: their names, their parameters, their input shapes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

__all__ = ["check_net", "copy_net", "input_shapes", "names_of", "parameters_behind"]

Net = TypeVar("Net", bound=nn.Module)


def check_net(net: nn.Module) -> None:
    """Refuse an argument ``net`` that is not a module."""
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module; got {type(net).__name__}")


def names_of(net: nn.Module) -> dict[nn.Module, list[str]]:
    """Every module of ``net`` with all its names; a shared module has several."""
    names: dict[nn.Module, list[str]] = {}
    for name, module in net.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    return names


def parameters_behind(module: nn.Module, name: str) -> list[nn.Parameter]:
    """The Parameters from which a module computes its attribute ``name``.

    This is the attribute itself, or the sources of a pruned or parametrized one; the list is empty for a
    buffer.
    """
    if parametrize.is_parametrized(module, name):
        parametrizations = cast(nn.ModuleDict, module.parametrizations)
        return list(parametrizations[name].parameters())
    # torch.nn.utils.prune keeps the unpruned Parameter under another name.
    value = module._parameters.get(f"{name}_orig", getattr(module, name))
    return [value] if isinstance(value, nn.Parameter) else []


def copy_net(net: Net) -> Net:
    """A deep copy of ``net``, also in the middle of a sequence."""
    # snnTorch's states are buffers that may hang on the graph of an earlier call; deepcopy refuses these.
    states = {id(buffer): buffer.detach().clone() for buffer in net.buffers() if not buffer.is_leaf}
    return copy.deepcopy(net, states)


def input_shapes(
    net: nn.Module, modules: Sequence[nn.Module], sample: Any
) -> dict[nn.Module, set[tuple[int, ...]]]:
    """Shapes of the inputs of ``modules``, without the batch, when a copy of ``net`` is run on ``sample``.

    Raises:
        ValueError: if a module is not called.
    """
    twin = copy_net(net)
    twins = dict(zip(twin.modules(), net.modules(), strict=True))
    found: dict[nn.Module, set[tuple[int, ...]]] = {module: set() for module in modules}

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x: Tensor = args[0] if args else kwargs["input_"]
        found[twins[module]].add(tuple(x.shape[1:]))

    for module, original in twins.items():
        if original in found:
            module.register_forward_pre_hook(note, with_kwargs=True)
    with torch.no_grad(), torch.random.fork_rng():
        twin(*sample) if isinstance(sample, tuple) else twin(sample)
    names = names_of(net)
    if missed := [names[module][0] for module, shapes in found.items() if not shapes]:
        raise ValueError(
            f"sample does not reach the neuron {missed[0]!r}, so the shape of its input is unknown; pass an "
            "input on which the network calls every neuron"
        )
    return found
