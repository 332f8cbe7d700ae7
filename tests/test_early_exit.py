"""Early exit: the right logits, the steps used, and really smaller batches."""

from __future__ import annotations

import math
from typing import Any

import pytest
import snntorch as snn
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import snntorch_asnn as asnn
from snntorch_asnn import spikegen
from snntorch_asnn.models import create_model

STEPS = 4
NEVER = {"confidence": 1.0, "entropy": 0.0}


def by_step(neuron: Any = None) -> nn.Module:
    neuron = neuron or (lambda: asnn.AdaptiveLeaky(0.9, init_hidden=True, num_steps=STEPS))
    return nn.Sequential(nn.Linear(6, 16), neuron(), nn.Linear(16, 3)).eval()


def mean_over_steps(net: nn.Module, inputs: list[Tensor]) -> Tensor:
    asnn.reset(net)
    return torch.stack([net(x) for x in inputs]).mean(0)


def test_no_graph_is_kept() -> None:
    model = create_model("lenet", num_classes=5, num_steps=STEPS, in_channels=1, image_size=8).eval()
    logits, _ = asnn.anytime(model, torch.rand(2, 1, 8, 8), threshold=0.9)
    assert next(model.parameters()).requires_grad
    assert not logits.requires_grad


@pytest.mark.parametrize("criterion", ["confidence", "entropy"])
@pytest.mark.parametrize("neuron", ["asnn", "lif"])
@pytest.mark.parametrize(("encoding", "readout"), [("hybrid", "time_weighted"), ("direct", "mean")])
def test_all_steps_give_the_models_own_logits(
    criterion: Any, neuron: str, encoding: str, readout: str
) -> None:
    model = create_model(
        "lenet",
        num_classes=5,
        num_steps=STEPS,
        neuron=neuron,
        encoding=encoding,
        readout=readout,
        in_channels=1,
        image_size=8,
    ).eval()
    if readout == "time_weighted":
        nn.init.uniform_(model.readout.scale)
    images = torch.rand(6, 1, 8, 8)
    logits, steps = asnn.anytime(model, images, threshold=NEVER[criterion], criterion=criterion)
    torch.testing.assert_close(logits, model(images))
    assert (steps == STEPS).all()


@pytest.mark.parametrize("name", ["lenet", "spikformer_tiny"])
@pytest.mark.parametrize("norm_over_time", ["pooled", "step"])
def test_a_carried_current_stays_with_its_image(name: str, norm_over_time: str) -> None:
    model = create_model(name, num_classes=5, num_steps=STEPS, carry=True, norm_over_time=norm_over_time)
    (weight,) = (p for key, p in model.named_parameters() if key.endswith("carry.weight"))
    nn.init.uniform_(weight)
    for norm in model.modules():
        if isinstance(norm, _BatchNorm):
            nn.init.constant_(norm.bias, 0.5)
            norm.momentum = 1.0
    images = torch.rand(6, 3, 32, 32)
    with torch.no_grad():
        model(images)
        by_step = model.eval()(images, return_steps=True)
    median = by_step[0].softmax(-1).amax(-1).median().item()
    logits, steps = asnn.anytime(model, images, threshold=median)
    expected = torch.stack([by_step[:n, i].mean(0) for i, n in enumerate(steps)])
    torch.testing.assert_close(logits, expected)
    assert len(set(steps.tolist())) > 1
    torch.testing.assert_close(model(images, return_steps=True), by_step)


@pytest.mark.parametrize("name", ["sew_resnet18", "spikingformer_2_384"])
def test_other_architectures_run_step_by_step(name: str) -> None:
    model = create_model(name, num_classes=5, num_steps=3, image_size=32).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(images)
    assert expected.any()
    torch.testing.assert_close(asnn.anytime(model, images, threshold=1.0).logits, expected)


@pytest.mark.parametrize(
    "neuron",
    [
        lambda: snn.Leaky(0.9, init_hidden=True),
        lambda: snn.Synaptic(0.5, 0.9, init_hidden=True),
        lambda: snn.RLeaky(0.9, linear_features=16, init_hidden=True),
        lambda: asnn.AdaptiveRLeaky(0.9, linear_features=16, init_hidden=True, num_steps=STEPS),
        lambda: asnn.AdaptiveSynaptic(0.5, 0.9, init_hidden=True, num_steps=STEPS),
        lambda: asnn.AdaptiveLeaky(torch.rand(STEPS), init_hidden=True, num_steps=STEPS, feature_shape=()),
    ],
    ids=["Leaky", "Synaptic", "RLeaky", "AdaptiveRLeaky", "AdaptiveSynaptic", "AdaptiveLeaky"],
)
def test_leaves_early_with_the_logits_of_that_step(neuron: Any) -> None:
    net = by_step(neuron)
    with torch.no_grad():
        net[2].weight.mul_(10)
    images = torch.randn(40, 6) * 3
    sizes = []
    net[0].register_forward_hook(lambda _, args, out: sizes.append(len(out)))
    logits, steps = asnn.anytime(net, images, threshold=0.9, num_steps=STEPS)
    assert steps.unique().numel() > 1
    assert sizes == [int((steps > t).sum()) for t in range(len(sizes))]
    assert sum(sizes) == steps.sum()
    for count in steps.unique().tolist():
        rows = steps == count
        expected = mean_over_steps(net, [images[rows]] * count)
        torch.testing.assert_close(logits[rows], expected)
        confidence = logits[rows].softmax(-1).amax(-1)
        assert count == STEPS or (confidence >= 0.9).all()


