"""What the norms of a network see of a sequence, against a plain loop over time and against definitions."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import snntorch_asnn as asnn
from snntorch_asnn.layers import StepBatchNorm, norm_leaky, set_norm_over_time
from snntorch_asnn.layers.stepping import Stepping
from snntorch_asnn.models import create_model, from_pretrained, list_models, load_reference_weights
from snntorch_asnn.models.earlier_keys import current_key

GOLDEN = Path(__file__).parents[1] / "golden"
STEPS, CLASSES = 3, 5
TINY = [*list_models("*_tiny"), "lenet"]
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in TINY),
    ("spiking_resnet_tiny", {"shortcut": "sew_add", "encoding": "direct"}),
    ("spiking_resnet_tiny", {"shortcut": "ms", "bottleneck": True}),
    ("lenet", {"carry": True}),
    ("lenet", {"encoding": "direct", "neuron": "lif"}),
    ("spikformer_tiny", {"carry": True}),
]
KINDS = ["pooled", "sequential", "step_statistics", "step"]


def model_of(name: str, norm_over_time: str | None = None, **settings: Any) -> Any:
    """A network in float64 whose norms let spikes through to the last layer."""
    torch.manual_seed(0)
    size = {"lenet": 8}.get(name, 32 if "dvs" in name else 16)
    settings = {"num_classes": CLASSES, "num_steps": STEPS, "image_size": size} | settings
    model = create_model(name, norm_over_time=norm_over_time, **settings).double()
    generator = torch.Generator().manual_seed(3)
    for norm in model.modules():
        if isinstance(norm, _BatchNorm):
            with torch.no_grad():
                norm.weight.copy_(1.5 + torch.rand(norm.num_features, generator=generator))
                norm.bias.copy_(0.3 + torch.rand(norm.num_features, generator=generator))
    return model


def images_for(model: Any, batch: int = 3) -> Tensor:
    leading = (STEPS, batch) if model.encode.encoder is None else (batch,)
    return torch.rand(*leading, model.in_channels, *model.image_size, dtype=torch.float64)


def outcome(model: Any, logits: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    (logits * torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)).sum().backward()
    found = {"logits": logits.detach()}
    found |= {f"gradient of {name}": p.grad for name, p in model.named_parameters()}
    return found | {name: buffer.clone() for name, buffer in model.named_buffers()}


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor], **close: float) -> None:
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, wanted[name], msg=lambda m, n=name: f"{n}: {m}", **close)


def assert_alive(model: Any, images: Tensor) -> None:
    """Spikes reach the last layer, and differ between images and steps."""
    steps = copy.deepcopy(model)(images, return_steps=True)
    assert (steps[1:] - steps[:1]).abs().max() > 1e-6
    assert steps.std(1).max() > 1e-6


def in_a_loop(model: Any, images: Tensor) -> Tensor:
    """Logits of the network run one step at a time, each layer on that step alone."""
    with Stepping(model) as stepping:
        steps = [stepping.run(model.step_logits, planes[None]) for planes in model.encode(images)]
    logits: Tensor = model.readout(torch.cat(steps))
    return logits


@pytest.mark.parametrize(("name", "settings"), VARIANTS, ids=str)
def test_sequential_is_a_loop_over_time(name: str, settings: dict[str, Any]) -> None:
    pooled, sequential = model_of(name, "pooled", **settings), model_of(name, "sequential", **settings)
    images = images_for(pooled)
    assert_alive(sequential, images)
    wanted = outcome(pooled, in_a_loop(pooled, images))
    assert_same(outcome(sequential, sequential(images)), wanted)
    torch.testing.assert_close(sequential.eval()(images), pooled.eval()(images))


@pytest.mark.parametrize("kind", ["step_statistics", "step"])
@pytest.mark.parametrize("name", ["lenet", "spikformer_tiny", "spiking_resnet_tiny"])
def test_step_kinds_train_as_a_loop_with_averages_of_each_step(name: str, kind: str) -> None:
    """Statistics in training are those of a loop; averages after one pass come from each step alone."""
    model, loop = model_of(name, kind), model_of(name, "pooled")
    images = images_for(model)
    wanted = outcome(loop, in_a_loop(loop, images))
    seen = statistics_in_a_loop(loop, images)
    found = outcome(model, model(images))
    torch.testing.assert_close(found["logits"], wanted["logits"])
    for key, value in found.items():
        if key.startswith("gradient") and kind == "step" and value.ndim == wanted[key].ndim + 1:
            value = value.sum(0)  # what one weight collects over the steps
        if key.startswith("gradient"):
            torch.testing.assert_close(value, wanted[key], msg=lambda m, n=key: f"{n}: {m}")
    for name, norm in model.named_modules():
        if isinstance(norm, StepBatchNorm):
            for t, x in enumerate(seen[name]):
                variance, mean = torch.var_mean(x, [d for d in range(x.ndim) if d != 1])
                torch.testing.assert_close(norm.running_mean[t], 0.1 * mean)
                torch.testing.assert_close(norm.running_var[t], 0.9 + 0.1 * variance)
            assert norm.num_batches_tracked.tolist() == [1] * len(seen[name])


def statistics_in_a_loop(model: Any, images: Tensor) -> dict[str, list[Tensor]]:
    """The input of every norm at every step of a loop."""
    model = copy.deepcopy(model)
    seen: dict[str, list[Tensor]] = {}
    for name, norm in model.named_modules():
        if isinstance(norm, _BatchNorm):
            norm.register_forward_hook(
                lambda _, args, out, n=name: seen.setdefault(n, []).append(args[0].detach())
            )
    in_a_loop(model, images)
    return seen


@pytest.mark.parametrize("kind", ["sequential", "step_statistics", "step"])
@pytest.mark.parametrize("name", ["lenet", "spikformer_tiny", "spiking_resnet_tiny"])
def test_fused_and_not(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norm_leaky, "FUSING_PAYS_FROM", 0)
    plain, fused = model_of(name, kind), model_of(name, kind, fused=True)
    images = images_for(plain)
    assert_same(outcome(fused, fused(images)), outcome(plain, plain(images)))
    torch.testing.assert_close(fused.eval()(images), plain.eval()(images))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("impl", ["reference", "auto"])
def test_published_lenet_in_training(
    fused: bool, impl: str, fill_weights: Any, assert_reproduces: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(norm_leaky, "FUSING_PAYS_FROM", 0)
    with np.load(GOLDEN / "lenet_hybrid_t4_train.npz") as arrays:
        golden = {key: torch.from_numpy(arrays[key]) for key in arrays if "meta" not in key}
        steps, seed = int(arrays["meta.num_steps"]), int(arrays["meta.seed"])

    def neuron(num_steps: int) -> nn.Module:
        return asnn.AdaptiveLeaky.paper(num_steps, sequence=True, impl=impl)

    model = create_model("lenet", num_classes=100, num_steps=steps, neuron=neuron, fused=fused)
    shapes = {key: tuple(value.shape) for key, value in lenet_weights(model).items()}
    load_reference_weights(model, fill_weights(shapes, seed))
    assert_reproduces(model.train(), model(golden["x"]), golden)
    places, own = model.reference_keys(), model.state_dict()
    after = [key.removeprefix("after.") for key in golden if key.startswith("after.bn")]
    assert len(after) == 10
    for key in after:
        torch.testing.assert_close(own[places[key]], golden[f"after.{key}"], rtol=1e-5, atol=1e-6)
    spread = golden["after.logits"].max() - golden["after.logits"].min()
    assert (model.eval()(golden["x"]) - golden["after.logits"]).abs().max() < 1e-5 * spread


def lenet_weights(model: Any) -> dict[str, Tensor]:
    """Tensors of the shapes of a reference checkpoint."""
    own = model.state_dict()
    shapes: dict[str, Tensor] = {}
    for key, place in model.reference_keys().items():
        if isinstance(place, str):
            shapes[key] = own[place]
        elif place is None:
            shapes[key] = torch.empty(3, 32, 32)
        else:
            shapes[key] = torch.stack([own[row] for row in place])
    return shapes


def test_defaults_are_those_of_the_references() -> None:
    assert create_model("lenet", num_classes=2, num_steps=2).norm_over_time == "sequential"
    for name in TINY[:-1]:
        assert create_model(name, num_classes=2, num_steps=2, image_size=32).norm_over_time == "pooled", name


def test_step_statistics_add_no_parameter() -> None:
    counts = [sum(p.numel() for p in model_of("lenet", kind).parameters()) for kind in KINDS]
    assert counts[0] == counts[1] == counts[2] < counts[3]
    keys = [model_of("lenet", kind).state_dict().keys() for kind in KINDS]
    assert all(other == keys[0] for other in keys)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_read(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    model = model_of("lenet", kind, carry=True).float()
    images = images_for(model).float()
    model(images)
    model.eval().save_pretrained(tmp_path / "model.safetensors")
    again = from_pretrained(tmp_path / "model.safetensors").eval()
    assert again.norm_over_time == kind
    torch.testing.assert_close(again(images), model(images), rtol=0, atol=0)


def test_a_later_choice_is_saved_and_a_mixture_is_not(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    model = set_norm_over_time(model_of("lenet"), "step_statistics")
    model.float().save_pretrained(tmp_path / "model.safetensors")
    assert from_pretrained(tmp_path / "model.safetensors").norm_over_time == "step_statistics"
    set_norm_over_time(model.conv2, "step", STEPS)
    with pytest.raises(ValueError, match="model must have one norm_over_time, 'step_statistics'"):
        model.save_pretrained(tmp_path / "model.safetensors")


def test_files_of_the_version_before(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    from snntorch_asnn.models import tensor_file

    for settings, kind in (({}, "pooled"), ({"step_norm": True}, "step")):
        model = model_of("lenet", kind).float()
        old: dict[str, Tensor] = {}
        norms = [name for name, m in model.named_modules() if isinstance(m, StepBatchNorm)]
        before = {now: name for name, now in model.earlier_keys().items()}
        for key, value in model.state_dict().items():
            name, _, tensor = key.rpartition(".")
            layer = current_key(before, f"{name}.")
            if name in norms:
                old |= {f"{layer}norms.{t}.{tensor}": step for t, step in enumerate(value)}
            else:
                old[layer + tensor] = value
        assert kind == "pooled" or "conv2.1.norms.2.weight" in old
        recipe = {"name": "lenet", "by_hand": []}
        kept = {"num_classes": CLASSES, "num_steps": STEPS, "image_size": 8} | settings
        tensor_file.write(tmp_path / "old.safetensors", old, recipe | {"settings": kept})
        again = from_pretrained(tmp_path / "old.safetensors")
        assert again.norm_over_time == kind
        images = images_for(model).float()
        torch.testing.assert_close(again.eval()(images), model.eval()(images))


def test_weights_go_from_one_kind_to_another_where_that_is_exact() -> None:
    trained = model_of("spikformer_tiny", "pooled")
    images = images_for(trained)
    trained(images)
    wanted = trained.eval()(images)
    both = copy.deepcopy(trained)
    load_reference_weights(both, reference_of(trained))
    for kind in KINDS:
        other = model_of("spikformer_tiny", kind).eval()
        other.load_state_dict(trained.state_dict())
        torch.testing.assert_close(other(images), wanted)
        report = load_reference_weights(other, reference_of(trained))
        assert not report.dropped
        torch.testing.assert_close(other(images), both(images))
    for kind in ("step_statistics", "step"):
        split = model_of("spikformer_tiny", kind)
        with pytest.raises(RuntimeError, match=r"running averages for each step of .*set_norm_over_time"):
            trained.load_state_dict(split.state_dict())


def reference_of(model: Any) -> dict[str, Tensor]:
    own, found = model.state_dict(), {}
    for key, place in model.reference_keys().items():
        if place is not None:
            found[key] = own[place if isinstance(place, str) else place[0]].clone()
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["lenet", "spikformer_tiny"])
def test_early_exit_takes_the_averages_of_the_right_step(name: str, kind: str) -> None:
    model = model_of(name, kind, carry=True)
    images = images_for(model)
    for _ in range(3):
        model(images)
    model.eval()
    logits, steps = asnn.anytime(model, images, threshold=1.0)
    assert steps.tolist() == [STEPS] * 3
    torch.testing.assert_close(logits, model(images))


def test_energy_knows_every_kind() -> None:
    reports = []
    for kind in KINDS:
        model = model_of("lenet", kind).float().eval()
        reports.append(asnn.energy.profile(model, images_for(model).float()))
    assert all(str(other) == str(reports[0]) for other in reports)


def test_the_deprecated_switch() -> None:
    with pytest.warns(DeprecationWarning, match="use norm_over_time='step'"):
        model = create_model("lenet", num_classes=2, num_steps=2, step_norm=True)
    assert model.norm_over_time == "step"
    assert model.conv2.spike.norm.each_weight
    with pytest.raises(ValueError, match="step_norm must be False with norm_over_time='pooled'"):
        create_model("lenet", num_classes=2, num_steps=2, step_norm=True, norm_over_time="pooled")
    with pytest.raises(ValueError, match="norm_over_time must be one of"):
        create_model("lenet", num_classes=2, num_steps=2, norm_over_time="each")
