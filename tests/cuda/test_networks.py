"""Whole networks on a GPU: compiled, captured in a CUDA graph, distributed, from the command line."""

from __future__ import annotations

import contextlib
import copy
import json
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import snntorch_asnn as asnn

STEPS = 4


def model(name: str, **settings: object) -> nn.Module:
    torch.manual_seed(0)
    built = asnn.models.create_model(name, num_classes=10, num_steps=STEPS, image_size=32, **settings)
    # Fresh norms pass on too little for spikes to reach the last layer of every model.
    for module in built.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.constant_(module.bias, 0.5)
    return built


def batch(device: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    count = 8 if device == "cuda" else 2
    images = torch.rand(count, 3, 32, 32, generator=generator)
    labels = torch.randint(10, (count,), generator=generator)
    return images.to(device), labels.to(device)


def logits_and_gradients(net: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and the gradients of all parameters in one vector."""
    logits = net(images)
    cross_entropy(logits, labels).backward()
    grads = [p.grad.flatten() for p in net.parameters() if p.grad is not None]
    return logits.detach().double().cpu(), torch.cat(grads).double().cpu()


@pytest.mark.parametrize(("name", "fused"), [("spikformer_tiny", False), ("spiking_resnet_tiny", True)])
def test_a_compiled_model_is_that_of_float64_on_the_cpu(name: str, fused: bool, device: str) -> None:
    net = model(name, fused=fused and device == "cuda")
    images, labels = (tensor.cpu() for tensor in batch(device))
    precise = copy.deepcopy(net).double()
    expected, gradient = logits_and_gradients(precise, images.double(), labels)
    # Were the last layer silent, all images would have the same logits.
    assert (expected - expected[0]).abs().max() > 1e-3
    net.to(device)
    run = torch.compile(net, fullgraph=True) if device == "cuda" else net
    got, own = logits_and_gradients(run, images.to(device), labels.to(device))
    # A few membranes are so near to the threshold that rounding decides; a wrong kernel changes far more.
    assert torch.linalg.vector_norm(got - expected) < 0.05 * torch.linalg.vector_norm(expected)
    assert torch.cosine_similarity(own, gradient, 0) > 0.97


def training_step(
    net: nn.Module, device: str, variant: str, *, captured: bool = False
) -> Callable[[], Tensor]:
    images, labels = batch(device)
    on_gpu = {"capturable": True, "fused": True} if device == "cuda" else {}
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, **on_gpu)
    packing = asnn.pack_spikes if variant == "packed" else contextlib.nullcontext
    loss_of_step = torch.zeros((), device=device)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        # bf16 is slow on most CPUs.
        half = torch.autocast(device, torch.bfloat16, enabled=device == "cuda", cache_enabled=not captured)
        with packing(), half:
            loss = cross_entropy(net(images).float(), labels)
        loss.backward()
        optimizer.step()
        return loss_of_step.copy_(loss.detach())

    return step


@pytest.mark.parametrize(
    ("neuron", "variant"), [("lif", "plain"), ("asnn", "plain"), ("asnn", "fused"), ("asnn", "packed")]
)
def test_a_training_step_does_not_wait_for_the_device(
    neuron: str, variant: str, device: str, no_waiting: Callable[[], AbstractContextManager[None]]
) -> None:
    net = model("spikformer_tiny", neuron=neuron, fused=variant == "fused").to(device)
    step = training_step(net, device, variant)
    before = float(step())
    with no_waiting():
        for _ in range(3):
            loss = step()
    assert float(loss) < before


CAPTURED = [
    *(("spikformer_tiny", variant) for variant in ("plain", "fused", "packed")),
    ("spiking_resnet_tiny", "packed"),
    ("lenet", "plain"),
]


@pytest.mark.parametrize(("name", "variant"), CAPTURED)
def test_a_captured_training_step_learns_as_the_step_itself(name: str, variant: str, device: str) -> None:
    net = model(name, fused=variant == "fused").to(device)
    twin = copy.deepcopy(net)
    step = training_step(net, device, variant, captured=True)
    for_replay = captured(step) if device == "cuda" else step
    if device == "cpu":
        for _ in range(3):
            step()
    losses = [float(for_replay()) for _ in range(4)]
    # On a CPU, where nothing is captured, the packed step is held against the plain one.
    beside = training_step(twin, device, variant if device == "cuda" else "plain")
    expected = [float(beside()) for _ in range(7)][3:]
    assert losses[-1] < losses[0]
    torch.testing.assert_close(torch.tensor(losses), torch.tensor(expected), rtol=0.1, atol=0.05)


def captured(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """``step`` as a CUDA graph, after three steps on a stream of their own."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()

    def replay() -> Tensor:
        graph.replay()
        return loss

    return replay


@pytest.mark.cuda
def test_reduce_overhead_replays_the_step() -> None:
    net = model("spikformer_tiny").cuda()
    images, labels = batch("cuda")
    compiled = torch.compile(net, mode="reduce-overhead")
    losses = []
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of CUDA graph trees, about how often they record
        for _ in range(5):
            optimizer.zero_grad(set_to_none=True)
            loss = cross_entropy(compiled(images), labels)
            loss.backward()
            optimizer.step()
            losses.append(float(loss))
    assert losses[-1] < losses[0]


def test_distributed_on_one_device_learns_as_the_model_itself(device: str, tmp_path: Path) -> None:
    net = model("lenet", in_channels=3).to(device)
    twin = copy.deepcopy(net)
    on = {"device_id": torch.device("cuda:0")} if device == "cuda" else {}
    dist.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        init_method=f"file://{tmp_path}/meet",
        rank=0,
        world_size=1,
        **on,
    )
    try:
        spread = nn.parallel.DistributedDataParallel(net, device_ids=[0] if device == "cuda" else None)
        for run, of in ((spread, net), (twin, twin)):
            images, labels = batch(device)
            optimizer = torch.optim.SGD(of.parameters(), lr=0.01)
            for _ in range(2):
                optimizer.zero_grad()
                cross_entropy(run(images), labels).backward()
                optimizer.step()
    finally:
        dist.destroy_process_group()
    for (name, own), other in zip(net.state_dict().items(), twin.state_dict().values(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.cuda
def test_the_train_command_runs_on_a_gpu(tmp_path: Path) -> None:
    for package in ("cyclopts", "rich", "sklearn", "matplotlib", "lightning_fabric", "timm", "torchvision"):
        pytest.importorskip(package)
    from snntorch_asnn.cli import main

    options = ["--train-subset", "100", "--epochs", "1", "--batch-size", "45", "--no-tensorboard"]
    run = tmp_path / "run"
    with pytest.raises(SystemExit) as stopped:
        main(["train", *options, "--device", "cuda", "--precision", "bf16", "--out", str(run)])
    assert not stopped.value.code
    result = json.loads((run / "result.json").read_text())
    assert 0 <= result["test_accuracy"] <= 1
