"""Constructors: signatures, documentation, wrong arguments, and neurons that an earlier version pickled."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import snntorch as snn
import torch
from torch import nn

import snntorch_asnn as asnn
from snntorch_asnn import surrogate
from snntorch_asnn.neurons.options import AdaptiveOptions, ResetOptions

KINDS: dict[str, tuple[type[nn.Module], type[nn.Module], dict[str, Any]]] = {
    "leaky": (asnn.AdaptiveLeaky, snn.Leaky, {"beta": 0.9}),
    "synaptic": (asnn.AdaptiveSynaptic, snn.Synaptic, {"alpha": 0.9, "beta": 0.8}),
    "rleaky": (asnn.AdaptiveRLeaky, snn.RLeaky, {"beta": 0.9, "V": 0.5, "all_to_all": False}),
    "lapicque": (asnn.AdaptiveLapicque, snn.Lapicque, {"R": 5, "C": 2}),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_the_signature_has_snntorchs_arguments_in_its_order_and_then_the_options(kind: str) -> None:
    ours, theirs, _ = KINDS[kind]
    parameters = inspect.signature(ours).parameters
    options = AdaptiveOptions if kind == "lapicque" else ResetOptions
    keyword_only = [name for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY]
    positional = [name for name in parameters if name not in keyword_only]
    assert set(keyword_only) == set(options.__annotations__)
    known = [name for name in inspect.signature(theirs).parameters if name in positional]
    assert positional == known
    defaults = {name: inspect.signature(theirs).parameters[name].default for name in known}
    assert {n for n in known if parameters[n].default != defaults[n]} <= {"learn_alpha", "learn_beta"}
    assert all(p.kind is not p.VAR_KEYWORD for p in parameters.values())
    assert not any(isinstance(p.annotation, str) for p in parameters.values())
    required = [name for name in keyword_only if parameters[name].default is inspect.Parameter.empty]
    assert required == ["num_steps"]
    assert parameters["beta_constraint"].default == ("none" if kind == "lapicque" else "clamp")
    assert inspect.signature(ours.__init__).parameters.keys() - {"self"} == parameters.keys()


@every_kind
def test_every_argument_is_documented_once(kind: str) -> None:
    ours = KINDS[kind][0]
    section = re.search(r"\nArgs:\n(.*?)\n\n", ours.__doc__ or "", re.DOTALL)
    assert section is not None
    documented = re.findall(r"^    (\w+): ", section[1], re.MULTILINE)
    assert documented == list(inspect.signature(ours).parameters)
    assert "**" not in section[1]
    assert all(len(line) < 110 for line in section[1].splitlines())


@every_kind
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_step": 3}, TypeError, r"takes no argument 'num_step'; did you mean 'num_steps'\?"),
        ({"T": 3}, TypeError, r"takes no argument 'T'; did you mean 'num_steps'\?"),
        ({"sharing": "layer", "num_steps": 3}, TypeError, r"'sharing'; did you mean 'feature_shape'\?"),
        ({"spike_gradient": None, "num_steps": 3}, TypeError, r"did you mean 'spike_grad'\?"),
        ({"zzz": 3, "num_steps": 3}, TypeError, r"takes no argument 'zzz'; see help\(Adaptive"),
        ({}, TypeError, r"needs num_steps=, for instance Adaptive\w+\(..., num_steps=25\)"),
        ({"num_steps": 3, "sequence": 1}, TypeError, "sequence must be a bool; got 1"),
        ({"num_steps": 3, "learn_gain": None}, TypeError, "learn_gain must be a bool; got None"),
        ({"num_steps": 3, "on_overrun": "rais"}, ValueError, r"got 'rais'; did you mean 'raise'\?"),
        ({"num_steps": 3, "impl": "cuda"}, ValueError, "impl must be one of .*got 'cuda'"),
        ({"num_steps": 3, "surrogate_disable": 0}, TypeError, "surrogate_disable must be a bool; got 0"),
    ],
)
def test_wrong_arguments(kind: str, options: dict[str, Any], error: type[Exception], message: str) -> None:
    ours, _, arguments = KINDS[kind]
    before = list(snn.SpikingNeuron.instances)
    with pytest.raises(error, match=message) as caught:
        ours(**arguments, **options)
    assert "Adaptive" not in str(caught.value) or ours.__name__ in str(caught.value)
    assert snn.SpikingNeuron.instances == before


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("lapicque", "exact_reset"),
        ("lapicque", "reset_delay"),
        ("synaptic", "graded_spikes_factor"),
        ("rleaky", "graded_spikes_factor"),
    ],
)
def test_an_argument_of_other_neurons_is_no_misspelling(kind: str, name: str) -> None:
    ours, _, arguments = KINDS[kind]
    with pytest.raises(TypeError, match=f"{ours.__name__} takes no argument '{name}'; only other adaptive"):
        ours(**arguments, num_steps=3, **{name: True})


def test_a_subclass_has_its_own_signature_and_documentation() -> None:
    class Fixed(asnn.AdaptiveLeaky):
        """A neuron whose leak is 0.9."""

        def __init__(self, num_steps: int, **options: Any) -> None:
            super().__init__(0.9, num_steps=num_steps, **options)

    class Same(asnn.AdaptiveLeaky):
        pass

    assert list(inspect.signature(Fixed).parameters) == ["num_steps", "options"]
    assert Fixed.__doc__ == "A neuron whose leak is 0.9."
    assert Fixed(3, sequence=True).leak.shape == (3,)
    assert inspect.signature(Same) == inspect.signature(asnn.AdaptiveLeaky)
    with pytest.raises(TypeError, match="Same takes no argument 'num_step'"):
        Same(0.9, num_step=3)


def test_a_subclass_may_change_defaults_without_changing_its_parent() -> None:
    class Free(asnn.AdaptiveLeaky):
        spec = dataclasses.replace(asnn.AdaptiveLeaky.spec, defaults={"beta_constraint": "none"})

    assert Free(1.5, num_steps=3).leak.tolist() == [1.5, 1.5, 1.5]
    assert asnn.AdaptiveLeaky(1.5, num_steps=3).leak.tolist() == [1.0, 1.0, 1.0]
    assert inspect.signature(asnn.AdaptiveLeaky).parameters["beta_constraint"].default == "clamp"


PICKLED: dict[str, Any] = {
    "leaky": lambda: asnn.AdaptiveLeaky(
        torch.tensor([0.9, 0.8, 0.7]),
        num_steps=3,
        init_hidden=True,
        graded_spikes_factor=2.0,
        feature_shape=(),
        learn_threshold=True,
    ),
    "leaky_without_surrogate": lambda: asnn.AdaptiveLeaky(
        0.9, num_steps=3, surrogate_disable=True, beta_constraint="sigmoid"
    ),
    "synaptic": lambda: asnn.AdaptiveSynaptic(0.9, 0.8, num_steps=3, init_hidden=True),
    "rleaky": lambda: asnn.AdaptiveRLeaky(0.9, V=0.5, all_to_all=False, num_steps=3, init_hidden=True),
    "lapicque": lambda: asnn.AdaptiveLapicque(
        R=5, C=2, num_steps=3, init_hidden=True, spike_grad=surrogate.sigmoid(4.0)
    ),
}


@pytest.mark.parametrize("name", PICKLED)
def test_neurons_that_an_earlier_version_has_pickled_go_on(name: str) -> None:
    """The files hold neurons that have run two of three steps, where they hide their state."""
    loaded = pickle.loads(Path(__file__).with_name("pickles").joinpath(f"{name}.pkl").read_bytes())
    x = torch.full((2, 3), 0.7)
    fresh = PICKLED[name]()
    assert loaded.state_dict().keys() == fresh.state_dict().keys()
    assert repr(loaded) == repr(fresh)
    if loaded.init_hidden:
        fresh(x)
        fresh(x)
    assert loaded.step == fresh.step
    for neuron in (loaded, copy.deepcopy(loaded)):
        out, expected = neuron(x), copy.deepcopy(fresh)(x)
        torch.testing.assert_close(out, expected, rtol=0, atol=0)
