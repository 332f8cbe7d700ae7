from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure

from snntorch_asnn import AdaptiveLeaky, AdaptiveRLeaky, AdaptiveSynaptic, plot

METRICS = [
    {
        "epoch": epoch,
        "train_loss": 1 / epoch,
        "val_loss": 1.2 / epoch,
        "train_accuracy": 0.9,
        "val_accuracy": accuracy,
    }
    for epoch, accuracy in ((1, 0.5), (2, 0.8), (3, 0.7))
]


def test_pictures_leave_pyplot_alone():
    code = (
        "import sys, torch; from snntorch_asnn import plot;"
        "assert 'matplotlib' not in sys.modules;"
        "plot.raster(torch.ones(2, 3)).figure.savefig(sys.argv[1]);"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, "/dev/null"], check=True, timeout=120)


def test_raster_draws_a_box_for_every_spike(tmp_path):
    spikes = torch.zeros(4, 2, 3)
    spikes[1, 0, 2] = spikes[3, 1, 1] = 1
    ax = plot.raster(spikes)
    centres = [path.vertices[:4].mean(axis=0).round(6) for path in ax.collections[0].get_paths()]
    assert [tuple(centre) for centre in centres] == [(1, 2), (3, 4)]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time step", "neuron")
    ax.figure.savefig(tmp_path / "raster.png")


def test_raster_draws_into_given_axes_and_without_spikes():
    ax = Figure().subplots()
    assert plot.raster(torch.zeros(2, 3), ax=ax) is ax


def test_time_parameters_show_leak_and_gain_of_every_layer(tmp_path):
    per_layer = AdaptiveLeaky(beta=0.9, num_steps=3, gain=0.25)
    per_channel = AdaptiveLeaky(beta=0.5, num_steps=2, feature_shape=(2,))
    with torch.no_grad():
        per_channel.gain.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    figure = plot.time_parameters(nn.ModuleDict({"a": per_layer, "b": per_channel}))
    leak, gain = figure.axes[:2]
    assert_same(shown(leak), torch.tensor([[0.9, 0.9, 0.9], [0.5, 0.5, torch.nan]]))
    assert_same(shown(gain), torch.tensor([[0.25] * 3, [1.5, 3.5, torch.nan]]))
    assert [label.get_text() for label in leak.get_yticklabels()] == ["a", "b"]
    figure.savefig(tmp_path / "time_parameters.png")


def test_time_parameters_show_every_kind_of_adaptive_neuron():
    recurrent = AdaptiveRLeaky(beta=0.7, num_steps=2, linear_features=3)
    synaptic = AdaptiveSynaptic(alpha=0.8, beta=0.6, num_steps=2)
    figure = plot.time_parameters(nn.ModuleList([recurrent, synaptic]))
    assert_same(shown(figure.axes[0]), torch.tensor([[0.7, 0.7], [0.6, 0.6]]))


def test_time_parameters_need_an_adaptive_neuron():
    with pytest.raises(ValueError, match="model must have adaptive neurons; got Linear"):
        plot.time_parameters(nn.Linear(1, 1))


def test_firing_rates_show_layers_and_steps(tmp_path):
    ax = plot.firing_rates({"conv.neuron": [0.1, 0.2], "fc": [0.0, 0.4]})
    assert_same(shown(ax), torch.tensor([[0.1, 0.2], [0.0, 0.4]]))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["conv", "fc"]
    ax.figure.savefig(tmp_path / "firing_rates.png")


def test_firing_rates_are_not_annotated_where_there_are_many_steps():
    assert not plot.firing_rates({"fc": [0.1] * 100}).texts


def test_draws_what_has_diverged(tmp_path):
    neuron = AdaptiveLeaky(beta=0.9, num_steps=2)
    with torch.no_grad():
        neuron.beta.fill_(torch.nan)
        neuron.gain.copy_(torch.tensor([torch.inf, 0.5]))
    figure = plot.time_parameters(neuron)
    leak, gain = figure.axes[:2]
    assert [text.get_text() for text in leak.texts] == ["nan", "nan"]
    assert [text.get_text() for text in gain.texts] == ["inf", "0.50"]
    figure.savefig(tmp_path / "time_parameters.png")
    ax = plot.firing_rates({"a": [torch.nan], "b": [0.5, torch.nan, 0.25]})
    assert [text.get_text() for text in ax.texts] == ["nan", "0.50", "nan", "0.25"]
    for rates in ({"a": [torch.nan]}, {"a": torch.full((40,), torch.nan)}):
        plot.firing_rates(rates).figure.savefig(tmp_path / "firing_rates.png")


def test_learning_curve_marks_the_best_epoch(tmp_path):
    figure = plot.learning_curve(METRICS)
    loss, accuracy = figure.axes
    assert list(loss.lines[1].get_ydata()) == [line["val_loss"] for line in METRICS]
    assert accuracy.get_title(loc="right") == "best: 80.0 % at epoch 2"
    figure.savefig(tmp_path / "learning_curve.png")


def test_code_shows_one_row_per_code(tmp_path):
    image = torch.rand(1, 5, 5)
    spikes = torch.zeros(2, 1, 5, 5)
    spikes[0, 0, 0] = 1
    figure = plot.code({"direct": image.expand(3, 1, 5, 5), "binary": spikes}, image=image)
    rows = [ax for ax in figure.axes if ax.axison]
    assert [ax.get_title() for ax in rows] == [
        *("image", "step 0", "step 1", "step 2"),
        *("image", "step 0", "step 1"),
    ]
    assert rows[5].get_xlabel() == "20% spike"
    figure.savefig(tmp_path / "code.png")


def test_code_takes_a_single_tensor_and_colours():
    assert len(plot.code(torch.rand(3, 5, 5)).axes) == 3
    assert len(plot.code(torch.rand(2, 3, 5, 5)).axes) == 2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: plot.raster([[1, 0]]), TypeError, "spikes must be a tensor; got list"),
        (lambda: plot.raster(torch.ones(3)), ValueError, r"spikes must have .* shape \(3,\)"),
        (lambda: plot.raster(torch.ones(0, 3)), ValueError, r"spikes must have .* shape \(0, 3\)"),
        (lambda: plot.firing_rates({}), ValueError, "rates must have"),
        (lambda: plot.firing_rates({"a": []}), ValueError, r"rates\['a'\] must have at least one step"),
        (lambda: plot.firing_rates({"a": [0.1], "b": []}), ValueError, r"rates\['b'\] must have"),
        (lambda: plot.learning_curve([]), ValueError, "metrics must have"),
        (lambda: plot.code({}), ValueError, "planes must have at least one code"),
        (lambda: plot.code(torch.rand(4, 4)), ValueError, "planes must have"),
        (lambda: plot.code({"x": 1}), TypeError, "planes.*must be a tensor; got int"),
        (
            lambda: plot.code(torch.rand(4, 2, 5, 5)),
            ValueError,
            "each plane .*C = 1 or 3",
        ),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def assert_same(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found, wanted, equal_nan=True)


def shown(ax) -> torch.Tensor:
    """Return the values of a heat map."""
    return torch.tensor(ax.images[0].get_array().filled(torch.nan))
