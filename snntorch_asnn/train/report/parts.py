"""What sections consist of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """Rows of text; those in ``marked`` stand out."""

    head: Sequence[str]
    rows: Sequence[tuple[str, ...]]
    title: str = ""
    marked: Sequence[tuple[str, ...]] = ()


@dataclass(frozen=True)
class Section:
    """A part of the page; ``figures`` are SVG elements, everything else is plain text."""

    key: str
    title: str
    note: str = ""
    figures: Sequence[str] = field(default_factory=tuple)
    tables: Sequence[Table] = field(default_factory=tuple)
    code: str = ""
