"""Text in files is UTF-8, whatever the locale says."""

from __future__ import annotations

from pathlib import Path

from snntorch_asnn.train.checkpoint import write_atomically


def write_text(file: Path, text: str) -> None:
    """Write a text whole or not at all, as UTF-8.

    Under a locale such as C, Python reads the name of a file with a code of its own for each byte beyond
    ASCII. These become the bytes again that they stand for.
    """
    content = text.encode("utf-8", "surrogateescape")
    write_atomically(file, lambda stream: stream.write(content))


def readable_name(name: str) -> str:
    r"""Return the name of a file or folder as text that can be drawn and printed under any locale.

    Example::

        >>> readable_name("K\udcc3\udca4fer")
        'Käfer'
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
