"""Which images a run, an evaluation and an energy estimate see, and which weights are kept."""

from __future__ import annotations

import dataclasses
import os
import stat
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("lightning_fabric")
pytest.importorskip("cyclopts")

from snntorch_asnn import energy, train
from snntorch_asnn.cli import main
from snntorch_asnn.train import Evaluation, TrainConfig, evaluate_run, fit
from snntorch_asnn.train import evaluation as evaluation_module
from snntorch_asnn.train import run as run_module
from snntorch_asnn.train.batches import train_loader
from snntorch_asnn.train.data import TensorImages, load_images
from snntorch_asnn.train.devices import make_fabric
from snntorch_asnn.train.files import write_atomically
from snntorch_asnn.train.learner import Learner, Position

TINY = {
    "data": "digits",
    "train_subset": 100,
    "num_steps": 2,
    "batch_size": 90,
    "device": "cpu",
    "threads": 1,
    "tensorboard": False,
}
SIZES = {"train": 90, "val": 10, "test": 360}


class Evaluations:
    """Evaluates really, then gives the accuracies and losses that it was told to on the validation images."""

    def __init__(self, scores: list[tuple[float, float]]) -> None:
        self.scores = iter(scores)
        self.sizes: list[int] = []
        self.weights: list[dict[str, torch.Tensor]] = []
        self.evaluate = run_module.evaluate

    def __call__(self, model, loader, fabric, **options):
        found = self.evaluate(model, loader, fabric, **options)
        self.sizes.append(len(loader.dataset))
        self.weights.append({name: value.clone() for name, value in model.state_dict().items()})
        if len(loader.dataset) == SIZES["test"]:
            return found
        accuracy, loss = next(self.scores)
        return dataclasses.replace(found, accuracy=accuracy, loss=loss)


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([(0.9, 1.0), (0.5, 0.5), (0.7, 0.7)], 1),
        ([(0.5, 1.0), (0.9, 2.0), (0.7, 0.1)], 2),
        ([(0.5, 1.0), (0.5, 0.9), (0.5, 0.95)], 2),  # of equal accuracies the smaller loss
        ([(0.5, 1.0), (0.5, 1.0), (0.5, 1.0)], 1),  # of equal epochs the first
    ],
    ids=["first", "second", "loss", "tie"],
)
@pytest.mark.parametrize("ema", [None, 0.5])
def test_the_best_epoch_on_the_validation_images_is_kept_and_tested(tmp_path, monkeypatch, scores, best, ema):
    if ema is not None and best == 2:
        return
    seen = Evaluations(scores)
    monkeypatch.setattr(run_module, "evaluate", seen)
    for name in ("draw", "write_report"):
        monkeypatch.setattr(run_module, name, lambda *args: None)
    result = fit(TrainConfig(**TINY, epochs=3, ema=ema, out=tmp_path / "run"))
    assert seen.sizes == [SIZES["val"]] * 3 + [SIZES["test"]]
    assert (result.best_epoch, result.val_accuracy) == (best, scores[best - 1][0])
    kept = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert kept["epoch"] == best
    for name, value in seen.weights[best - 1].items():
        assert torch.equal(seen.weights[-1][name], value)
        assert torch.equal(kept["model"][name], value)
    changed = [
        name for name in seen.weights[0] if not torch.equal(seen.weights[0][name], seen.weights[2][name])
    ]
    assert changed  # so that an epoch can be told by its weights


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 12).view(4, 3))

    def forward(self, images: torch.Tensor, *, return_steps: bool) -> torch.Tensor:
        return (images.flatten(1) @ self.weight).unsqueeze(0)


@pytest.mark.parametrize("parts", [1, 2, 3, 6])
@pytest.mark.parametrize("changes", [{}, {"clip_grad": 0.1}, {"label_smoothing": 0.1}])
def test_accumulated_parts_make_the_step_of_the_whole_batch(parts, changes):
    images, labels = torch.rand(6, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1, 2])

    def step(count: int) -> tuple[float, torch.Tensor]:
        config = TrainConfig(
            device="cpu", optimizer="sgd", momentum=0.0, lr=1.0, schedule="constant", **changes
        )
        learner = Learner(Linear(), config, make_fabric(config), steps_per_epoch=2, num_classes=3)
        batches = list(zip(images.chunk(count), labels.chunk(count), strict=True))
        return learner.step(batches, Position(1, 0, 2))[0], learner.model.weight.detach()

    (loss, weight), (whole_loss, whole_weight) = step(parts), step(1)
    assert loss == pytest.approx(whole_loss)
    torch.testing.assert_close(weight, whole_weight)
    assert not torch.equal(whole_weight, Linear().weight)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_every_epoch_augments_an_image_anew(accumulate):
    data = TensorImages(torch.zeros(8, 1, 1, 1), torch.arange(8), lambda image: image + torch.rand(1, 1, 1))
    config = TrainConfig(batch_size=8, accumulate=accumulate, device="cpu")

    def epoch(number: int, seed: int = 0) -> dict[int, float]:
        loader, batches = train_loader(data, dataclasses.replace(config, seed=seed), torch.device("cpu"))
        batches.start_at(epoch=number, step=0)
        return {int(y): float(x) for images, labels in loader for x, y in zip(images, labels, strict=True)}

    first, second, other = epoch(1), epoch(2), epoch(1, seed=1)
    assert first.keys() == second.keys() == set(range(8))
    assert epoch(1) == first
    for image in range(8):
        assert len({first[image], second[image], other[image]}) == 3
    assert len(set(first.values())) == 8


