"""Format numbers and tables as text."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["joules", "number", "steps_as_text", "table"]

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def number(value: float, *, digits: int = 4) -> str:
    """Format a count with ``digits`` significant digits: ``467.1 M``."""
    for size, prefix in _PREFIXES:
        if value >= size:
            return f"{value / size:.{digits}g} {prefix}"
    return f"{value:.{digits}g}"


def joules(picojoules: float, *, digits: int = 4) -> str:
    """Format an energy with ``digits`` significant digits: ``1.234 mJ``."""
    for size, unit in ((1e12, "J"), (1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ")):
        if picojoules >= size:
            return f"{picojoules / size:.{digits}g} {unit}"
    return f"{picojoules:.{digits}g} pJ"


def steps_as_text(values: Sequence[float]) -> str:
    """Format the positions of nonzero values: ``"all"``, ``"0"`` or ``"1-3"``."""
    steps = [step for step, value in enumerate(values) if value]
    if len(steps) == len(values):
        return "all"
    first, last = (steps[0], steps[-1]) if steps else (0, 0)
    if first == last or len(steps) < last - first + 1:
        return " ".join(map(str, steps)) or "-"
    return f"{first}-{last}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table with aligned columns and a separate last row; the first two columns are words."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in (heads, *rows)
    ]
    rule = "-" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])
