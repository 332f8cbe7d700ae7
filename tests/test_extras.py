"""What is said where a package is missing that an extra brings."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

import snntorch_asnn as asnn


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
    with pytest.raises(ModuleNotFoundError, match=rf"{package}.* is needed here: .*snntorch-asnn\[{extra}\]"):
        use(tmp_path)
    assert list(tmp_path.iterdir()) == []


def lenet():
    return asnn.models.create_model("lenet", num_classes=3, num_steps=2, in_channels=1, image_size=28)
