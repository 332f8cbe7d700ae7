"""Weights of files that earlier versions wrote, under today's keys."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from torch import Tensor, nn

__all__ = ["current_key", "is_pointwise", "take_earlier_keys"]


def take_earlier_keys(model: nn.Module, tensors: MutableMapping[str, Any], prefix: str = "") -> None:
    """Give tensors of an earlier version's file the keys and shapes of today, in place.

    Weights of linear layers once had the shape of convolutions with kernel size 1 in some networks.

    Args:
        model: Whose :meth:`~snntorch_asnn.models.SpikingModel.earlier_keys` say which keys those are.
        tensors: The file's.
        prefix: Beginning of the model's keys in the file.
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
    """What a key is called today; the key itself if it is no earlier one.

    Args:
        earlier: Keys, or beginnings of keys that end in a dot, and what stands for them today.
        key: Of any version.
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
    """Whether a tensor is the weight of a convolution of kernel size 1 that a linear layer stands for."""
    return linear.ndim == 2 and value.ndim > 2 and value.shape == (*linear.shape, *[1] * (value.ndim - 2))
