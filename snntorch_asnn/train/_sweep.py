"""Runs over a grid of settings and several seeds."""

from __future__ import annotations

import csv
import io
import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snntorch_asnn.train._fit import check_run, fit
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.devices import is_main_process
from snntorch_asnn.train.fields import parse_setting
from snntorch_asnn.train.files import write_text
from snntorch_asnn.train.learner import NonFiniteLossError
from snntorch_asnn.train.progress import Reporter
from snntorch_asnn.train.recipe import check_used, override
from snntorch_asnn.train.run_folder import RunFolder, RunResult

_PER_RUN = ("seed", "out", "resume", "overwrite")


@dataclass(frozen=True)
class Cell:
    """The runs that differ in nothing but the seed.

    Attributes:
        settings: The settings of the grid that these runs share.
        seeds: Seeds of the runs that have ended.
        diverged: Seeds of the runs whose loss became infinite or NaN.
        test_accuracy: Test accuracy of each run.
        val_accuracy: Validation accuracy of each run.
        firing_rate: Firing rate of each run, on the test images.
        parameters: Number of learned parameters.
        images_per_second: Throughput in training, median over the runs.
    """

    settings: Mapping[str, Any]
    seeds: tuple[int, ...]
    diverged: tuple[int, ...]
    test_accuracy: tuple[float, ...]
    val_accuracy: tuple[float, ...]
    firing_rate: tuple[float, ...]
    parameters: int | None
    images_per_second: float | None


def parse_grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Return the values of each setting from texts such as ``"num_steps=2,4"``.

    Raises:
        ValueError: A text has another form, a setting is unknown or given twice, or a value cannot be read as
            its type.

    Example::

        >>> parse_grid(["neuron=asnn,lif", "num_steps=2,4"])
        {'neuron': ['asnn', 'lif'], 'num_steps': [2, 4]}
    """
    grid: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not values:
            raise ValueError(f"set must be NAME=VALUE,VALUE,...; got {text!r}")
        if name in _PER_RUN:
            raise ValueError(
                f"set must not name {', '.join(_PER_RUN)}, which each run has itself; got {name}"
            )
        if name in grid:
            raise ValueError(f"set must name a setting once; got {name} twice")
        grid[name] = [parse_setting(TrainConfig, name, value.strip()) for value in values.split(",")]
        if len(set(grid[name])) < len(grid[name]):
            raise ValueError(f"set must give each value once; got {text!r}")
    return grid


def sweep(
    out: str | Path,
    *,
    grid: Mapping[str, Sequence[Any]],
    seeds: Sequence[int] = (0,),
    recipe: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    reporter: Reporter | None = None,
) -> list[Cell]:
    """Train every combination of settings with every seed, and gather the results.

    The same call again skips the finished runs in ``out`` and resumes an interrupted run from its last
    checkpoint. A run that diverges is noted, and the others go on. ``sweep.json`` and ``sweep.csv`` are
    written after every run.

    Args:
        out: Folder for a folder of each combination and seed, and for the two files.
        grid: Values of each setting that varies.
        seeds: Seeds of the runs of each cell.
        recipe: As for :func:`~snntorch_asnn.train.make_config`.
        settings: Settings that are the same in all runs.
        reporter: Receives the progress of each run.

    Returns:
        The cells of the grid, in order: the last setting changes fastest.

    Raises:
        ValueError: A setting is out of its range or has no effect in any run, a model cannot be built, seeds
            are missing or repeated, or the runs in ``out`` have other settings. All runs are checked before
            the first one is trained.

    Example::

        >>> cells = sweep("runs/codes", grid={"encoding": ["direct", "hybrid"]}, seeds=[0, 1, 2],
        ...               recipe="digits")  # doctest: +SKIP
    """
    out, reporter = Path(out), reporter or Reporter()
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must hold at least one seed, and each seed once; got {list(seeds)}")
    base = override(recipe, settings or {})
    plan = []
    for values in itertools.product(*grid.values()):
        cell = dict(zip(grid, values, strict=True))
        folder = out / _folder_name(cell)
        plan.append((cell, [_config(base | cell, seed, folder / f"seed{seed}") for seed in seeds]))
    _check([configs for _, configs in plan], {**(settings or {}), **grid})
    cells: dict[int, Cell] = {}
    for number, (cell, configs) in enumerate(plan):
        results: dict[int, RunResult | None] = {}
        for config in configs:
            results[config.seed] = _run(config, reporter)
            cells[number] = _gather(cell, results)
            if is_main_process():
                _write(out, list(cells.values()))
    return list(cells.values())


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean, and the sample standard deviation of two values or more.

    Example::

        >>> mean_and_deviation([0.5, 0.7])
        (0.6, 0.1414...)
    """
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def _config(settings: Mapping[str, Any], seed: int, out: Path) -> TrainConfig:
    """Return the settings of a run; an earlier run in its folder must have the same."""
    resume = RunFolder(out).config.exists()
    return TrainConfig.from_dict({**settings, "seed": seed, "out": out, "resume": resume})


