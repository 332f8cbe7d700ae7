"""Settings, versions and state of the code, as tables."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any

from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.recipe import unused_settings
from snntorch_asnn.train.report.parts import Table

_OF_THE_COMMAND_ONLY = ("overwrite", "resume")
_SHORT_COMMIT = 12


def command(config: TrainConfig) -> str:
    """Return the command that starts the run again: settings with an effect that are no defaults."""
    words = ["snntorch-asnn", "train"]
    left_out = {*_OF_THE_COMMAND_ONLY, *unused_settings(config)}
    for name, value in _changed(config).items():
        option = name.replace("_", "-")
        if name in left_out:
            continue
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words += [f"--{option}", str(value)]
    return shlex.join(words)


def tables(config: TrainConfig) -> list[Table]:
    """Return the settings by group, those that differ from the defaults marked."""
    groups: dict[str, list[tuple[str, str]]] = {}
    changed = _changed(config)
    marked = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        row = (field.name, "none" if value is None else str(value))
        groups.setdefault(field.metadata["group"], []).append(row)
        if field.name in changed:
            marked.append(row)
    return [Table((), rows, title=group, marked=marked) for group, rows in groups.items()]


def machine(description: Mapping[str, Any]) -> list[Table]:
    """Return where the run was computed, with which packages, and from which state of the code."""
    where = [("device", str(description["device"])), ("threads", str(description["threads"]))]
    if "processes" in description:
        where.append(("processes", str(description["processes"])))
    git = description.get("git")
    if git:
        changes = ", with changes that are not committed" if git["dirty"] else ""
        where.append(("git", f"{git['commit'][:_SHORT_COMMIT]} on {git['branch']}{changes}"))
    versions = [(name, str(version)) for name, version in description["versions"].items()]
    return [Table((), where, title="Machine and code"), Table((), versions, title="Versions")]


def _changed(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that differ from the defaults, of which the folder's is made of the others."""
    default = dataclasses.replace(TrainConfig(), out=dataclasses.replace(config, out=None).out)
    names = [field.name for field in dataclasses.fields(config)]
    return {name: getattr(config, name) for name in names if getattr(config, name) != getattr(default, name)}
