"""One training run, from its configuration to the files in its folder."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from snntorch_asnn import plot
from snntorch_asnn.energy import (
    SilentLayersWarning,
    describe_silence,
    record_firing_rates,
    silent_layers,
)
from snntorch_asnn.neurons.adaptive import AdaptiveNeuron
from snntorch_asnn.train.batches import eval_loader, train_loader
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data import check_same_data, load_images, spread_images, to_unit_range
from snntorch_asnn.train.evaluation import Evaluation, build_model, evaluate
from snntorch_asnn.train.learner import Batch, Learner, NonFiniteLossError, Position
from snntorch_asnn.train.progress import Journal, Reporter, Score, StepReport, Tally
from snntorch_asnn.train.report import ENERGY_IMAGES, write_energy, write_report
from snntorch_asnn.train.run_folder import RunFolder, RunResult, git_state, versions
from snntorch_asnn.train.teacher import check_answers, load_teacher

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Item = TypeVar("Item")
_STEPS_PER_REPORT = 10
_SPLIT_NAMES = {"val": "validation", "test": "test"}


class Run:
    """A model, its data and its folder, at any point between the first step and the result.

    Args:
        config: The settings.
        fabric: Launched.
        folder: With ``config.resume`` it may hold the run's state; otherwise its files are replaced.
        reporter: Receives the progress, on the main process only.
    """

    def __init__(self, config: TrainConfig, fabric: Fabric, folder: RunFolder, reporter: Reporter) -> None:
        self.config, self.fabric, self.folder = config, fabric, folder
        self.writes = fabric.is_global_zero
        self.reporter = reporter if self.writes else Reporter()
        self.share = {"processes": fabric.world_size, "process": fabric.global_rank}
        with fabric.rank_zero_first(local=True):
            self.data = load_images(config)
        self.loader, self.batches = train_loader(self.data.train, config, fabric.device, **self.share)
        self.steps_per_epoch = self.batches.steps_per_epoch
        self.learner = self._make_learner()
        self.epoch, self.metrics = 1, list[dict[str, Any]]()
        self.reported_silence = set[tuple[str, tuple[str, ...]]]()
        self.best: dict[str, Any] = {"epoch": 0, "val_accuracy": -1.0, "val_loss": float("inf"), "model": {}}
        self.tally, self.step, self.lr = Tally(fabric), 0, self._lr()

    def train(self) -> RunResult:
        """Train to the end, and return the results."""
        self._begin_or_resume()
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
            steps_per_epoch=self.steps_per_epoch,
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

    def _begin_or_resume(self) -> None:
        state, reason = self.folder.load_state() if self.config.resume else (None, None)
        if state is not None:
            self._load_state(state)
        self.fabric.barrier()  # every process has read before anything is written
        if not self.writes:
            self.journal = Journal(self.folder, tensorboard=False, steps_done=0)
            return
        if reason is not None:
            self.folder.restore_previous()
            self.reporter.message(f"{reason}; resuming from {self.folder.previous.name}")
        if state is None:
            self.folder.create()
            self.folder.write_json(self.folder.config, self._describe())
        self.journal = Journal(
            self.folder, tensorboard=self.config.tensorboard, steps_done=self._position().total
        )
        if state is not None:
            self.reporter.message(f"resuming after epoch {self.epoch - 1}, step {self.step}")
            self.journal.rewind(self.metrics, epoch=self.epoch, step=self.step)
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
        return Position(self.epoch, self.step, self.steps_per_epoch)

    def _lr(self) -> float:
        return float(self.learner.optimizer.param_groups[0]["lr"])

    def _train_epoch(self) -> None:
        self.batches.start_at(epoch=self.epoch, step=self.step)
        batch_size = self.batches.share * self.fabric.world_size
        for parts in in_groups(self.loader, self.config.accumulate):
            number = self.step + 1
            reports = number % _STEPS_PER_REPORT == 0 or number == self.steps_per_epoch
            lr = self._lr()
            loss, correct, rate = self._train_step(parts, record=reports)
            self.tally.add(loss, correct, batch_size)
            self.step = number
            if reports:
                self._report(loss, lr, rate)
            if self._wants_checkpoint():
                self._save_state()

    def _train_step(self, parts: list[Batch], *, record: bool) -> tuple[float, Tensor, float | None]:
        """Take a step, and record its firing rate unless the hooks would break a compiled model."""
        record = record and not self.config.compile
        model = self.learner.model
        with record_firing_rates(model, self.config.num_steps) if record else nullcontext() as rates:
            loss, correct = self.learner.step(parts, self._position())
        if rates is None:
            return loss, correct, None
        if self.step + 1 == self.steps_per_epoch:
            self._warn_of_silence(rates.per_layer(), "images of a training step")
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
                steps_per_epoch=self.steps_per_epoch,
                loss=so_far.loss,
                accuracy=so_far.accuracy,
                images_per_second=so_far.images_per_second,
                firing_rate=firing_rate,
            )
        )

    def _wants_checkpoint(self) -> bool:
        every = self.config.checkpoint_every
        return every is not None and self.step < self.steps_per_epoch and self._position().total % every == 0

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
        line = self._epoch_line(train, val)
        self.metrics.append(line)
        if self.writes:
            self.journal.epoch(line, self._position().total)
        self.epoch, self.step, self.tally, self.lr = self.epoch + 1, 0, Tally(self.fabric), self._lr()
        self._save_state()
        self.reporter.epoch(line)

    def _epoch_line(self, train: Score, val: Evaluation) -> dict[str, Any]:
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

    def _evaluate(self, split: str, epoch: int) -> Evaluation:
        """Evaluate the weights at the end of an epoch; a loss that is NaN or infinite ends the run."""
        self.reporter.evaluating(split)
        loader = eval_loader(getattr(self.data, split), self.config, self.fabric.device, **self.share)
        found = evaluate(
            self.learner.judged,
            loader,
            self.fabric,
            num_steps=self.config.num_steps,
            classes=self.data.classes,
        )
        images = f"{_SPLIT_NAMES[split]} images"
        if not math.isfinite(found.loss):
            raise NonFiniteLossError(
                f"the loss on the {images} became {found.loss} at epoch {epoch}; try a lower lr or clip_grad"
            )
        self._warn_of_silence(found.firing_rates, images)
        return found

    def _warn_of_silence(self, firing_rates: Mapping[str, Sequence[float]], images: str) -> None:
        """Warn of layers that never fire, once for the same layers on the same kind of images."""
        silent = silent_layers(firing_rates)
        if silent and self.writes and (images, silent) not in self.reported_silence:
            self.reported_silence.add((images, silent))
            self.reporter.warning(f"{describe_silence(firing_rates, images)}.")

    def _write_best(self) -> None:
        """Write ``checkpoint.pt``, everything that is needed to use the model."""
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
        """Write ``last.pt``, everything that is needed to resume; every process must call this."""
        self.learner.check_parameters(self._position())
        tally = self.tally.state_dict()
        if self.writes:
            self.folder.save_state(
                {
                    "config": self.config.to_dict(),
                    "data": self.data.identity,
                    "epoch": self.epoch,
                    "step": self.step,
                    "steps_per_epoch": self.steps_per_epoch,
                    "lr": self.lr,
                    "tally": tally,
                    "best": self.best,
                    "metrics": self.metrics,
                    "learner": self.learner.state_dict(),
                }
            )

    def _load_state(self, state: Mapping[str, Any]) -> None:
        check_same_data(self.data.identity, state["data"])
        if state["steps_per_epoch"] != self.steps_per_epoch:
            raise ValueError(
                f"resume must find the data of the run, with {state['steps_per_epoch']} steps an epoch;"
                f" got data with {self.steps_per_epoch}"
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
            self._write_results(model, test, result)
        self.fabric.barrier()
        return result

    def _write_results(self, model: nn.Module, test: Evaluation, result: RunResult) -> None:
        folder = self.folder
        folder.write_json(folder.evaluation, test.to_dict())
        images = _some_images(self.data.test, ENERGY_IMAGES, self.fabric.device)
        images = self.fabric.strategy.precision.convert_input(images)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SilentLayersWarning)  # the evaluation has warned of them
            write_energy(folder.path, model, [(images, None)])
        draw(folder, result, model)
        folder.write_result(result)  # a run with a result is finished
        write_report(folder.path)
        folder.previous.unlink(missing_ok=True)


def draw(folder: RunFolder, result: RunResult, model: nn.Module) -> None:
    """Draw the learning curve, the learned time parameters and the firing rates."""
    plot.learning_curve(list(result.metrics)).savefig(folder.learning_curve)
    if any(isinstance(module, AdaptiveNeuron) for module in model.modules()):
        plot.time_parameters(model).savefig(folder.time_parameters)
    if result.firing_rates:
        figure = plot.firing_rates(result.firing_rates).get_figure(root=True)
        assert figure is not None
        figure.savefig(folder.firing_rates)


def in_groups(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in lists of ``size``; the last list may be shorter."""
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group


def _some_images(dataset: Dataset[Any], count: int, device: torch.device) -> Tensor:
    return to_unit_range(spread_images(dataset, count).to(device))
