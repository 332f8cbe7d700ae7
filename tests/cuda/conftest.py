"""What the tests here share: each runs on the CPU too, as far as it can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def no_waiting(device: str) -> Callable[[], AbstractContextManager[None]]:
    """A context in which, on a GPU, whatever makes the host wait for the device raises."""

    @contextmanager
    def forbidden() -> Iterator[None]:
        if device == "cpu":
            yield
            return
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    return forbidden


@pytest.fixture(autouse=True)
def _whole_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions would round their inputs to TF32, and spikes would differ from the CPU's."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
