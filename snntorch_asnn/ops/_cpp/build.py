"""Shared libraries from the C++ kernels, compiled for a set of macros at first use and kept on disk."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import torch

__all__ = ["INPUTS", "STATES", "BuildError", "find_compiler", "library"]

INPUTS = {torch.float32: "float", torch.float64: "double", torch.bfloat16: "Bfloat16"}
"""The kernels' types of large tensors."""
STATES = {torch.float32: "float", torch.float64: "double"}
"""The types that kernels compute in."""


_HEADER = Path(__file__).with_name("vectors.h")
_SHARED = ("-fPIC", "-shared")
# A spike must not depend on the implementation, so products and sums are not contracted.
_FLAGS = ("-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", *_SHARED)
_INSTRUCTIONS = {"AVX512": "-march=x86-64-v4", "AVX2": "-march=x86-64-v3"}


class BuildError(RuntimeError):
    """A kernel could not be compiled or loaded."""


@functools.cache
def find_compiler() -> str | None:
    """Path of a C++ compiler that takes GCC's options: ``$CXX``, ``g++``, ``clang++`` or ``c++``."""
    if sys.platform == "win32":
        return None
    candidates = (os.environ.get("CXX"), "g++", "clang++", "c++")
    return next((path for name in candidates if name and (path := shutil.which(name))), None)


@functools.cache
def library(source: Path, *macros: str) -> ctypes.CDLL:
    """The kernels of ``source`` compiled with ``macros``, each ``NAME=value``, as a loaded shared library.

    Libraries are kept in ``$SNNTORCH_ASNN_CACHE``, or ``snntorch_asnn`` in the user's cache folder. A damaged
    one is compiled again. Where none can be kept, it is compiled for this process alone.

    Raises:
        BuildError: without a compiler, or with what the compiler said.
    """
    compiler = find_compiler()
    if compiler is None:
        raise BuildError("a C++ compiler (g++ or clang++ on the PATH, or CXX set)")
    options = [*_FLAGS, *_machine_flags(compiler), *(f"-D{macro}" for macro in macros)]
    texts = (path.read_text(encoding="utf-8") for path in (source, _HEADER))
    made_of = (*texts, _version(compiler), *options)
    digest = hashlib.sha256("\0".join(made_of).encode()).hexdigest()
    name = f"{source.stem}_{digest[:24]}"
    folder = _folder()
    if folder is not None:
        with suppress(OSError):  # the folder is full by now, or forbids its files to be executed
            path = _find(folder, name) or _compile(compiler, options, source, folder, name)
            return ctypes.CDLL(str(path))
    try:
        # A library that is loaded needs its file no longer, so that nothing is left behind.
        with tempfile.TemporaryDirectory(prefix="snntorch_asnn_") as own:
            return ctypes.CDLL(str(_compile(compiler, options, source, Path(own), name)))
    except OSError as error:
        raise BuildError(f"a C++ compiler whose libraries can be loaded: {error}") from error


@functools.cache
def _machine_flags(compiler: str) -> list[str]:
    flags = [_INSTRUCTIONS[c] for c in [torch.backends.cpu.get_cpu_capability()] if c in _INSTRUCTIONS]
    openmp = [*flags, "-fopenmp"]
    # Apple's compiler has no OpenMP: the kernel then runs on one thread.
    return openmp if _accepts(compiler, openmp) else flags


def _accepts(compiler: str, flags: list[str]) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        command = [compiler, *flags, *_SHARED, "-x", "c++", "-", "-o", str(Path(folder) / "probe.so")]
        return subprocess.run(command, input=b"int probe;", capture_output=True, check=False).returncode == 0


@functools.cache
def _version(compiler: str) -> str:
    said = subprocess.run([compiler, "--version"], capture_output=True, check=False).stdout
    return said.decode(errors="replace")


@functools.cache
def _folder() -> Path | None:
    """The folder that keeps libraries, None where it cannot be written to."""
    try:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(os.environ.get("SNNTORCH_ASNN_CACHE") or Path(cache) / "snntorch_asnn")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):  # Path.home raises the latter where nobody is at home
        return None


def _find(folder: Path, name: str) -> Path | None:
    """A library that was kept, whose file name ends in a hash of its content; damaged ones are removed.

    To load a file that was cut off would kill the process.
    """
    for path in sorted(folder.glob(f"{name}_*.so")):
        if path.stem.rpartition("_")[2] == _content_hash(path):
            return path
        path.unlink(missing_ok=True)
    return None


def _content_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:24]


def _compile(compiler: str, options: list[str], source: Path, folder: Path, name: str) -> Path:
    """Compile a library and move it into a folder when it is whole and on the disk."""
    # In a folder of its own until then: another process may compile the same library.
    with tempfile.TemporaryDirectory(dir=folder) as own:
        unfinished = Path(own) / "library.so"
        command = [compiler, *options, f"-I{_HEADER.parent}", str(source), "-o", str(unfinished)]
        result = subprocess.run(command, capture_output=True, check=False)
        if result.returncode != 0:
            said = result.stderr.decode(errors="replace").strip()
            raise BuildError(f"a C++ compiler for this kernel; {compiler} says:\n{said}")
        with unfinished.open("rb+") as stream:
            os.fsync(stream.fileno())
        return unfinished.replace(folder / f"{name}_{_content_hash(unfinished)}.so")
