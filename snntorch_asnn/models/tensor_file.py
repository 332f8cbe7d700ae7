"""Read and write tensors and settings in the safetensors format, which holds no code."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from snntorch_asnn._extras import require

__all__ = ["read", "write"]

_FIELD = "snntorch_asnn"


def write(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], settings: dict[str, Any]) -> None:
    """Write a file, which appears under its name only when it is complete.

    Raises:
        ValueError: ``path`` is a folder, or its folder does not exist.
        ModuleNotFoundError: The package safetensors is not installed.
    """
    target = Path(path)
    if target.is_dir() or not target.parent.is_dir():
        raise ValueError(f"path must be a file in a folder that exists; got {str(path)!r}")
    dense = {key: value.detach().contiguous() for key, value in tensors.items()}
    data = require("safetensors.torch", extra="checkpoint").save(
        dense, metadata={_FIELD: json.dumps(settings)}
    )
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o666 & ~_umask())
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the settings and the tensors, on the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or :func:`write` did not write it.
        ModuleNotFoundError: The package safetensors is not installed.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"path must be an existing file; got {str(path)!r}")
    safetensors = require("safetensors", extra="checkpoint")
    load_file = require("safetensors.torch", extra="checkpoint").load_file
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            settings = dict(json.loads((file.metadata() or {})[_FIELD]))
        return settings, load_file(path)
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"path must be a file that save_pretrained wrote; got {str(path)!r}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
