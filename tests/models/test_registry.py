"""Whatever ``list_models()`` names is tested here: a new model is tested by being registered.

Every entry runs on the meta device, which knows shapes only. Those of fewer than 200,000 parameters, of which
every family must have one, are run, trained, compiled, exported and copied.
"""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import snntorch as snn
import torch
from torch import nn

import snntorch_asnn as asnn
from snntorch_asnn.models import create_model, from_pretrained, list_models, register_model, registry

NUM_STEPS = 3
TINY = [name for name in list_models() if name.endswith("_tiny") or name == "lenet"]


@pytest.fixture(params=TINY)
def name(request) -> str:
    return request.param


def build(name, **settings):
    smallest = 16 if "dvs" in name else 8
    defaults = {"num_classes": 10, "num_steps": NUM_STEPS, "encoding": "hybrid", "image_size": smallest}
    model = create_model(name, **defaults | settings)
    return awake(model)


def awake(model):
    """The model with norms that let spikes through to its last layer, also in evaluation."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.constant_(norm.weight, 2.0)
            nn.init.constant_(norm.bias, 0.5)
            norm.momentum = 1.0
    with torch.no_grad():
        model(inputs_for(model, 8))
    return model


def inputs_for(model, batch=2):
    images = images_for(model, batch)
    return images.expand(model.num_steps, *images.shape) if model.encode.encoder is None else images


def analog_first(images, num_steps, direct_steps=1):
    """A hybrid code that looks at no values."""
    return images.expand(num_steps, *images.shape)


def meta_neuron(num_steps, threshold):
    with torch.device("cpu"):
        neuron = asnn.AdaptiveLeaky.paper(num_steps, threshold=threshold, sequence=True, impl="reference")
    return neuron.to("meta")


def on_meta(name, **settings):
    with torch.device("meta"):
        return create_model(
            name,
            **{
                "num_classes": 10,
                "num_steps": 2,
                "encoding": analog_first,
                "neuron": meta_neuron,
                **settings,
            },
        )


def pickle_round_trip(module):
    return pickle.loads(pickle.dumps(module))


def step_neuron():
    return snn.Leaky(0.9, init_hidden=True)


def images_for(model, batch=2, **options):
    return torch.rand(batch, model.in_channels, *model.image_size, **options)


@pytest.mark.parametrize("any_name", list_models())
def test_every_entry_gives_logits_and_reaches_every_parameter(any_name):
    model = on_meta(any_name)
    logits = model(images_for(model, device="meta"))
    assert logits.shape == (2, 10)
    logits.sum().backward()
    assert [key for key, p in model.named_parameters() if p.grad is None or p.grad.shape != p.shape] == []


@pytest.mark.parametrize("any_name", list_models())
def test_every_entry_is_documented(any_name):
    build = registry.builder(any_name)
    assert build.__doc__
    assert "Source:" in type(on_meta(any_name, neuron=nn.Identity)).__doc__


def test_every_family_has_a_tiny_one():
    families = {type(on_meta(name, neuron=nn.Identity)) for name in list_models()}
    tiny = {name: on_meta(name) for name in TINY}
    assert {type(model) for model in tiny.values()} == families
    for name, model in tiny.items():
        if name != "lenet":
            assert sum(p.numel() for p in model.parameters()) < 200_000


def test_forward_gives_logits(name):
    model = build(name).eval()
    logits = model(images_for(model))
    assert logits.shape == (2, 10)
    assert logits.isfinite().all()
    assert logits.std(0).max() > 0  # spikes of the two images have reached the last layer


@pytest.mark.parametrize("neuron", ["asnn", "lif"])
@pytest.mark.parametrize("encoding", ["hybrid", "direct"])
def test_every_parameter_gets_a_finite_gradient(name, neuron, encoding):
    model = build(name, neuron=neuron, encoding=encoding)
    model(images_for(model)).square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


def test_learns(name):
    model = build(name, num_classes=2)
    images, labels = images_for(model, 8), torch.arange(8) % 2
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("neuron", ["asnn", "lif", step_neuron])
def test_every_call_is_a_new_sequence(name, neuron):
    model = build(name, neuron=neuron).eval()
    images = images_for(model, 5)
    first = model(images)
    assert torch.equal(model(images), first)
    asnn.reset(model)
    assert torch.equal(model(images), first)
    torch.testing.assert_close(model(images[:3]), first[:3])


def test_empty_batch(name):
    model = build(name).eval()
    assert model(images_for(model, 0)).shape == (0, 10)


def test_steps_average_to_the_output(name):
    model = build(name).eval()
    with torch.no_grad():
        model.readout.scale.copy_(torch.rand(NUM_STEPS))
    images = images_for(model)
    steps = model(images, return_steps=True)
    assert steps.shape == (NUM_STEPS, 2, 10)
    torch.testing.assert_close(steps.mean(0), model(images))


class SoftLIF(nn.Module):
    """A LIF of time constant 2 whose spike subtracts the threshold, written out step by step."""

    def __init__(self, threshold):
        super().__init__()
        self.threshold = threshold

    def forward(self, currents):
        v, spikes = torch.zeros_like(currents[0]), []
        for current in currents:
            u = v + (current - v) / 2
            spikes.append((u > self.threshold).to(u))
            v = u - self.threshold * spikes[-1]
        return torch.stack(spikes)


@pytest.mark.parametrize("encoding", ["hybrid", "direct"])
def test_adaptive_starts_as_a_lif_with_soft_reset(name, encoding):
    adaptive = build(name, encoding=encoding).double().eval()
    model = build(name, encoding=encoding, neuron=SoftLIF).double().eval()
    report = model.load_state_dict(adaptive.state_dict(), strict=False)
    assert not report.missing_keys
    assert all(".neuron." in key for key in report.unexpected_keys)
    images = images_for(model).double()
    logits = model(images)
    assert logits.std(0).max() > 0
    torch.testing.assert_close(adaptive(images), logits)


def test_takes_channels_last(name):
    model = build(name).eval()
    images = images_for(model)
    wanted = model(images)
    model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(images.to(memory_format=torch.channels_last)), wanted)


def test_state_dict_round_trip(name):
    model, other = build(name).eval(), build(name).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.rand_like(parameter) * 0.1)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    images = images_for(model)
    assert torch.equal(other(images), model(images))


@pytest.mark.parametrize("neuron", ["asnn", "lif"])
@pytest.mark.parametrize("copies", [copy.deepcopy, pickle_round_trip])
def test_copies_after_a_training_step(name, neuron, copies):
    model = build(name, neuron=neuron)
    images = images_for(model)
    model(images).sum().backward()
    copied = copies(model).eval()
    assert torch.equal(copied(images), model.eval()(images))


def test_autocast(name):
    model = build(name)
    images = images_for(model)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
        loss = logits.float().square().sum()
    loss.backward()
    assert logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtypes(name, dtype):
    model = build(name).to(dtype)
    logits = model(images_for(model).to(dtype))
    logits.sum().backward()
    assert logits.dtype == dtype
    assert all(p.grad.dtype == dtype for p in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "encoding"), [(name, "hybrid") for name in TINY] + [("lenet", "temporal"), ("lenet", "none")]
)
def test_compiles_as_one_graph(name, encoding):
    model = build(name, encoding=encoding, num_steps=2).double()
    images = inputs_for(model).double()
    eager = copy.deepcopy(model)
    wanted = eager(images)
    wanted.square().sum().backward()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    logits = compiled(images)
    logits.square().sum().backward()
    torch.testing.assert_close(logits, wanted)
    for (key, found), expected in zip(model.named_parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, msg=key)
    with torch._dynamo.config.patch(error_on_recompile=True):
        compiled(images).sum().backward()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lenet"])
def test_compiles_with_inductor(name):
    model = build(name).eval()
    images = images_for(model)
    torch._dynamo.reset()
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True)(images)
        torch.testing.assert_close(compiled, model(images), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lenet", "spiking_resnet_tiny"])
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_step_neurons_compile_as_one_graph(name):
    model = build(name, neuron=step_neuron).eval()
    images = images_for(model)
    wanted = model(images)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images), wanted)
    torch.testing.assert_close(compiled(images), wanted)


@pytest.mark.slow
def test_exports_for_any_batch(name):
    model = build(name, num_steps=2).eval()
    images = images_for(model)
    sizes = {"images": {0: torch.export.Dim("batch", min=1)}}
    exported = torch.export.export(model, (images,), dynamic_shapes=sizes).module()
    for batch in (2, 5):
        images = images_for(model, batch)
        torch.testing.assert_close(exported(images), model(images))


def test_safetensors_round_trip(name, tmp_path):
    pytest.importorskip("safetensors")
    model = build(name, num_classes=7, sharing="channel")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.rand_like(parameter) * 0.1)
    model(images_for(model))  # moves the running averages
    model.save_pretrained(tmp_path / "model.safetensors")
    other = from_pretrained(tmp_path / "model.safetensors")
    assert type(other) is type(model)
    images = images_for(model)
    assert torch.equal(other.eval()(images), model.eval()(images))


@pytest.mark.parametrize("neuron", ["if", "tebn", "dalif", "plif"])
def test_other_neurons_learn_what_they_say(name, neuron):
    model = build(name, neuron=neuron)
    model(images_for(model)).square().sum().backward()
    learned = {key.rsplit(".")[-1]: p for key, p in model.named_parameters() if ".neuron." in key}
    assert {key: tuple(p.shape) for key, p in learned.items()} == {
        "if": {},
        "tebn": {"gain": (NUM_STEPS,)},
        "dalif": {"beta": (1,), "gain": (1,)},
        "plif": {"w": ()},
    }[neuron]
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_one_parameter_for_each_channel(name):
    per_layer, model = build(name), build(name, sharing="channel")
    betas = [p for key, p in model.named_parameters() if key.endswith("neuron.beta")]
    assert all(beta.shape[0] == NUM_STEPS and beta.numel() > NUM_STEPS for beta in betas)
    own = model.state_dict()
    per_layer.load_state_dict(
        {k: v.flatten(1)[:, 0] if k.endswith(("neuron.beta", "neuron.gain")) else v for k, v in own.items()}
    )
    images = images_for(model)
    torch.testing.assert_close(model.eval()(images), per_layer.eval()(images))


def test_attention_keeps_its_threshold(name):
    model = build(name)
    thresholds = {
        key: m.threshold.item() for key, m in model.named_modules() if isinstance(m, asnn.AdaptiveLeaky)
    }
    for key, threshold in thresholds.items():
        assert threshold == (0.5 if "attn_spike" in key else 1), key


def test_hybrid_code_puts_one_analog_and_then_binary_planes_in(name):
    model = build(name)
    planes = []
    model.encode.register_forward_hook(lambda _, args, out: planes.append(out))
    images = images_for(model)
    model(images)
    assert torch.equal(planes[0][0], images)
    assert planes[0].shape[0] == NUM_STEPS
    assert planes[0][1:].unique().tolist() == [0, 1]


def test_defaults_of_a_model_can_be_left_out(name):
    model = create_model(name, num_classes=7, num_steps=1)
    assert model(inputs_for(model)).shape == (2, 7)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"num_classes": 0}, ValueError, "num_classes must be at least 1; got 0"),
        ({"num_classes": 2.5}, TypeError, "num_classes must be an integer; got 2.5"),
        ({"num_steps": -1}, ValueError, "num_steps must be at least 1; got -1"),
        ({"num_steps": True}, TypeError, "num_steps must be an integer; got True"),
        ({"in_channels": 0}, ValueError, "in_channels must be at least 1"),
        ({"image_size": 0}, ValueError, "image_size must be at least 1"),
        ({"image_size": (32, 32, 3)}, ValueError, r"image_size must be one number or \(height"),
        ({"image_size": "32"}, TypeError, "image_size must be an integer"),
        ({"neuron": "lifs"}, ValueError, "neuron must be one of 'asnn', 'lif', .*'plif', or a callable"),
        ({"encoding": "mix"}, ValueError, "encoding must be one of .*'hybrid'.*; got 'mix'"),
        ({"sharing": "neuron"}, ValueError, "sharing must be one of 'layer', 'channel'; got 'neuron'"),
        ({"readout": "sum"}, ValueError, "readout must be one of 'time_weighted', 'mean'; got"),
        (
            {"depth_of_nothing": 3},
            TypeError,
            "takes no argument 'depth_of_nothing'; it takes num_classes",
        ),
    ],
)
def test_wrong_arguments(name, wrong, error, message):
    with pytest.raises(error, match=message):
        build(name, **wrong)


def test_wrong_images(name):
    model = build(name)
    images = images_for(model)
    wrong_channels = images.repeat(1, 2, 1, 1)
    for wrong in (images[0], images[..., 1:], images[..., 1:, :], wrong_channels, images[None]):
        with pytest.raises(ValueError, match=r"images must be \[B, \d+, \d+, \d+\]; got shape"):
            model(wrong)
    for wrong in (images.tolist(), images.byte(), None):
        with pytest.raises(TypeError, match=r"images must (be a tensor|have a floating)"):
            model(wrong)
    for wrong in (images + 1, images - 1, images * float("nan")):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            model(wrong)


def test_wrong_sequences(name):
    model = build(name, encoding="none")
    planes = torch.rand(NUM_STEPS, 2, model.in_channels, *model.image_size)
    assert model(planes).shape == (2, 10)
    for wrong in (planes[1:], planes[0], planes[..., 1:]):
        with pytest.raises(ValueError, match=r"images must be \[3, B, \d+, \d+, \d+\]; got"):
            model(wrong)


def test_lists_by_pattern():
    assert "lenet" in list_models()
    assert list_models() == sorted(list_models())
    assert list_models("le?et") == ["lenet"]
    assert list_models("nothing*") == []


@pytest.mark.parametrize(
    ("unknown", "nearest"),
    [
        ("lenett", "lenet"),
        ("LeNet", "lenet"),
        ("spikformer_4_348", "spikformer_4_384"),
        ("sew_resnet", "sew_resnet18"),
    ],
)
def test_unknown_name_lists_the_nearest(unknown, nearest):
    with pytest.raises(
        ValueError, match=rf"name must be one of list_models\(\); got .*; did you mean .*{nearest}"
    ):
        create_model(unknown, num_classes=10, num_steps=4)


@pytest.mark.parametrize("name", [["lenet"], 5, None])
def test_a_name_is_a_string(name):
    with pytest.raises(TypeError, match="name must be a string; got "):
        create_model(name, num_classes=10, num_steps=4)


def test_a_name_is_registered_once():
    def lenet(**settings):
        raise AssertionError

    with pytest.raises(ValueError, match="got 'lenet', which is registered already"):
        register_model(lenet)


def test_registers_under_the_functions_name(monkeypatch):
    monkeypatch.setattr(registry, "_BUILDERS", {})

    class Noted(nn.Module):
        norm_over_time = "pooled"

    @register_model
    def my_net(**settings):
        model = Noted()
        vars(model).update(settings)
        return model

    assert list_models() == ["my_net"]
    model = create_model("my_net", num_classes=2, num_steps=3, depth=4)
    assert model.depth == 4
    assert not hasattr(model, "image_size")


def test_the_analog_current_can_be_carried_on(name):
    model = build(name, carry=True)
    (key,) = (key for key, _ in model.named_parameters() if key.endswith("carry.weight"))
    assert key not in model.network_keys()
    model(images_for(model)).sum().backward()
    assert model.get_parameter(key).grad.shape == (model.num_steps - 1,)


@pytest.mark.parametrize("encoding", ["direct", "temporal"])
def test_no_current_is_carried_on_without_an_analog_step(encoding):
    with pytest.raises(ValueError, match="carry must be False for encoding="):
        create_model("lenet", num_classes=2, num_steps=4, encoding=encoding, carry=True)


def test_carry_is_a_bool():
    with pytest.raises(TypeError, match="carry must be True or False; got 'yes'"):
        create_model("lenet", num_classes=2, num_steps=4, carry="yes")
