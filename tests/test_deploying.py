"""Whole networks as graphs of their own: exported, compiled ahead of time, in inference mode."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import snntorch_asnn as asnn
from snntorch_asnn.layers import NormLeaky, TimeFolded
from snntorch_asnn.models import create_model
from snntorch_asnn.ops._adaptive_leaky import inductor as compiled

pytestmark = pytest.mark.slow

ANY_BATCH = {"images": {0: torch.export.Dim("batch", min=1)}}


@pytest.mark.parametrize("name", ["spiking_resnet_tiny", "spikformer_tiny"])
def test_fused_networks_export_for_any_batch(name: str) -> None:
    model = create_model(name, num_classes=10, num_steps=2, fused=True).eval()
    exported = torch.export.export(model, (torch.rand(2, 3, 32, 32),), dynamic_shapes=ANY_BATCH).module()
    for batch in (1, 5):
        images = torch.rand(batch, 3, 32, 32)
        torch.testing.assert_close(exported(images), model(images))


def test_an_exported_program_survives_saving(tmp_path: Path) -> None:
    model = create_model("lenet", num_classes=10, num_steps=2).eval()
    images = torch.rand(2, 3, 32, 32)
    program = torch.export.export(model, (images,), dynamic_shapes=ANY_BATCH)
    torch.export.save(program, tmp_path / "lenet.pt2")
    loaded = torch.export.load(tmp_path / "lenet.pt2").module()
    assert torch.equal(loaded(images), program.module()(images))


@pytest.mark.skipif(compiled.missing("cpu") is not None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_compiles_ahead_of_time(tmp_path: Path) -> None:
    sizes = {"in_channels": 1, "image_size": 8, "channels": (4, 6, 8), "hidden": 16}
    model = create_model("lenet", num_classes=10, num_steps=2, **sizes).eval()
    program = torch.export.export(model, (torch.rand(2, 1, 8, 8),), dynamic_shapes=ANY_BATCH)
    path = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "lenet.pt2"))
    run = torch._inductor.aoti_load_package(path)
    for batch in (1, 3):
        images = torch.rand(batch, 1, 8, 8)
        torch.testing.assert_close(run(images), model(images), rtol=1e-4, atol=1e-4)


class Steps(nn.Module):
    """A network that is called once per step and keeps its state."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 4), asnn.AdaptiveLeaky(0.9, num_steps=4, init_hidden=True))

    def forward(self, x: Tensor) -> Tensor:
        spikes: Tensor = self.layers(x)
        return spikes


class Sequence(Steps):
    """The same over a whole sequence, from its beginning."""

    def forward(self, x: Tensor) -> Tensor:
        asnn.reset(self)
        return torch.stack([self.layers(step) for step in x])


class ByHand(nn.Module):
    """The same with the membrane in the caller's hands."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.neuron = asnn.AdaptiveLeaky(torch.tensor([0.9, 0.5, 0.1, 0.7]), num_steps=4, feature_shape=())

    def forward(self, x: Tensor) -> Tensor:
        mem, spikes = self.neuron.reset_mem(), []
        for step in x:
            spk, mem = self.neuron(self.linear(step), mem)
            spikes.append(spk)
        return torch.stack([*spikes, mem])


@pytest.mark.parametrize("kind", [Sequence, ByHand])
def test_a_sequence_of_steps_exports(kind: type[nn.Module]) -> None:
    net, x = kind(), torch.rand(4, 5, 3) * 3
    exported = torch.export.export(net, (x,)).module()
    for _ in range(2):
        assert torch.equal(exported(x), net(x))
    assert net(x).any()


def test_a_state_that_export_would_lose_is_refused() -> None:
    with pytest.raises(RuntimeError, match="init_hidden=True: an exported graph would lose the state"):
        torch.export.export(Steps(), (torch.rand(5, 3),))
    by_hand = asnn.AdaptiveLeaky(0.9, num_steps=4)
    x, mem = torch.rand(5, 3), torch.zeros(5, 3)
    with pytest.raises(RuntimeError, match="step: an exported graph would compute the same time step"):
        torch.export.export(by_hand, (x, mem))
    exported = torch.export.export(by_hand, (x, mem), {"step": 2}).module()
    for found, wanted in zip(exported(x, mem, step=2), by_hand(x, mem, step=2), strict=True):
        assert torch.equal(found, wanted)


def test_inference_mode_keeps_no_graph_and_no_history() -> None:
    layers = TimeFolded(nn.Conv2d(2, 3, 3, padding=1))
    net = nn.Sequential(layers, NormLeaky(3, asnn.AdaptiveLeaky(0.9, num_steps=4, sequence=True)))
    x = torch.rand(4, 2, 2, 8, 8)
    kept: list[Tensor] = []
    hooks = torch.autograd.graph.saved_tensors_hooks(kept.append, lambda tensor: tensor)
    with torch.inference_mode(), hooks:
        spikes, mem = net.eval()(x)
    assert not kept
    assert spikes.is_inference()
    assert mem.is_inference()
    torch.testing.assert_close(net(x)[0], spikes.clone())
