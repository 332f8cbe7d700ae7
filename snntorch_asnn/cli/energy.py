"""The command ``snntorch-asnn energy``."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Annotated, Any

import torch
from cyclopts import Parameter
from cyclopts.validators import Number
from torch import Tensor, nn
from torch.utils.data import Dataset

from snntorch_asnn import energy, models, train
from snntorch_asnn._arguments import did_you_mean
from snntorch_asnn._torch import BatchNormBase
from snntorch_asnn.energy.macs import Attention
from snntorch_asnn.energy.operations import Nonbinary
from snntorch_asnn.train.data import spread_images, to_unit_range
from snntorch_asnn.train.devices import resolve_device
from snntorch_asnn.train.evaluation import build_model

_BATCH_SIZE = 64
_DEFAULTS_OF_A_MODEL = {"data": "digits", "num_steps": 4, "encoding": "hybrid", "neuron": "asnn"}
"""Options that a run has fixed already, and their defaults for a model."""
_DEFAULTS_WITHOUT_DATA = {"data_dir": None, "preset": "45nm-fp32", "nonbinary": "mac"}
"""Options that have no effect without data, and their defaults."""


def energy_command(
    target: Annotated[str, Parameter(name="RUN|MODEL", help="Folder of a run, or name of a model.")],
    /,
    *,
    data: Annotated[
        str | None,
        Parameter(help="For a model: data set, digits if not given; none counts multiplications only."),
    ] = None,
    num_steps: Annotated[int | None, Parameter(help="For a model: time steps, 4 if not given.")] = None,
    encoding: Annotated[str | None, Parameter(help="For a model: code, hybrid if not given.")] = None,
    neuron: Annotated[str | None, Parameter(help="For a model: neuron, asnn if not given.")] = None,
    num_classes: Annotated[int, Parameter(help="Number of classes, without data.")] = 10,
    data_dir: Annotated[Path | None, Parameter(help="Folder with the data, if they have moved.")] = None,
    images: Annotated[int, Parameter(help="Validation images to run.", validator=Number(gte=1))] = 256,
    preset: Annotated[
        str, Parameter(help=f"Energy of operations: {', '.join(energy.PRESETS)}.")
    ] = "45nm-fp32",
    nonbinary: Annotated[
        Nonbinary,
        Parameter(help="Cost of integers above 1: mac, like analog input, or multi_ac, n as n accumulates."),
    ] = "mac",
    attention: Annotated[Attention, Parameter(help="Order of the products in spiking attention.")] = "as_run",
    device: Annotated[str, Parameter(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[
        bool, Parameter(name="--json", negative="", help="Print JSON, with everything by step.")
    ] = False,
) -> None:
    """Count and price the operations of a network for one image: MACs, ACs, firing rates, millijoules.

    A run is measured at its best epoch on its validation images. A model of the zoo has fresh weights, whose
    firing rates differ from those of a trained network.
    """
    given = {"data": data, "num_steps": num_steps, "encoding": encoding, "neuron": neuron}
    is_run = _is_run(target)
    if is_run:
        _refuse(given)
    settings = {name: _DEFAULTS_OF_A_MODEL[name] if value is None else value for name, value in given.items()}
    if settings["data"] == "none":
        _refuse_without_data(data_dir=data_dir, preset=preset, nonbinary=nonbinary)
        counted = _count(target, settings, num_classes, attention)
        print(json.dumps(counted.to_dict(), indent=2) if as_json else str(counted))
        return
    load = _trained if is_run else _fresh
    model, batches = load(target, settings, data_dir, images)
    on = resolve_device(device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", energy.SilentLayersWarning)  # the report says so itself
        report = energy.profile(
            model.to(on),
            (batch.to(on) for batch in batches),
            preset=preset,
            nonbinary=nonbinary,
            attention=attention,
        )
    if as_json:
        print(json.dumps({"target": target, "trained": is_run} | report.to_dict(), indent=2))
        return
    print(report)
    if not is_run:
        print("The weights are fresh, as before training: a trained network fires at other rates.")


def _is_run(target: str) -> bool:
    if Path(target).is_dir():
        return True
    names = models.list_models()
    if target not in names:
        raise ValueError(
            f"RUN|MODEL must be the folder of a run or a model; got {target!r}{did_you_mean(target, names)}"
        )
    return False


def _refuse(given: dict[str, Any]) -> None:
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name} must be left out for a run, which has its own; got {value!r}")


def _refuse_without_data(**given: Any) -> None:
    """Refuse options about images or prices when only multiplications are counted."""
    for name, value in given.items():
        if value != _DEFAULTS_WITHOUT_DATA[name]:
            raise ValueError(f"{name} must be left out with data=none, where it has no effect; got {value!r}")


def _count(name: str, settings: dict[str, Any], num_classes: int, attention: Attention) -> energy.MacCount:
    model = models.create_model(
        name, num_classes=num_classes, **{key: value for key, value in settings.items() if key != "data"}
    )
    return energy.count_macs(model, attention=attention)


def _trained(
    run: str, settings: dict[str, Any], data_dir: Path | None, images: int
) -> tuple[nn.Module, list[Tensor]]:
    """Return the model of a run at its best epoch, and validation images."""
    config, model = train.load_run(run)
    if data_dir is not None:
        config = dataclasses.replace(config, data_dir=data_dir)
    return model, _batches(train.load_images(config).val, images)


def _fresh(
    name: str, settings: dict[str, Any], data_dir: Path | None, images: int
) -> tuple[nn.Module, list[Tensor]]:
    """Return a model as in the first step of training, and validation images."""
    config = train.TrainConfig(model=name, data_dir=data_dir, **settings)
    data = train.load_images(config)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = build_model(config, len(data.classes), data.in_channels, data.image_size)
    batches = _batches(data.val, images)
    for module in model.modules():
        if isinstance(module, BatchNormBase):
            module.momentum = None  # norms that have seen no images let hardly any spike through
    with torch.no_grad():
        model.train()(batches[0])
    return model, batches


def _batches(dataset: Dataset[Any], wanted: int) -> list[Tensor]:
    """Return images from all over a data set, in batches as a model takes them."""
    images = spread_images(dataset, wanted)
    return [to_unit_range(batch) for batch in images.split(_BATCH_SIZE, dim=images.ndim - 4)]
