"""How the console writes times, ages and labels."""

from __future__ import annotations

import pytest

from engine.console.pages import clock_time, place, span


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (59_999, "59 s"),
        (60_000, "1 min"),
        (200_000, "3 min 20 s"),
        (3_600_000, "1 h"),
        (7_500_000, "2 h 5 min"),
        (3_601_000, "1 h"),
        (90_000_000, "1 d 1 h"),
    ],
)
def test_a_length_of_time_is_written_in_its_two_largest_units(duration_ms, text):
    assert span(duration_ms) == text


def test_a_time_is_written_in_utc():
    assert clock_time(1_767_225_599_999) == "2025-12-31 23:59:59 UTC"


def test_a_label_set_is_shown_without_what_the_page_says_anyway():
    labels = {"alertname": "X", "severity": "critical", "namespace": "aureus", "job": "bridge"}
    assert place(labels) == "job=bridge namespace=aureus"
