"""Key names in checkpoints of published implementations and of earlier versions of this package."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from torch import nn

from snntorch_asnn._torch import BatchNormBase
from snntorch_asnn.layers import HybridStem, OverTime
from snntorch_asnn.models.base import Copies, SpikingModel, TargetKeys

__all__ = [
    "Published",
    "PublishedModel",
    "attention_names",
    "before_neuron",
    "mlp_names",
    "published",
    "reference_keys",
]


class Published(NamedTuple):
    """Published names of a convolution or linear layer, its norm and its neuron."""

    layer: str
    norm: str
    neuron: str


def published(pattern: str, layer: str = "conv", norm: str = "bn", neuron: str = "lif") -> Published:
    """Return names that differ in one word, marked by ``*`` in the pattern.

    Example::

        >>> published("block.0.attn.q_*", layer="linear").layer
        'block.0.attn.q_linear'
    """
    return Published(*(pattern.replace("*", word) for word in (layer, norm, neuron)))


def before_neuron(pattern: str, neuron: str) -> Published:
    """Return names of a convolution, its norm and its neuron, which is published with the next layer."""
    return published(pattern)._replace(neuron=neuron)


def attention_names(
    path: str, name: str, inputs: str = "qkv", *, kind: str = "conv", spike_first: bool = False
) -> dict[str, Published]:
    """Return the published names of an attention's layers.

    Args:
        path: Path of the attention in the model.
        name: Name of the attention in the checkpoint.
        inputs: Names of the input layers, one letter each.
        kind: Word for a linear layer in the checkpoint.
        spike_first: See :class:`~snntorch_asnn.layers.SpikingSelfAttention`.
    """
    names = {f"{path}.{layer}": published(f"{name}.{layer}_*", kind) for layer in (*inputs, "proj")}
    names[f"{path}.attn_spike"] = published(f"{name}.attn_lif")
    if spike_first:
        names[f"{path}.spike"] = published(f"{name}.proj_lif")
    return names


def mlp_names(
    path: str, name: str, layers: str = "fc", *, kind: str = "conv", spike_first: bool = False
) -> dict[str, Published]:
    """Return the published names of an MLP's two layers, which begin with ``layers``.

    The other arguments are as in :func:`attention_names`.
    """
    first, second = (f"{name}.{layers}{index}_*" for index in (1, 2))
    names = {f"{path}.fc1": published(first, kind), f"{path}.fc2": published(second, kind)}
    if spike_first:
        names[f"{path}.spike"] = published(f"{name}.{layers}1_lif")
        names[f"{path}.fc1"] = before_neuron(first, f"{name}.{layers}2_lif")
    return names


class PublishedModel(SpikingModel):
    """Model whose layers have other names in published checkpoints and in version 0.0 of this package.

    A subclass implements ``_published_names``.
    """

    @abstractmethod
    def _published_names(self) -> list[dict[str, Published]]:
        """Return the published names of layers by their path in the model, one table per published code.

        Paths that this model does not have are ignored.
        """

    def reference_keys(self) -> dict[str, TargetKeys]:
        """Return the keys that receive each tensor of a published checkpoint."""
        targets: dict[str, TargetKeys] = {}
        for names in self._published_names():
            targets |= reference_keys(self, names)
        return targets

    def earlier_keys(self) -> dict[str, str]:
        """Return the keys of version 0.0 with their current names."""
        keys: dict[str, str] = {}
        for names in self._published_names():
            keys |= _earlier_keys(self, names)
        return keys


def reference_keys(model: SpikingModel, names: Mapping[str, Published]) -> dict[str, TargetKeys]:
    """Return the keys that receive each tensor of a published checkpoint.

    If the first layer has two copies, both receive the checkpoint's tensors.

    Args:
        model: The model.
        names: Published names of the layers by their path in the model.
    """
    suffixes: dict[str, list[str]] = {}
    for key in model.network_keys():
        path, _, suffix = key.rpartition(".")
        suffixes.setdefault(path, []).append(suffix)
    targets: dict[str, TargetKeys] = {}
    for path, name, copy in _modules(model, names):
        for suffix in suffixes.get(path, ()):
            key = f"{path}.{suffix}"
            targets[f"{name}.{suffix}"] = key if copy is None else Copies((key, f"{copy}.{suffix}"))
    return targets


def _earlier_keys(model: SpikingModel, names: Mapping[str, Published]) -> dict[str, str]:
    """Return prefixes of keys in files of version 0.0 with their current names."""
    found: dict[str, str] = {}
    for path, name, copy in _modules(model, names):
        found[f"{name}."] = f"{path}."
        if copy is not None:
            above = name.rpartition(".")[0] + "." if "." in name else ""
            stem, _, part = copy.rpartition(".direct.")
            found[f"{above}direct.{int(part == 'norm')}."] = f"{copy}."
            found[f"{above}carry."] = f"{stem}.carry."
    return {before: now for before, now in found.items() if before != now}


_Named = tuple[str, str, str | None]
"""Path of a layer, norm or neuron in the model, its published name, and the path of its second copy."""


def _modules(model: SpikingModel, names: Mapping[str, Published]) -> Iterator[_Named]:
    units = dict(model.named_modules())
    for path, unit in names.items():
        if path in units:
            yield from _parts(units[path], path, unit)


def _parts(module: nn.Module, path: str, names: Published) -> Iterator[_Named]:
    if isinstance(module, HybridStem):
        for part, name in (("conv", names.layer), ("norm", names.norm)):
            yield f"{path}.spike.{part}", name, f"{path}.direct.{part}"
    elif isinstance(module, nn.Conv2d | nn.Linear):
        yield path, names.layer, None
    elif isinstance(module, BatchNormBase):
        yield path, names.norm, None
    elif isinstance(module, OverTime):
        yield path, names.neuron, None
    else:
        for child, inner in module.named_children():
            yield from _parts(inner, f"{path}.{child}", names)
