"""The list of stages, in the order in which they run."""

from __future__ import annotations

from typing import NamedTuple


class Stage(NamedTuple):
    """A process of ``gpu.py``: its module and its time limits."""

    name: str
    module: str
    about: str
    limit: int
    """Seconds for all of it."""
    patience: int
    """Seconds for one figure."""
    settings: tuple[str, ...] = ()
    beside: str | None = None
    """The stage that runs at the same time. Neither of the two is timed."""
    is_default: bool = True


def _warming(name: str, module: str, setting: str, shards: int) -> list[Stage]:
    return [
        Stage(
            f"warm-{name}-{shard + 1}",
            module,
            f"compiles ahead for {name}",
            120,
            110,
            ("warm", f"{shard}/{shards}", setting),
            beside="tests",
        )
        for shard in range(shards)
    ]


STAGES = [
    Stage("floor", "floor", "bandwidth of a copy, on buffers of 2 GB", 30, 20),
    Stage("tests", "checks", "the tests that are marked for CUDA", 120, 120),
    *_warming("neuron", "neuron_times", "", 4),
    *_warming("spikformer", "networks", "spikformer", 5),
    *_warming("resnets", "networks", "resnets", 2),
    Stage("neuron", "neuron_times", "a neuron over a sequence, beside peers", 90, 40),
    Stage("host", "host_times", "microseconds of the host for a call", 20, 20),
    Stage("spikformer", "networks", "training steps of Spikformer 4-384", 110, 80, ("spikformer",)),
    Stage("resnets", "networks", "training steps of ResNet-18 and -19", 90, 70, ("resnets",)),
    Stage(
        "learn-spikformer", "learning", "short training of Spikformer 4-256", 75, 75, ("spikformer_4_256",)
    ),
    Stage("learn-resnet", "learning", "the same of ResNet-19", 75, 75, ("spiking_resnet19",)),
    Stage("profile", "profiled", "kernels of a training step", 60, 50, is_default=False),
]


def chosen(names: str | None, dry_run: bool) -> list[list[Stage]]:
    """The stages of these names, those that run at once in one list; ``warm`` names all that compile ahead.

    Raises:
        ValueError: for a name that is none of a stage.
    """
    known = {stage.name: stage for stage in STAGES}
    wanted = []
    for name in filter(None, (names or "").split(",")):
        found = [stage for stage in known if stage == name or (stage.startswith("warm") and name == "warm")]
        if not found:
            raise ValueError(f"--stages must be of warm, {', '.join(known)}; got {name!r}")
        wanted += found
    if not wanted:
        wanted = [stage.name for stage in STAGES if stage.is_default or dry_run]
        if dry_run:
            wanted = [name for name in wanted if not name.startswith("warm") or name.endswith("1")]
    groups: dict[str, list[Stage]] = {}
    for stage in (known[name] for name in wanted):
        if dry_run:  # what is small here runs on a machine that may be slow and busy
            stage = stage._replace(limit=4 * stage.limit, patience=4 * stage.patience)
        groups.setdefault(stage.beside or stage.name, []).append(stage)
    return list(groups.values())
