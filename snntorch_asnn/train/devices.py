"""Where a run takes place: Lightning Fabric, set up from a configuration."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from snntorch_asnn._extras import require
from snntorch_asnn.train.config import TrainConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_TRUE_PRECISIONS = {"32": "32-true", "64": "64-true"}
_MIXED_PRECISIONS = {"bf16": "bf16-mixed", "16": "16-mixed"}


def make_fabric(config: TrainConfig) -> Fabric:
    """Return the Fabric of a run, not launched yet.

    Under ``torchrun`` the number of processes is torchrun's; ``devices`` and ``nodes`` may be left out.

    Raises:
        ValueError: the device is not there, or there are fewer than ``devices`` of it, or it cannot
            compute in this precision, or ``devices`` and ``nodes`` contradict torchrun.
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
        raise ValueError(f"device must be cuda where there are several devices; got {config.device!r}")
    return fabric.Fabric(  # type: ignore[no-any-return]
        accelerator=device.type,
        devices=devices if index is None else [index],
        num_nodes=nodes,
        strategy=_strategy(config, alone=devices * nodes == 1),
        precision=_TRUE_PRECISIONS.get(config.precision),
        plugins=_mixed_precision(config.precision, device),
    )


def resolve_device(name: str) -> torch.device:
    """Return the device that a name stands for; ``"auto"`` is CUDA where there is any, or the CPU.

    Raises:
        ValueError: not a CPU or CUDA device, or one that torch does not see.
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
    """Whether this process is the one that writes files and talks to the user."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


@contextmanager
def on_threads(threads: int | None) -> Iterator[None]:
    """Compute on so many CPU threads inside the context, and on as many as before after it."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _processes(config: TrainConfig) -> tuple[int, int]:
    """Return processes on this machine and number of machines, from torchrun if it has started them."""
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
    """Return Fabric's mixed precision, but for images, which stay in float32.

    A code compares them with its thresholds; the layers behind it round what they are given.
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
