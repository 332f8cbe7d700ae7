"""Figures of a run as SVG elements, in the colours of the report page."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, ParamSpec

from torch import Tensor, nn

from snntorch_asnn import plot
from snntorch_asnn._extras import require
from snntorch_asnn.layers import TimeWeightedReadout
from snntorch_asnn.neurons.adaptive import AdaptiveNeuron

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")
_BLUE, _ORANGE, _GREEN = "#0072B2", "#D55E00", "#009E73"
_INK = "#010203"  # stands for the text colour of the page
_GRID = "#ebebeb"
_MOST_ANNOTATED_CLASSES, _MOST_NAMED_CLASSES, _MOST_BARS, _MOST_TICKS = 12, 40, 40, 16
_PIXELS_PER_INCH = 96
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "snntorch-asnn",
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}


def _as_svg(label: str) -> Callable[[Callable[P, Figure | None]], Callable[P, str | None]]:
    """Let a function that draws a figure return an SVG element instead, in the style of the page."""

    def decorate(draw: Callable[P, Figure | None]) -> Callable[P, str | None]:
        @functools.wraps(draw)
        def drawn(*args: P.args, **kwargs: P.kwargs) -> str | None:
            with require("matplotlib", extra="train").rc_context(_STYLE):
                figure = draw(*args, **kwargs)
                return None if figure is None else _svg(figure, label)

        return drawn

    return decorate


@_as_svg("Loss and accuracy over the epochs")
def curves(metrics: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw loss and accuracy over the epochs."""
    return plot.learning_curve(metrics)


