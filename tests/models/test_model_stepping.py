"""A model on one step after the other: the same logits, and a model that is left as it was."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import snntorch as snn
import torch
import torch._dynamo
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import snntorch_asnn as asnn
from snntorch_asnn.layers import OverTime
from snntorch_asnn.models import SpikingModel, create_model, list_models

STEPS = 4
TINY = [name for name in list_models() if name.endswith("_tiny") or name == "lenet"]
NEURONS = {
    "asnn": "asnn",
    "plif": "plif",
    "hidden": lambda: snn.Leaky(0.9, init_hidden=True),
    "synaptic": lambda num_steps: asnn.AdaptiveSynaptic(0.5, 0.8, num_steps=num_steps, sequence=True),
    "every membrane": lambda num_steps: asnn.AdaptiveLeaky(
        0.8, num_steps=num_steps, sequence=True, output=True
    ),
    "inside": lambda num_steps: nn.Sequential(
        nn.Identity(), asnn.AdaptiveLeaky(0.8, num_steps=num_steps, sequence=True)
    ),
}


def build(name: str = "lenet", **settings: Any) -> Any:
    """A model in evaluation mode whose last layer sees spikes, with time parameters that differ."""
    model = create_model(name, **{"num_classes": 5, "num_steps": STEPS, "image_size": 16} | settings)
    with torch.no_grad():
        for norm in model.modules():
            if isinstance(norm, _BatchNorm):
                nn.init.constant_(norm.bias, 0.5)
                norm.momentum = 1.0
        for parameter in model.parameters():
            if parameter.ndim <= 1:
                parameter.add_(0.05 * torch.randn_like(parameter))
        model.train()(images_for(model))
    return model.eval()


def images_for(model: Any, batch: int = 3) -> Tensor:
    images = torch.rand(batch, model.in_channels, 16, 16)
    return images.expand(STEPS, *images.shape) if model.encode.encoder is None else images


def stepped(model: Any, images: Tensor) -> Tensor:
    with model.stepping() as step:
        return torch.stack([step(planes) for planes in model.encode(images)])


@pytest.mark.parametrize("name", TINY)
def test_steps_are_those_of_the_sequence(name: str) -> None:
    model = build(name)
    images = images_for(model)
    wanted = model(images, return_steps=True)
    assert wanted.std(1).any()
    torch.testing.assert_close(stepped(model, images), wanted)


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("settings", [{}, {"carry": True, "norm_over_time": "step"}], ids=["plain", "step"])
def test_every_kind_of_neuron(neuron: str, settings: Any) -> None:
    model = build(neuron=NEURONS[neuron], **settings)
    images = images_for(model)
    wanted = model(images, return_steps=True)
    assert wanted.std(1).any()
    torch.testing.assert_close(stepped(model, images), wanted)


def test_a_recurrent_neuron_feeds_its_spikes_back() -> None:
    def recurrent(num_steps: int) -> nn.Module:
        return asnn.AdaptiveRLeaky(0.8, V=0.5, all_to_all=False, num_steps=num_steps, sequence=True)

    model = build(neuron=recurrent)
    images = images_for(model)
    wanted = model(images, return_steps=True)
    assert wanted.std(1).any()
    torch.testing.assert_close(stepped(model, images), wanted)


def contents(model: nn.Module) -> dict[str, Any]:
    """Class, attributes, children and buffers of every module, by identity where they are objects."""

    def told(value: Any) -> Any:
        return value if isinstance(value, bool | int | str | None) else id(value)

    held = ("_modules", "_parameters", "_buffers")
    return {
        name: (
            type(module),
            {key: told(value) for key, value in vars(module).items()},
            [{key: id(value) for key, value in vars(module)[part].items()} for part in held],
        )
        for name, module in model.named_modules()
    }


@pytest.mark.parametrize("neuron", ["asnn", "plif", "hidden"])
def test_the_model_holds_nothing_of_it(neuron: str) -> None:
    model = build(neuron=NEURONS[neuron], carry=True)
    images = images_for(model)
    wanted = model(images, return_steps=True)
    before, planes = contents(model), model.encode(images)
    with model.stepping() as step:
        step(planes[0])
        step(planes[1])
        assert contents(model) == before
        for duplicate in (copy.deepcopy(model), copy.copy(model)):
            torch.testing.assert_close(duplicate(images, return_steps=True), wanted)
        if neuron != "hidden":
            torch.testing.assert_close(pickle.loads(pickle.dumps(model))(images, return_steps=True), wanted)
        torch.testing.assert_close(model(images, return_steps=True), wanted)
        torch.testing.assert_close(step(planes[2]), wanted[2])
    before = contents(model)
    asnn.anytime(model, images, threshold=0.5)
    assert contents(model) == before


@pytest.mark.parametrize("neuron", ["asnn", "plif", "hidden"])
def test_blocks_do_not_see_each_other(neuron: str) -> None:
    model, other = build(neuron=NEURONS[neuron], carry=True), build("spikformer_tiny")
    first, second = images_for(model), images_for(model)
    wanted = [model(images, return_steps=True) for images in (first, second)]
    of_other = other(first, return_steps=True)
    found: list[list[Tensor]] = [[], []]
    with model.stepping() as outer:
        found[0].append(outer(model.encode(first)[0]))
        with model.stepping() as inner, other.stepping() as step_of_other:
            for t, planes in enumerate(model.encode(second)):
                found[1].append(inner(planes))
                torch.testing.assert_close(step_of_other(other.encode(first)[t]), of_other[t])
                torch.testing.assert_close(other(first, return_steps=True), of_other)
                if t:
                    found[0].append(outer(model.encode(first)[t]))
    for steps, logits in zip(found, wanted, strict=True):
        torch.testing.assert_close(torch.stack(steps), logits)


def test_another_model_inside_a_step_runs_its_whole_sequence() -> None:
    model, other = build(), build()
    images, seen = images_for(model), []
    wanted = other(images)
    model.fc1.register_forward_hook(lambda *_: seen.append(other(images)))
    stepped(model, images)
    assert len(seen) == STEPS
    for logits in seen:
        torch.testing.assert_close(logits, wanted)


def test_threads_do_not_see_each_other() -> None:
    model = build(carry=True)
    batches = [images_for(model) for _ in range(4)]
    wanted = [model(images, return_steps=True) for images in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda images: stepped(model, images), batches))
    for steps, logits in zip(found, wanted, strict=True):
        torch.testing.assert_close(steps, logits)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_the_block_itself_is_not_copied(duplicate: Any) -> None:
    with build().stepping() as step, pytest.raises(TypeError, match="a Stepping cannot be copied or pickled"):
        duplicate(step)


class Refuses(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("no")


def test_an_error_inside_a_step() -> None:
    model = build()
    images = images_for(model)
    planes, wanted = model.encode(images), model(images, return_steps=True)
    with model.stepping() as outer:
        outer(planes[0])
        with model.stepping() as step:
            step(planes[0])
            head, model.head = model.head, Refuses()
            with pytest.raises(KeyError, match="no"):
                step(planes[1])
            model.head = head
            with pytest.raises(
                RuntimeError, match="a step of this Stepping failed after some layers had run"
            ):
                step(planes[1])
        torch.testing.assert_close(model(images, return_steps=True), wanted)
        torch.testing.assert_close(outer(planes[1]), wanted[1])


def test_wrong_planes_do_no_harm() -> None:
    model = build()
    images = images_for(model)
    planes, wanted = model.encode(images), model(images, return_steps=True)
    with model.stepping() as step:
        step(planes[0])
        for wrong in (planes, planes[0, :, :1], planes[0, 0]):
            with pytest.raises(ValueError, match=r"planes of one step must be \[B, 3, 16, 16\]; got shape"):
                step(wrong)
        found = [step(plane) for plane in planes[1:]]
        with pytest.raises(ValueError, match="the model runs num_steps=4 steps, and all have run"):
            step(planes[0])
    torch.testing.assert_close(torch.stack(found), wanted[1:])
    with pytest.raises(RuntimeError, match="the with block of this Stepping has ended; start a new one"):
        step(planes[0])


@pytest.mark.parametrize("rows", [torch.tensor([True, False, True]), torch.tensor([0, 2])])
@pytest.mark.parametrize("neuron", ["asnn", "plif", "synaptic", "hidden"])
def test_goes_on_with_some_samples(rows: Tensor, neuron: str) -> None:
    model = build(neuron=NEURONS[neuron], carry=True)
    images = images_for(model)
    planes, wanted = model.encode(images), model(images, return_steps=True)
    with model.stepping() as step:
        step(planes[0])
        step(planes[1])
        step.keep(torch.tensor([True, False, True]) if neuron == "hidden" else rows)
        torch.testing.assert_close(step(planes[2, rows]), wanted[2, rows])
        torch.testing.assert_close(step(planes[3, rows]), wanted[3, rows])


def test_in_training_as_a_loop_over_time() -> None:
    model = build(norm_over_time="sequential").train()
    twin, images = copy.deepcopy(model), images_for(model)
    logits = model(images)
    logits.square().sum().backward()
    found = stepped(twin, images).mean(0)
    found.square().sum().backward()
    torch.testing.assert_close(found, logits)
    for (name, own), (_, other) in zip(model.named_parameters(), twin.named_parameters(), strict=True):
        torch.testing.assert_close(other.grad, own.grad, msg=lambda text, name=name: f"{name}: {text}")
    for own, other in zip(model.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(other, own)


def test_pooled_statistics_need_all_steps() -> None:
    model = build("spikformer_tiny").train()
    with pytest.raises(ValueError, match=r"statistics from all steps together.*call model.eval\(\)"):
        model.stepping()


class Alone(SpikingModel):
    def __init__(self, neuron: nn.Module) -> None:
        super().__init__(num_classes=5, num_steps=STEPS, image_size=4)
        self.neuron = neuron
        self.head = nn.Linear(48, 5)

    def step_features(self, planes: Tensor) -> Tensor:
        spikes: Tensor = self.neuron(planes.flatten(2))
        return spikes


@pytest.mark.parametrize(
    ("neuron", "message"),
    [
        (
            lambda: snn.Leaky(0.9, init_hidden=True),
            "layer 'neuron' of the model must be in an OverTime to run step by step",
        ),
        (
            lambda: OverTime(nn.ReLU()),
            "layer 'neuron' of the model cannot run step by step, because its neuron, ReLU",
        ),
    ],
)
def test_neurons_that_cannot(neuron: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Alone(neuron()).stepping()


@pytest.mark.parametrize(
    "settings",
    [{}, {"neuron": "plif"}, {"carry": True, "norm_over_time": "step"}],
    ids=["asnn", "plif", "step"],
)
@pytest.mark.slow
def test_compiles_once_for_all_steps(settings: Any) -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = build(**settings)
    images = images_for(model)
    planes, wanted = model.encode(images), model(images, return_steps=True)
    with torch.no_grad(), model.stepping() as step:
        fast = torch.compile(step, fullgraph=True, backend="eager")
        found = torch.stack([fast(plane) for plane in planes])
        assert step.step == STEPS
    torch.testing.assert_close(found, wanted)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2  # the first step, and all others