@pytest.mark.parametrize("keep", [False, True])
def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch, keep):
    file, before = tmp_path / "x.pt", tmp_path / "previous.pt"
    file.write_bytes(b"old")
    fsync, replace, events = os.fsync, Path.replace, []

    def record_fsync(handle: int) -> None:
        about = os.fstat(handle)
        events.append("folder" if stat.S_ISDIR(about.st_mode) else f"{about.st_size} bytes")
        fsync(handle)

    def record_replace(self: Path, target: Path) -> Path:
        events.append(f"{'new' if self.suffix == '.tmp' else 'old'} to {target.name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(Path, "replace", record_replace)
    write_atomically(file, lambda stream: stream.write(b"new content"), keep=before if keep else None)
    assert events == ["11 bytes", *(["old to previous.pt"] if keep else []), "new to x.pt", "folder"]
    assert file.read_bytes() == b"new content"
    assert not keep or before.read_bytes() == b"old"


@pytest.fixture
def profiled(monkeypatch):
    """The images that ``energy.profile`` was given, as one set of rows."""
    seen: list[torch.Tensor] = []
    profile = energy.profile

    def record(model, batches, **options):
        batches = list(batches)
        seen.extend(batches)
        return profile(model, batches, **options)

    monkeypatch.setattr(energy, "profile", record)
    return seen


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    fit(TrainConfig(**TINY, epochs=1, out=out))
    return out


@pytest.mark.parametrize("target", ["run", "model"])
def test_energy_is_that_of_validation_images(target, run_folder, profiled, capsys):
    options = [str(run_folder)] if target == "run" else ["lenet", "--data", "digits", "--num-steps", "2"]
    with pytest.raises(SystemExit) as stopped:
        main(["energy", *options, "--device", "cpu", "--images", "6"])
    assert not stopped.value.code, capsys.readouterr().err
    config = TrainConfig(**TINY) if target == "run" else TrainConfig(data="digits")
    splits = load_images(config)
    of_val = {tuple(image.flatten().tolist()) for image, _ in (splits.val[i] for i in range(len(splits.val)))}
    used = [tuple(image.flatten().tolist()) for batch in profiled for image in batch]
    assert len(used) == 6
    assert set(used) <= of_val


@pytest.mark.parametrize("given", [None, "elsewhere"])
def test_an_evaluation_reads_the_folder_that_it_is_told(run_folder, monkeypatch, tmp_path, given):
    data_dir = None if given is None else tmp_path / given
    seen: list[TrainConfig] = []
    monkeypatch.setattr(
        evaluation_module, "load_images", lambda config: seen.append(config) or load_images(config)
    )
    found = evaluate_run(run_folder, data_dir=data_dir, device="cpu", batch_size=77)
    assert (seen[0].data_dir, seen[0].batch_size, found.images) == (data_dir, 77, SIZES["test"])


@pytest.mark.parametrize("command", ["eval", "energy RUN", "energy MODEL"])
def test_every_command_hands_the_folder_on(run_folder, monkeypatch, tmp_path, command):
    class Asked(Exception):
        pass

    def ask(*args, **options):
        given = [value for value in (*args, *options.values()) if isinstance(value, Path | TrainConfig)]
        paths = [getattr(value, "data_dir", value) for value in given]
        assert Path(tmp_path, "here") in paths
        raise Asked

    monkeypatch.setattr(train, "load_images", ask)
    monkeypatch.setattr(train, "evaluate_run", ask)
    name, *kind = command.split()
    target = "lenet" if kind == ["MODEL"] else str(run_folder)
    data = ["--data", "mnist"] if kind == ["MODEL"] else []
    with pytest.raises(Asked):
        main([name, target, *data, "--device", "cpu", "--data-dir", str(tmp_path / "here")])


def test_the_report_and_the_result_speak_of_test_images(run_folder):
    from snntorch_asnn.train.run_folder import RunFolder

    folder = RunFolder(run_folder)
    assert folder.read_json(folder.evaluation)["images"] == SIZES["test"]
    assert folder.read_description()["images"] == SIZES


def test_a_score_is_that_of_its_own_split(tmp_path, monkeypatch):
    """Images of either split are of one level, which a stub of a network takes for its class."""
    from snntorch_asnn.train.data import ImageSplits

    def of_level(level: float, count: int) -> TensorImages:
        return TensorImages(torch.full((count, 1, 8, 8), level), torch.arange(count) % 2)

    splits = ImageSplits(of_level(0.1, 8), of_level(0.5, 4), of_level(0.9, 6), ("a", "b"), 1, 8, {})
    monkeypatch.setattr(run_module, "load_images", lambda config: splits)
    levels = []

    def record(model, loader, fabric, **options):
        levels.extend(float(images.max()) for images, _ in loader)
        return Evaluation(
            loss=1.0,
            accuracy=0.5,
            images=1,
            seconds=1.0,
            firing_rates={"a": (1.0, 1.0)},
            accuracy_by_step=(0.5, 0.5),
            confusion=(),
            classes=("a", "b"),
        )

    monkeypatch.setattr(run_module, "evaluate", record)
    for name in ("draw", "write_report"):
        monkeypatch.setattr(run_module, name, lambda *args: None)
    fit(TrainConfig(**TINY | {"batch_size": 8, "train_subset": None}, epochs=2, out=tmp_path / "run"))
    assert levels == pytest.approx([0.5, 0.5, 0.9])
