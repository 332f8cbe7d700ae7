"""The commands that train, and the commands on the folder of a run."""

from __future__ import annotations

import dataclasses
import functools
import json
import shlex
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypedDict

from cyclopts import Group, Parameter
from rich.console import Console

from snntorch_asnn import energy, train
from snntorch_asnn.cli.interrupt import interruptible
from snntorch_asnn.cli.terminal import (
    TerminalReporter,
    by_step,
    comparison,
    confusions,
    recipes,
    summary,
    sweep_table,
)
from snntorch_asnn.train.devices import is_main_process
from snntorch_asnn.train.fields import field_types
from snntorch_asnn.train.report import write_report

RunArgument = Annotated[Path, Parameter(help="Folder of a run.")]
RecipeOption = Annotated[
    str | None, Parameter(help="Recipe to start from: a name of --list-recipes, or a TOML file.")
]


def _settings_options(*without: str) -> Any:
    """Return the fields of ``TrainConfig`` as options.

    A ``TypedDict`` holds only the options that the user has given, which a dataclass would not show.
    """
    fields = [field for field in dataclasses.fields(train.TrainConfig) if field.name not in without]
    options = TypedDict("Settings", {field.name: _option(field) for field in fields}, total=False)  # type: ignore[misc]
    return Annotated[options | None, Parameter(name="*")]


def _option(field: dataclasses.Field[Any]) -> Any:
    kind, optional = field_types(train.TrainConfig)[field.name]
    default = "" if field.default is None else f" [default: {field.default}]"
    about = Parameter(
        help=f"{field.metadata['help']}{default}",
        group=_panel(field.metadata["group"]),
        metavar=f"{kind.__name__.upper()}|none" if optional else None,
    )
    # cyclopts tries the types in their order, and any text would do for a path or a string.
    return Annotated[None | kind if optional else kind, about]  # noqa: RUF036


@functools.cache
def _panel(name: str) -> Group:
    return Group.create_ordered(name)


if TYPE_CHECKING:
    TrainOptions: TypeAlias = dict[str, Any] | None
    SweepOptions: TypeAlias = dict[str, Any] | None
else:
    TrainOptions = _settings_options()
    SweepOptions = _settings_options("seed", "out", "resume", "overwrite")


def train_command(
    *,
    recipe: RecipeOption = None,
    list_recipes: Annotated[bool, Parameter(negative="", help="List the recipes and exit.")] = False,
    settings: TrainOptions = None,
) -> None:
    """Train a model on images, and write a run folder.

    Options override the recipe. The best epoch is chosen on images held out of the training set; the test
    images are read once, at the end. The same command with --resume resumes an interrupted run.
    """
    if list_recipes:
        Console().print(recipes())
        return
    config = train.make_config(recipe, settings or {})
    console = Console(quiet=not is_main_process())
    with interruptible(_advice(config.run_folder)), TerminalReporter(console) as reporter:
        result = train.fit(config, reporter=reporter)
    if is_main_process():
        console.print(summary(result))


def _advice(folder: Path) -> Callable[[], str]:
    """Return a function that says how to go on, which depends on how far the run has come."""

    def advice() -> str:
        if (folder / "config.json").is_file():
            command = shlex.join(["snntorch-asnn", "train", "--resume", "--out", str(folder)])
            return f"continue with: {command}"
        return "nothing was written yet: give the same command to begin anew"

    return advice


def eval_command(
    run: RunArgument,
    /,
    *,
    data_dir: Annotated[Path | None, Parameter(help="Folder with the data, if they have moved.")] = None,
    device: Annotated[str, Parameter(help="auto, cpu, cuda or cuda:N.")] = "auto",
    batch_size: Annotated[int | None, Parameter(help="Images per batch; as in training if none.")] = None,
    json_file: Annotated[
        Path | None,
        Parameter(name="--json", help="File for the results, with the confusion matrix, as JSON."),
    ] = None,
) -> None:
    """Evaluate the best epoch of a run on the test images: accuracy by step, and frequent confusions."""
    console = Console()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", energy.SilentLayersWarning)  # printed below
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
        json_file.write_text(json.dumps(found.to_dict(), indent=2) + "\n", encoding="utf-8")


def sweep_command(
    *,
    set_: Annotated[
        list[str],
        Parameter(
            name="--set", negative="", help="NAME=VALUE,VALUE,...: a setting and its values; repeat it."
        ),
    ],
    recipe: RecipeOption = None,
    seeds: Annotated[str, Parameter(help="Seeds of every combination, with commas between them.")] = "0,1,2",
    out: Annotated[Path, Parameter(help="Folder for the runs and their table.")] = Path("runs/sweep"),
    settings: SweepOptions = None,
) -> None:
    """Train every combination of some settings with several seeds, and show mean and deviation.

    The same command again skips finished runs and resumes an interrupted one. The table is also in sweep.json
    and sweep.csv.
    """
    grid, given = train.parse_grid(set_), settings or {}
    both = sorted(grid.keys() & given.keys())
    if both:
        raise ValueError(
            f"set must not name a setting that is also given as an option; got {', '.join(both)}"
        )
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


def quickstart_command(
    *,
    out: Annotated[Path, Parameter(help="Folder for the files.")] = Path("runs/quickstart"),
    epochs: Annotated[int, Parameter(help="Passes over the training images.")] = 20,
    seed: Annotated[int, Parameter(help="Seed of both runs.")] = 0,
) -> None:
    """Train LeNet on digits: hybrid code and adaptive neurons beside direct code and fixed ones."""
    console = Console()
    with interruptible("the same command begins anew"), TerminalReporter(console) as reporter:
        results = train.quickstart(out, epochs=epochs, seed=seed, reporter=reporter)
    console.print()
    console.print(comparison(results))
    console.print(
        "Firing rates are spikes per neuron and step."
        "\nOne seed on 360 tiny test images shows that everything works, not which network is better."
        f"\nPictures, checkpoints and metrics: {out}",
        highlight=False,
        soft_wrap=True,
    )


def report_command(run: RunArgument, /) -> None:
    """Write the report of a run again, or the report of an unfinished run so far.

    It needs no data: the run folder holds the measurements on the test images.
    """
    print(write_report(run))
