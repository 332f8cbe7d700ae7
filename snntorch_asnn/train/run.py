"""One training run, from its configuration to the files in its folder."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from snntorch_asnn.energy import (
    SilentLayersWarning,
    describe_silence,
    record_firing_rates,
    silent_layers,
)
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data import load_images, spread_images, to_unit_range
from snntorch_asnn.train.data.identity import check_same_data
from snntorch_asnn.train.divergence import NonFiniteLossError
from snntorch_asnn.train.git_state import git_state
from snntorch_asnn.train.journal import Journal
from snntorch_asnn.train.learner import Batch, Learner, Position
from snntorch_asnn.train.loader import eval_loader, train_loader
from snntorch_asnn.train.loop import Evaluated, Score, Tally, evaluate, in_groups
from snntorch_asnn.train.model import build_model
from snntorch_asnn.train.report import write_energy, write_report
from snntorch_asnn.train.report.energy import MOST_IMAGES
from snntorch_asnn.train.reporter import Reporter, StepReport
from snntorch_asnn.train.result import RunResult, draw, write_evaluation, write_result
from snntorch_asnn.train.run_folder import RunFolder, versions
from snntorch_asnn.train.teacher import check_answers, load_teacher

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_STEPS_PER_REPORT = 10
_SHOWN = {"val": "validation"}


class Run:
    """A model, its data and its folder, somewhere between its first step and its result.

    Args:
        config: the settings.
        fabric: launched.
        folder: with ``config.resume`` one that may hold the run's state, else to be replaced.
        reporter: receives the progress; on the main process only.
    """

    def __init__(self, config: TrainConfig, fabric: Fabric, folder: RunFolder, reporter: Reporter) -> None:
        self.config, self.fabric, self.folder = config, fabric, folder
        self.writes = fabric.is_global_zero
        self.reporter = reporter if self.writes else Reporter()
        self.share = {"processes": fabric.world_size, "process": fabric.global_rank}
        with fabric.rank_zero_first(local=True):
            self.data = load_images(config)
        self.loader, self.batches = train_loader(self.data.train, config, fabric.device, **self.share)
        self.num_steps = self.batches.steps
        self.learner = self._make_learner()
        self.epoch, self.metrics = 1, list[dict[str, Any]]()
        self.told_of = set[tuple[str, tuple[str, ...]]]()
        self.best: dict[str, Any] = {"epoch": 0, "val_accuracy": -1.0, "val_loss": float("inf"), "model": {}}
        self.tally, self.step, self.lr = Tally(fabric), 0, self._lr()

    def train(self) -> RunResult:
        """Train to the end, and return what was reached."""
        self._begin_or_go_on()
        self.reporter.started(self.config, self.data, self.fabric.device, self.parameters)
        try:
            while self.epoch <= self.config.epochs:
                self._train_epoch()
                self._end_epoch()
            return self._finish()
        except NonFiniteLossError as error:
            raise NonFiniteLossError(f"{error}. {self._last_good()}", error.layer) from error
        finally:
            self.journal.close()

    def _make_learner(self) -> Learner:
        data = self.data
        model = build_model(self.config, len(data.classes), data.in_channels, data.image_size)
        self.parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
        return Learner(
            model,
            self.config,
            self.fabric,
            steps_per_epoch=self.num_steps,
            num_classes=len(data.classes),
            teacher=self._load_teacher(),
        )

    def _load_teacher(self) -> nn.Module | None:
        path, data, device = self.config.teacher, self.data, self.fabric.device
        if path is None:
            return None
        teacher = load_teacher(path, classes=data.classes).to(device)
        check_answers(teacher, _some_images(data.val, 1, device), len(data.classes), path)
        return teacher

    def _begin_or_go_on(self) -> None:
        state, reason = self.folder.load_state() if self.config.resume else (None, None)
        if state is not None:
            self._load_state(state)
        self.fabric.barrier()  # everyone has read before anything is written
        if not self.writes:
            self.journal = Journal(self.folder, tensorboard=False, steps_done=0)
            return
        if reason is not None:
            self.folder.restore_previous()
            self.reporter.message(f"{reason}; going on from {self.folder.previous.name}")
        if state is None:
            self.folder.create()
            self.folder.write_json(self.folder.config, self._describe())
        self.journal = Journal(
            self.folder, tensorboard=self.config.tensorboard, steps_done=self._position().total
        )
        if state is not None:
            self.reporter.message(f"going on after epoch {self.epoch - 1}, step {self.step}")
            self.journal.go_on_from(self.metrics, epoch=self.epoch, step=self.step)
            if self.best["epoch"]:
                self._write_best()

    def _describe(self) -> dict[str, Any]:
        device = self.fabric.device
        return {
            "config": self.config.to_dict(),
            "images": self.data.sizes,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "processes": self.fabric.world_size,
            "threads": torch.get_num_threads(),
            "versions": versions(),
            "git": git_state(),
        }

    def _position(self) -> Position:
        return Position(self.epoch, self.step, self.num_steps)

    def _lr(self) -> float:
        return float(self.learner.optimizer.param_groups[0]["lr"])

    def _train_epoch(self) -> None:
        self.batches.start_at(epoch=self.epoch, step=self.step)
        batch_size = self.batches.share * self.fabric.world_size
        for parts in in_groups(self.loader, self.config.accumulate):
            number = self.step + 1
            reports = number % _STEPS_PER_REPORT == 0 or number == self.num_steps
            lr = self._lr()
            loss, correct, rate = self._train_step(parts, record=reports)
            self.tally.add(loss, correct, batch_size)
            self.step = number
            if reports:
                self._report(loss, lr, rate)
            if self._wants_checkpoint():
                self._save_state()

    def _train_step(self, parts: list[Batch], *, record: bool) -> tuple[float, Tensor, float | None]:
        """Take a step; its firing rate is recorded where hooks do not break a compiled model."""
        record = record and not self.config.compile
        model = self.learner.model
        with record_firing_rates(model, self.config.num_steps) if record else nullcontext() as rates:
            loss, correct = self.learner.step(parts, self._position())
        if rates is None:
            return loss, correct, None
        if self.step + 1 == self.num_steps:
            self._tell_of_silence(rates.per_layer(), "images of a training step")
        rate = torch.tensor(rates.mean(), device=self.fabric.device)
        return loss, correct, cast(Tensor, self.fabric.all_reduce(rate, reduce_op="mean")).item()

    def _report(self, loss: float, lr: float, firing_rate: float | None) -> None:
        so_far = self.tally.score()
        line = {"epoch": self.epoch, "step": self.step, "loss": loss, "lr": lr, "firing_rate": firing_rate}
        if self.writes:
            self.journal.step(line, self._position().total)
        self.reporter.step(
            StepReport(
                epoch=self.epoch,
                step=self.step,
                num_steps=self.num_steps,
                loss=so_far.loss,
                accuracy=so_far.accuracy,
                images_per_second=so_far.images_per_second,
                firing_rate=firing_rate,
            )
        )

    def _wants_checkpoint(self) -> bool:
        every = self.config.checkpoint_every
        return every is not None and self.step < self.num_steps and self._position().total % every == 0

    def _end_epoch(self) -> None:
        train = self.tally.score()
        self.learner.check_parameters(self._position())
        val = self._evaluate("val", self.epoch)
        if (val.accuracy, -val.loss) > (self.best["val_accuracy"], -self.best["val_loss"]):
            self.best = {"epoch": self.epoch, "val_accuracy": val.accuracy, "val_loss": val.loss}
            weights = self.learner.judged.state_dict()
            self.best["model"] = {name: value.detach().cpu().clone() for name, value in weights.items()}
            if self.writes:
                self._write_best()
        line = self._line(train, val)
        self.metrics.append(line)
        if self.writes:
            self.journal.epoch(line, self._position().total)
        self.epoch, self.step, self.tally, self.lr = self.epoch + 1, 0, Tally(self.fabric), self._lr()
        self._save_state()
        self.reporter.epoch(line)

    def _line(self, train: Score, val: Evaluated) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "lr": self.lr,
            "train_loss": train.loss,
            "train_accuracy": train.accuracy,
            "val_loss": val.loss,
            "val_accuracy": val.accuracy,
            "firing_rate": val.firing_rate,
            "silent_layers": list(silent_layers(val.firing_rates)),
            "seconds": train.seconds + val.seconds,
            "images_per_second": train.images_per_second,
        }

    def _evaluate(self, split: str, epoch: int) -> Evaluated:
        """Evaluate the weights that an epoch ended with.

        Raises:
            NonFiniteLossError: the loss is NaN or infinite.
        """
        self.reporter.evaluating(split)
        loader = eval_loader(getattr(self.data, split), self.config, self.fabric.device, **self.share)
        found = evaluate(
            self.learner.judged,
            loader,
            self.fabric,
            num_steps=self.config.num_steps,
            num_classes=len(self.data.classes),
        )
        if not math.isfinite(found.loss):
            raise NonFiniteLossError(
                f"the loss on the {_SHOWN.get(split, split)} images became {found.loss} at epoch {epoch};"
                " try a lower lr or clip_grad"
            )
        self._tell_of_silence(found.firing_rates, f"{_SHOWN.get(split, split)} images")
        return found

    def _tell_of_silence(self, firing_rates: Mapping[str, Sequence[float]], images: str) -> None:
        """Warn of layers that never fire, once for the same layers on the same kind of images."""
        silent = silent_layers(firing_rates)
        if silent and self.writes and (images, silent) not in self.told_of:
            self.told_of.add((images, silent))
            self.reporter.warning(f"{describe_silence(firing_rates, images)}.")

    def _write_best(self) -> None:
        """Write ``checkpoint.pt``: all that is needed to use the model."""
        self.folder.save_checkpoint(
            {
                **self.best,
                "config": self.config.to_dict(),
                "classes": list(self.data.classes),
                "in_channels": self.data.in_channels,
                "image_size": self.data.image_size,
                "data": self.data.identity,
            }
        )

    def _save_state(self) -> None:
        """Write ``last.pt``: all that is needed to go on; every process must call this."""
        self.learner.check_parameters(self._position())
        tally = self.tally.state_dict()
        if self.writes:
            self.folder.save_state(
                {
                    "config": self.config.to_dict(),
                    "data": self.data.identity,
                    "epoch": self.epoch,
                    "step": self.step,
                    "steps_per_epoch": self.num_steps,
                    "lr": self.lr,
                    "tally": tally,
                    "best": self.best,
                    "metrics": self.metrics,
                    "learner": self.learner.state_dict(),
                }
            )

    def _load_state(self, state: Mapping[str, Any]) -> None:
        check_same_data(self.data.identity, state["data"])
        if state["steps_per_epoch"] != self.num_steps:
            raise ValueError(
                f"resume must find the data of the run, with {state['steps_per_epoch']} steps an epoch;"
                f" got data with {self.num_steps}"
            )
        self.learner.load_state_dict(state["learner"])
        self.epoch, self.step, self.lr = state["epoch"], state["step"], state["lr"]
        self.tally = Tally(self.fabric, state["tally"])
        self.best, self.metrics = state["best"], state["metrics"]

    def _last_good(self) -> str:
        kept = [file.name for file in (self.folder.last, self.folder.checkpoint) if file.exists()]
        return f"{self.folder.path} keeps {' and '.join(kept)}" if kept else "There is no checkpoint yet"

    def _finish(self) -> RunResult:
        model = self.learner.judged
        model.load_state_dict(self.best["model"])
        test = self._evaluate("test", self.best["epoch"])
        warm = self.metrics[1:] or self.metrics  # the first epoch compiles
        result = RunResult(
            out=self.folder.path,
            test_accuracy=test.accuracy,
            test_loss=test.loss,
            val_accuracy=self.best["val_accuracy"],
            best_epoch=self.best["epoch"],
            parameters=self.parameters,
            firing_rate=test.firing_rate,
            firing_rates=test.firing_rates,
            accuracy_by_step=test.accuracy_by_step,
            images_per_second=statistics.median(m["images_per_second"] for m in warm),
            seconds=sum(m["seconds"] for m in self.metrics),
            metrics=tuple(self.metrics),
        )
        if self.writes:
            write_evaluation(self.folder, test, self.data.classes)
            self._write_energy(model)
            draw(self.folder, result, model)
            write_result(self.folder, result)  # what has a result is finished
            write_report(self.folder.path)
            self.folder.previous.unlink(missing_ok=True)
        self.fabric.barrier()
        return result

    def _write_energy(self, model: nn.Module) -> None:
        images = _some_images(self.data.test, MOST_IMAGES, self.fabric.device)
        images = self.fabric.strategy.precision.convert_input(images)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SilentLayersWarning)  # the evaluation has told of them
            write_energy(self.folder.path, model, [(images, None)])


def _some_images(dataset: Dataset[Any], count: int, device: torch.device) -> Tensor:
    return to_unit_range(spread_images(dataset, count).to(device))
