"""The first run: adaptive neurons with a hybrid code, beside fixed neurons with a direct one."""

from __future__ import annotations

from pathlib import Path

from snntorch_asnn import plot, spikegen
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data import load_images
from snntorch_asnn.train.fit import fit
from snntorch_asnn.train.reporter import Reporter
from snntorch_asnn.train.result import RunResult

_NUM_STEPS = 4
_A_CLEAR_ZERO = 12


def quickstart_configs(out: Path, *, epochs: int = 20, seed: int = 0) -> dict[str, TrainConfig]:
    """Return the two runs by name: all that differs is code, neuron and readout."""
    kinds = {
        "hybrid code, adaptive neurons": ("hybrid-asnn", "hybrid", "asnn", "time_weighted"),
        "direct code, fixed neurons": ("direct-lif", "direct", "lif", "mean"),
    }
    return {
        name: TrainConfig(
            data="digits",
            model="lenet",
            encoding=encoding,
            neuron=neuron,
            readout=readout,
            norm_over_time="pooled",  # as in the recipe for these digits
            num_steps=_NUM_STEPS,
            epochs=epochs,
            batch_size=64,
            seed=seed,
            device="cpu",
            threads=1,  # images this small gain nothing from more, and lose much on a busy machine
            out=out / folder,
            overwrite=True,
            tensorboard=False,
        )
        for name, (folder, encoding, neuron, readout) in kinds.items()
    }


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
        out: folder for the two run folders and ``codes.png``, which replace those of an earlier
            quickstart.
        epochs: passes over the 1,293 training images.
        seed: seed of both runs.
        reporter: receives the progress of both runs.

    Returns:
        dict: the two results, by what was trained.

    Raises:
        ValueError: ``out`` holds anything else, or a setting is out of its range.

    Example::

        >>> results = quickstart("runs/quickstart")  # doctest: +SKIP
        >>> [f"{result.test_accuracy:.0%}" for result in results.values()]  # doctest: +SKIP
        ['98%', '98%']
    """
    folder = Path(out)
    configs = quickstart_configs(folder, epochs=epochs, seed=seed)
    _check_holds_only(folder, {config.run_folder.name for config in configs.values()} | {"codes.png"})
    results = {name: fit(config, reporter=reporter) for name, config in configs.items()}
    draw_codes(folder / "codes.png")
    return results


def draw_codes(file: Path) -> None:
    """Draw a digit as the direct and the hybrid code show it to a network."""
    image = load_images(TrainConfig(data="digits")).test[_A_CLEAR_ZERO][0]
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
