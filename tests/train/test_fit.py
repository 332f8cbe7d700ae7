from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("lightning_fabric")

from snntorch_asnn.train import NonFiniteLossError, TrainConfig, evaluate_run, fit, load_run
from snntorch_asnn.train._quickstart import quickstart
from snntorch_asnn.train.devices import resolve_device
from snntorch_asnn.train.progress import Reporter

TINY = {
    "data": "digits",
    "train_subset": 200,
    "epochs": 2,
    "batch_size": 60,
    "device": "cpu",
    "tensorboard": False,
}
FILES = {
    "config.json",
    "metrics.jsonl",
    "steps.jsonl",
    "result.json",
    "evaluation.json",
    "checkpoint.pt",
    "last.pt",
    "energy.json",
    "report.html",
    "learning_curve.png",
    "time_parameters.png",
    "firing_rates.png",
}


def without_times(metrics) -> list[dict]:
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in metrics]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run on few digits, with the progress that it reported."""
    seen = []

    class Seen(Reporter):
        def started(self, config, data, device, parameters) -> None:
            seen.append(("started", parameters))

        def step(self, report) -> None:
            assert 0 < report.firing_rate < 1
            seen.append(("step", report.epoch, report.step, report.steps_per_epoch))

        def epoch(self, metrics) -> None:
            seen.append(("epoch", metrics["epoch"]))

    config = TrainConfig(**TINY, out=tmp_path_factory.mktemp("runs") / "run")
    return config, fit(config, reporter=Seen()), seen


def test_a_run_writes_its_folder(finished):
    config, result, _ = finished
    assert {file.name for file in config.run_folder.iterdir()} == FILES
    assert result.out == config.run_folder
    written = json.loads((config.run_folder / "config.json").read_text())
    assert TrainConfig.from_dict(written["config"]) == config
    assert written["images"] == {"train": 180, "val": 20, "test": 360}
    assert written["versions"]["torch"] == torch.__version__


def test_a_run_logs_every_epoch(finished):
    config, result, seen = finished
    lines = (config.run_folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == list(result.metrics)
    assert [line["epoch"] for line in result.metrics] == [1, 2]
    assert all(0 <= line["firing_rate"] < 1 for line in result.metrics)
    assert seen == [
        ("started", result.parameters),
        *[("step", 1, 3, 3), ("epoch", 1)],
        *[("step", 2, 3, 3), ("epoch", 2)],
    ]


def test_a_run_reports_its_best_epoch(finished):
    config, result, _ = finished
    best = max(result.metrics, key=lambda line: (line["val_accuracy"], -line["val_loss"]))
    assert (result.best_epoch, result.val_accuracy) == (best["epoch"], best["val_accuracy"])
    written = json.loads((config.run_folder / "result.json").read_text())
    assert written["test_accuracy"] == result.test_accuracy
    assert {len(rates) for rates in result.firing_rates.values()} == {config.num_steps}
    assert len(result.firing_rates) == 4


def test_what_was_saved_gives_the_same_test_accuracy(finished):
    config, result, _ = finished
    found = evaluate_run(config.run_folder, device="cpu", batch_size=100)
    assert found.images == 360
    assert found.accuracy == pytest.approx(result.test_accuracy, abs=1 / 360)
    assert found.loss == pytest.approx(result.test_loss, rel=1e-3)
    loaded, model = load_run(config.run_folder)
    assert loaded == config
    assert not model.training


def test_a_seed_repeats_a_run_and_another_does_not(finished, tmp_path):
    _, result, _ = finished
    torch.rand(7)
    again = fit(TrainConfig(**TINY, out=tmp_path / "again"))
    assert without_times(again.metrics) == without_times(result.metrics)
    assert again.test_loss == result.test_loss
    other = fit(TrainConfig(**TINY, out=tmp_path / "other", seed=1))
    assert without_times(other.metrics) != without_times(result.metrics)


def test_random_state_and_threads_of_the_caller_stay(tmp_path):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    fit(TrainConfig(**TINY | {"epochs": 1}, threads=threads + 1, out=tmp_path / "run"))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert json.loads((tmp_path / "run" / "config.json").read_text())["threads"] == threads + 1


def test_training_learns_the_time_parameters_and_the_digits(tmp_path):
    config = TrainConfig(data="digits", epochs=4, batch_size=64, device="cpu", out=tmp_path / "run")
    result = fit(config)
    assert result.test_accuracy > 0.8
    _, model = load_run(config.run_folder)
    betas = [value for name, value in model.state_dict().items() if name.endswith(".beta")]
    assert len(betas) == 4
    assert all(value.unique().numel() > 1 for value in betas)


def test_compile_trains_the_compiled_model_and_saves_the_plain_one(tmp_path, monkeypatch):
    compile_model, compiled = torch.compile, []

    def record(model=None, **options):
        if isinstance(model, torch.nn.Module):
            compiled.append(type(model).__name__)
            options["backend"] = "eager"
        return compile_model(model, **options)

    monkeypatch.setattr(torch, "compile", record)
    config = TrainConfig(**TINY | {"epochs": 1}, compile=True, out=tmp_path / "run")
    result = fit(config)
    assert set(compiled) == {"LeNet"}
    assert evaluate_run(config.run_folder, device="cpu").loss == pytest.approx(result.test_loss)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoding": "morse"}, "encoding must be .*; got 'morse'"),
        ({"neuron": "izhikevich"}, "neuron must be .*; got 'izhikevich'"),
        ({"readout": "median"}, "readout must be .*; got 'median'"),
        ({"device": "cuda:99"}, "device must be one that torch sees; got 'cuda:99'"),
        ({"device": "tpu"}, "device must be auto, .*; got 'tpu'"),
        ({"device": "meta"}, "device must be auto, .*; got 'meta'"),
        ({"train_subset": 5000}, "train_subset must be at most 1437"),
    ],
)
def test_wrong_settings_are_named_before_anything_is_written(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        fit(TrainConfig(**TINY | settings, out=tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


def test_a_used_folder_is_refused_and_replaced_on_demand(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("of an earlier run\n")
    settings = TINY | {"epochs": 1, "out": tmp_path}
    with pytest.raises(ValueError, match="out must be an empty folder"):
        fit(TrainConfig(**settings))
    assert (tmp_path / "metrics.jsonl").read_text() == "of an earlier run\n"
    result = fit(TrainConfig(**settings, overwrite=True))
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == len(result.metrics) == 1


def test_auto_is_a_device_that_is_there():
    assert resolve_device("auto").type in ("cpu", "cuda")
    assert resolve_device("cpu") == torch.device("cpu")


def test_quickstart_runs_both_networks_and_replaces_an_earlier_one(tmp_path):
    (tmp_path / "hybrid-asnn").mkdir()
    (tmp_path / "hybrid-asnn" / "metrics.jsonl").write_text("of an earlier run\n")
    results = quickstart(tmp_path, epochs=1)
    assert [result.out.name for result in results.values()] == ["hybrid-asnn", "direct-lif"]
    assert {file.name for file in tmp_path.iterdir()} == {"hybrid-asnn", "direct-lif", "codes.png"}
    adaptive, fixed = results.values()
    assert adaptive.parameters > fixed.parameters


def test_quickstart_leaves_the_files_of_others_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match=r"out must be .*; .* holds thesis.tex"):
        quickstart(tmp_path, epochs=1)


def test_energy_is_that_of_64_images_whatever_the_batch_size(finished):
    config, _, _ = finished
    assert json.loads((config.run_folder / "energy.json").read_text())["images"] == 64 > config.batch_size


def test_a_report_that_a_finished_run_could_not_write_is_written_when_it_is_asked_for(finished, tmp_path):
    config, result, _ = finished
    out = shutil.copytree(config.run_folder, tmp_path / "run")
    (out / "report.html").unlink()
    (out / "previous.pt").write_bytes(b"")
    again = fit(dataclasses.replace(config, out=out, resume=True))
    assert again.test_accuracy == result.test_accuracy
    assert {file.name for file in out.iterdir()} == FILES


def test_weights_that_are_lost_in_the_last_step_of_an_epoch_are_not_kept(tmp_path):
    settings = TINY | {"train_subset": 200, "batch_size": 180, "schedule": "constant", "lr": 1e37}
    with pytest.raises(NonFiniteLossError, match=r"became .* at epoch 1.*There is no checkpoint yet"):
        fit(TrainConfig(**settings, out=tmp_path / "run"))
    assert not (tmp_path / "run" / "checkpoint.pt").exists()
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_damaged_result_is_named(finished, tmp_path):
    config, _, _ = finished
    out = shutil.copytree(config.run_folder, tmp_path / "run")
    for text in ("{", "{}", "3"):
        (out / "result.json").write_text(text)
        with pytest.raises(ValueError, match=r"run folder is damaged: .*result.json"):
            fit(dataclasses.replace(config, out=out, resume=True))


def spoil_weights(checkpoint, value):
    checkpoint["model"]["head.weight"].view(-1)[3] = value


def as_large_model(checkpoint):
    checkpoint["config"]["model"] = "spikformer_8_768"
    checkpoint["image_size"] = 224


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: spoil_weights(c, float("nan")), "model: head.weight holds NaN"),
        (lambda c: spoil_weights(c, -float("inf")), "model: head.weight holds NaN or inf"),
        (lambda c: c["model"].update({"head.weight": 3}), "model: 'head.weight' must name a tensor"),
        (lambda c: c["model"].update({7: torch.zeros(1)}), "model: 7 must name a tensor"),
        (lambda c: c["model"].pop("head.weight"), "does not fit the model lenet: .*head.weight"),
        (lambda c: c.update(in_channels=10**12), "checkpoint.pt: in_channels cannot be 1000000000000"),
        (lambda c: c.update(image_size=-1), "checkpoint.pt: image_size cannot be -1"),
        (lambda c: c["config"].update(num_steps=10**12), "checkpoint.pt: num_steps cannot be 10000"),
        (lambda c: c["config"].update(epochs="many"), "checkpoint.pt, config: epochs must be an integer"),
        (lambda c: c["config"].update(model="lenett"), "checkpoint.pt, config: model must be"),
        (lambda c: c["classes"].append("11"), "does not fit the model lenet: .*'head.bias' is of shape"),
        (as_large_model, "ask for more weights than it holds"),
    ],
    ids=[str(number) for number in range(12)],
)
def test_a_malformed_checkpoint_is_named_with_its_key(finished, tmp_path, change, message):
    config, _, _ = finished
    out = shutil.copytree(config.run_folder, tmp_path / "run")
    checkpoint = torch.load(out / "checkpoint.pt", weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, out / "checkpoint.pt")
    for use in (load_run, evaluate_run):
        with pytest.raises(ValueError, match=rf"(?s)run folder is damaged: .*{message}"):
            use(out)


# With steps enough for the running averages of norms.
ALIVE = TINY | {"batch_size": 9, "schedule": "constant"}


class Warned(Reporter):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def warning(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def dead(monkeypatch):
    """Networks whose second convolution is so negative that nothing fires behind it."""
    from snntorch_asnn.train import run as module

    build = module.build_model

    def build_dead(*args):
        model = build(*args)
        with torch.no_grad():
            norm = model.conv2.spike.norm
            norm.bias.fill_(-100.0)
        return model

    monkeypatch.setattr(module, "build_model", build_dead)


def test_a_dead_network_says_so_wherever_it_is_looked_at(dead, tmp_path):
    told, out = Warned(), tmp_path / "run"
    fit(TrainConfig(**ALIVE, lr=1e-9, out=out), reporter=told)
    kinds = [
        kind for kind in ("a training step", "validation images", "test images") if kind in str(told.texts)
    ]
    assert len(kinds) == len(told.texts) == 3  # once each, not at every epoch
    assert all("layers of neurons never fired on the" in text for text in told.texts)
    assert all("conv2.spike" in text and "conv1" not in text for text in told.texts)
    for line in (out / "metrics.jsonl").read_text().splitlines():
        assert "conv2.spike.neuron.neuron" in json.loads(line)["silent_layers"]
    with pytest.warns(UserWarning, match=r"never fired on the test images: conv2.spike"):
        evaluate_run(out, device="cpu")
    page = (out / "report.html").read_text()
    assert "never fired on the test images: conv2.spike" in page


def test_without_a_reporter_a_dead_network_warns(dead, tmp_path):
    with pytest.warns(UserWarning, match=r"never fired on the validation images: conv2.spike"):
        fit(TrainConfig(**ALIVE | {"epochs": 1}, lr=1e-9, out=tmp_path / "run"))


def test_a_network_that_fires_is_not_spoken_of(tmp_path):
    told, out = Warned(), tmp_path / "run"
    result = fit(TrainConfig(**ALIVE | {"epochs": 3}, lr=3e-3, out=out), reporter=told)
    assert all(max(rates) > 0 for rates in result.firing_rates.values())
    assert all("validation" in text for text in told.texts)  # norms need an epoch for their averages
    assert "never fired" not in (out / "report.html").read_text()
    assert result.metrics[-1]["silent_layers"] == []
