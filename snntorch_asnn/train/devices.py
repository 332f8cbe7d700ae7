"""Lightning Fabric, set up from a configuration, and batch norms over all its processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from snntorch_asnn._extras import require
from snntorch_asnn.layers import StepBatchNorm
from snntorch_asnn.layers.norm_over_time import AnyBatchNorm, normalise, statistics_group
from snntorch_asnn.train.config import TrainConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_PLAIN_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_TRUE_PRECISIONS = {"32": "32-true", "64": "64-true"}
_MIXED_PRECISIONS = {"bf16": "bf16-mixed", "16": "16-mixed"}


def make_fabric(config: TrainConfig) -> Fabric:
    """Return the Fabric of a run, before its launch.

    ``torchrun`` sets the number of processes itself; ``devices`` and ``nodes`` may then be left out.

    Raises:
        ValueError: There is no such device, or fewer than ``devices``; the device cannot compute in this
            precision; or ``devices`` and ``nodes`` contradict torchrun.
        ModuleNotFoundError: Lightning Fabric is not installed.
    """
    fabric = require("lightning_fabric", extra="train")
    device = resolve_device(config.device)
    devices, nodes = _processes(config)
    available = torch.cuda.device_count()
    if device.type == "cuda" and devices > available:
        raise ValueError(f"devices must be at most the {available} that torch sees; got {devices}")
    if device.type == "cpu" and config.precision == "16":
        raise ValueError("precision must be 32, bf16 or 64 on a CPU; got '16'")
    index: int | None = device.index
    if index is not None and devices > 1:
        raise ValueError(f"device must be cuda for several devices; got {config.device!r}")
    return fabric.Fabric(  # type: ignore[no-any-return]
        accelerator=device.type,
        devices=devices if index is None else [index],
        num_nodes=nodes,
        strategy=_strategy(config, alone=devices * nodes == 1),
        precision=_TRUE_PRECISIONS.get(config.precision),
        plugins=_mixed_precision(config.precision, device),
    )


def resolve_device(name: str) -> torch.device:
    """Return the device that a name stands for; ``"auto"`` is CUDA if torch sees any, else the CPU.

    Raises:
        ValueError: The name is not a CPU or CUDA device, or torch does not see it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N; got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N; got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device must be one that torch sees; got {name!r}, and there are"
            f" {torch.cuda.device_count()} CUDA devices"
        )
    return device


def is_main_process() -> bool:
    """Return whether this process writes the files and talks to the user."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


@contextmanager
def on_threads(threads: int | None) -> Iterator[None]:
    """Compute on a number of CPU threads inside the context."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class JointBatchNorm(AnyBatchNorm):
    """A batch norm over all processes on a CPU, where PyTorch's ``nn.SyncBatchNorm`` does not run."""

    synchronised = True

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``[B, C, ...]`` with the statistics of all processes' batches."""
        if statistics_group(self, None) is None:
            return super().forward(input)
        return normalise(self, input.unsqueeze(0), "pooled", None)[0]


def synchronise_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """Let the batch norms of a model take their statistics over all processes.

    Parameters, running averages and the keys of ``state_dict`` stay as they are. On a CPU this concerns norms
    with learned factors and running averages, and norms with statistics of each step.
    """
    if device.type != "cpu":
        synchronised: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return synchronised
    replacements: dict[nn.Module, JointBatchNorm] = {}
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, StepBatchNorm):
                child.synchronised = True
            elif type(child) in _PLAIN_NORMS and child.affine and child.track_running_stats:
                setattr(parent, name, replacements.setdefault(child, _joint_norm(child)))
    return model


def _joint_norm(norm: Any) -> JointBatchNorm:
    found = JointBatchNorm(norm.num_features, norm.eps, norm.momentum)
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        setattr(found, name, getattr(norm, name))
    return found.train(norm.training)


def _processes(config: TrainConfig) -> tuple[int, int]:
    """Return the processes on this machine and the number of machines, from torchrun if it started them."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return config.devices, config.nodes
    here, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    asked = config.devices * config.nodes
    if asked not in (1, world):
        raise ValueError(
            f"devices × nodes must be left out under torchrun, or be its {world} processes; got {asked}"
        )
    if config.batch_size % (world * config.accumulate):
        raise ValueError(
            f"batch_size must be a multiple of processes × accumulate, which is {world * config.accumulate};"
            f" got {config.batch_size}"
        )
    return here, world // here


def _mixed_precision(precision: str, device: torch.device) -> Any:
    """Return Fabric's mixed precision, except that images stay in float32.

    A code compares them with its thresholds; the layers behind it round their own inputs.
    """
    if precision not in _MIXED_PRECISIONS:
        return None
    base = require("lightning_fabric.plugins", extra="train").MixedPrecision

    class MixedPrecision(base):  # type: ignore[misc, valid-type]
        def convert_input(self, data: Any) -> Any:
            return data

    return MixedPrecision(_MIXED_PRECISIONS[precision], device.type)


def _strategy(config: TrainConfig, *, alone: bool) -> Any:
    if alone:
        return "auto"
    unused = config.strategy == "ddp_find_unused_parameters_true"
    return require("lightning_fabric.strategies", extra="train").DDPStrategy(find_unused_parameters=unused)
