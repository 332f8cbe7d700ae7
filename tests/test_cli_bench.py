"""The command ``snntorch-asnn bench``."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("cyclopts")
pytest.importorskip("lightning_fabric")

from snntorch_asnn.cli import main

SMALL = ["bench", "--shape", "2,3,4", "--num-steps", "1,3", "--rounds", "2", "--device", "cpu"]


def bench(*arguments):
    """Run the command, to its end."""
    with (
        torch.compiler.set_stance("force_eager"),  # to compile would take longer than all the rest
        pytest.raises(SystemExit) as stopped,
    ):
        main([*SMALL, *arguments])
    return stopped.value.code or 0


def test_prints_a_table_of_what_runs_and_why_the_rest_does_not(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert bench("--no-learn") == 0
    out = capsys.readouterr().out
    assert "(2, 3, 4) at each step, float32 on cpu" in out
    for name in ("snn.Leaky, step by step", 'impl="auto"', 'impl="reference"', "T = 1", "T = 3", "(1.0×)"):
        assert name in out


def test_json_holds_every_time(capsys):
    assert bench("--json", "--dtype", "float64") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["dtype"] == "float64"
    assert [result["num_steps"] for result in content["results"]] == [1, 3]
    for result in content["results"]:
        assert result["shape"] == [2, 3, 4]
        assert all(len(times) == 2 and min(times) > 0 for times in result["seconds"].values())
        assert 'impl="triton"' in result["does_not_run"]  # it takes no float64
        assert not result["seconds"].keys() & result["does_not_run"].keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shape", "2,x"], "shape must be whole numbers with commas between them; got '2,x'"),
        (["--num-steps", "0"], "num_steps must be at least 1; got 0"),
        (["--dtype", "int8"], 'Invalid value "int8" for --dtype. Choose from: "float32"'),
        (["--device", "tpu"], "device"),
    ],
)
def test_wrong_arguments_end_in_one_line(capsys, arguments, message):
    assert bench(*arguments) == 2
    assert message in capsys.readouterr().err
