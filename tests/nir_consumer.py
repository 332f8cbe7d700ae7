"""Runs an exported graph in norse or sinabs; called in the Python of an environment that has them.

``python nir_consumer.py norse|sinabs graph.nir inputs.npy spikes.npy``: inputs are ``[T, B, ...]``.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Any

import h5py
import nir
import numpy as np
import torch

DT = 1e-4


def read(file: str) -> Any:
    """Read a graph; nir of before 1.0.5, which sinabs asks for, knows no reset and must not find one."""
    if version("nir") <= "1.0.4":
        with h5py.File(file, "r+") as content:
            for node in content["node/nodes"].values():
                node.pop("v_reset", None)
    return nir.read(file)


def in_norse(graph: Any, x: torch.Tensor) -> torch.Tensor:
    import norse.torch

    net, state, spikes = norse.torch.from_nir(graph, dt=DT), None, []
    for step in x:
        out, state = net(step, state)
        spikes.append(out)
    return torch.stack(spikes)


def in_sinabs(graph: Any, x: torch.Tensor) -> torch.Tensor:
    import sinabs.nir
    from sinabs.activation import MembraneReset, SingleSpike

    steps, batch = x.shape[:2]
    net = sinabs.nir.from_nir(graph, batch_size=batch)
    for layer in net.modules():
        if hasattr(layer, "spike_fn"):
            layer.spike_fn, layer.reset_fn = SingleSpike, MembraneReset()
    out = net(x.transpose(0, 1).flatten(0, 1))
    out = out[0] if isinstance(out, tuple) else out
    return out.unflatten(0, (batch, steps)).transpose(0, 1)


if __name__ == "__main__":
    consumer, graph_file, inputs, outputs = sys.argv[1:]
    run = {"norse": in_norse, "sinabs": in_sinabs}[consumer]
    with torch.no_grad():
        spikes = run(read(graph_file), torch.from_numpy(np.load(inputs)))
    np.save(outputs, spikes.numpy())
