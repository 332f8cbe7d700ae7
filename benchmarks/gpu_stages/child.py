"""Code that runs in the process of a stage: one measurement after the other, with errors caught."""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gpu_stages.children import POISONED
from gpu_stages.plan import STAGES

Row = dict[str, Any]


class Figure(NamedTuple):
    """Something to be measured."""

    name: str
    measure: Callable[[], Row | list[Row]]
    warm: Callable[[], object] | None = None
    """Compiles the kernels that ``measure`` needs, if this takes long."""


class Place:
    """Where a stage runs, how long it may take, and where its rows go."""

    def __init__(self, options: argparse.Namespace, settings: tuple[str, ...], name: str) -> None:
        self.name, self.settings = name, settings
        self.dry_run: bool = options.dry_run
        self.data: Path | None = options.data
        self.device = "cpu" if self.dry_run else "cuda"
        self.end = time.monotonic()
        self._rows = options.rows.open("a")

    def wait_for_release(self) -> None:
        """Wait until the parent lets this stage begin, and says for how many seconds."""
        self.end = time.monotonic() + float(sys.stdin.readline())

    def seconds_left(self) -> float:
        return self.end - time.monotonic()

    def tell(self, row: Row) -> None:
        """Hand a row to the parent at once. One with ``updates`` takes the place of the last of its name."""
        self._rows.write(json.dumps(row) + "\n")
        self._rows.flush()


def run_stage(options: argparse.Namespace) -> int:
    _die_with_the_parent()
    stage = next(stage for stage in STAGES if stage.name == options.child)
    place = Place(options, stage.settings, stage.name)
    module = importlib.import_module(f"gpu_stages.{stage.module}")
    place.wait_for_release()
    if not place.dry_run and not torch.cuda.is_available():
        print("no GPU is to be seen by torch", file=sys.stderr)
        return 1
    figures = module.figures(place)
    if "warm" in stage.settings:
        shard, shards = map(int, stage.settings[1].split("/"))
        warmed = [figure._replace(measure=_warming(figure)) for figure in figures if figure.warm is not None]
        figures = warmed[shard::shards]
    return run_figures(figures, place, options.skip)


def run_figures(figures: Iterable[Figure], place: Place, skip: list[str]) -> int:
    for figure in figures:
        if figure.name in skip:
            continue
        place.tell({"starts": figure.name})
        start = time.perf_counter()
        try:
            rows = figure.measure()
        except Exception as error:
            place.tell(_failure(figure.name, error))
            traceback.print_exc()
            if _is_spoilt(error):
                return POISONED
        else:
            took = {"took_s": round(time.perf_counter() - start, 2)}
            for row in rows if isinstance(rows, list) else [rows]:
                place.tell({"name": figure.name} | row | took)
        place.tell({"ends": figure.name})
        _let_go()
    return 0


def _warming(figure: Figure) -> Callable[[], Row]:
    def warm() -> Row:
        assert figure.warm is not None
        figure.warm()
        return {}

    return warm


def _failure(name: str, error: Exception) -> Row:
    lines = [line for line in str(error).splitlines() if line.strip()]
    text = " | ".join(lines[:2] + lines[2:][-2:])[:600]
    where = traceback.extract_tb(error.__traceback__)[-1]
    return {
        "name": name,
        "failed": f"{type(error).__name__}: {text}",
        "at": f"{where.filename}:{where.lineno}",
    }


def _is_spoilt(error: Exception) -> bool:
    """Whether a fault has left this process's CUDA context useless."""
    if isinstance(error, torch.OutOfMemoryError) or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
        torch.ones(8, device="cuda").sum().item()
    except Exception:
        return True
    return False


def _let_go() -> None:
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _die_with_the_parent() -> None:
    """Let the kernel end this process when its parent ends, however it ends. Linux only."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit(1)
