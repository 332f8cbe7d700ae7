"""Settings that must be in place before a test module imports torch or triton."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # One worker per core: more threads than that only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

import pytest
import torch
from hypothesis import HealthCheck, settings

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

collect_ignore = ["nir_consumer.py"]
"""A script that a test runs in an environment of other simulators."""

# A first call under torch.compile takes seconds, and a shared machine is slow at times.
settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("explore", settings.get_profile("ci"), derandomize=False, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.hookimpl(tryfirst=True)  # before `-m` looks at the markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark for CUDA what runs on a GPU where there is one, and skip what needs one where there is none."""
    on_gpu = torch.cuda.is_available()
    for item in items:
        if on_gpu and getattr(getattr(item, "module", None), "DEVICE", None) == "cuda":
            item.add_marker(pytest.mark.cuda)
        if not on_gpu and item.get_closest_marker("cuda") is not None:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
