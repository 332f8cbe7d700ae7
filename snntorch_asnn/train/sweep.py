"""Runs over a grid of settings and several seeds."""

from __future__ import annotations

import csv
import io
import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snntorch_asnn.train.checks import check_folder, check_run
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.devices import is_main_process
from snntorch_asnn.train.divergence import NonFiniteLossError
from snntorch_asnn.train.fields import parse_setting
from snntorch_asnn.train.fit import fit
from snntorch_asnn.train.recipe import check_used, override
from snntorch_asnn.train.reporter import Reporter
from snntorch_asnn.train.result import RunResult
from snntorch_asnn.train.run_folder import RunFolder
from snntorch_asnn.train.utf8 import write_text

_PER_RUN = ("seed", "out", "resume", "overwrite")


@dataclass(frozen=True)
class Cell:
    """The runs that differ in nothing but the seed.

    Attributes:
        settings: what this cell has of the grid.
        seeds: of the runs that have come to their end.
        diverged: seeds of the runs whose loss became infinite or NaN.
        test_accuracy: of each run.
        val_accuracy: of each run.
        firing_rate: of each run, on the test images.
        parameters: number of learned parameters.
        images_per_second: throughput in training, median over the runs.
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
        ValueError: a text has another form, a setting is unknown or given twice, or a value cannot be
            read as its type.

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
        if name in grid or name in _PER_RUN:
            reason = "twice" if name in grid else "a setting that every run has for itself"
            raise ValueError(
                f"set must name a setting once, and not {', '.join(_PER_RUN)}; got {name} {reason}"
            )
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
    """Train every combination of settings with every seed, and gather what they reach.

    Runs that are finished in ``out`` are not repeated, and one that was broken off is continued from its
    last checkpoint, so that the same call goes on where an earlier one ended. A run that diverges is
    noted, and the others go on. ``sweep.json`` and ``sweep.csv`` are written after every run.

    Args:
        out: folder for a folder of each combination and seed, and for the two files.
        grid: values of each setting that varies.
        seeds: of the runs of each cell.
        recipe: as for :func:`~snntorch_asnn.train.make_config`.
        settings: those that are the same in all runs.
        reporter: receives the progress of each run.

    Returns:
        The cells of the grid, in order: the last setting changes fastest.

    Raises:
        ValueError: a setting is out of its range or has no effect in any run, a model cannot be built,
            there are no seeds or one twice, or the runs in ``out`` have other settings. All runs are checked
            before the first is trained.

    Example::

        >>> cells = sweep("runs/codes", grid={"encoding": ["direct", "hybrid"]}, seeds=[0, 1, 2],
        ...               recipe="digits")  # doctest: +SKIP
    """
    out, reporter = Path(out), reporter or Reporter()
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be at least one, each once; got {list(seeds)}")
    base = override(recipe, settings or {})
    plan = [
        (cell, [_config(base | cell, seed, out / _name(cell) / f"seed{seed}") for seed in seeds])
        for cell in _combinations(grid)
    ]
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
    """Return the mean, and the sample standard deviation where there are two values or more.

    Example::

        >>> mean_and_deviation([0.5, 0.7])
        (0.6, 0.1414...)
    """
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def _combinations(grid: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _config(settings: Mapping[str, Any], seed: int, out: Path) -> TrainConfig:
    """Return the settings of a run: those of an earlier one in its folder are compared, never taken over."""
    goes_on = RunFolder(out).config.exists()
    return TrainConfig.from_dict({**settings, "seed": seed, "out": out, "resume": goes_on})


def _check(cells: Sequence[Sequence[TrainConfig]], given: Mapping[str, Any]) -> None:
    """Refuse a plan of which a part could not begin, before any of it is trained.

    Args:
        cells: the runs of each cell, which differ in nothing but the seed.
        given: the settings that the user has named.
    """
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
                check_folder(config)
        except ValueError as error:
            raise ValueError(f"{configs[0].run_folder.parent}: {error}") from error


def _name(cell: Mapping[str, Any]) -> str:
    """Return the name of a cell's folder."""
    text = ",".join(f"{name}={value}" for name, value in cell.items())
    return text.replace("/", "_") or "all"


def _run(config: TrainConfig, reporter: Reporter) -> RunResult | None:
    """Return what a run reaches, None if it diverges."""
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
    row = _plain(cell.settings)
    row |= {"runs": len(cell.seeds), "diverged": len(cell.diverged)}
    for name in ("test_accuracy", "val_accuracy", "firing_rate"):
        values = getattr(cell, name)
        row[f"{name}_mean"], row[f"{name}_std"] = mean_and_deviation(values) if values else (None, None)
    return row | {"parameters": cell.parameters, "images_per_second": cell.images_per_second}


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as JSON types."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}


def _write(out: Path, cells: Sequence[Cell]) -> None:
    whole = [
        {
            **vars(cell),
            "settings": _plain(cell.settings),
            **{k: v for k, v in _row(cell).items() if k not in cell.settings},
        }
        for cell in cells
    ]
    RunFolder(out).write_json(out / "sweep.json", {"cells": whole})
    rows, text = [_row(cell) for cell in cells], io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_text(out / "sweep.csv", text.getvalue())
