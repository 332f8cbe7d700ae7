"""The cells of every table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import product
from typing import Any

from cell import Cell
from changes import CHANGES

NEURONS = ("lif", "plif", "tebn", "dalif", "asnn")
CODES = ("direct", "temporal", "hybrid", "hybrid_binary")
PROMISING = (
    "carry",
    "carry_only",
    "carry+gain_1",
    "carry+step_norm",
    "carry+cumulative",
    "cumulative",
    "gain_1",
    "step_norm",
)
CLAIMS = (
    ("lif", "direct", ""),
    ("asnn", "direct", ""),
    ("asnn", "hybrid", ""),
    ("asnn", "hybrid", "carry"),
    ("asnn", "hybrid", "carry+step_norm"),
)
SMALL_LENET = {"channels": [8, 16, 32], "hidden": 64}


def lenet() -> list[Cell]:
    """Every neuron, code and T on a small LeNet, three seeds; T = 7, which costs most, last."""
    order = [(seed, steps) for steps in (4, 2) for seed in range(3)] + [(seed, 7) for seed in range(3)]
    return [
        Cell("fashion_mnist", "lenet", SMALL_LENET, neuron, code, steps, seed, train_images=4000, epochs=4)
        for seed, steps in order
        for code, neuron in product(CODES, NEURONS)
    ]


def carry() -> list[Cell]:
    """The analog current carried on, beside the codes of the table of LeNet."""
    return [
        dataclasses.replace(cell, change=change)
        for cell in lenet()
        if cell.neuron in ("lif", "asnn")
        for change in {"hybrid": ("carry", "carry+step_norm"), "hybrid_binary": ("carry",)}.get(cell.code, ())
    ]


def _small(model: str, model_args: dict[str, Any], seeds: int) -> list[Cell]:
    """Cells of another small network: several seeds for the main claims, one for every other cell."""
    grid = [(neuron, code, "") for code, neuron in product(CODES, NEURONS)]
    grid += [(neuron, "hybrid", "carry") for neuron in ("lif", "asnn")]
    order = [(4, seed, row) for seed in range(seeds) for row in CLAIMS]
    order += [(steps, 0, row) for steps in (4, 2, 7) for row in grid]
    return [
        Cell("fashion_mnist", model, model_args, neuron, code, steps, seed, 3000, epochs=4, change=change)
        for steps, seed, (neuron, code, change) in dict.fromkeys(order)
    ]


def resnet() -> list[Cell]:
    return _small("spiking_resnet_tiny", {"widths": [8, 16, 32], "stem_width": 8}, seeds=3)


def spikformer() -> list[Cell]:
    return _small("spikformer_tiny", {"dim": 32}, seeds=8)


def full() -> list[Cell]:
    """All of Fashion-MNIST, T = 4: the best cell, and direct coding with LIF."""
    rows = [
        ("asnn", "hybrid", "carry"),
        ("lif", "direct", ""),
        ("asnn", "hybrid", "carry+step_norm"),
        ("asnn", "direct", ""),
        ("asnn", "hybrid", ""),
    ]
    return [
        Cell(
            "fashion_mnist",
            "lenet",
            {"channels": [16, 32, 48], "hidden": 128},
            neuron,
            code,
            4,
            seed,
            train_images=60_000,
            epochs=10,
            batch=100,
            change=change,
        )
        for seed in range(3)
        for neuron, code, change in rows
    ]


def large() -> list[Cell]:
    """The field's networks on CIFAR-10 (JPEG), for whoever has a GPU."""
    rows = product(range(3), (4, 2), ("spiking_resnet19", "spikformer_4_256", "spikformer_4_384"))
    return [
        Cell(
            "cifar10_jpeg",
            model,
            {},
            neuron,
            code,
            steps,
            seed,
            50_000,
            epochs=100,
            batch=128,
            learning_rate=1e-3,
            weight_decay=0.06,
            augment=True,
            change=change,
        )
        for seed, steps, model in rows
        for neuron, code, change in [
            *((neuron, code, "") for neuron, code in product(NEURONS, CODES)),
            ("lif", "hybrid", "carry"),
            ("asnn", "hybrid", "carry"),
            ("asnn", "hybrid", "carry+step_norm"),
        ]
    ]


def ablation() -> list[Cell]:
    """Changes to hybrid coding with ASNN neurons, each alone, beside direct coding; validation split.

    Everything once, then what was promising with more seeds, then the rest with three.
    """
    base = [("direct", "lif", ""), ("direct", "asnn", ""), ("hybrid", "asnn", "")]
    single = [("hybrid", "asnn", change) for change in CHANGES]
    others = [("direct", neuron, change) for change in ("step_norm", "tet") for neuron in ("lif", "asnn")]
    promising = base + [("hybrid", "asnn", change) for change in PROMISING]
    order = [(0, base + single + others)]
    order += [(seed, promising) for seed in range(5)]
    order += [(seed, single + others) for seed in (1, 2)]
    cells = [_ablated(*row, seed) for seed, rows in order for row in rows]
    return list({cell.key(): cell for cell in cells}.values())


def _ablated(code: str, neuron: str, change: str, seed: int) -> Cell:
    return Cell(
        "fashion_mnist",
        "lenet",
        SMALL_LENET,
        neuron,
        code,
        4,
        seed,
        train_images=4000,
        epochs=4,
        split="validation",
        change=change,
    )


TABLES: dict[str, Callable[[], list[Cell]]] = {
    table.__name__: table for table in (lenet, carry, resnet, spikformer, full, ablation, large)
}
