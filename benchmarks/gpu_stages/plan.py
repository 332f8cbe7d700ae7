"""Which stages there are, in the order in which they run."""

from __future__ import annotations

from typing import NamedTuple


class Stage(NamedTuple):
    """A process of ``gpu.py``: what it runs, and for how long at most."""

    name: str
    module: str
    about: str
    limit: int
    """Seconds for all of it."""
    patience: int
    """Seconds for one figure."""
    settings: tuple[str, ...] = ()
    beside: str | None = None
    """The stage that it runs at the same time as, since neither of them is timed."""
    is_default: bool = True


STAGES = [
    Stage("floor", "floor", "bandwidth of a copy, on buffers of 2 GB", 40, 20),
    Stage("tests", "checks", "the tests that are marked for CUDA", 150, 150),
    Stage("warm-neuron", "neuron_times", "compiles ahead for neuron", 140, 90, ("warm",), "tests"),
    Stage(
        "warm-nets", "networks", "compiles ahead for spikformer", 140, 120, ("warm", "spikformer"), "tests"
    ),
    Stage("warm-resnets", "networks", "the same for resnets", 140, 120, ("warm", "resnets"), "tests"),
    Stage("neuron", "neuron_times", "a neuron over a sequence, beside peers", 120, 60),
    Stage("host", "host_times", "microseconds of the host for a call", 30, 20),
    Stage("spikformer", "networks", "training steps of Spikformer 4-384", 150, 100, ("spikformer",)),
    Stage("resnets", "networks", "training steps of ResNet-18 and -19", 120, 80, ("resnets",)),
    Stage("learning", "learning", "a short training, LIF beside adaptive neurons", 150, 150),
    Stage("profile", "profiled", "kernels of a training step", 60, 50, is_default=False),
]


def chosen(names: str | None, dry_run: bool) -> list[list[Stage]]:
    """The stages of these names, those that run at once in one list.

    Raises:
        ValueError: for a name that is none of a stage.
    """
    known = {stage.name: stage for stage in STAGES}
    wanted = [name for name in (names or "").split(",") if name]
    for name in wanted:
        if name not in known:
            raise ValueError(f"--stages must be of {', '.join(known)}; got {name!r}")
    if not wanted:
        wanted = [stage.name for stage in STAGES if stage.is_default or dry_run]
    groups: list[list[Stage]] = []
    for stage in (known[name] for name in wanted):
        if dry_run:  # what is small here runs on a machine that may be slow and busy
            stage = stage._replace(limit=4 * stage.limit, patience=4 * stage.patience)
        group = next((g for g in groups if stage.beside is not None and g[0].name == stage.beside), None)
        if group is None:
            groups.append([stage])
        else:
            group.append(stage)
    return groups
