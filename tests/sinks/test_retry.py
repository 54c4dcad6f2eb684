"""What an answer means, and how long to wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.sinks.retry import LONGEST_ASKED_MS, LONGEST_MS, Backoff, retry_after_ms, verdict


@pytest.mark.parametrize(
    ("status", "meant"),
    [
        (200, "taken"),
        (204, "taken"),
        (301, "refused"),
        (400, "refused"),
        (404, "refused"),
        (429, "later"),
        (500, "later"),
        (503, "later"),
    ],
)
def test_an_answer_is_taken_refused_or_later(status: int, meant: str) -> None:
    assert verdict(status) == meant


@pytest.mark.parametrize(
    ("header", "pause_ms"),
    [
        ("", 0),
        ("7", 7_000),
        ("0", 0),
        ("-3", 0),
        ("soon", 0),
        ("99999999999999", LONGEST_ASKED_MS),
        ("Thu, 01 Jan 1970 00:01:30 GMT", 30_000),
        ("Thu, 01 Jan 1970 00:00:30 GMT", 0),
    ],
)
def test_a_receiver_may_ask_to_be_left_alone_for_a_while(header: str, pause_ms: int) -> None:
    assert retry_after_ms(header, now_ms=60_000) == pause_ms


@given(st.text())
def test_any_header_gives_a_bounded_pause(header: str) -> None:
    assert 0 <= retry_after_ms(header, 0) <= LONGEST_ASKED_MS


def test_pauses_double_up_to_a_limit_and_begin_anew_after_a_success() -> None:
    backoff = Backoff()
    assert [backoff.failed() for _ in range(10)] == [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]
    backoff.succeeded()
    assert (backoff.failed(), backoff.failed(asked_ms=7_000)) == (200, 7_000)
    assert backoff.failed() < LONGEST_MS
