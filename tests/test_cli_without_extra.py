from __future__ import annotations

import builtins
import sys

import pytest

from snntorch_asnn.cli import main


@pytest.mark.parametrize("missing", ["cyclopts", "rich"])
def test_missing_packages_are_named_without_a_traceback(monkeypatch, missing):
    real_import = builtins.__import__

    def import_without(name, *args, **kwargs):
        if name.partition(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
        return real_import(name, *args, **kwargs)

    for module in [m for m in sys.modules if m.startswith(("cyclopts", "snntorch_asnn.cli."))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", import_without)
    with pytest.raises(SystemExit) as stopped:
        main(["models"])
    message = str(stopped.value.code)
    assert message.startswith("snntorch-asnn: the command line needs the package ")
    assert message.endswith(": pip install '.[train]' in a checkout of snntorch-asnn")
