"""What importing and installing the package promises."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import pkgutil
import subprocess
import sys
from importlib import resources

import pytest
from packaging.version import Version

import snntorch_asnn

OPTIONAL = {
    "cyclopts",
    "matplotlib",
    "rich",
    "safetensors",
    "sklearn",
    "timm",
    "tonic",
    "torchvision",
    "triton",
}


def public_modules() -> list[str]:
    """Every module without a leading underscore that imports with the packages at hand."""
    names = ["snntorch_asnn"]
    for info in pkgutil.walk_packages(snntorch_asnn.__path__, "snntorch_asnn.", onerror=lambda _: None):
        if not any(part.startswith("_") for part in info.name.split(".")):
            names.append(info.name)
    return names


def import_or_skip(name: str):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in OPTIONAL:
            pytest.skip(f"{name} needs {error.name}")
        raise


def test_version_is_that_of_the_distribution():
    assert importlib.metadata.version("snntorch-asnn") == snntorch_asnn.__version__
    assert str(Version(snntorch_asnn.__version__)) == snntorch_asnn.__version__


def test_type_information_is_shipped():
    assert resources.files(snntorch_asnn).joinpath("py.typed").is_file()


def test_import_leaves_optional_packages_alone():
    code = "import json, sys; import snntorch_asnn; print(json.dumps(list(sys.modules)))"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    loaded = {name.partition(".")[0] for name in json.loads(process.stdout)}
    assert "torch" in loaded
    assert not loaded & OPTIONAL


@pytest.mark.parametrize("name", public_modules())
def test_public_names_exist(name):
    module = import_or_skip(name)
    public = getattr(module, "__all__", [])
    assert len(set(public)) == len(public)
    assert [attribute for attribute in public if not hasattr(module, attribute)] == []


def test_top_level_names_are_documented():
    public = [name for name in snntorch_asnn.__all__ if not name.startswith("__")]
    assert [name for name in public if not getattr(snntorch_asnn, name).__doc__] == []


def test_core_needs_no_more_than_it_declares():
    requirements = importlib.metadata.requires("snntorch-asnn") or []
    core = {line.split(">")[0].strip() for line in requirements if "extra ==" not in line}
    assert core == {"torch", "snntorch", "numpy"}
