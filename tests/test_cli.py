from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

pytest.importorskip("cyclopts")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("lightning_fabric")

from snntorch_asnn import __version__
from snntorch_asnn.cli import main
from snntorch_asnn.models import list_models
from snntorch_asnn.spikegen import CODES
from snntorch_asnn.train import TrainConfig, list_recipes

TINY = ["--train-subset", "100", "--epochs", "1", "--device", "cpu", "--batch-size", "45", "--no-tensorboard"]


@pytest.fixture
def call(capsys, monkeypatch):
    """Run the command line; return its exit code, output and errors."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*args) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main([str(arg) for arg in args])
        captured = capsys.readouterr()
        # torch says so once in a process, when it compiles where the toolkit is installed but no GPU is.
        errors = [line for line in captured.err.splitlines(True) if "No CUDA runtime is found" not in line]
        return stopped.value.code or 0, captured.out, "".join(errors)

    return run


def test_help_names_every_command(call):
    code, out, _ = call("--help")
    assert code == 0
    for command in ("train", "eval", "sweep", "quickstart", "models", "encode"):
        assert f" {command} " in out


def test_version(call):
    assert call("--version") == (0, f"{__version__}\n", "")


def test_models_are_listed(call):
    code, out, _ = call("models")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list_models()


def test_every_setting_is_an_option(call):
    code, out, _ = call("train", "--help")
    assert code == 0
    for field in dataclasses.fields(TrainConfig):
        assert f"--{field.name.replace('_', '-')} " in out
    assert "--recipe " in out
    assert "--no-tensorboard" in out
    assert "--no-carry" in out
    for name in (*CODES, "tebn"):
        assert name in out


def test_train_and_eval(call, tmp_path):
    run = tmp_path / "run"
    code, out, err = call("train", *TINY, "--neuron", "lif", "--num-steps", "2", "--out", run)
    assert (code, err) == (0, "")
    assert "epoch 1/1" in out
    assert "test accuracy" in out
    assert str(run) in out
    config = json.loads((run / "config.json").read_text())["config"]
    assert (config["neuron"], config["num_steps"], config["train_subset"]) == ("lif", 2, 100)
    accuracy = json.loads((run / "result.json").read_text())["test_accuracy"]
    code, out, err = call("eval", run, "--device", "cpu")
    assert (code, err) == (0, "")
    assert f"{accuracy:.2%} of 360 test images" in out
    assert "stopped after step" in out
    assert "most frequent errors: " in out
    assert call("eval", run, "--device", "cpu", "--json", tmp_path / "found.json")[0] == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["accuracy"] == found["accuracy_by_step"][-1] == accuracy
    assert sum(map(sum, found["confusion"])) == 360
    code, out, err = call("train", *TINY, "--neuron", "lif", "--num-steps", "2", "--out", run, "--resume")
    assert (code, err) == (0, "")
    assert f"{accuracy:.2%}" in out


def test_every_setting_can_be_switched_off_again(call, tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'carry = true\nclip_grad = 1.0\nmixup = 0.5\nmixup_until = 1\nrand_augment = "no such policy"\n'
    )
    off = ["--no-carry", "--clip-grad", "none", "--mixup-until", "none", "--rand-augment", "none"]
    code, _, err = call("train", "--recipe", recipe, *TINY, *off, "--no-compile", "--out", tmp_path / "run")
    assert (code, err) == (0, "")
    config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    names = ("carry", "compile", "clip_grad", "mixup", "mixup_until", "rand_augment")
    assert [config[name] for name in names] == [False, False, None, 0.5, None, None]


def test_recipes_are_listed(call):
    code, out, _ = call("train", "--list-recipes")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list_recipes()


def test_options_override_the_recipe(call, tmp_path):
    code, _, err = call("train", "--recipe", "digits", *TINY, "--seed", "3", "--out", tmp_path)
    assert (code, err) == (0, "")
    config = json.loads((tmp_path / "config.json").read_text())["config"]
    assert (config["epochs"], config["seed"], config["threads"]) == (1, 3, 1)


def test_a_sweep_shows_mean_and_deviation(call, tmp_path):
    grid = ["--set", "neuron=lif,asnn", "--seeds", "0,1", "--num-steps", "2", "--out", tmp_path]
    code, out, err = call("sweep", *TINY, *grid)
    assert (code, err) == (0, "")
    assert sum("±" in line for line in out.splitlines()) == 2
    assert (tmp_path / "neuron=lif" / "seed1" / "report.html").is_file()
    code, again, _ = call("sweep", *TINY, *grid)
    assert again.count("finished already") == 4
    assert [line for line in again.splitlines() if "±" in line] == [
        line for line in out.splitlines() if "±" in line
    ]


def test_train_refuses_a_used_folder(call, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    code, _, err = call("train", *TINY, "--out", tmp_path)
    assert code == 2
    assert "out must be an empty folder" in err
    assert call("train", *TINY, "--out", tmp_path, "--overwrite")[0] == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_quickstart_shows_both_networks_side_by_side(call, tmp_path):
    code, out, err = call("quickstart", "--out", tmp_path, "--epochs", "1")
    assert (code, err) == (0, "")
    for words in ("hybrid code, adaptive neurons", "direct code, fixed neurons", "One seed on"):
        assert words in out
    assert (tmp_path / "codes.png").is_file()


def test_encode_draws_a_picture(call, tmp_path):
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("torchvision")
    image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(tmp_path / "in.png")
    for options in ([], ["--grey", "--encoding", "temporal", "--num-steps", "3"]):
        out = tmp_path / "code.png"
        code, _, err = call("encode", tmp_path / "in.png", *options, "--out", out)
        assert (code, err) == (0, "")
        with image.open(out) as picture:
            assert picture.width > 100
        out.unlink()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["train", "--data", "mnist3d"],
            'Invalid value "mnist3d" for --data. Choose from: "digits", "mnist"',
        ),
        (["train", "--model", "resnet5000"], "model must be one of"),
        (["train", "--encoding", "morse"], "got 'morse'"),
        (["train", "--neuron", "purkinje"], "got 'purkinje'"),
        (["train", "--readout", "median"], "got 'median'"),
        (["train", "--epochs", "-3"], "epochs must be at least 1; got -3"),
        (["train", "--lr", "0"], "lr must be above 0 and at most 1e+37; got 0.0"),
        (["train", "--device", "cuda"], "device must be one that torch sees; got 'cuda'"),
        (
            ["train", "--data", "fashion-mnist", "--data-dir", "nowhere"],
            "data_dir must be a folder; nowhere does not exist",
        ),
        (
            ["train", "--data", "image-folder", "--data-dir", "nowhere"],
            "data_dir must be a folder; nowhere does not exist",
        ),
        (["train", "--recipe", "lenett"], "got 'lenett'; did you mean 'lenet'?"),
        (["train", "--recipe", "none.toml"], "there is no file none.toml"),
        (["train", "--batch-size", "10", "--accumulate", "3"], "batch_size must be a multiple of"),
        (["train", "--device", "cpu", "--precision", "16"], "precision must be 32, bf16 or 64 on a CPU"),
        (["train", "--resume", "--overwrite"], "resume must not be set together with overwrite"),
        (["train", "--teacher", "nowhere"], "teacher must be"),
        (["train", "--warmup-epochs", "2"], "warmup_epochs must be left out with schedule=one-cycle"),
        (
            ["train", "--clip-grad", "much"],
            'Invalid value for --clip-grad: unable to convert "much" into float',
        ),
        (["train", "--lr", "3e38"], "lr must be above 0 and at most 1e+37; got 3e+38"),
        (["train", "--lambda", "0.1"], "Unknown option: --lambda. Did you mean --tet-lambda?"),
        (["sweep"], "parameter --set requires an argument"),
        (["sweep", "--set", "neuron"], "set must be NAME=VALUE,VALUE,...; got 'neuron'"),
        (["sweep", "--set", "neurom=lif"], "unknown setting neurom; did you mean 'neuron'?"),
        (
            ["sweep", "--set", "neuron=lif", "--neuron", "lif"],
            "set must not name a setting that is also given as an option",
        ),
        (["sweep", "--set", "neuron=lif", "--seeds", "a"], "seeds must be numbers"),
        (["sweep", "--set", "epochs=0"], "epochs must be at least 1; got 0"),
        (["eval", "none"], "run folder none is incomplete: checkpoint.pt is missing"),
        (["encode", "none.png"], "No such file"),
        (["train", "--epochs", "many"], 'Invalid value for --epochs: unable to convert "many" into int'),
        (["train", "--speed", "high"], "Unknown option: --speed"),
        (["trian"], 'Unknown command "trian". Did you mean "train"?'),
    ],
)
def test_wrong_arguments_end_in_a_line_and_leave_nothing_behind(call, tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    if args[0] == "encode":
        pytest.importorskip("torchvision")
    code, out, err = call(*args)
    assert code == 2
    assert message in err
    assert "Traceback" not in out + err
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback():
    with pytest.raises(ValueError, match="run folder none is incomplete"):
        main(["--debug", "eval", "none"])


def test_a_diverged_run_fails_with_another_code(call, tmp_path):
    code, _, err = call("train", *TINY, "--lr", "1e30", "--epochs", "3", "--out", tmp_path / "run")
    assert code == 1
    assert "became" in err
    assert "at epoch" in err
