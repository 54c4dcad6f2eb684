"""Eager evaluation times: every event's own time at first, a grid under load, and never a matter of batching."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.core.eager import EagerTimes


def times(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_rare_events_are_evaluated_at_their_own_time():
    eager = EagerTimes(per_s=20, grid_ms=50)
    eager.add(times(1000, 1007, 3999))
    assert eager.take(before_ms=5000) == [1000, 1007, 3999]


def test_an_event_waits_until_the_watermark_has_passed_it():
    eager = EagerTimes(per_s=20, grid_ms=50)
    eager.add(times(1000, 1007))
    assert eager.take(before_ms=1007) == [1000]
    assert eager.take(before_ms=1008) == [1007]


def test_events_of_one_time_are_evaluated_once():
    eager = EagerTimes(per_s=20, grid_ms=50)
    eager.add(times(1000, 1000))
    eager.add(times(1000))
    assert eager.take(before_ms=2000) == [1000]


def test_a_flood_is_evaluated_on_the_grid_once_its_second_is_spent():
    eager = EagerTimes(per_s=3, grid_ms=50)
    eager.add(times(*range(1000, 1200, 5)))
    assert eager.take(before_ms=2000) == [1000, 1005, 1010, 1050, 1100, 1150, 1200]


def test_the_last_event_of_a_flood_is_seen_by_an_evaluation_after_it():
    eager = EagerTimes(per_s=1, grid_ms=50)
    eager.add(times(1000, 1049))
    assert eager.take(before_ms=1050) == [1000]
    assert eager.take(before_ms=1051) == [1050]


def test_every_second_has_its_own_allowance():
    eager = EagerTimes(per_s=1, grid_ms=500)
    eager.add(times(1000, 1001, 2000, 2001))
    assert eager.take(before_ms=9000) == [1000, 1500, 2000, 2500]


@given(
    events=st.lists(st.integers(0, 5_000), max_size=200),
    cuts=st.lists(st.integers(0, 6_000), max_size=10),
    per_s=st.integers(1, 5),
)
def test_the_times_do_not_depend_on_how_events_and_watermark_arrive(events, cuts, per_s):
    whole = EagerTimes(per_s, 50)
    whole.add(times(*events))
    expected = whole.take(before_ms=10_000)

    piecewise, got, low = EagerTimes(per_s, 50), [], -1
    for cut in [*sorted(cuts), 10_000]:
        piecewise.add(times(*(t for t in events if low < t <= cut)))
        got += piecewise.take(before_ms=cut)
        low = cut
    assert got == expected
