"""The table of implementations: what names them, and who is chosen."""

from __future__ import annotations

import inspect
import pkgutil
from pathlib import Path
from typing import get_args

import pytest
import torch

from snntorch_asnn import ops
from snntorch_asnn.ops import adaptive_leaky
from snntorch_asnn.ops._adaptive_leaky import engine
from snntorch_asnn.ops._adaptive_leaky.engine import IMPLEMENTATIONS, Impl, choose
from snntorch_asnn.ops._adaptive_leaky.rule import Rule, options_of, rule_of
from snntorch_asnn.surrogate import sigmoid

NAMES = [implementation.name for implementation in IMPLEMENTATIONS]


def test_the_literal_names_auto_and_the_table_in_its_order() -> None:
    assert list(get_args(Impl)) == ["auto", *NAMES]


@pytest.mark.parametrize("name", ["auto", *NAMES])
def test_the_docs_name_every_implementation(name: str) -> None:
    assert f'``"{name}"``' in str(inspect.getdoc(adaptive_leaky))
    page = Path(__file__).parents[2] / "docs" / "engine.md"
    assert f'"{name}"' in page.read_text()


def test_the_last_of_the_table_takes_everything() -> None:
    last = IMPLEMENTATIONS[-1]
    assert last.name == "reference"
    assert last.covers(torch.zeros(1, device="meta"))
    assert last.missing("xpu") is None


@pytest.mark.parametrize(
    ("dtype", "elements", "name"),
    [
        (torch.float32, engine.LEAST_TO_COMPILE_FOR, "cpp"),
        (torch.float64, engine.LEAST_TO_COMPILE_FOR, "cpp"),
        (torch.float32, engine.LEAST_TO_COMPILE_FOR - 1, "reference"),
        (torch.float16, engine.LEAST_TO_COMPILE_FOR, "compile"),
    ],
)
def test_auto_takes_the_first_that_covers_the_input(
    dtype: torch.dtype, elements: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for implementation in IMPLEMENTATIONS:
        monkeypatch.setattr(implementation, "missing", lambda *_: None)
    assert choose("auto", torch.zeros(elements, dtype=dtype), Rule()).name == name
    assert choose("auto", torch.zeros(elements, dtype=dtype), Rule(inhibition=True)).name == "reference"


@pytest.mark.parametrize("detach", [None, True, False])
@pytest.mark.parametrize("mechanism", ["subtract", "zero", "none"])
@pytest.mark.parametrize("reset", ["delayed", "immediate", "exact"])
def test_a_rule_comes_back_from_its_key(reset: str, mechanism: str, detach: bool | None) -> None:
    spike_grad = sigmoid(3, fires_at_threshold=detach is None)
    rule = Rule(spike_grad, mechanism, reset == "delayed", reset == "exact", detach)  # type: ignore[arg-type]
    assert rule.reset == reset
    assert rule_of(rule.key) == rule
    options = options_of(rule.key)
    assert options.reset == reset
    assert options.surrogate_shape == 3
    assert (options.cuts_previous_reset, options.cuts_current_reset) == (detach is not False, detach is True)


@pytest.mark.parametrize(
    "options", [{"inhibition": True}, {"spike_grad": torch.sigmoid}, {"state_quant": abs}]
)
def test_a_rule_that_is_not_fusable_has_no_key(options: dict[str, object]) -> None:
    rule = Rule(**options)  # type: ignore[arg-type]
    assert rule.key == ""
    assert not rule.is_fusable


def test_ops_has_functions_and_no_public_modules() -> None:
    assert all(inspect.isfunction(getattr(ops, name)) for name in ops.__all__)
    assert [module.name for module in pkgutil.iter_modules(ops.__path__) if module.name[0] != "_"] == []