def _check(cells: Sequence[Sequence[TrainConfig]], given: Mapping[str, Any]) -> None:
    """Refuse a plan with a part that could not begin, before any of it is trained."""
    firsts = [configs[0] for configs in cells]
    check_used(firsts, given)
    folders = [config.run_folder for config in firsts]
    twice = next((folder for folder in folders if folders.count(folder) > 1), None)
    if twice is not None:
        raise ValueError(f"set must give each combination a folder of its own; got {twice.parent} twice")
    for configs in cells:
        try:
            check_run(configs[0])
            for config in configs[1:]:
                RunFolder(config.run_folder).check(config)
        except ValueError as error:
            raise ValueError(f"{configs[0].run_folder.parent}: {error}") from error


def _folder_name(cell: Mapping[str, Any]) -> str:
    text = ",".join(f"{name}={value}" for name, value in cell.items())
    return text.replace("/", "_") or "all"


def _run(config: TrainConfig, reporter: Reporter) -> RunResult | None:
    """Return the result of a run, None if it diverges."""
    done = RunFolder(config.run_folder).result.exists()
    reporter.message(f"{config.run_folder}: {'finished already' if done else 'training'}")
    try:
        return fit(config, reporter=reporter)
    except NonFiniteLossError as error:
        reporter.message(str(error))
        return None


def _gather(settings: Mapping[str, Any], results: Mapping[int, RunResult | None]) -> Cell:
    ended = {seed: result for seed, result in results.items() if result is not None}
    reached = list(ended.values())
    return Cell(
        settings=settings,
        seeds=tuple(ended),
        diverged=tuple(seed for seed, result in results.items() if result is None),
        test_accuracy=tuple(r.test_accuracy for r in reached),
        val_accuracy=tuple(r.val_accuracy for r in reached),
        firing_rate=tuple(r.firing_rate for r in reached),
        parameters=reached[0].parameters if reached else None,
        images_per_second=statistics.median(r.images_per_second for r in reached) if reached else None,
    )


def _row(cell: Cell) -> dict[str, Any]:
    """Return a cell as one flat line."""
    row = _json_types(cell.settings) | {"runs": len(cell.seeds), "diverged": len(cell.diverged)}
    for name in ("test_accuracy", "val_accuracy", "firing_rate"):
        values = getattr(cell, name)
        row[f"{name}_mean"], row[f"{name}_std"] = mean_and_deviation(values) if values else (None, None)
    return row | {"parameters": cell.parameters, "images_per_second": cell.images_per_second}


def _json_types(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}


def _write(out: Path, cells: Sequence[Cell]) -> None:
    rows, text = [_row(cell) for cell in cells], io.StringIO()
    whole = [
        {name: value for name, value in row.items() if name not in cell.settings}
        | vars(cell)
        | {"settings": _json_types(cell.settings)}
        for cell, row in zip(cells, rows, strict=True)
    ]
    RunFolder(out).write_json(out / "sweep.json", {"cells": whole})
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_text(out / "sweep.csv", text.getvalue())
