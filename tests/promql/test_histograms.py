"""Repairing the counts of buckets: what rises clearly is left alone, and that is found without looking twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.promql import histograms

COUNTS = st.sampled_from(
    [0.0, 5e-324, 1e-308, 1.0, 1.0 + 1e-13, 1.0 + 1e-11, 2.0, 1e9, float("inf"), float("nan"), -1.0]
)


def repaired(rows: list[list[float]]) -> tuple[bool, list[list[float]]]:
    """Whether a count really fell, and the counts afterwards."""
    size = np.array([len(row) for row in rows])
    counts = np.zeros((len(rows), max(size)))
    for number, row in enumerate(rows):
        counts[number, : len(row)] = row
    unmarked = np.zeros(len(rows), dtype=np.bool_)
    buckets = histograms.Buckets(np.zeros_like(counts), counts, size, unmarked, unmarked.copy())
    histograms._make_monotonic(buckets)
    return bool(buckets.repaired.any()), counts.tolist()


@given(st.lists(st.lists(COUNTS, min_size=1, max_size=5), min_size=1, max_size=3))
def test_the_quick_look_finds_no_need_only_where_there_is_none(rows: list[list[float]]) -> None:
    quick = repaired(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(histograms, "_rises", lambda _: False)
        assert str(quick) == str(repaired(rows))  # as text: NaN is not equal to itself


@pytest.mark.parametrize(
    ("row", "forced", "after"),
    [
        ([1.0, 2.0, 2.0, 3.0], False, [1.0, 2.0, 2.0, 3.0]),
        ([1.0, 3.0, 2.0, 4.0], True, [1.0, 3.0, 3.0, 4.0]),
        ([1.0, 1.0 + 1e-13, 1.0], False, [1.0, 1.0, 1.0]),
    ],
)
def test_a_count_that_falls_becomes_the_one_before(row: list[float], forced: bool, after: list[float]) -> None:
    assert repaired([row]) == (forced, [after])
