"""Arguments of models: typed, completed, and told the nearest name where they are wrong."""

from __future__ import annotations

import subprocess
import sys
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch

from snntorch_asnn import models
from snntorch_asnn._arguments import check_choice, did_you_mean
from snntorch_asnn.models import BaseSettings, LeNet, ModelSettings, SpikingModel, create_model, registry
from snntorch_asnn.models.named_neurons import Sharing

FAMILIES = [cls for cls in vars(models).values() if isinstance(cls, type) and issubclass(cls, SpikingModel)]


def keywords(function: Any) -> set[str]:
    return {p.name for p in signature(function).parameters.values() if p.kind is Parameter.KEYWORD_ONLY}


def test_the_types_are_those_of_the_arguments() -> None:
    assert set(get_type_hints(BaseSettings)) == keywords(SpikingModel)
    assert set(get_type_hints(ModelSettings)) == {*get_type_hints(BaseSettings), "neuron", "sharing"}


@pytest.mark.parametrize("name", models.list_models())
def test_no_function_takes_anything(name: str) -> None:
    """Its settings have a type, which names each argument of the class that it builds."""
    build = registry.builder(name)
    hints = get_type_hints(build)
    family, settings = hints["return"], hints["settings"].__args__[0]
    assert set(get_type_hints(settings)) == keywords(family) | set(get_type_hints(BaseSettings))


@pytest.mark.parametrize("family", [cls for cls in FAMILIES if cls is not SpikingModel])
def test_classes_tell_the_nearest_argument(family: Any) -> None:
    tiny = next(build for build in registry._BUILDERS.values() if get_type_hints(build)["return"] is family)
    for build in (tiny, lambda **settings: create_model(tiny.__name__, **settings)):
        message = rf"{family.__name__} takes no argument 'img_size'; did you mean 'image_size'\?"
        with pytest.raises(TypeError, match=message):
            build(num_classes=5, num_steps=2, img_size=28)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fuse": True}, "LeNet takes no argument 'fuse'; did you mean 'fused'"),
        ({"neuron": "lifs"}, r"neuron must be one of .*; got 'lifs'; did you mean 'lif'\?"),
        ({"readout": "means"}, r"readout must be one of .*; got 'means'; did you mean 'mean'\?"),
        ({"encoding": "hybird"}, r"encoding must be one of .*; got 'hybird'; did you mean 'hybrid'\?"),
        ({"sharing": "channels"}, r"sharing must be one of .*; got 'channels'; did you mean 'channel'\?"),
        ({"norm_over_time": "steps"}, r"norm_over_time must be .*; got 'steps'; did you mean 'step'\?"),
    ],
)
def test_names_of_values_too(given: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        create_model("lenet", num_classes=5, num_steps=2, **given)


def test_what_only_create_model_takes() -> None:
    with pytest.raises(TypeError, match="LeNet takes no argument 'fused'; pass it to create_model"):
        LeNet(num_classes=5, num_steps=2, fused=True)  # type: ignore[call-arg]


def test_none_is_the_models_default() -> None:
    nothing: Any = dict.fromkeys(["encoding", "in_channels", "image_size", "normalize", "norm_over_time"])
    model = create_model("spikformer_dvs_tiny", num_classes=5, num_steps=2, **nothing)
    assert (model.in_channels, model.image_size, model.encode.encoder) == (2, (32, 32), None)
    model = LeNet(num_classes=5, num_steps=2, **nothing)
    assert (model.in_channels, model.image_size, model.direct_steps) == (3, (32, 32), 1)
    resnet = create_model("spiking_resnet19", num_classes=5, num_steps=2, hidden=None)
    assert resnet.get_submodule("head").in_features == 512


def test_moments_of_any_kind_are_noted_as_numbers() -> None:
    moments = (torch.tensor([0.25, 0.5, 0.75]), torch.ones(3).numpy())
    model = create_model("lenet", num_classes=5, num_steps=2, normalize=moments)
    assert model.recipe is not None
    assert model.recipe["settings"]["normalize"] == ((0.25, 0.5, 0.75), (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("name", "count", "wanted"),
    [
        ("hybird", 1, "; did you mean 'hybrid'?"),
        ("zzz", 1, ""),
        (3, 1, ""),
        (["hybrid"], 1, ""),
        ("model3_", 2, "; did you mean 'model3' or 'model13'?"),
        ("model3_", 3, "; did you mean 'model3', 'model13' or 'model'?"),
        ("code", 1, "; did you mean 'encoding'?"),
    ],
)
def test_did_you_mean(name: Any, count: int, wanted: str) -> None:
    known = ["hybrid", "model3", "model13", "model"]
    assert did_you_mean(name, known, other_names={"code": "encoding"}, count=count) == wanted


def test_choices_tell_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"sharing must be one of .*; got 'layers'; did you mean 'layer'\?"):
        check_choice("sharing", "layers", Sharing)
    with pytest.raises(ValueError, match=r"sharing must be one of 'layer', 'channel'; got 3$"):
        check_choice("sharing", 3, Sharing)  # type: ignore[arg-type]


TYPED = """
from typing import Unpack
from snntorch_asnn.models import BaseSettings, LeNet, ModelSettings, SpikingModel
from snntorch_asnn.models import create_model, register_model
from torch import Tensor, nn

class Own(SpikingModel):
    def __init__(self, *, hidden: int = 3, **settings: Unpack[BaseSettings]) -> None:
        super().__init__(**settings)
        self.head = nn.Linear(hidden, self.num_classes)
    def step_features(self, planes: Tensor) -> Tensor:
        return planes.flatten(2)

@register_model
def narrow(**settings: Unpack[ModelSettings]) -> LeNet:
    return LeNet(hidden=8, **settings)

model: SpikingModel = create_model("lenet", num_classes=3, num_steps=4, carry=True)
create_model("spikformer_tiny", num_classes=3, num_steps=4, depth=2)
narrow(num_classes=3, num_steps=4, neuron="lif")
Own(num_classes=3, num_steps=4, hidden=5)
"""

CONFIG = """
[mypy]
strict = true
disallow_subclassing_any = false
[mypy-torch.*,snntorch.*,numpy.*]
follow_imports = skip
[mypy-snntorch_asnn.*]
follow_imports = silent
"""
"""Without the types of PyTorch, which take a minute."""

WRONG = {
    'narrow(num_classes=3, num_steps=4, nueron="lif")': 'Unexpected keyword argument "nueron"',
    "narrow(num_classes=3)": 'Missing named argument "num_steps"',
    "LeNet(num_classes=3, num_steps=4, img_size=3)": 'argument "img_size"|"Never"|Never',
    'Own(num_classes="3", num_steps=4)': 'has incompatible type "str"',
    'create_model("lenet", num_classes="3", num_steps=4)': "No overload variant",
}


@pytest.mark.slow
def test_type_checkers_know_the_arguments(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    for name, text in (("right", TYPED), ("wrong", TYPED + "\n" + "\n".join(WRONG))):
        (tmp_path / f"{name}.py").write_text(text)
    config = tmp_path / "mypy.ini"
    config.write_text(CONFIG)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--no-error-summary",
            f"--config-file={config}",
            "right.py",
            "wrong.py",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "right.py" not in done.stdout, done.stdout
    lines = (TYPED + "\n").count("\n")
    for number, message in enumerate(WRONG.values(), lines + 1):
        found = [line for line in done.stdout.splitlines() if line.startswith(f"wrong.py:{number}:")]
        assert found, done.stdout
        assert any(part in " ".join(found) for part in message.split("|")), found
