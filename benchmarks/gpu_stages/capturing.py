"""Training steps as CUDA graphs."""

from __future__ import annotations

import torch

from snntorch_asnn._timing import Run


def capture(step: Run) -> Run:
    """The step as one CUDA graph, after the warm-up on a stream beside that capturing asks for."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