def test_leaves_model_and_states_alone() -> None:
    net = by_step()
    net(torch.randn(2, 6))
    mem, step, keys = net[1].mem.clone(), net[1].step, list(net.state_dict())
    asnn.anytime(net, torch.randn(5, 6), threshold=0.5, num_steps=STEPS)
    assert torch.equal(net[1].mem, mem)
    assert net[1].step == step
    assert list(net.state_dict()) == keys


def test_encoded_inputs_and_fewer_steps() -> None:
    net, images = by_step(), torch.rand(5, 6)
    planes = spikegen.temporal(images, STEPS)
    logits, steps = asnn.anytime(
        net, images, threshold=1.0, encode=lambda x: spikegen.temporal(x, STEPS), num_steps=3
    )
    assert (steps == 3).all()
    torch.testing.assert_close(logits, mean_over_steps(net, list(planes[:3])))


def test_a_compiled_model_of_the_zoo_is_unwrapped() -> None:
    model = create_model("lenet", num_classes=3, num_steps=2, in_channels=1, image_size=8).eval()
    images = torch.rand(2, 1, 8, 8)
    compiled = torch.compile(model, backend="eager")
    torch.testing.assert_close(asnn.anytime(compiled, images, threshold=1.0).logits, model(images))


def test_entropy_is_in_nats() -> None:
    net = nn.Sequential(nn.Linear(6, 3), asnn.AdaptiveLeaky(0.9, init_hidden=True, num_steps=1)).eval()
    nn.init.constant_(net[0].weight, -1.0)
    _, steps = asnn.anytime(
        net, torch.rand(2, 6), threshold=math.log(3) + 1e-5, criterion="entropy", num_steps=1
    )
    assert (steps == 1).all()


class Stateless(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x > 1).to(x.dtype)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": 1}, TypeError, "net must be"),
        ({"threshold": 0.0}, ValueError, r"threshold must be in \(0, 1\]"),
        ({"threshold": 1.1}, ValueError, r"threshold must be in \(0, 1\]"),
        ({"threshold": -1.0, "criterion": "entropy"}, ValueError, "threshold must be at least 0"),
        ({"criterion": "margin"}, ValueError, "criterion must be one of"),
        ({"num_steps": None}, ValueError, "num_steps must be given"),
        ({"num_steps": 0}, ValueError, "num_steps must be at least 1"),
        ({"model": by_step().train()}, ValueError, "evaluation mode"),
        (
            {"model": by_step(lambda: snn.Leaky(0.9))},
            ValueError,
            "layer '1' of the model must hide its state",
        ),
        (
            {"encode": lambda x: x[None]},
            ValueError,
            "num_steps must be at most ., the number of steps from encode",
        ),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    own = {"model": by_step(), "images": torch.rand(2, 6), "threshold": 0.9, "num_steps": STEPS}
    with pytest.raises(error, match=message):
        asnn.anytime(**own | arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_steps": 9}, "num_steps must be at most 2, the model's number of steps"),
        ({"encode": lambda x: x}, "encode must be None"),
    ],
)
def test_wrong_arguments_for_the_zoo(arguments: dict[str, Any], message: str) -> None:
    model = create_model("lenet", num_classes=3, num_steps=2, in_channels=1, image_size=8).eval()
    with pytest.raises(ValueError, match=message):
        asnn.anytime(model, torch.rand(2, 1, 8, 8), threshold=0.9, **arguments)


def test_a_neuron_that_keeps_no_state_is_refused() -> None:
    model = create_model(
        "lenet", num_classes=3, num_steps=2, in_channels=1, image_size=8, neuron=lambda: Stateless()
    ).eval()
    with pytest.raises(ValueError, match=r"conv1\.neuron.* takes whole sequences only"):
        asnn.anytime(model, torch.rand(2, 1, 8, 8), threshold=0.9)


