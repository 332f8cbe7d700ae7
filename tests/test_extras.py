"""What is said where a package is missing that an extra brings."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from torch import nn

import snntorch_asnn as asnn

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("package", "extra", "use"),
    [
        ("matplotlib", "plot", lambda tmp: asnn.plot.raster(torch.ones(3, 2))),
        ("nir", "nir", lambda tmp: asnn.nir.export(nn.Linear(2, 2), torch.rand(1, 2))),
        ("safetensors", "checkpoint", lambda tmp: lenet().save_pretrained(tmp / "lenet.safetensors")),
    ],
)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, tmp_path, package, extra, use):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ModuleNotFoundError,
        match=rf"{package}.* is not installed; run pip install '\.\[{extra}\]' in a checkout",
    ):
        use(tmp_path)
    assert list(tmp_path.iterdir()) == []


def lenet():
    return asnn.models.create_model("lenet", num_classes=3, num_steps=2, in_channels=1, image_size=28)


@pytest.mark.skipif(not (ROOT / "snntorch_asnn").is_dir(), reason="needs a checkout")
def test_every_extra_that_is_named_is_one_that_pip_knows():
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    sources = [*ROOT.glob("snntorch_asnn/**/*.py"), *ROOT.glob("docs/*.md"), ROOT / "README.md"]
    text = "\n".join(file.read_text(encoding="utf-8") for file in sources)
    named = {*re.findall(r'extra="(\w+)"', text), *re.findall(r"pip install '\.\[([\w,]+)\]'", text)}
    assert {"train", "plot"} <= named <= known.keys()
    assert "snntorch-asnn[" not in text  # not on the index yet: this would install nothing
