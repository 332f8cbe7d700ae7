"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence


def most_frequent_errors(
    confusion: Sequence[Sequence[int]], classes: Sequence[str], most: int
) -> list[tuple[str, str, int]]:
    """Return the classes that are mistaken most often.

    Args:
        confusion: images of each true class (row) that were taken for each class (column).
        classes: names of the classes.
        most: number of pairs, at most.

    Returns:
        list: class, answer and number of images, the most frequent first; pairs that never occur are left
        out.

    Example::

        >>> most_frequent_errors([[5, 1], [2, 4]], ["cat", "dog"], 8)
        [('dog', 'cat', 2), ('cat', 'dog', 1)]
    """
    pairs = [
        (classes[row], classes[column], count)
        for row, counts in enumerate(confusion)
        for column, count in enumerate(counts)
        if row != column and count
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:most]