class Listed(nn.Module):
    """Runs its layers through a list, which ``modules()`` does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 3)
        self.lif = snn.Leaky(0.9, init_hidden=True, output=True, reset_mechanism="none")
        self.layers = [self.fc, self.lif]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x[1]


def test_layers_in_a_list_keep_their_state() -> None:
    net, x = Listed().eval(), torch.randn(6, 5)
    before = net.lif.mem
    first, second = (asnn.anytime(net, x, threshold=0.9, num_steps=6) for _ in range(2))
    assert net.lif.mem is before
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize("criterion", ["confidence", "entropy"])
@pytest.mark.parametrize("zoo", [True, False])
def test_one_logit_is_one_class_against_another(criterion: Any, zoo: bool) -> None:
    images = torch.rand(12, 3, 8, 8) if zoo else 3 * torch.rand(12, 6)
    if zoo:
        model: nn.Module = create_model("lenet", num_classes=1, num_steps=STEPS, image_size=8).eval()
        nn.init.normal_(model.head.bias, std=0.1)
        wake(model, images)
    else:
        neuron = asnn.AdaptiveLeaky(0.9, init_hidden=True, num_steps=STEPS)
        model = nn.Sequential(nn.Linear(6, 16), neuron, nn.Linear(16, 1)).eval()
    options = {"criterion": criterion, "num_steps": STEPS}
    logits, steps = asnn.anytime(model, images, threshold=NEVER[criterion], **options)
    assert (steps == STEPS).all()
    threshold = certainty(logits, criterion).median().item()
    early = asnn.anytime(model, images, threshold=threshold, **options)
    assert (early.steps < STEPS).any()
    sure = certainty(early.logits, criterion)[early.steps < STEPS]
    assert (sure >= threshold if criterion == "confidence" else sure <= threshold).all()


def certainty(logits: Tensor, criterion: str) -> Tensor:
    """Of one logit: the probability of the likelier class, or the entropy."""
    p = logits.squeeze(-1).sigmoid()
    if criterion == "confidence":
        return torch.maximum(p, 1 - p)
    return -p * p.log() - (1 - p) * (1 - p).log()


@torch.no_grad()
def wake(model: nn.Module, images: Tensor) -> None:
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.constant_(norm.bias, 0.5)
            norm.momentum = 1.0
    model.train()(images)
    model.eval()


@pytest.mark.parametrize("name", ["lenet", "spikformer_tiny", "spiking_resnet_tiny"])
@pytest.mark.parametrize("sharing", ["layer", "channel"])
@pytest.mark.parametrize("fused", [False, True])
def test_plif_keeps_its_state_from_step_to_step(name: str, sharing: Any, fused: bool) -> None:
    model = create_model(
        name, num_classes=5, num_steps=STEPS, neuron="plif", sharing=sharing, image_size=16, fused=fused
    ).eval()
    for key, value in model.named_parameters():
        if key.endswith(".w"):
            nn.init.uniform_(value, -1.0, 1.0)
    images = torch.rand(6, 3, 16, 16)
    wake(model, images)
    by_step = model(images, return_steps=True)
    assert by_step[1:].std(0).any()
    median = by_step[0].softmax(-1).amax(-1).median().item()
    logits, steps = asnn.anytime(model, images, threshold=median)
    torch.testing.assert_close(logits, torch.stack([by_step[:n, i].mean(0) for i, n in enumerate(steps)]))
    assert len(set(steps.tolist())) > 1
    torch.testing.assert_close(model(images, return_steps=True), by_step)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_plif_in_another_dtype(dtype: torch.dtype) -> None:
    settings = {"neuron": "plif", "image_size": 8, "norm_over_time": "pooled"}
    model = create_model("lenet", num_classes=5, num_steps=STEPS, **settings).eval()
    images = torch.rand(6, 3, 8, 8)
    wake(model, images)
    model, images = model.to(dtype), images.to(dtype)
    logits, steps = asnn.anytime(model, images, threshold=1.0)
    torch.testing.assert_close(logits[steps == STEPS], model(images)[steps == STEPS])
    assert logits.dtype == dtype


@pytest.mark.parametrize("name", ["lenet", "spikformer_tiny", "spiking_resnet_tiny"])
@pytest.mark.parametrize("carry", [False, True])
@pytest.mark.parametrize("direct_steps", [1, 2, 3])
def test_several_analog_steps_stay_analog(name: str, carry: bool, direct_steps: int) -> None:
    encoder = asnn.encoding.Encoder(STEPS, direct_steps=direct_steps)
    model = create_model(name, num_classes=5, num_steps=STEPS, encoding=encoder, carry=carry)
    images = torch.rand(6, 3, 32, 32)
    with torch.no_grad():
        for norm in model.modules():
            if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                norm.momentum = None  # one pass is then enough for its averages
        model(images)
        # Copies of the first layer that differ show which of them a step goes through.
        for key, parameter in model.named_parameters():
            if "direct" in key or "carry" in key:
                parameter.mul_(1 + torch.rand_like(parameter))
        model.eval()
        steps = model(images, return_steps=True)
        assert steps[0].ne(steps[-1]).any()
        for taken in (1, 2, 3, STEPS):
            found = asnn.anytime(model, images, threshold=1.0, num_steps=taken)
            torch.testing.assert_close(found.logits, steps[:taken].mean(0))
            assert (found.steps == taken).all()
