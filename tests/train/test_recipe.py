from __future__ import annotations

import pytest

from snntorch_asnn.models import create_model
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.recipe import list_recipes, load_recipe, make_config
from snntorch_asnn.train.run_folder import RunFolder

CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 1000, "digits": 10}


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_is_described_and_fits_its_model(name):
    recipe = load_recipe(name)
    assert recipe.description
    config = make_config(name, {})
    size = {"digits": 8, "imagenet": config.image_size}.get(config.data, 32)
    model = create_model(
        config.model,
        num_classes=CLASSES[config.data],
        num_steps=config.num_steps,
        neuron=config.neuron,
        encoding=config.encoding,
        readout=config.readout,
        in_channels=1 if config.data == "digits" else 3,
        image_size=size,
    )
    assert model.num_steps == config.num_steps


def test_what_is_given_overrides_the_recipe_and_that_the_defaults():
    config = make_config("lenet", {"lr": 0.1})
    assert (config.lr, config.epochs, config.seed) == (0.1, 200, 0)
    assert make_config(None, {"lr": 0.1}) == TrainConfig(lr=0.1)


def test_a_file_is_a_recipe_too(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('description = "mine"\nepochs = 3\nmixup_until = 2\n')
    assert load_recipe(file).name == "mine"
    assert make_config(str(file), {"seed": 4}) == TrainConfig(epochs=3, mixup_until=2, seed=4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", r"recipe .*mine.toml: unknown setting epoch; did you mean 'epochs'\?"),
        ("epochs = 0", "recipe .*mine.toml: epochs must be at least 1; got 0"),
        ("epochs = ", "recipe must be a TOML file; .*mine.toml: Invalid value"),
        ("[train]\nepochs = 3", "recipe .*mine.toml: unknown setting train"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path, text, message):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_recipe(file)
    file.write_text('epochs = "many"')
    with pytest.raises(TypeError, match=r"recipe .*: epochs must be an integer; got 'many'"):
        load_recipe(file)


def test_unknown_recipes_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"recipe must be .*; got 'lenett'; did you mean 'lenet'"):
        load_recipe("lenett")
    with pytest.raises(
        ValueError, match=r"recipe must be one of digits, .* or a TOML file; there is no file .*none.toml"
    ):
        load_recipe(tmp_path / "none.toml")


def test_settings_are_checked_together_when_all_are_known(tmp_path):
    recipe = tmp_path / "long.toml"
    recipe.write_text('schedule = "cosine"\nwarmup_epochs = 10\n')
    assert make_config(str(recipe), {"epochs": 300}).warmup_epochs == 10
    with pytest.raises(ValueError, match="must add up to less than epochs=5; got 10 and 0"):
        make_config(str(recipe), {"epochs": 5})


def test_a_run_that_is_continued_keeps_what_is_not_given(tmp_path):
    folder = RunFolder(tmp_path)
    config = TrainConfig(batch_size=96, epochs=3, out=tmp_path)
    described = {"images": {}, "device": "cpu", "threads": 1, "versions": {}}
    folder.write_json(folder.config, {"config": config.to_dict(), **described})
    found = make_config(None, {"resume": True, "devices": 3, "out": str(tmp_path)})
    assert (found.batch_size, found.epochs, found.devices, found.run_folder) == (96, 3, 3, tmp_path)
    folder.config.write_text("{")
    with pytest.raises(ValueError, match=r"run folder is damaged: .*config.json: "):
        make_config(None, {"resume": True, "out": str(tmp_path)})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"warmup_epochs": 2},
            "warmup_epochs must be left out with schedule=one-cycle, where it has no .*; got 2",
        ),
        ({"cooldown_epochs": 2, "schedule": "constant"}, "cooldown_epochs .* with schedule=constant"),
        ({"warmup_lr": 1e-3, "schedule": "cosine"}, "warmup_lr must be left out with warmup_epochs=0"),
        ({"min_lr": 0.0}, "min_lr must be left out with schedule=one-cycle"),
        ({"momentum": 0.5}, "momentum must be left out with optimizer=adamw"),
        ({"tet_lambda": 0.1}, "tet_lambda must be left out with loss=cross-entropy"),
        ({"kd_alpha": 0.1}, "kd_alpha must be left out with teacher=none"),
        ({"rotation": 5.0, "augment": "none"}, "rotation must be left out with augment=none"),
        ({"crop_padding": 2, "augment": "none"}, "crop_padding must be left out with augment=none"),
        ({"image_size": 32}, "image_size must be left out with data=digits"),
        ({"mixup_until": 3}, "mixup_until must be left out with mixup=0 and cutmix=0"),
    ],
)
def test_what_would_have_no_effect_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        make_config(None, given)


def test_what_a_recipe_sets_or_is_the_default_may_have_no_effect():
    assert make_config("resnet19_cifar", {"loss": "cross-entropy"}).tet_lambda == 0.05
    assert make_config(None, {"warmup_epochs": 0, "momentum": 0.9}) == TrainConfig()
