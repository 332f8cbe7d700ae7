from __future__ import annotations

from snntorch_asnn.train.confusions import most_frequent_errors


def test_errors_come_most_frequent_first_and_no_more_than_asked_for():
    counts = [[9, 1, 0], [3, 9, 0], [2, 2, 9]]
    assert most_frequent_errors(counts, "abc", 2) == [("b", "a", 3), ("c", "a", 2)]
    assert most_frequent_errors([[9, 0], [0, 9]], "ab", 2) == []
