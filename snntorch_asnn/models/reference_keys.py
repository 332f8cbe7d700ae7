"""Key names of checkpoints that published implementations write."""

from __future__ import annotations

from snntorch_asnn.layers.maps import ConvLayers
from snntorch_asnn.models.base import Copies, Place, SpikingModel

__all__ = ["same_keys"]


def same_keys(model: SpikingModel, stem: str) -> dict[str, Place]:
    """Places for a checkpoint whose keys are the model's own; ``stem`` is the prefix of the first layer.

    The first layer's two copies, if any, both take the checkpoint's one.
    """
    own = model.network_keys()
    copies = {key for key in own if key.startswith(f"{stem}direct.")}
    places: dict[str, Place] = {key: key for key in own if key not in copies}
    if copies:
        layer = model.get_submodule(stem.removesuffix("."))
        assert isinstance(layer, ConvLayers)
        for index, name in enumerate(layer.first):
            for key in [key for key in places if key.startswith(f"{stem}{name}.")]:
                suffix = key.rpartition(".")[2]
                places[key] = Copies((key, f"{stem}direct.{index}.{suffix}"))
    return places
