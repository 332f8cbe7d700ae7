"""Training steps as on a GPU, without one: nothing reads a value of the device, or copies from the host.

Tensors are fake, which have a device and no memory; the kernels' launches end before the launch. PyTorch
refuses a backward pass on a device that is not there, so that whole steps run on fake tensors of the CPU, and
forward passes on those of a GPU, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

import snntorch_asnn as asnn
from snntorch_asnn.layers import norm_leaky
from snntorch_asnn.models import create_model
from snntorch_asnn.neurons import leak_constraint
from snntorch_asnn.ops._adaptive_leaky.triton import implementation as kernels
from snntorch_asnn.ops._batch_moments import moments as batch_moments
from snntorch_asnn.ops._packed_spikes import pack as packed_spikes
from snntorch_asnn.spikegen import _checks, _levels

pytest.importorskip("triton")

from snntorch_asnn.ops._batch_moments.triton import moments as batch_moments_triton
from snntorch_asnn.ops._triton import launch as triton_launch

READS = ("_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select", "unique")


class NothingWaits(TorchDispatchMode):
    """Refuses operators for which the host would wait for the device, and notes the copies between both."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        given = {a.device.type for a in args if isinstance(a, Tensor)}
        assert name not in READS, f"{name} reads a value of the device"
        result = func(*args, **kwargs)
        if name in ("_to_copy", "copy_", "_pin_memory") and isinstance(result, Tensor):
            devices = given | {result.device.type}
            assert devices <= {"cuda"} or "cuda" not in devices, f"{name} between {devices}"
        return result


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def launches(device: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the kernels that would be launched on a GPU, in order."""
    found: list[str] = []

    def note(self: triton_launch.Prepared, *tensors: Tensor) -> None:
        assert {t.device.type for t in tensors} == {device}
        found.append(self.kernel.fn.__name__)

    monkeypatch.setattr(triton_launch.Prepared, "__call__", note)
    monkeypatch.setattr(kernels, "missing", lambda _: None)
    monkeypatch.setattr(kernels, "is_real", lambda _: True)
    monkeypatch.setattr(packed_spikes, "_has_memory", lambda _: True)
    for module in (batch_moments, norm_leaky):
        monkeypatch.setattr(module, "gpu_kernels", lambda _: batch_moments_triton)
    if device == "cpu":
        monkeypatch.setattr(kernels, "covers", lambda x: x.dtype in kernels.dtypes)
        monkeypatch.setattr(packed_spikes, "_values_decide", lambda _: False)
        monkeypatch.setattr(leak_constraint, "_is_inside", lambda _: False)
        for module in (_checks, _levels):
            monkeypatch.setattr(module, "has_values_to_read", lambda _: False)
    return found


def faked(module: nn.Module, device: str) -> nn.Module:
    """``module`` with fake parameters and buffers on ``device``."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                like = torch.empty_like(parameter, device=device)
                part._parameters[name] = nn.Parameter(like, requires_grad=parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.empty_like(buffer, device=device)
    return module


@pytest.mark.parametrize("variant", ["plain", "packed", "fused"])
@pytest.mark.parametrize("name", ["spikformer_tiny", "spiking_resnet_tiny"])
def test_a_training_step_waits_for_nothing(name: str, variant: str, device: str, launches: list[str]) -> None:
    model = create_model(name, num_classes=10, num_steps=4, fused=variant == "fused")
    neurons = sum(isinstance(module, asnn.AdaptiveLeaky) for module in model.modules())
    packing = asnn.pack_spikes if variant == "packed" else contextlib.nullcontext
    with FakeTensorMode(allow_non_fake_inputs=True):
        faked(model, device)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        images = torch.rand(8, 3, 32, 32, device=device)
        targets = torch.zeros(8, dtype=torch.long, device=device)
        for _ in range(2):
            launches.clear()
            with NothingWaits():
                optimizer.zero_grad()
                with packing():
                    loss = functional.cross_entropy(model(images), targets)
                if device == "cpu":
                    loss.backward()
                    optimizer.step()
    assert launches.count("forward_kernel") == neurons > 4
    assert launches.count("backward_kernel") == (neurons if device == "cpu" else 0)
    if variant == "packed":
        assert launches.count("pack_kernel") >= 4
        assert device == "cuda" or launches.count("unpack_kernel") >= launches.count("pack_kernel")


@pytest.mark.parametrize("init_hidden", [False, True])
def test_single_steps_wait_for_nothing(init_hidden: bool, device: str, launches: list[str]) -> None:
    neuron = asnn.AdaptiveLeaky(0.9, num_steps=3, init_hidden=init_hidden, learn_threshold=True)
    with FakeTensorMode(allow_non_fake_inputs=True):
        faked(neuron, device)
        x = torch.rand(3, 8, 10, device=device, requires_grad=True)
        with NothingWaits():
            mem = neuron.reset_mem()
            outputs = []
            for current in x:
                if init_hidden:
                    outputs.append(neuron(current))
                else:
                    spk, mem = neuron(current, mem)
                    outputs.append(spk)
            loss = torch.stack(outputs).sum()
            if device == "cpu":
                loss.backward()
    neuron_kernels = [name for name in launches if name != "led_back_kernel"]
    assert neuron_kernels == ["forward_kernel"] * 3 + ["backward_kernel"] * (3 if device == "cpu" else 0)


@pytest.mark.parametrize("sequence", [False, True])
@pytest.mark.parametrize(
    ("build", "forward", "kernels_of_a_step"),
    [
        (lambda **options: asnn.AdaptiveSynaptic(0.9, 0.8, num_steps=3, **options), "forward_kernel", 2),
        (
            lambda **options: asnn.AdaptiveRLeaky(0.9, linear_features=10, num_steps=3, **options),
            "recurrent_forward_kernel",
            1,
        ),
        (lambda **options: asnn.AdaptiveLapicque(R=5, C=2, num_steps=3, **options), "forward_kernel", 1),
    ],
    ids=["synaptic", "recurrent", "lapicque"],
)
def test_other_neurons_wait_for_nothing(
    build: Callable[..., nn.Module],
    forward: str,
    kernels_of_a_step: int,
    sequence: bool,
    device: str,
    launches: list[str],
) -> None:
    neuron = build(init_hidden=True, sequence=sequence)
    with FakeTensorMode(allow_non_fake_inputs=True):
        faked(neuron, device)
        x = torch.rand(3, 8, 10, device=device, requires_grad=True)
        with NothingWaits():
            asnn.reset(neuron)
            outputs = neuron(x) if sequence else torch.stack([neuron(current) for current in x])
            if device == "cpu":
                outputs.sum().backward()
    if not sequence:
        assert launches.count(forward) == kernels_of_a_step * 3
        assert launches.count(forward.replace("forward", "backward")) == (
            launches.count(forward) if device == "cpu" else 0
        )
