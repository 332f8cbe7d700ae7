"""The first run: adaptive neurons with a hybrid code, beside fixed neurons with a direct code."""

from __future__ import annotations

from pathlib import Path

from snntorch_asnn import plot, spikegen
from snntorch_asnn.train._fit import fit
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data import load_images
from snntorch_asnn.train.progress import Reporter
from snntorch_asnn.train.recipe import make_config
from snntorch_asnn.train.run_folder import RunResult

_NUM_STEPS = 4
_CLEAR_ZERO = 12
_NETWORKS = {
    "hybrid code, adaptive neurons": ("hybrid-asnn", "hybrid", "asnn", "time_weighted"),
    "direct code, fixed neurons": ("direct-lif", "direct", "lif", "mean"),
}
"""Folder, code, neuron and readout of each run: all that differs."""


def quickstart(
    out: str | Path = "runs/quickstart",
    *,
    epochs: int = 20,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> dict[str, RunResult]:
    """Train LeNet on scikit-learn's 8×8 digits twice, and draw one digit in both codes.

    One seed on a set this small shows that everything works, not which network is better.

    Args:
        out: Folder for the two run folders and ``codes.png``; an earlier quickstart is replaced.
        epochs: Passes over the 1,293 training images.
        seed: Seed of both runs.
        reporter: Receives the progress of both runs.

    Returns:
        dict: The two results, by the names of the networks.

    Raises:
        ValueError: ``out`` holds other files, or a setting is out of its range.

    Example::

        >>> results = quickstart("runs/quickstart")  # doctest: +SKIP
        >>> [f"{result.test_accuracy:.0%}" for result in results.values()]  # doctest: +SKIP
        ['98%', '98%']
    """
    folder = Path(out)
    _check_holds_only(folder, {name for name, *_ in _NETWORKS.values()} | {"codes.png"})
    results = {}
    for name, (run, encoding, neuron, readout) in _NETWORKS.items():
        settings = {
            "encoding": encoding,
            "neuron": neuron,
            "readout": readout,
            "epochs": epochs,
            "seed": seed,
            "device": "cpu",
            "out": folder / run,
            "overwrite": True,
            "tensorboard": False,
        }
        results[name] = fit(make_config("digits", settings), reporter=reporter)
    _draw_codes(folder / "codes.png")
    return results


def _draw_codes(file: Path) -> None:
    image = load_images(TrainConfig(data="digits")).test[_CLEAR_ZERO][0]
    planes = {
        "direct": spikegen.direct(image, _NUM_STEPS),
        "hybrid": spikegen.hybrid(image, _NUM_STEPS),
    }
    plot.code(planes, image=image).savefig(file)


def _check_holds_only(folder: Path, own: set[str]) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out must be a folder; {folder} is a file")
    others = sorted({file.name for file in folder.glob("*")} - own)
    if others:
        raise ValueError(
            f"out must be empty or an earlier quickstart; {folder} holds {', '.join(others[:3])}"
        )
