"""Training on images: the recipe behind the command line. Needs the extra ``[train]``."""

from __future__ import annotations

from snntorch_asnn.train._fit import fit
from snntorch_asnn.train._quickstart import quickstart
from snntorch_asnn.train._sweep import Cell, mean_and_deviation, parse_grid, sweep
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data import ImageSplits, load_images
from snntorch_asnn.train.evaluation import Evaluation, evaluate_run, load_run
from snntorch_asnn.train.learner import NonFiniteLossError
from snntorch_asnn.train.progress import Reporter, StepReport
from snntorch_asnn.train.recipe import Recipe, list_recipes, load_recipe, make_config
from snntorch_asnn.train.run_folder import RunResult

__all__ = [
    "Cell",
    "Evaluation",
    "ImageSplits",
    "NonFiniteLossError",
    "Recipe",
    "Reporter",
    "RunResult",
    "StepReport",
    "TrainConfig",
    "evaluate_run",
    "fit",
    "list_recipes",
    "load_images",
    "load_recipe",
    "load_run",
    "make_config",
    "mean_and_deviation",
    "parse_grid",
    "quickstart",
    "sweep",
]
