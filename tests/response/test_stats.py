"""Times to acknowledge and to resolve: what is in the mean, and what is counted beside it."""

from __future__ import annotations

from engine.response.stats import Lifetime, stats_of

#          opened  acknowledged  ended
LIVES = [
    Lifetime(1, "HighLatency", "warning", 0, 60_000, 600_000),
    Lifetime(2, "HighLatency", "warning", 0, None, 200_000, by_itself=True),
    Lifetime(3, "HighLatency", "critical", 100_000, 220_000, None),
    Lifetime(4, "ServiceDown", "critical", 100_000, None, None),
]


def test_means_are_taken_of_what_happened_and_the_rest_is_counted() -> None:
    whole, critical, warning, down = stats_of(LIVES, 1_000_000)
    assert (whole.incidents, whole.open, whole.acknowledged, whole.open_unacknowledged) == (4, 2, 2, 1)
    assert (whole.mtta_ms, whole.mttr_ms, whole.longest_ms, whole.oldest_open_ms) == (90_000, 400_000, 600_000, 900_000)
    assert (critical.runbook, critical.severity) == ("HighLatency", "critical")
    assert (critical.mtta_ms, critical.mttr_ms) == (120_000, None), "an open incident has no time to resolve yet"
    assert (warning.mtta_ms, warning.by_itself) == (60_000, 1), "nobody's acknowledgement is not one after no time"
    assert (down.mtta_ms, down.mttr_ms, down.open_unacknowledged) == (None, None, 1)


def test_of_no_incidents_there_is_nothing_to_say() -> None:
    [whole] = stats_of([], 1)
    assert (whole.incidents, whole.mtta_ms, whole.oldest_open_ms) == (0, None, None)
