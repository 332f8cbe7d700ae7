"""Exported graphs give the same spikes in norse and sinabs.

Both pin packages of their own. They live in another environment, whose Python is named by the variable
``SNNTORCH_ASNN_NIR_PYTHON``: ``python -m venv nir && nir/bin/pip install norse==1.1.0 sinabs==3.1.3``.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import snntorch_asnn as asnn

nir = pytest.importorskip("nir")
pytest.importorskip("nirtorch")

PYTHON = os.environ.get("SNNTORCH_ASNN_NIR_PYTHON")
pytestmark = pytest.mark.skipif(
    PYTHON is None, reason="needs SNNTORCH_ASNN_NIR_PYTHON, with norse and sinabs"
)

STEPS = 12
ZERO: dict[str, Any] = {
    "init_hidden": True,
    "reset_mechanism": "zero",
    "reset_delay": False,
    "num_steps": STEPS,
}


def constant(beta: Any, gain: Any, **options: Any) -> nn.Module:
    return asnn.AdaptiveLeaky(beta, gain=gain, **ZERO | options)


def dense() -> tuple[nn.Module, Tensor]:
    net = nn.Sequential(
        nn.Linear(5, 16),
        constant(torch.rand(16) * 0.9, torch.rand(16) + 0.5, threshold=0.7, feature_shape=(16,)),
        nn.Linear(16, 4, bias=False),
        constant(0.8, 0.5, threshold=0.3),
    )
    return net, 2 * torch.rand(STEPS, 3, 5)


def current() -> tuple[nn.Module, Tensor]:
    net = nn.Sequential(
        nn.Linear(5, 16),
        asnn.AdaptiveSynaptic(0.6, 0.83, gain=1.5, threshold=0.5, **ZERO),
        nn.Linear(16, 4),
        constant(0.8, 1.0, threshold=0.1),
    )
    return net, 4 * torch.rand(STEPS, 3, 5)


def paper_at_one_step() -> tuple[nn.Module, Tensor]:
    net = nn.Sequential(
        nn.Linear(5, 16),
        asnn.AdaptiveLeaky.paper(STEPS, **{k: v for k, v in ZERO.items() if k != "num_steps"}),
    )
    with torch.no_grad():
        net[1].beta.copy_(torch.rand(STEPS))
        net[1].gain.copy_(torch.rand(STEPS) + 0.5)
    return net, 3 * torch.rand(STEPS, 3, 5)


def spikes_here(net: nn.Module, x: Tensor) -> Tensor:
    asnn.reset(net)
    with torch.no_grad():
        out = [net(step) for step in x]
    return torch.stack([spikes[0] if isinstance(spikes, tuple) else spikes for spikes in out])


def spikes_there(consumer: str, graph: Any, x: Tensor, folder: Path) -> Tensor:
    assert PYTHON is not None
    files = [folder / name for name in ("graph.nir", "inputs.npy", "spikes.npy")]
    nir.write(files[0], graph)
    np.save(files[1], x.numpy())
    worker = Path(__file__).with_name("nir_consumer.py")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [PYTHON, worker, consumer, *files], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return torch.from_numpy(np.load(files[2]))


@pytest.mark.parametrize(
    ("consumer", "make", "step"),
    [
        ("norse", dense, None),
        ("norse", current, None),
        ("norse", paper_at_one_step, 3),
        ("sinabs", dense, None),
        ("sinabs", paper_at_one_step, 3),
    ],
)
def test_the_same_spikes(consumer: str, make: Any, step: int | None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, x = make()
    spikes_here(net, x)  # the export of a network that has run its steps
    graph = asnn.nir.export(net, x[0], step=step, consumer="sinabs" if consumer == "sinabs" else "nir")
    if step is not None:
        with torch.no_grad():
            for name in ("beta", "gain"):
                value = getattr(net[1], name)
                value.copy_(value[step].expand_as(value).clone())
    expected = spikes_here(net, x)
    assert 0.05 < expected.mean() < 0.95
    found = spikes_there(consumer, graph, x, tmp_path)
    assert found.shape == expected.shape
    assert torch.equal(found.float(), expected)
