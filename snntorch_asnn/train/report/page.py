"""The page: which sections it has, and how it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import torch
from torch import nn

import snntorch_asnn
from snntorch_asnn._extras import require
from snntorch_asnn.energy import describe_silence
from snntorch_asnn.energy.text import joules, number
from snntorch_asnn.neurons import describe
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.confusions import most_frequent_errors
from snntorch_asnn.train.report import figures, settings
from snntorch_asnn.train.report.files import RunFiles, read_run
from snntorch_asnn.train.report.parts import Section, Table
from snntorch_asnn.train.utf8 import write_text

_MOST_LAYERS, _MOST_CONFUSIONS = 60, 8
_DIGITS = 3


def write_report(run_folder: str | Path) -> Path:
    """Write one page on a run, from the files in its folder, to ``report.html`` there.

    It holds curves, confusion matrix, learned time parameters, firing rates, accuracy by step, energy,
    settings, versions and the state of the code; what a run has not written is left out. The page is one
    file that fetches nothing, in light and dark colours.

    Args:
        run_folder: the folder of a run that has finished at least one epoch.

    Returns:
        Path: the page.

    Raises:
        ValueError: it is no folder of a run, or holds no finished epoch.
        ModuleNotFoundError: a package of the extra ``[train]`` is missing.

    Example::

        >>> write_report("runs/digits")  # doctest: +SKIP
        PosixPath('runs/digits/report.html')
    """
    run = read_run(Path(run_folder))
    sections = [section for make in _SECTIONS for section in make(run)]
    jinja = require("jinja2", extra="train")
    texts = resources.files(__package__)
    page = jinja.Environment(autoescape=True, trim_blocks=False).from_string(
        texts.joinpath("page.html.j2").read_text(encoding="utf-8")
    )
    html = page.render(
        title=run.path.resolve().name,
        subtitle=_subtitle(run),
        tiles=_tiles(run),
        sections=sections,
        css=require("markupsafe", extra="train").Markup(
            texts.joinpath("page.css").read_text(encoding="utf-8")
        ),
        version=snntorch_asnn.__version__,
    )
    file = run.path / "report.html"
    write_text(file, html)
    return file


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
        best = max(run.metrics, key=lambda line: (line["val_accuracy"], -line["val_loss"]))
        tiles = {
            "best validation accuracy so far": f"{best['val_accuracy']:.2%}",
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
    """What is probably wrong with the network."""
    rates = (run.result or {}).get("firing_rates", {})
    found = [describe_silence(rates, "test images")]
    if run.result is None and (silent := run.metrics[-1].get("silent_layers")):
        found = [f"Layers that fired at no step of the validation images: {', '.join(silent)}"]
    note = " ".join(f"{text}." for text in found if text)
    if note:
        yield Section("warnings", "Warnings", note)


def _learning(run: RunFiles) -> Iterator[Section]:
    drawn = [figures.curves(run.metrics), figures.progress(run.metrics)]
    best = max(run.metrics, key=lambda line: (line["val_accuracy"], -line["val_loss"]))
    note = (
        f"The ring marks epoch {best['epoch']}, the best on the validation images, which is kept. The loss is"
        f" {_trained_loss(run.config)} in training, cross-entropy in validation."
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
    note = "Test accuracy of the mean of the logits so far: what an early exit after that step would answer."
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
    learned = [figure for figure in drawn if figure is not None]
    if learned:
        note = (
            "Means over the features of a layer. The leak of step 0 keeps its initial value: there is no"
            " membrane before it."
        )
        yield Section("neurons", "Learned time parameters", note, learned, _leaks_at_bounds(run.model))
    rates = figures.firing_rates((run.result or {}).get("firing_rates", {}))
    if rates is not None:
        yield Section("rates", "Firing rates", "Spikes per neuron, on the test images.", [rates])


def _leaks_at_bounds(model: nn.Module | None) -> list[Table]:
    """A row for each kind of leak that has reached the ends of its range somewhere."""
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
    yield Section(
        "settings",
        "Settings",
        "Marked where they differ from the defaults. The same run again:",
        code=settings.command(run.config),
        tables=settings.tables(run.config),
    )
    yield Section("machine", "Code and machine", tables=settings.machine(run.description))


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
)
