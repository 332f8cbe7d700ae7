"""The commands that train and evaluate."""

from __future__ import annotations

import dataclasses
import json
import shlex
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from snntorch_asnn import energy, train
from snntorch_asnn.cli.errors import interruptible
from snntorch_asnn.cli.options import with_options_of
from snntorch_asnn.cli.progress import (
    TerminalReporter,
    by_step,
    comparison,
    confusions,
    recipes,
    summary,
    sweep_table,
)
from snntorch_asnn.train.devices import is_main_process

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
RecipeOption = Annotated[
    str | None,
    typer.Option(metavar="NAME|FILE.toml", help="Settings to begin with; see --list-recipes."),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("train")(with_options_of(train.TrainConfig, _train))
    app.command("eval")(_eval)
    app.command("sweep")(
        with_options_of(train.TrainConfig, _sweep, without=("seed", "out", "resume", "overwrite"))
    )
    app.command("quickstart")(_quickstart)


def _list_recipes(wanted: bool) -> None:
    if wanted:
        Console().print(recipes())
        raise typer.Exit


def _train(
    given: dict[str, Any],
    recipe: RecipeOption = None,
    list_recipes: Annotated[
        bool,
        typer.Option("--list-recipes", callback=_list_recipes, is_eager=True, help="Show the recipes."),
    ] = False,
) -> None:
    """Train a model on images, and write a run folder.

    Options override the recipe. The best epoch is chosen on images held out of the training set; the
    test images are read once, at the end. The same command with --resume continues a run that was
    broken off.
    """
    config = train.make_config(recipe, given)
    console = Console(quiet=not is_main_process())
    with interruptible(_continue(config.run_folder)), TerminalReporter(console) as reporter:
        result = train.fit(config, reporter=reporter)
    if is_main_process():
        console.print(summary(result))


def _continue(folder: Path) -> Callable[[], str]:
    """What to do after a run was interrupted, which depends on whether it had begun."""

    def advice() -> str:
        if (folder / "config.json").is_file():
            return (
                f"continue with: {shlex.join(['snntorch-asnn', 'train', '--resume', '--out', str(folder)])}"
            )
        return "nothing was written yet: give the same command to begin anew"

    return advice


def _eval(
    run: RunArgument,
    data_dir: Annotated[Path | None, typer.Option(help="Where the data are now.")] = None,
    device: DeviceOption = "auto",
    batch_size: Annotated[int | None, typer.Option(help="Images at a time.")] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write all of it to a file, with the confusion matrix."),
    ] = None,
) -> None:
    """Evaluate the best epoch of a run on the test images: accuracy by step, and what is confused."""
    console = Console()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", energy.SilentLayersWarning)  # said below
        found = train.evaluate_run(run, data_dir=data_dir, device=device, batch_size=batch_size)
    console.print(
        f"[bold]{found.accuracy:.2%}[/] of {found.images:,} test images, loss {found.loss:.4f},"
        f" {found.images_per_second:,.0f} images/s",
        highlight=False,
    )
    console.print(by_step(found))
    console.print(confusions(found), highlight=False, markup=False)
    if silence := energy.describe_silence(found.firing_rates, "test images"):
        TerminalReporter(console).warning(f"{silence}.")
    if json_file is not None:
        json_file.write_text(json.dumps(dataclasses.asdict(found), indent=2) + "\n", encoding="utf-8")


def _sweep(
    given: dict[str, Any],
    set_: Annotated[
        list[str], typer.Option("--set", metavar="NAME=V,V,...", help="A setting and its values; repeat it.")
    ],
    recipe: RecipeOption = None,
    seeds: Annotated[str, typer.Option(metavar="N,N,...", help="Seeds of every combination.")] = "0,1,2",
    out: Annotated[Path, typer.Option(help="Folder for the runs and their table.")] = Path("runs/sweep"),
) -> None:
    """Train every combination of some settings with several seeds, and show mean and deviation.

    The same command again skips the runs that are finished, and continues one that was broken off. The
    table is also in sweep.json and sweep.csv.
    """
    grid = train.parse_grid(set_)
    both = sorted(grid.keys() & given.keys())
    if both:
        raise ValueError(f"set must not name what is an option too; got {', '.join(both)}")
    console = Console(quiet=not is_main_process())
    with interruptible("continue with the same command"), TerminalReporter(console) as reporter:
        cells = train.sweep(
            out,
            grid=grid,
            seeds=_numbers(seeds),
            recipe=recipe,
            settings=given,
            reporter=reporter,
        )
    if is_main_process():
        console.print(sweep_table(cells))
        console.print(f"Also in {out / 'sweep.json'} and {out / 'sweep.csv'}", soft_wrap=True)


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise ValueError(f"seeds must be numbers with commas between them; got {text!r}") from error


def _quickstart(
    out: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("runs/quickstart"),
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 20,
    seed: Annotated[int, typer.Option(help="Seed of both runs.")] = 0,
) -> None:
    """Train LeNet on digits: hybrid code and adaptive neurons beside direct code and fixed ones."""
    console = Console()
    with interruptible("the same command begins anew"), TerminalReporter(console) as reporter:
        results = train.quickstart(out, epochs=epochs, seed=seed, reporter=reporter)
    console.print()
    console.print(comparison(results))
    console.print(
        "Firing rates are spikes per neuron and step."
        "\nOne seed on 360 tiny test images shows that everything works, not which is better."
        f"\nPictures, checkpoints and metrics: {out}",
        highlight=False,
        soft_wrap=True,
    )
