"""Plots of spikes, codes, learned time parameters and training. They need the extra ``[plot]``.

Functions that draw into one set of axes take and return ``ax``. Functions that need several axes take
and return a :class:`matplotlib.figure.Figure`. No function uses ``matplotlib.pyplot``, so no figure stays
open.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from snntorch_asnn._extras import require
from snntorch_asnn.neurons.adaptive import AdaptiveNeuron

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.collections import Collection
    from matplotlib.figure import Figure

__all__ = ["code", "firing_rates", "learning_curve", "raster", "time_parameters"]

# Okabe and Ito's palette, which is safe for colour-blind readers.
_BLUE, _ORANGE, _INK, _FAINT = "#0072B2", "#D55E00", "#222222", "#B8B8B8"
_MAX_ANNOTATED_STEPS = 16


def raster(spikes: Tensor, *, ax: Axes | None = None) -> Axes:
    """Draw which neuron fires at which time step.

    Args:
        spikes: Spikes ``[T, ...]``, 0 where a neuron is silent. Dimensions after T are flattened to neurons.
        ax: Axes to draw into. None makes new axes.

    Returns:
        matplotlib.axes.Axes: The axes.

    Raises:
        TypeError: ``spikes`` is not a tensor.
        ValueError: ``spikes`` has no neurons or no steps.

    Example::

        >>> ax = raster(torch.tensor([[1, 0, 0], [0, 1, 0]]))
        >>> ax.get_title(loc="left")
        '0.33 spikes per neuron and step'
    """
    _check_tensor("spikes", spikes, min_dim=2)
    fired = spikes.detach().flatten(1) != 0
    steps, neurons = fired.shape
    axes = ax if ax is not None else _new_axes(6.4, 3.6)
    axes.add_collection(_ticks(fired.nonzero().cpu()))
    axes.set(xlabel="time step", ylabel="neuron", xlim=(-0.5, steps - 0.5), ylim=(-0.5, neurons - 0.5))
    _whole_numbers(axes.xaxis, axes.yaxis)
    _open_frame(axes, grid="x")
    rate = fired.float().mean().item()
    axes.set_title(f"{rate:.2f} spikes per neuron and step", loc="left", fontsize=10)
    return axes


def time_parameters(model: nn.Module, *, figure: Figure | None = None) -> Figure:
    """Draw the leak and the gain of every adaptive neuron of a model at each step.

    Parameters with a feature shape, such as one value per channel, are averaged over it. Values that are not
    finite, as after a divergence, have no colour and are written as ``nan`` or ``inf``.

    Args:
        model: Network of adaptive neurons, such as :class:`~snntorch_asnn.AdaptiveLeaky`.
        figure: Figure to draw into. None makes a new figure.

    Returns:
        matplotlib.figure.Figure: The figure.

    Raises:
        ValueError: The model has no adaptive neuron.

    Example::

        >>> import snntorch_asnn as asnn
        >>> figure = time_parameters(asnn.AdaptiveLeaky(beta=0.9, num_steps=4))
        >>> [ax.get_title(loc="left") for ax in figure.axes[:2]]
        ['leak: factor of the membrane', 'gain: factor of the input']
    """
    neurons = {n: m for n, m in model.named_modules() if isinstance(m, AdaptiveNeuron)}
    if not neurons:
        raise ValueError(f"model must have adaptive neurons; got {type(model).__name__} without one")
    names = _layer_names(neurons)
    steps = max(neuron.gain.shape[0] for neuron in neurons.values())
    target = figure if figure is not None else _new_figure(*_heat_map_size(names, steps, columns=2))
    left, right = target.subplots(1, 2, sharey=True)
    leaks = [_mean_over_features(neuron.leak) for neuron in neurons.values()]
    gains = [_mean_over_features(neuron.gain) for neuron in neurons.values()]
    _heat_map(left, leaks, names, cmap="viridis", title="leak: factor of the membrane")
    _heat_map(right, gains, names, cmap="plasma", title="gain: factor of the input")
    right.tick_params(labelleft=False)
    return target


def firing_rates(rates: Mapping[str, Sequence[float]], *, ax: Axes | None = None) -> Axes:
    """Draw the firing rate of every layer at every step.

    A rate that is not finite has no colour and is written as ``nan`` or ``inf``.

    Args:
        rates: Rates of each layer by name, one per step, in spikes per neuron.
        ax: Axes to draw into. None makes new axes.

    Returns:
        matplotlib.axes.Axes: The axes.

    Raises:
        ValueError: ``rates`` is empty, or a layer has no steps.

    Example::

        >>> ax = firing_rates({"conv": [0.2, 0.1], "fc": [0.05, 0.15]})
        >>> [label.get_text() for label in ax.get_yticklabels()]
        ['conv', 'fc']
    """
    if not rates:
        raise ValueError("rates must have at least one layer; got an empty mapping")
    names = _layer_names(rates)
    rows = [[float(rate) for rate in layer] for layer in rates.values()]
    for name, row in zip(rates, rows, strict=True):
        if not row:
            raise ValueError(f"rates[{name!r}] must have at least one step; got an empty sequence")
    axes = ax if ax is not None else _new_axes(*_heat_map_size(names, max(map(len, rows)), columns=1))
    _heat_map(axes, rows, names, cmap="Blues", title="spikes per neuron and step", low=0.0)
    return axes


def learning_curve(metrics: Sequence[Mapping[str, Any]], *, figure: Figure | None = None) -> Figure:
    """Draw loss and accuracy of training and validation over the epochs, and mark the best epoch.

    Args:
        metrics: One mapping per epoch with ``epoch``, ``train_loss``, ``val_loss``,
            ``train_accuracy`` and ``val_accuracy``, like the lines of a run's ``metrics.jsonl``.
        figure: Figure to draw into. None makes a new figure.

    Returns:
        matplotlib.figure.Figure: The figure.

    Raises:
        ValueError: ``metrics`` is empty.

    Example::

        >>> line = {"train_loss": 1.9, "val_loss": 2.0, "train_accuracy": 0.5, "val_accuracy": 0.4}
        >>> figure = learning_curve([{"epoch": 1, **line}])
        >>> figure.axes[1].get_title(loc="right")
        'best: 40.0 % at epoch 1'
    """
    if not metrics:
        raise ValueError("metrics must have at least one epoch; got an empty sequence")
    target = figure if figure is not None else _new_figure(8.4, 3.4)
    left, right = target.subplots(1, 2)
    epochs = [line["epoch"] for line in metrics]
    marker = "o" if len(epochs) <= 30 else ""
    for ax, key, scale in ((left, "loss", 1.0), (right, "accuracy", 100.0)):
        for split, colour, style in (("train", _ORANGE, "--"), ("val", _BLUE, "-")):
            values = [line[f"{split}_{key}"] * scale for line in metrics]
            label = "validation" if split == "val" else "training"
            ax.plot(epochs, values, style, color=colour, marker=marker, markersize=3.5, label=label)
        _whole_numbers(ax.xaxis)
        _open_frame(ax, grid="y")
    left.set(xlabel="epoch", ylabel="loss (nats)", ylim=(0, None))
    right.set(xlabel="epoch", ylabel="accuracy (%)")
    best = max(metrics, key=lambda line: (line["val_accuracy"], -line["val_loss"]))
    right.plot(
        best["epoch"],
        100 * best["val_accuracy"],
        "o",
        color=_BLUE,
        markersize=9,
        markerfacecolor="none",
    )
    note = f"best: {100 * best['val_accuracy']:.1f} % at epoch {best['epoch']}"
    right.set_title(note, loc="right", fontsize=9, color=_BLUE)
    left.legend(frameon=False)
    return target


def code(
    planes: Tensor | Mapping[str, Tensor],
    *,
    image: Tensor | None = None,
    figure: Figure | None = None,
) -> Figure:
    """Draw the planes of a code at each time step, with one row per code.

    Args:
        planes: Planes ``[T, H, W]`` or ``[T, C, H, W]`` with values in [0, 1] and C = 1 or 3, or a mapping
            from names to planes.
        image: Image ``[H, W]`` or ``[C, H, W]`` to the left of each row.
        figure: Figure to draw into. None makes a new figure.

    Returns:
        matplotlib.figure.Figure: The figure.

    Raises:
        TypeError: ``planes`` is neither a tensor nor a mapping to tensors.
        ValueError: A tensor has another number of dimensions or channels.

    Example::

        >>> from snntorch_asnn import spikegen
        >>> image = torch.rand(8, 8)
        >>> figure = code(spikegen.hybrid(image, 4), image=image)
        >>> len(figure.axes)
        5
    """
    rows = planes if isinstance(planes, Mapping) else {"": planes}
    if not rows:
        raise ValueError("planes must have at least one code; got an empty mapping")
    for name, row in rows.items():
        _check_tensor(f"planes[{name!r}]" if name else "planes", row, min_dim=3)
    offset = 0 if image is None else 1
    columns = offset + max(len(row) for row in rows.values())
    target = figure if figure is not None else _new_figure(0.7 + 1.25 * columns, 1.65 * len(rows))
    grid = target.subplots(len(rows), columns, squeeze=False)
    for axes_row, (name, row) in zip(grid, rows.items(), strict=True):
        if image is not None:
            _show_plane(axes_row[0], image, title="image")
        for step, plane in enumerate(row):
            _show_plane(axes_row[offset + step], plane, title=f"step {step}", note=_content(plane))
        for unused in axes_row[offset + len(row) :]:
            unused.set_axis_off()
        axes_row[0].set_ylabel(name, fontsize=10, color=_INK, labelpad=8)
    return target


def _ticks(places: Tensor) -> Collection:
    """Return a box at each of the ``[N, 2]`` places. Its edge keeps tiny boxes visible."""
    corners = torch.tensor([[-0.3, -0.35], [0.3, -0.35], [0.3, 0.35], [-0.3, 0.35]])
    boxes = places.unsqueeze(1) + corners
    collections = require("matplotlib.collections", extra="plot")
    ticks: Collection = collections.PolyCollection(
        list(boxes.numpy()), facecolor=_BLUE, edgecolor=_BLUE, linewidth=0.3
    )
    return ticks


def _show_plane(ax: Axes, plane: Tensor, *, title: str, note: str = "") -> None:
    pixels = plane.detach().float().cpu()
    if pixels.ndim == 3:
        pixels = pixels.squeeze(0) if pixels.shape[0] == 1 else pixels.permute(1, 2, 0)
    if not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise ValueError(
            f"each plane and the image must be [H, W] or [C, H, W] with C = 1 or 3; got shape "
            f"{tuple(plane.shape)}"
        )
    ax.imshow(pixels.clamp(0, 1).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=9, color=_INK)
    ax.set_xlabel(note, fontsize=8, color="0.4")
    for spine in ax.spines.values():
        spine.set(color=_FAINT, linewidth=0.8)


def _content(plane: Tensor) -> str:
    """Describe a plane: ``"intensities"``, or the percentage of pixels that spike."""
    if bool(((plane != 0) & (plane != 1)).any()):
        return "intensities"
    return f"{plane.float().mean().item():.0%} spike"


def _heat_map_size(names: Sequence[str], steps: int, *, columns: int) -> tuple[float, float]:
    panel = 1.0 + max(2.4, 0.6 * min(steps, _MAX_ANNOTATED_STEPS))
    return columns * panel + 0.1 * max(map(len, names)), 1.2 + 0.42 * len(names)


def _heat_map(
    ax: Axes,
    rows: Sequence[Sequence[float]],
    names: Sequence[str],
    *,
    cmap: str,
    title: str,
    low: float | None = None,
) -> None:
    """Draw one row per layer and one column per step; layers with fewer steps end in blanks."""
    steps = max(len(row) for row in rows)
    values = torch.full((len(rows), steps), float("nan"))
    for values_row, row in zip(values, rows, strict=True):
        values_row[: len(row)] = torch.as_tensor(row)
    bottom, top = _colour_range(values[values.isfinite()], low)
    image = ax.imshow(values.numpy(), cmap=cmap, vmin=bottom, vmax=top, aspect="auto")
    if steps <= _MAX_ANNOTATED_STEPS:
        _write_values(ax, rows, image)
    ax.set_yticks(range(len(names)), names)
    _whole_numbers(ax.xaxis)
    ax.set_xlabel("time step")
    ax.set_title(title, loc="left", fontsize=10)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)


def _colour_range(values: Tensor, low: float | None) -> tuple[float, float]:
    """Return the range of the values, widened so that small differences look small; (0, 1) without values."""
    if not values.numel():
        return 0.0, 1.0
    bottom, top = values.min().item(), values.max().item()
    if low is not None:
        return low, max(top, low + 0.1)
    missing = max(0.0, 0.1 - (top - bottom))
    return bottom - missing / 2, top + missing / 2


def _write_values(ax: Axes, rows: Sequence[Sequence[float]], image: Any) -> None:
    for row, layer in enumerate(rows):
        for step, value in enumerate(layer):
            colour = "white" if _is_dark(image, value) else "black"
            ax.text(step, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)


def _is_dark(image: Any, value: float) -> bool:
    """Whether an image shows a value in a dark colour; values that are not finite have no colour."""
    if not math.isfinite(value):
        return False
    red, green, blue, _ = image.cmap(image.norm(value))
    return bool(0.3 * red + 0.59 * green + 0.11 * blue < 0.5)


def _layer_names(layers: Iterable[str]) -> list[str]:
    """Return the paths of modules without the suffix ``.neuron``."""
    return [name.removesuffix(".neuron") or "neuron" for name in layers]


def _mean_over_features(parameter: Tensor) -> list[float]:
    """Return one number per step of a ``(T, *feature_shape)`` parameter."""
    means: list[float] = parameter.detach().float().reshape(len(parameter), -1).mean(dim=1).tolist()
    return means


def _check_tensor(name: str, value: object, *, min_dim: int) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor; got {type(value).__name__}")
    if value.ndim < min_dim or 0 in value.shape:
        raise ValueError(
            f"{name} must have at least {min_dim} dimensions, all above 0; got shape {tuple(value.shape)}"
        )


def _new_figure(width: float, height: float) -> Figure:
    figure: Figure = require("matplotlib.figure", extra="plot").Figure(
        figsize=(width, height), dpi=150, layout="constrained"
    )
    return figure


def _new_axes(width: float, height: float) -> Axes:
    axes: Axes = _new_figure(width, height).subplots()
    return axes


def _whole_numbers(*axes: Axis) -> None:
    ticker = require("matplotlib.ticker", extra="plot")
    for axis in axes:
        axis.set_major_locator(ticker.MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


def _open_frame(ax: Axes, *, grid: Literal["x", "y"]) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(_FAINT)
    ax.grid(axis=grid, color="0.92")
    ax.set_axisbelow(True)
