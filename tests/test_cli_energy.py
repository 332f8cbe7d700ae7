from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("cyclopts")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from snntorch_asnn import energy
from snntorch_asnn.cli import main
from snntorch_asnn.train import TrainConfig, fit, load_images, load_run


@pytest.fixture
def call(capsys, monkeypatch):
    """Run the command; return its exit code, output and errors."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*args) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["energy", *map(str, args)])
        captured = capsys.readouterr()
        return stopped.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("energy") / "run"
    config = TrainConfig(train_subset=100, epochs=1, num_steps=2, batch_size=45, device="cpu", out=folder)
    with torch.compiler.set_stance("force_eager"):  # to compile would take longer than to train
        fit(config)
    return folder


def test_a_run_is_priced_on_its_validation_images(call, run_folder):
    code, out, _ = call(run_folder, "--json", "--preset", "45nm-int8", "--device", "cpu")
    assert code == 0
    found = json.loads(out)
    config, model = load_run(run_folder)
    images = torch.stack([image for image, _ in load_images(config).val])
    wanted = energy.profile(model, images, preset="45nm-int8").to_dict()
    assert {key: found[key] for key in wanted} == wanted
    assert (found["trained"], found["images"], found["num_steps"]) == (True, 10, 2)
    code, out, _ = call(run_folder, "--images", 4, "--device", "cpu")
    assert code == 0
    assert "mean over 4 images" in out
    spread = energy.profile(model, images[[0, 2, 5, 7]])
    assert json.loads(call(run_folder, "--images", 4, "--device", "cpu", "--json")[1])["mj"] == spread.mj
    assert "fresh" not in out


def test_a_model_is_priced_with_fresh_weights(call):
    random = torch.get_rng_state()
    arguments = (
        "spikformer_tiny",
        "--num-steps",
        2,
        "--encoding",
        "direct",
        "--neuron",
        "lif",
        "--images",
        8,
    )
    code, out, _ = call(*arguments, "--device", "cpu", "--nonbinary", "multi_ac", "--attention", "qk_first")
    assert code == 0
    assert "T = 2 steps, mean over 8 images" in out
    assert "an integer n as n ACs" in out
    assert "computed as (Q Kᵀ) V" in out
    assert "The weights are fresh" in out
    assert torch.equal(torch.get_rng_state(), random)


def test_multiplications_are_counted_without_data(call):
    arguments = ("spikformer_4_384", "--data", "none", "--encoding", "direct", "--attention", "qk_first")
    code, out, _ = call(*arguments)
    assert code == 0
    assert out.splitlines()[-1].split() == ["total", "934", "M", "3.736", "G"]
    code, out, _ = call(*arguments, "--num-classes", 100, "--json")
    assert code == 0
    assert json.loads(out)["per_step"] == [934_039_296 + 90 * 384] * 4


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["lenett"], "RUN|MODEL must be the folder of a run or a model; got 'lenett'; did you mean 'lenet'?"),
        (["."], "is incomplete: checkpoint.pt is missing"),
        ([".", "--num-steps", "3"], "num_steps must be left out for a run, which has its own; got 3"),
        ([".", "--data", "none"], "data must be left out for a run"),
        (["lenet", "--data", "mnist3d"], "data must be one of"),
        (["lenet", "--encoding", "morse"], "got 'morse'"),
        (["lenet", "--neuron", "purkinje", "--data", "none"], "got 'purkinje'"),
        (["lenet", "--num-steps", "0"], "num_steps must be at least 1; got 0"),
        (
            ["lenet", "--preset", "7nm"],
            "preset must be one of '45nm-fp32', '45nm-fp16', '45nm-int8'; got '7nm'",
        ),
        (
            ["lenet", "--nonbinary", "ac"],
            'Invalid value "ac" for --nonbinary. Choose from: "mac", "multi_ac"',
        ),
        (["lenet", "--attention", "fast"], 'Invalid value "fast" for --attention'),
        (["lenet", "--device", "tpu"], "device must be"),
        (["lenet", "--images", "0"], 'Invalid value "0" for --images. Must be >= 1.'),
        (["lenet", "--data", "none", "--preset", "7nm"], "preset must be left out with data=none"),
        (["lenet", "--data", "none", "--data-dir", "."], "data_dir must be left out with data=none"),
        (["spikformer_8_384"], "image_size must be divisible by 16; got (8, 8)"),
    ],
)
def test_wrong_arguments_end_in_a_line(call, tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(*args)
    assert code == 2
    assert message in err
    assert "Traceback" not in out + err
    assert list(tmp_path.iterdir()) == []