@_as_svg("Learning rate, images per second and firing rate over the epochs")
def progress(metrics: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw learning rate, throughput and firing rate over the epochs."""
    panels = {
        "lr": ("learning rate", _GREEN),
        "images_per_second": ("images per second", _ORANGE),
        "firing_rate": ("spikes per neuron and step", _BLUE),
    }
    figure = _new_figure(8.4, 2.6)
    epochs = [line["epoch"] for line in metrics]
    marker = "o" if len(epochs) <= 30 else ""
    for ax, (key, (label, colour)) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        ax.plot(epochs, [line[key] for line in metrics], color=colour, marker=marker, markersize=3)
        ax.set(xlabel="epoch", ylim=(0, None))
        ax.set_title(label, loc="left", fontsize=10)
        _open_frame(ax)
    return figure


@_as_svg("Accuracy after each step")
def accuracy_by_step(accuracy: Sequence[float], mj_by_step: Sequence[float] | None) -> Figure:
    """Draw the accuracy after each step, and against the energy spent by then if it is known."""
    steps = list(range(1, len(accuracy) + 1))
    percent = [100 * value for value in accuracy]
    figure = _new_figure(8.4 if mj_by_step else 4.2, 3.0)
    axes = figure.subplots(1, 2 if mj_by_step else 1, squeeze=False)[0]
    axes[0].plot(steps, percent, color=_BLUE, marker="o", markersize=5)
    ticks = steps[:: 1 + len(steps) // _MOST_TICKS]
    axes[0].set(xlabel="stopped after step", ylabel="accuracy (%)", xticks=ticks)
    if mj_by_step:
        spent = [1e3 * sum(mj_by_step[:step]) for step in steps]
        axes[1].plot(spent, percent, color=_ORANGE, marker="o", markersize=5)
        axes[1].set(xlabel="energy so far (µJ an image)", xlim=(0, None))
    for ax in axes:
        _open_frame(ax)
    return figure


@_as_svg("Confusion matrix")
def confusion_matrix(counts: Tensor, classes: Sequence[str]) -> Figure:
    """Draw the fraction of each class by the class of the answer."""
    shares = counts.float() / counts.sum(dim=1, keepdim=True).clamp(min=1)
    size = len(classes)
    side = min(8.4, 1.8 + 0.36 * size)
    figure = _new_figure(side, 0.9 * side)
    ax = figure.subplots()
    image = ax.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    if size <= _MOST_NAMED_CLASSES:
        ax.set_xticks(range(size), classes, rotation=45, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(size), classes)
    ax.set(xlabel="answer", ylabel="class")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    if size <= _MOST_ANNOTATED_CLASSES:
        for row, column in counts.nonzero().tolist():
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = f"{counts[row, column]:,}"
            ax.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    else:
        bar = figure.colorbar(image, ax=ax, pad=0.02, label="fraction of the class")
        bar.outline.set_visible(False)
    return figure


@_as_svg("Leak and gain of each layer at each step")
def time_parameters(model: nn.Module) -> Figure | None:
    """Draw the leak and the gain of every adaptive neuron at each step, if any of them learns."""
    neurons = [module for module in model.modules() if isinstance(module, AdaptiveNeuron)]
    learns = any(p.requires_grad for neuron in neurons for p in neuron.parameters(recurse=False))
    return plot.time_parameters(model) if learns else None


@_as_svg("Scale of the logits at each step")
def scale(model: nn.Module) -> Figure | None:
    """Draw the weight of each step in the readout, if it has one."""
    readout = next((m for m in model.modules() if isinstance(m, TimeWeightedReadout)), None)
    if readout is None:
        return None
    weights = readout.scale.detach().float().tolist()
    figure = _new_figure(4.2, 2.4)
    ax = figure.subplots()
    bars = ax.bar(range(len(weights)), weights, color=_BLUE, width=0.6)
    ax.bar_label(bars, fmt="%.2f", padding=2, fontsize=8)
    ax.axhline(1, color="0.6", linewidth=0.8, linestyle="--")
    ax.margins(y=0.15)
    ax.set(xlabel="time step", xticks=range(0, len(weights), 1 + len(weights) // _MOST_TICKS))
    ax.set_title("scale: factor of the logits", loc="left", fontsize=10)
    _open_frame(ax)
    return figure


@_as_svg("Firing rate of each layer at each step")
def firing_rates(rates: Mapping[str, Sequence[float]]) -> Figure | None:
    """Draw the firing rates, layer by layer and step by step, if there are any."""
    return plot.firing_rates(rates).get_figure(root=True) if rates else None


@_as_svg("Energy of each layer")
def energy_by_layer(layers: Sequence[Mapping[str, Any]], mac_pj: float, ac_pj: float) -> Figure:
    """Draw the energy of each layer by kind of operation, for the layers that need the most."""
    ranked = sorted(layers, key=lambda layer: sum(layer["pj"]), reverse=True)[:_MOST_BARS]
    shown = [layer for layer in layers if layer in ranked]
    names = [layer["name"] for layer in shown]
    macs = [1e-6 * mac_pj * sum(layer["macs"]) for layer in shown]
    acs = [1e-6 * ac_pj * sum(layer["acs"]) for layer in shown]
    figure = _new_figure(8.4, 0.9 + 0.27 * len(shown))
    ax = figure.subplots()
    ax.barh(names, macs, color=_ORANGE, label="multiply-accumulates")
    ax.barh(names, acs, left=macs, color=_BLUE, label="accumulates")
    ax.invert_yaxis()
    ax.set(xlabel="energy (µJ an image)")
    ax.legend(frameon=False)
    _open_frame(ax, grid="x")
    return figure


def _svg(figure: Figure, label: str) -> str:
    """Return a figure as an element for the page, as wide as the figure or as the page allows."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 var(--font)", text)
    for colour in (_INK, "#222222"):
        text = text.replace(colour, "currentColor")
    text = text.replace(_GRID, "var(--grid)").replace(_BLUE.lower(), "var(--accent)")
    start, rest = text.split(">", 1)
    view_box = re.search(r'viewBox="[^"]*"', start)
    assert view_box is not None
    width = round(_PIXELS_PER_INCH * figure.get_figwidth())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        f' {view_box.group(0)} role="img" aria-label="{label}" style="width:{width}px">{rest}'
    )


def _new_figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _open_frame(ax: Axes, *, grid: Literal["x", "y"] = "y") -> None:
    """Leave out the frame's upper and right sides, and draw a grid across one axis."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("#b8b8b8")
    ax.grid(axis=grid, color=_GRID)
    ax.set_axisbelow(True)
