"""Teachers: networks to distil from."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snntorch_asnn._arguments import did_you_mean
from snntorch_asnn._extras import require
from snntorch_asnn.train.evaluation import load_run
from snntorch_asnn.train.run_folder import RunFolder

__all__ = ["NormalisedImages", "load_teacher"]

# The moments that the published weights of torchvision and timm were trained with.
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_WRAPPERS = ("state_dict_ema", "state_dict", "model_ema", "model")


class NormalisedImages(nn.Module):
    """A network that gets ``(images - mean) / std``.

    Args:
        net: Called as ``net(images) -> logits``.
        mean: Mean of each channel.
        std: Standard deviation of each channel.

    Example::

        >>> NormalisedImages(nn.Identity(), mean=[0.5], std=[0.5])(torch.tensor([[[[0.0, 1.0]]]]))
        tensor([[[[-1.,  1.]]]])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Classify images in [0, 1], ``[B, C, H, W]``."""
        logits: Tensor = self.net((images - self.mean) / self.std)
        return logits


def load_teacher(
    path: str | Path,
    *,
    classes: Sequence[str],
    mean: Sequence[float] = _IMAGENET_MEAN,
    std: Sequence[float] = _IMAGENET_STD,
) -> nn.Module:
    """Load a network to distil from.

    Args:
        path: The folder of a run, for the model of its best epoch, or a checkpoint of a torchvision or timm
            network for colour images. The file name up to the first ``-`` or ``.`` names the network, as in
            ``resnet18-f37072fd.pth``; torchvision's networks come first. The file holds the ``state_dict``,
            alone or under ``"state_dict"`` or ``"model"``.
        classes: Names of the classes. A run must have been trained on the same classes, a checkpoint on as
            many.
        mean: Mean of each channel that the checkpoint's network was trained with.
        std: Standard deviation of each channel that it was trained with.

    Returns:
        The network in evaluation mode on the CPU, with all parameters frozen.

    Raises:
        ValueError: There is no run or checkpoint, it is damaged, its network is unknown, or it has other
            classes. Nothing in a checkpoint is executed.
        ModuleNotFoundError: A package of the extra ``[train]`` is missing.

    Example::

        >>> teacher = load_teacher("runs/long", classes=splits.classes)  # doctest: +SKIP
        >>> teacher = load_teacher("resnet18-cifar.pth", classes=splits.classes)  # doctest: +SKIP
    """
    place = Path(path)
    check_teacher(place)
    if place.is_dir():
        teacher = _from_run(place, classes)
    else:
        teacher = NormalisedImages(_from_checkpoint(place, len(classes)), mean, std)
    return teacher.eval().requires_grad_(False)


def check_teacher(path: Path) -> None:
    """Refuse a path with neither a folder nor a file."""
    if not (path.is_dir() or path.is_file()):
        raise ValueError(f"teacher must be a run folder or a checkpoint file; {path} does not exist")


def check_answers(teacher: nn.Module, images: Tensor, num_classes: int, path: Path) -> None:
    """Refuse a teacher that does not take the student's images, or has another number of classes."""
    wanted = (images.shape[-4], num_classes)
    try:
        with torch.no_grad():
            answers = teacher(images)
    except Exception as error:  # networks of other packages fail in ways of their own
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise ValueError(
            f"teacher must take images of shape {list(images.shape)}; got {path}: {reason[0]}"
        ) from error
    got = tuple(answers.shape) if isinstance(answers, Tensor) else type(answers).__name__
    if got != wanted:
        raise ValueError(f"teacher must give answers of shape {wanted}; got {path}, which gives {got}")


def _from_run(folder: Path, classes: Sequence[str]) -> nn.Module:
    try:
        _, model = load_run(folder)
        learned = tuple(RunFolder(folder).load_checkpoint()["classes"])
    except ValueError as error:
        raise ValueError(f"teacher cannot be loaded: {error}") from error
    if learned != tuple(classes):
        raise ValueError(
            f"teacher must know the same classes; {folder} was trained on {len(learned)} other ones"
        )
    return model


def _from_checkpoint(file: Path, num_classes: int) -> nn.Module:
    net = _build(file.name.split("-")[0].split(".")[0], num_classes, file)
    try:
        net.load_state_dict(_read_weights(file))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ValueError(
            f"teacher must hold the weights of its network for {num_classes} classes; got {file}: {reason}"
        ) from error
    return net


def _build(name: str, num_classes: int, file: Path) -> nn.Module:
    """Create a network of torchvision, or else of timm, without weights."""
    models = require("torchvision.models", extra="train")
    known = models.list_models(module=models)
    net: nn.Module
    if name in known:
        net = models.get_model(name, weights=None, num_classes=num_classes)
        return net
    timm = require("timm", extra="train")
    if timm.is_model(name):
        net = timm.create_model(name, pretrained=False, num_classes=num_classes)
        return net
    hint = did_you_mean(name, [*known, *timm.list_models()])
    raise ValueError(
        f"teacher must begin with the name of a network of torchvision or timm; got {file.name}{hint}"
    )


def _read_weights(file: Path) -> Mapping[str, Any]:
    try:
        if file.suffix == ".safetensors":
            weights: Mapping[str, Any] = require("safetensors.torch", extra="checkpoint").load_file(file)
            return weights
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"teacher must be a checkpoint that holds only weights; {file} is damaged or holds code"
        ) from error
    for key in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict):
        raise ValueError(f"teacher must hold a state_dict; {file} holds {type(content).__name__}")
    return content
