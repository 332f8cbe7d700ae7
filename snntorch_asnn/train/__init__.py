"""Training on images: the recipe behind the command line. Needs the extra ``[train]``."""

from __future__ import annotations

from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data import ImageSplits, load_images
from snntorch_asnn.train.evaluation import Evaluation, evaluate_run, load_run
from snntorch_asnn.train.firing import FiringRates, record_firing_rates
from snntorch_asnn.train.fit import Reporter, RunResult, fit
from snntorch_asnn.train.loop import NonFiniteLossError
from snntorch_asnn.train.quickstart import quickstart

__all__ = [
    "Evaluation",
    "FiringRates",
    "ImageSplits",
    "NonFiniteLossError",
    "Reporter",
    "RunResult",
    "TrainConfig",
    "evaluate_run",
    "fit",
    "load_images",
    "load_run",
    "quickstart",
    "record_firing_rates",
]
