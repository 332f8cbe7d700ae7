"""Kernels that are kept are whole, and what cannot be built is known before the forward pass."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from snntorch_asnn.ops import adaptive_leaky
from snntorch_asnn.ops._adaptive_leaky import engine
from snntorch_asnn.ops._adaptive_leaky.cpp import kernels as cpp_kernels
from snntorch_asnn.ops._cpp import build as cpp_build

pytestmark = pytest.mark.skipif(cpp_build.find_compiler() is None, reason="needs a C++ compiler")

library = cpp_build.library.__wrapped__


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "source" / "kernel.cpp"
    file.parent.mkdir()
    file.write_text('extern "C" int answer() { return ANSWER; }')
    return file


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that keeps libraries."""
    folder = tmp_path / "kept"
    folder.mkdir()
    monkeypatch.setattr(cpp_build, "_folder", lambda: folder)
    return folder


def answer(source: Path, value: int = 42) -> int:
    return int(library(source, f"ANSWER={value}").answer())


def compilations(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that compile a file, from now on."""
    run, commands = subprocess.run, []

    def record(command: list[str], **options: Any) -> Any:
        if command[-1].endswith("library.so"):
            commands.append(command)
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", record)
    return commands


def test_a_library_is_compiled_once(source: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = compilations(monkeypatch)
    assert [answer(source), answer(source), answer(source, 7)] == [42, 42, 7]
    assert len(commands) == len(list(kept.iterdir())) == 2


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[: len(b) // 2], lambda b: b[:-1], lambda b: b"", bytes.swapcase],
    ids=["half", "cut", "empty", "other"],
)
def test_a_damaged_library_is_compiled_again(
    source: Path, kept: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    assert answer(source) == 42
    (file,) = kept.iterdir()
    whole = file.read_bytes()
    file.unlink()  # this process has mapped it
    file.write_bytes(damage(whole))
    commands = compilations(monkeypatch)
    assert answer(source) == 42
    assert len(commands) == 1
    assert [path.read_bytes() for path in kept.iterdir()] == [whole]


def test_a_process_survives_a_kernel_that_was_cut_off(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    script = (
        "from pathlib import Path; from snntorch_asnn.ops._cpp import build;"
        f"print(build.library(Path({str(source)!r}), 'ANSWER=42').answer())"
    )
    environment = {**os.environ, "SNNTORCH_ASNN_CACHE": str(folder)}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, b"42\n")
        (file,) = folder.iterdir()
        file.write_bytes(file.read_bytes()[:4096])


def test_a_library_gets_its_name_when_it_is_whole_and_on_the_disk(
    source: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, fsync, events = subprocess.run, os.fsync, []

    def compile_and_look(command: list[str], **options: Any) -> Any:
        done = run(command, **options)
        if command[-1].endswith("library.so"):
            events.append(("compiled", [path.name for path in kept.glob("*.so")]))
        return done

    def flush_and_look(handle: int) -> None:
        fsync(handle)
        size = os.fstat(handle).st_size
        events.append(("flushed" if size else "empty", [path.name for path in kept.glob("*.so")]))

    monkeypatch.setattr(subprocess, "run", compile_and_look)
    monkeypatch.setattr(os, "fsync", flush_and_look)
    answer(source)
    assert events == [("compiled", []), ("flushed", [])]
    assert len(list(kept.glob("*.so"))) == len(list(kept.iterdir())) == 1


def test_a_failed_compilation_leaves_nothing(source: Path, kept: Path) -> None:
    with pytest.raises(cpp_build.BuildError, match=r"(?s)says:\n.*ANSWER"):
        library(source)
    assert list(kept.iterdir()) == []


@pytest.mark.parametrize("folder", ["a file/below", "read-only"])
def test_where_nothing_can_be_kept_nothing_is_left_behind(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    (tmp_path / "a file").write_text("")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("SNNTORCH_ASNN_CACHE", str(tmp_path / folder))
    if folder == "read-only":  # also for root, who may write everywhere
        monkeypatch.setattr(cpp_build, "_folder", lambda: Path("/proc/self"))
    else:
        assert cpp_build._folder.__wrapped__() is None
        monkeypatch.setattr(cpp_build, "_folder", cpp_build._folder.__wrapped__)
    assert answer(source) == 42
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_folder_whose_files_cannot_be_loaded_is_done_without(
    source: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = ctypes.CDLL

    def refuse(path: str) -> ctypes.CDLL:
        if path.startswith(str(kept)):
            raise OSError("failed to map segment from shared object")
        return load(path)

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert answer(source) == 42
    monkeypatch.setattr(ctypes, "CDLL", lambda path: refuse(str(kept)))
    with pytest.raises(cpp_build.BuildError, match="whose libraries can be loaded: failed to map"):
        answer(source)


@pytest.fixture
def no_backward_kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever holds a backward pass cannot be compiled."""
    build = cpp_build.library

    def refuse(source: Path, *macros: str) -> ctypes.CDLL:
        if "BACKWARD" in macros:
            raise cpp_build.BuildError("a compiler that is still there")
        return build(source, *macros)

    cached = cpp_kernels._backward_kernel, cpp_kernels.lack, engine._warn_of_the_reference
    for function in cached:
        function.cache_clear()
    monkeypatch.setattr(cpp_build, "library", refuse)
    yield
    for function in cached:
        function.cache_clear()


def learned(*what: str) -> dict[str, Any]:
    x = torch.linspace(-1, 3, 4 * engine.LEAST_TO_COMPILE_FOR).view(4, -1)
    beta, gain = torch.full((4,), 0.9), torch.ones(4)
    named = {"x": x, "beta": beta, "gain": gain}
    for name in what:
        named[name].requires_grad_()
    return named


@pytest.mark.usefixtures("no_backward_kernel")
@pytest.mark.parametrize("what", [("x",), ("beta",), ("x", "beta", "gain")])
def test_auto_runs_the_reference_where_the_backward_kernel_is_missing(what: tuple[str, ...]) -> None:
    arguments = learned(*what)
    with pytest.warns(UserWarning, match="needs a compiler that is still there"):
        spikes, _ = adaptive_leaky(**arguments)
    spikes.sum().backward()
    wanted, _ = adaptive_leaky(**(again := learned(*what)), impl="reference")
    wanted.sum().backward()
    assert torch.equal(spikes, wanted)
    for name in what:
        torch.testing.assert_close(arguments[name].grad, again[name].grad)


@pytest.mark.usefixtures("no_backward_kernel")
@pytest.mark.parametrize("what", [("x",), ("beta",)])
def test_cpp_says_so_before_the_forward_pass(what: tuple[str, ...]) -> None:
    with pytest.raises(RuntimeError, match="impl='cpp' needs a compiler that is still there"):
        adaptive_leaky(**learned(*what), impl="cpp")


@pytest.mark.usefixtures("no_backward_kernel")
def test_without_gradients_the_forward_kernel_is_enough() -> None:
    with torch.no_grad():
        adaptive_leaky(**learned("x", "beta"), impl="cpp")
    adaptive_leaky(**learned(), impl="cpp")


@pytest.mark.parametrize(
    ("what", "affine"),
    [
        (("x",), False),
        (("beta", "gain"), False),
        (("x", "threshold", "scale"), True),
        (("factor",), True),
        (("offset", "beta"), True),
    ],
)
def test_the_kernel_that_is_built_first_is_the_one_that_runs(
    monkeypatch: pytest.MonkeyPatch, what: tuple[str, ...], affine: bool
) -> None:
    from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
    from snntorch_asnn.ops._adaptive_leaky.rule import Rule
    from snntorch_asnn.surrogate import Surrogate

    def leaf(name: str, value: float, *shape: int) -> Tensor:
        return torch.full(shape, value).requires_grad_(name in what)

    x, rule = leaf("x", 1.0, 3, 2, 40), Rule(Surrogate("atan"))
    named = [leaf(name, 1.0, 3, 1) for name in ("beta", "gain", "threshold", "previous_threshold", "scale")]
    given = (leaf("factor", 1.0, 1, 40), leaf("offset", 0.5, 1, 40)) if affine else None
    asked: list[Any] = []
    monkeypatch.setattr(cpp_kernels, "lack", lambda *key: asked.append(key))
    monkeypatch.setattr(cpp_kernels, "forward", lambda *given: None)

    def backward(view: Any, x: Tensor, mem: Any, of: Any, key: str, incoming: Any, *more: Any) -> Tensor:
        asked.append((x.dtype, of[0].dtype, key, of.shift is not None, more[0]))
        return x.new_zeros(sum(more[0]), view.steps, view.features)

    monkeypatch.setattr(cpp_kernels, "backward", backward)
    coefficients = Coefficients(*named, None)
    spikes, _ = engine.run(x, None, coefficients, rule, output_mem=False, impl="cpp", affine=given)
    spikes.sum().backward()
    assert asked == [asked[0]] * 2


def test_a_compiler_need_not_tell_its_version(tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\nexit 1\n")
    compiler.chmod(0o755)
    assert cpp_build._version(str(compiler)) == ""
