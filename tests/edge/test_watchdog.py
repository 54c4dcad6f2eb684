"""Stuck means: there is work, and for a long time none of it was done."""

from __future__ import annotations

import pytest

from engine.edge.watchdog import Progress, look


@pytest.mark.parametrize(
    ("looks", "stuck_s"),
    [
        # (done, lag, at second), ...
        ([(0, 0, 0), (0, 0, 500)], 0),  # idle for ever
        ([(5, 9, 0), (6, 9, 60), (7, 9, 120)], 0),  # slow, but it moves
        ([(5, 9, 0), (5, 9, 10), (5, 9, 130)], 120),  # from the first look that found no progress
        ([(5, 9, 0), (5, 9, 10), (5, 0, 20), (5, 9, 100), (5, 9, 130)], 30),  # what is worked off starts it anew
        ([(5, 9, 0), (5, 9, 10), (6, 9, 20), (6, 9, 30), (6, 9, 40)], 10),
        ([(5, 1, 0), (5, 7, 10), (5, 9, 50)], 40),  # more work is no progress
    ],
)
def test_for_how_long_there_was_work_and_no_progress(looks: list[tuple[int, int, float]], stuck_s: float) -> None:
    progress = Progress()
    found = [look(progress, done, lag, at_s) for done, lag, at_s in looks]
    assert found[-1] == stuck_s


def test_who_waits_for_the_database_is_not_stuck_and_counts_anew_when_it_is_back() -> None:
    progress = Progress()
    assert [look(progress, 5, 9, at_s, waits=True) for at_s in (0, 200, 400)] == [0, 0, 0]
    assert [look(progress, 5, 9, at_s) for at_s in (402, 462)] == [0, 60]
