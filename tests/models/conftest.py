from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

GOLDEN = Path(__file__).parents[1] / "golden"


def fill(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, torch.Tensor]:
    """The weights that the golden vectors were made with, drawn in sorted key order.

    Norms are lifted so that spikes survive to the last layer.
    """
    rng = np.random.RandomState(seed)
    weights = {}
    for key in sorted(shapes):
        shape = shapes[key]
        if key.endswith("num_batches_tracked"):
            weights[key] = torch.zeros(shape, dtype=torch.int64)
            continue
        values = np.asarray(rng.standard_normal(shape))
        if key in ("leakelayers", "inputlayers"):
            values = 0.6 + 0.1 * values
        elif key == "scale":
            values = 1.0 + 0.2 * values
        elif key.endswith("running_var"):
            values = np.abs(values) * 0.5 + 0.5
        elif key.endswith("running_mean"):
            values = values * 0.1
        elif len(shape) == 1 and "bn" in key and key.endswith("weight"):
            values = values * 0.1 + 2.0
        elif len(shape) == 1 and "bn" in key:
            values = values * 0.3 + 0.5
        elif len(shape) <= 1:
            values = values * 0.1
        else:
            values = values * np.sqrt(2.0 / np.prod(shape[1:]))
        weights[key] = torch.from_numpy(values.astype(np.float32))
    return weights


def lenet_shapes(num_steps: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the reference LeNet's state_dict: CIFAR-100."""
    layers = {
        "con1": (32, 3, 3, 3),
        "con11": (32, 3, 3, 3),
        "con2": (48, 32, 3, 3),
        "con3": (64, 48, 3, 3),
        "lin1": (256, 1024),
        "lin2": (100, 256),
    }
    norms = {"bn1": 32, "bn11": 32, "bn2": 48, "bn3": 64, "bn4": 256}
    shapes: dict[str, tuple[int, ...]] = {
        "lano.weight": (3, 32, 32),
        "lano.bias": (3, 32, 32),
        "scale": (num_steps,),
        "leakelayers": (4, num_steps),
        "inputlayers": (4, num_steps),
    }
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name, width in norms.items():
        for suffix in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{suffix}"] = (width,)
        shapes[f"{name}.num_batches_tracked"] = ()
    return shapes


@pytest.fixture
def reference_lenet() -> dict[str, torch.Tensor]:
    """A checkpoint as the reference code would write it, 7 steps and 100 classes."""
    return fill(lenet_shapes(7), seed=11)


def read_golden(name: str) -> dict[str, torch.Tensor | str | int]:
    """Arrays of a golden vector, and its settings less their prefix."""
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        found = {key: arrays[key] for key in arrays}
    assert not found.get("meta.train")
    settings = {key.removeprefix("meta."): v.item() for key, v in found.items() if key.startswith("meta.")}
    return settings | {key: torch.from_numpy(v) for key, v in found.items() if not key.startswith("meta.")}


@pytest.fixture(params=["lenet_hybrid_t7", "lenet_temporal_t7"])
def golden(request) -> dict[str, torch.Tensor | str]:
    """Input, output and gradients of the reference LeNet, and its weights under ``weights``."""
    vectors = read_golden(request.param)
    return vectors | {"weights": fill(lenet_shapes(vectors["num_steps"]), vectors["seed"])}


@pytest.fixture
def golden_vectors():
    """Reads golden vectors by name."""
    return read_golden


@pytest.fixture
def fill_weights():
    """Draws the weights of golden vectors from shapes and a seed."""
    return fill


@pytest.fixture
def assert_reproduces():
    """Asserts that logits, and gradients under the reference's keys, are the golden ones."""

    def check(model, logits, vectors):
        assert_within_spread(logits, vectors["logits"])
        (logits * torch.linspace(-1, 1, logits.numel()).view_as(logits)).sum().backward()
        stored = [key.removeprefix("grad.") for key in vectors if key.startswith("grad.")]
        assert stored
        for key in stored:
            assert_within_spread(gradient(model, key), vectors[f"grad.{key}"])

    return check


def assert_within_spread(found, wanted):
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() / (wanted.max() - wanted.min()) < 1e-5


def gradient(model, key):
    """The gradient under the reference's key, gathered where it is spread over layers."""
    place, parameters = model.reference_keys()[key], dict(model.named_parameters())
    if isinstance(place, tuple):
        return torch.stack([parameters[name].grad for name in place])
    return parameters[place].grad
