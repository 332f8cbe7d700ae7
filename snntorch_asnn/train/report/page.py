"""The report page: its sections, made from the files of a run."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import nn

import snntorch_asnn
from snntorch_asnn import energy
from snntorch_asnn._extras import require
from snntorch_asnn.energy.text import joules, number
from snntorch_asnn.neurons import describe
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data import spread, to_unit_range
from snntorch_asnn.train.evaluation import load_run, most_frequent_errors
from snntorch_asnn.train.files import write_text
from snntorch_asnn.train.recipe import unused_settings
from snntorch_asnn.train.report import figures
from snntorch_asnn.train.run_folder import RunFolder

ENERGY_IMAGES = 64
"""Images, at most, that the energy estimate of a run uses."""

_MOST_LAYERS, _MOST_CONFUSIONS = 60, 8
_DIGITS, _SHORT_COMMIT = 3, 12
_RESULT = (
    "test_accuracy",
    "val_accuracy",
    "best_epoch",
    "parameters",
    "firing_rate",
    "images_per_second",
    "seconds",
)
_ENERGY = ("mj", "mj_by_step", "macs", "acs", "ann_macs", "ann_mj", "images", "preset", "op_energy", "layers")


@dataclass(frozen=True)
class RunFiles:
    """The contents of a run folder so far; a file that is missing is None or empty."""

    path: Path
    description: Mapping[str, Any]
    config: TrainConfig
    metrics: Sequence[Mapping[str, Any]]
    result: Mapping[str, Any] | None
    evaluation: Mapping[str, Any]
    energy: Mapping[str, Any] | None
    model: nn.Module | None
    """The network of the best epoch."""

    @property
    def best(self) -> Mapping[str, Any]:
        """The line of the best epoch on the validation images."""
        return max(self.metrics, key=lambda line: (line["val_accuracy"], -line["val_loss"]))


@dataclass(frozen=True)
class Table:
    """Rows of text; ``marked`` rows stand out."""

    head: Sequence[str]
    rows: Sequence[tuple[str, ...]]
    title: str = ""
    marked: Sequence[tuple[str, ...]] = ()


@dataclass(frozen=True)
class Section:
    """A part of the page; ``figures`` are SVG elements or None, everything else is plain text."""

    key: str
    title: str
    note: str = ""
    figures: Sequence[str | None] = ()
    tables: Sequence[Table] = ()
    code: str = ""


def write_report(run_folder: str | Path) -> Path:
    """Write a page on a run, from the files in its folder, to ``report.html`` there.

    The page shows curves, confusion matrix, learned time parameters, firing rates, accuracy by step, energy,
    settings, versions and the state of the code, as far as the run has written them. It is one file that
    fetches nothing, in light and dark colours.

    Args:
        run_folder: The folder of a run that has finished at least one epoch.

    Returns:
        Path: The page.

    Raises:
        ValueError: It is not the folder of a run, or holds no finished epoch.
        ModuleNotFoundError: A package of the extra ``[train]`` is missing.

    Example::

        >>> write_report("runs/digits")  # doctest: +SKIP
        PosixPath('runs/digits/report.html')
    """
    run = _read_run(Path(run_folder))
    texts = resources.files(__package__)
    page = (
        require("jinja2", extra="train")
        .Environment(autoescape=True, trim_blocks=False)
        .from_string(texts.joinpath("page.html.j2").read_text(encoding="utf-8"))
    )
    file = run.path / "report.html"
    html = page.render(
        title=run.path.resolve().name,
        subtitle=_subtitle(run),
        tiles=_tiles(run),
        sections=[section for make in _SECTIONS for section in make(run)],
        css=texts.joinpath("page.css").read_text(encoding="utf-8"),
        version=snntorch_asnn.__version__,
    )
    write_text(file, html)
    return file


def write_energy(run_folder: str | Path, model: nn.Module, loader: Iterable[Any]) -> Path:
    """Estimate the energy of one image, from the first batch of a loader, and write ``energy.json``.

    Args:
        run_folder: An existing folder.
        model: A model of :mod:`snntorch_asnn.models`.
        loader: Yields ``(images, labels)``, the images ``[B, C, H, W]`` or frames ``[T, B, C, H, W]``. At
            most 64 evenly spaced images of the first batch are used.

    Returns:
        Path: The file, which holds :meth:`snntorch_asnn.energy.EnergyReport.to_dict`.

    Example::

        >>> write_energy("runs/digits", model, test_loader)  # doctest: +SKIP
    """
    images, _ = next(iter(loader))
    batch_dim = int(images.ndim == 5)
    used = torch.tensor(spread(images.shape[batch_dim], ENERGY_IMAGES), device=images.device)
    images = images.index_select(batch_dim, used)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    found = energy.profile(model, to_unit_range(images.to(device)))
    file = Path(run_folder, "energy.json")
    write_text(file, json.dumps(found.to_dict(), indent=2) + "\n")
    return file


def command(config: TrainConfig) -> str:
    """Return the command that starts a run again: the settings with an effect that are not defaults."""
    words = ["snntorch-asnn", "train"]
    left_out = {"overwrite", "resume", *unused_settings(config)}
    for name, value in _changed(config).items():
        option = name.replace("_", "-")
        if name in left_out:
            continue
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words += [f"--{option}", str(value)]
    return shlex.join(words)


def _read_run(path: Path) -> RunFiles:
    folder = RunFolder(path)
    description, metrics = folder.read_description(), folder.read_lines(folder.metrics)
    if not metrics:
        raise ValueError(f"run folder {path} is incomplete: metrics.jsonl holds no finished epoch")

    def read(file: Path, *needs: str) -> dict[str, Any] | None:
        return folder.read_json(file, needs=needs) if file.is_file() else None

    return RunFiles(
        path=path,
        description=description,
        config=folder.read_config(),
        metrics=metrics,
        result=read(folder.result, *_RESULT),
        evaluation=read(folder.evaluation) or {},
        energy=read(folder.energy, *_ENERGY),
        model=load_run(path)[1] if folder.checkpoint.is_file() else None,
    )


def _subtitle(run: RunFiles) -> str:
    config, sizes = run.config, run.description["images"]
    return (
        f"{config.model}, {config.encoding} code, {config.neuron} neurons, T = {config.num_steps};"
        f" {config.data}: {sizes['train']:,} training, {sizes['val']:,} validation"
        f" and {sizes['test']:,} test images; seed {config.seed}"
    )


def _tiles(run: RunFiles) -> list[dict[str, str]]:
    result = run.result
    if result is None:
        tiles = {
            "best validation accuracy so far": f"{run.best['val_accuracy']:.2%}",
            "epochs, not finished": f"{len(run.metrics)} of {run.config.epochs}",
        }
    else:
        tiles = {
            "test accuracy, read once": f"{result['test_accuracy']:.2%}",
            f"validation, at epoch {result['best_epoch']}": f"{result['val_accuracy']:.2%}",
            "parameters": _parameters(result["parameters"]),
            "spikes per neuron and step": f"{result['firing_rate']:.3f}",
            "training images a second": f"{result['images_per_second']:,.0f}",
            "training time": _duration(result["seconds"]),
        }
    if run.energy is not None:
        tiles["energy of an image"] = joules(1e9 * run.energy["mj"], digits=_DIGITS)
    return [{"label": label, "value": value} for label, value in tiles.items()]


def _warnings(run: RunFiles) -> Iterator[Section]:
    """Warn of likely faults of the network."""
    rates = (run.result or {}).get("firing_rates", {})
    found = [energy.describe_silence(rates, "test images")]
    if run.result is None and (silent := run.metrics[-1].get("silent_layers")):
        found = [f"Layers that fired at no step of the validation images: {', '.join(silent)}"]
    note = " ".join(f"{text}." for text in found if text)
    if note:
        yield Section("warnings", "Warnings", note)


def _learning(run: RunFiles) -> Iterator[Section]:
    drawn = [figures.curves(run.metrics), figures.progress(run.metrics)]
    note = (
        f"The ring marks epoch {run.best['epoch']}, the best on the validation images, which is kept. The"
        f" loss is {_trained_loss(run.config)} in training, cross-entropy in validation."
    )
    yield Section("learning", "Learning", note=note, figures=drawn)


def _trained_loss(config: TrainConfig) -> str:
    smoothed = " with smoothed labels" if config.label_smoothing else ""
    taught = " and a teacher's answers" if config.teacher is not None else ""
    return f"{config.loss}{smoothed}{taught}"


def _by_step(run: RunFiles) -> Iterator[Section]:
    accuracy = run.evaluation.get("accuracy_by_step") or (run.result or {}).get("accuracy_by_step")
    if not accuracy:
        return
    spent = run.energy["mj_by_step"] if run.energy is not None else None
    note = "Test accuracy of the mean of the logits so far: the answer of an early exit after that step."
    yield Section("steps", "Accuracy by step", note, [figures.accuracy_by_step(accuracy, spent)])


def _confusion(run: RunFiles) -> Iterator[Section]:
    if not run.evaluation.get("confusion"):
        return
    counts, classes = run.evaluation["confusion"], run.evaluation["classes"]
    pairs = [
        (f"{name} → {answer}", f"{count:,}")
        for name, answer, count in most_frequent_errors(counts, classes, _MOST_CONFUSIONS)
    ]
    tables = [Table(("class → answer", "images"), pairs, title="Most frequent errors")] if pairs else []
    drawn = [figures.confusion_matrix(torch.tensor(counts), classes)]
    yield Section("confusion", "Confusion matrix", "Test images, at the kept epoch.", drawn, tables)


def _neurons(run: RunFiles) -> Iterator[Section]:
    drawn = [figures.time_parameters(run.model), figures.scale(run.model)] if run.model is not None else []
    if any(figure is not None for figure in drawn):
        note = (
            "Means over the features of a layer. The leak of step 0 keeps its initial value: there is no"
            " membrane before it."
        )
        yield Section("neurons", "Learned time parameters", note, drawn, _leaks_at_bounds(run.model))
    rates = figures.firing_rates((run.result or {}).get("firing_rates", {}))
    if rates is not None:
        yield Section("rates", "Firing rates", "Spikes per neuron, on the test images.", [rates])


def _leaks_at_bounds(model: nn.Module | None) -> list[Table]:
    """Return a row for each kind of leak that has reached the ends of its range somewhere."""
    rows = [
        (neuron.names[0], at.parameter, f"{at.low:,}", f"{at.high:,}", f"{at.total:,}")
        for neuron in (describe(model) if model is not None else [])
        for at in neuron.leaks_at_bounds
    ]
    head = ("layer", "leak", "0 or less", "1 or more", "of")
    return [Table(head, rows, title="Leaks at the ends of their range")] if rows else []


def _energy(run: RunFiles) -> Iterator[Section]:
    found = run.energy
    if found is None:
        return
    costs = found["op_energy"]
    note = (
        f"An estimate for one image, from {found['images']} test images: {costs['mac_pj']:g} pJ a"
        f" multiply-accumulate, {costs['ac_pj']:g} pJ an accumulate ({found['preset']}). Convolutions, linear"
        " layers and products of activations count; neurons, norms and memory traffic do not."
    )
    totals = [
        ("this network", *_costs(found["macs"], found["acs"], 1e9 * found["mj"])),
        ("as an ANN", *_costs(found["ann_macs"], 0, 1e9 * found["ann_mj"])),
    ]
    layers = [
        (layer["name"], *_costs(sum(layer["macs"]), sum(layer["acs"]), sum(layer["pj"])))
        for layer in found["layers"][:_MOST_LAYERS]
    ]
    head = ("", "MACs", "ACs", "energy")
    drawn = [figures.energy_by_layer(found["layers"], costs["mac_pj"], costs["ac_pj"])]
    tables = [Table(head, totals), Table(("layer", *head[1:]), layers)]
    yield Section("energy", "Energy", note, drawn, tables)


def _costs(macs: float, acs: float, picojoules: float) -> tuple[str, str, str]:
    return number(macs, digits=_DIGITS), number(acs, digits=_DIGITS), joules(picojoules, digits=_DIGITS)


def _settings(run: RunFiles) -> Iterator[Section]:
    changed = _changed(run.config)
    groups: dict[str, list[tuple[str, str]]] = {}
    for field in dataclasses.fields(run.config):
        value = getattr(run.config, field.name)
        row = (field.name, "none" if value is None else str(value))
        groups.setdefault(field.metadata["group"], []).append(row)
    yield Section(
        "settings",
        "Settings",
        "Settings that differ from the defaults are marked. The same run again:",
        code=command(run.config),
        tables=[
            Table((), rows, title=group, marked=[row for row in rows if row[0] in changed])
            for group, rows in groups.items()
        ],
    )


def _machine(run: RunFiles) -> Iterator[Section]:
    names = ("device", "threads", "processes")
    where = [(name, str(run.description[name])) for name in names if name in run.description]
    git = run.description.get("git")
    if git:
        changes = ", with changes that are not committed" if git["dirty"] else ""
        where.append(("git", f"{git['commit'][:_SHORT_COMMIT]} on {git['branch']}{changes}"))
    versions = [(name, str(version)) for name, version in run.description["versions"].items()]
    tables = [Table((), where, title="Machine and code"), Table((), versions, title="Versions")]
    yield Section("machine", "Code and machine", tables=tables)


def _changed(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that differ from the defaults; the default folder depends on the other settings."""
    default = dataclasses.replace(TrainConfig(), out=dataclasses.replace(config, out=None).out)
    names = [field.name for field in dataclasses.fields(config)]
    return {name: getattr(config, name) for name in names if getattr(config, name) != getattr(default, name)}


def _parameters(count: int) -> str:
    return f"{count:,}" if count < 1_000_000 else number(count, digits=_DIGITS)


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


_SECTIONS: tuple[Callable[[RunFiles], Iterator[Section]], ...] = (
    _warnings,
    _learning,
    _by_step,
    _confusion,
    _neurons,
    _energy,
    _settings,
    _machine,
)
