"""The commands, and how their errors end: one line on standard error, and an exit status.

cyclopts makes the command line: it takes typed options from a dataclass, shows them in panels, and leaves out
options that were not given, so that a recipe can fill them in.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import torch
from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from snntorch_asnn import __version__, models, plot, train
from snntorch_asnn.cli import runs
from snntorch_asnn.cli.bench import bench_command
from snntorch_asnn.cli.energy import energy_command
from snntorch_asnn.cli.interrupt import InterruptedRun
from snntorch_asnn.models.image_encoder import ImageEncoder
from snntorch_asnn.train.data import to_unit_range
from snntorch_asnn.train.data.folders import read_picture, to_tensor

WRONG_ARGUMENTS, FAILED_RUN, INTERRUPTED = 2, 1, 130
"""Exit statuses."""

app = App(
    name="snntorch-asnn",
    help="Time-adaptive spiking neurons and hybrid spike coding for snnTorch.",
    version=__version__,
    version_flags="--version",
    help_flags="--help",
    help_format="markdown",
    default_parameter=Parameter(allow_repeating=True),  # the last one counts
)
app.command(runs.train_command, name="train")
app.command(runs.eval_command, name="eval")
app.command(runs.sweep_command, name="sweep")
app.command(runs.quickstart_command, name="quickstart")
app.command(runs.report_command, name="report")
app.command(energy_command, name="energy")
app.command(bench_command, name="bench")


@app.meta.default
def run(
    *arguments: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    debug: Annotated[bool, Parameter(negative="", help="Show tracebacks of errors.")] = False,
) -> None:
    """Run a command; an error that a user can cause ends in one line, not in a traceback."""
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except InterruptedRun as error:
        _fail(error, INTERRUPTED, debug=debug)
    except train.NonFiniteLossError as error:
        _fail(error, FAILED_RUN, debug=debug)
    except (CycloptsError, ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        _fail(error, WRONG_ARGUMENTS, debug=debug)


def run_command_line(arguments: Sequence[str] | None = None) -> None:
    """Run the command line with the given arguments, or with the arguments of the process."""
    _write_utf8()
    app.meta(list(sys.argv[1:] if arguments is None else arguments) or ["--help"])


def _write_utf8() -> None:
    """Write UTF-8 under any locale: file names and characters such as ± have no place in ASCII."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")


def _fail(error: Exception, code: int, *, debug: bool) -> NoReturn:
    """Print an error and exit, or raise it with ``debug``."""
    if debug:
        raise error
    Console(stderr=True).print(
        f"snntorch-asnn: {_in_one_line(error)}", style="red", markup=False, highlight=False, soft_wrap=True
    )
    sys.exit(code)


def _in_one_line(error: Exception) -> str:
    """Return the message of an error; the error of a worker process carries it at the end of a traceback."""
    text = str(error) or type(error).__name__
    if text.startswith("Caught ") and "Original Traceback" in text:
        return text.strip().splitlines()[-1].partition(": ")[2] or text
    return text


@app.command(name="models")
def _models() -> None:
    """List the models of the zoo."""
    for name in models.list_models():
        print(name)


@app.command(name="encode")
def _encode(
    image: Annotated[Path, Parameter(help="Picture file, PNG or JPEG for instance.")],
    /,
    *,
    encoding: Annotated[str, Parameter(help="Code.")] = "hybrid",
    num_steps: Annotated[int, Parameter(help="Number of time steps T.")] = 4,
    grey: Annotated[bool, Parameter(negative="", help="Convert the picture to grey first.")] = False,
    out: Annotated[Path, Parameter(help="PNG file to write.")] = Path("code.png"),
) -> None:
    """Draw a picture as a code presents it at each time step."""
    pixels = _read_image(image, grey=grey)
    channels, height, width = pixels.shape
    planes = ImageEncoder(encoding, num_steps, (channels, height, width))(pixels.unsqueeze(0))[:, 0]
    plot.code({encoding: planes}, image=pixels).savefig(out)
    print(f"{out}: {encoding}, {num_steps} steps")


def _read_image(path: Path, *, grey: bool) -> torch.Tensor:
    """Return a picture as ``[C, H, W]`` in [0, 1]."""
    from PIL.Image import Image

    picture = read_picture(path)
    if grey:
        picture = picture.convert("L") if isinstance(picture, Image) else picture[:1]
    return to_unit_range(to_tensor(picture))
