"""The commands, and what becomes of their errors."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer

import snntorch_asnn
from snntorch_asnn import models, plot, train
from snntorch_asnn.cli import training
from snntorch_asnn.cli.bench import bench_command
from snntorch_asnn.cli.energy import energy_command
from snntorch_asnn.cli.errors import FAILED, INTERRUPTED, WRONG, InterruptedRun, fail
from snntorch_asnn.cli.report import report_command
from snntorch_asnn.models.image_encoder import ImageEncoder
from snntorch_asnn.train.data import to_unit_range
from snntorch_asnn.train.data.pictures import read_picture, to_tensor

app = typer.Typer(
    name="snntorch-asnn",
    help="Time-adaptive spiking neurons and hybrid spike coding for snnTorch.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def run(args: Sequence[str] | None = None) -> None:
    """Run the command line; what a user can cause ends in one line, not in a traceback."""
    arguments = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in arguments
    _speak_utf8()
    try:
        app(args=arguments, prog_name="snntorch-asnn")
    except InterruptedRun as error:
        fail(error, code=INTERRUPTED, debug=debug)
    except train.NonFiniteLossError as error:
        fail(error, code=FAILED, debug=debug)
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        fail(error, code=WRONG, debug=debug)


def _speak_utf8() -> None:
    """Write UTF-8 under any locale: names of files and signs such as ± have no place in ASCII."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(snntorch_asnn.__version__)
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    pass


training.add_to(app)
app.command("energy")(energy_command)
app.command("report")(report_command)
app.command("bench")(bench_command)


@app.command("models")
def _models() -> None:
    """List the models of the zoo."""
    for name in models.list_models():
        typer.echo(name)


@app.command("encode")
def _encode(
    image: Annotated[Path, typer.Argument(help="Picture file, PNG or JPEG for instance.")],
    encoding: Annotated[str, typer.Option(help="Code.")] = "hybrid",
    num_steps: Annotated[int, typer.Option(help="Number of time steps T.")] = 4,
    grey: Annotated[bool, typer.Option("--grey", help="Drop the colours first.")] = False,
    out: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("code.png"),
) -> None:
    """Draw what a code shows of a picture at each time step."""
    pixels = _read_image(image, grey=grey)
    channels, height, width = pixels.shape
    planes = ImageEncoder(encoding, num_steps, (channels, height, width))(pixels.unsqueeze(0))[:, 0]
    plot.code({encoding: planes}, image=pixels).savefig(out)
    typer.echo(f"{out}: {encoding}, {num_steps} steps")


def _read_image(path: Path, *, grey: bool) -> torch.Tensor:
    """Return a picture as ``[C, H, W]`` in [0, 1]."""
    from PIL.Image import Image

    picture = read_picture(path)
    if grey:
        picture = picture.convert("L") if isinstance(picture, Image) else picture[:1]
    return to_unit_range(to_tensor(picture))
