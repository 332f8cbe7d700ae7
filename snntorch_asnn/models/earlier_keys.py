"""Convert files of earlier versions to the current keys and shapes."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from torch import Tensor, nn

__all__ = ["current_key", "is_pointwise", "take_earlier_keys"]


def take_earlier_keys(model: nn.Module, tensors: MutableMapping[str, Any], prefix: str = "") -> None:
    """Convert the keys and shapes of an earlier version's file to the current ones, in place.

    In earlier versions, some linear layers stored their weights in the shape of 1×1 convolutions.

    Args:
        model: Model whose :meth:`~snntorch_asnn.models.SpikingModel.earlier_keys` lists the old keys.
        tensors: Tensors of the file.
        prefix: Prefix of the model's keys in the file.
    """
    earlier: Mapping[str, str] = getattr(model, "earlier_keys", dict)()
    own = model.state_dict() if earlier else {}
    for old in [key for key in tensors if key.startswith(prefix)]:
        key = current_key(earlier, old.removeprefix(prefix))
        if prefix + key == old:
            continue
        value = tensors.pop(old)
        if isinstance(value, Tensor) and key in own and is_pointwise(value, own[key]):
            value = value.flatten(1)
        tensors[prefix + key] = value


def current_key(earlier: Mapping[str, str], key: str) -> str:
    """Return the current name of a key, or the key itself if it is not an earlier one.

    Args:
        earlier: Old keys, or prefixes that end in a dot, with their current names.
        key: Key of any version.
    """
    if key in earlier:
        return earlier[key]
    end = key.rfind(".")
    while end >= 0:
        if key[: end + 1] in earlier:
            return earlier[key[: end + 1]] + key[end + 1 :]
        end = key.rfind(".", 0, end)
    return key


def is_pointwise(value: Tensor, linear: Tensor) -> bool:
    """Whether a tensor is the weight of a 1×1 convolution that fits a linear layer."""
    return linear.ndim == 2 and value.ndim > 2 and value.shape == (*linear.shape, *[1] * (value.ndim - 2))
