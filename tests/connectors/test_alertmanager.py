"""What posted alerts mean: said once, ended by their sender or by its silence, and the two told apart."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import DecodeError
from connectors._alertmanager import Board, External, decode
from engine.core.messages import Transition

T0 = 1_700_000_000_000
MINUTE = 60_000
LABELS = {"alertname": "DiskFull", "instance": "db:1"}


def posted(**fields: Any) -> bytes:
    return json.dumps([{"labels": LABELS, **fields}]).encode()


def read(body: bytes, now_ms: int = T0) -> External:
    (alert,), problems = decode(body, now_ms, 5 * MINUTE)
    assert problems == []
    return alert


def alert(starts: float = 0, ends: float = 5) -> External:
    """An alert that started and may be believed until so many minutes after T0."""
    return External(LABELS, {"summary": "full"}, round(T0 + starts * MINUTE), round(T0 + ends * MINUTE))


class Story:
    """A board, and what was said: (state, minute, cause)."""

    def __init__(self) -> None:
        self.board = Board(window_ms=MINUTE)
        self.said: list[Transition] = []

    def post(self, at: float, one: External) -> None:
        self._keep(self.board.change(one, round(T0 + at * MINUTE)))

    def time(self, at: float) -> None:
        for change in self.board.expired(round(T0 + at * MINUTE)):
            self._keep(change)

    def _keep(self, change: Any) -> None:
        if change.transition is not None:
            self.said.append(change.transition)
        self.board.keep(change)

    def told(self) -> list[tuple[str, float, str]]:
        return [(one.state, (one.at_ms - T0) / MINUTE, one.cause) for one in self.said]


def test_an_alert_is_read_as_prometheus_sends_it():
    body = posted(
        annotations={"summary": "full", "empty": ""},
        startsAt="2023-11-14T22:13:20.5Z",
        endsAt="2023-11-14T23:17:20+01:00",
        generatorURL="http://p/graph?x",
    )
    assert read(body) == External(
        LABELS, {"summary": "full", "generatorURL": "http://p/graph?x"}, T0 + 500, T0 + 4 * MINUTE
    )


@pytest.mark.parametrize(
    ("fields", "span"),
    [
        ({}, (T0, T0 + 5 * MINUTE)),
        ({"startsAt": "0001-01-01T00:00:00Z", "endsAt": "0001-01-01T00:00:00.000Z"}, (T0, T0 + 5 * MINUTE)),
        ({"endsAt": "2023-11-14T22:12:20Z"}, (T0 - MINUTE, T0 - MINUTE)),
        ({"endsAt": "2023-11-14T22:14:20Z"}, (T0, T0 + MINUTE)),
    ],
)
def test_times_that_are_not_given_are_filled_in_as_alertmanager_does(fields: dict[str, str], span: tuple[int, int]):
    found = read(posted(**fields))
    assert (found.starts_ms, found.ends_ms) == span


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"labels": {}}, "at least one label pair required"),
        ({"labels": {"a": ""}}, "at least one label pair required"),
        ({"labels": {"1a": "x"}}, "invalid label set: invalid name '1a'"),
        ({"annotations": {"a-b": "x"}}, "invalid annotation set"),
        ({"startsAt": "2023-11-14T22:14:20Z", "endsAt": "2023-11-14T22:13:20Z"}, "start time must be before end time"),
    ],
)
def test_an_alert_that_is_none_is_told_and_the_others_are_taken(fields: dict[str, Any], reason: str):
    body = json.dumps([{"labels": LABELS, **fields}, {"labels": LABELS}]).encode()
    alerts, (problem,) = decode(body, T0, 5 * MINUTE)
    assert len(alerts) == 1
    assert problem.startswith(f"alert 0: {reason}")


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b'[{"labels": 1}]', b"[{}]", b'[{"labels":{},"startsAt":"x"}]'])
def test_a_body_that_is_no_list_of_alerts_is_refused(body: bytes):
    with pytest.raises(DecodeError, match="bad_alerts"):
        decode(body, T0, 1)


#  posts    fires     fires     fires     ends at 7 (posted at 7.5, and again)
#  minute   0         1         2         7.5   8
def test_an_alert_is_said_once_however_often_it_is_posted():
    story = Story()
    for at in (0, 1, 2):
        story.post(at, alert(ends=at + 5))
    for at in (7.5, 8):
        story.post(at, alert(ends=7))
    assert story.told() == [("firing", 0, "condition"), ("resolved", 7, "cleared")]
    fired, resolved = story.said
    assert (fired.rule, fired.previous, fired.window_ms) == ("alertmanager/DiskFull", "inactive", MINUTE)
    assert (resolved.previous, resolved.active_since_ms) == ("firing", T0)


#  posts    fires, ends 4               fires again (as before)
#  minute   0               3.9   4     6
def test_silence_ends_an_alert_and_is_not_taken_for_a_repair():
    story = Story()
    story.post(0, alert(ends=4))
    story.time(3.9)
    assert len(story.said) == 1
    story.time(4)
    story.time(5)
    assert story.told() == [("firing", 0, "condition"), ("resolved", 4, "no_data")]
    story.post(6, alert(ends=10))
    assert story.told()[2:] == [("firing", 4, "condition")]
    assert len({one.id for one in story.said}) == 3  # that it goes on is news


def test_the_end_of_an_alert_that_fell_silent_is_not_said_twice():
    story = Story()
    story.post(0, alert(ends=4))
    story.time(4)
    story.post(6, alert(ends=5.5))
    assert [state for state, _, _ in story.told()] == ["firing", "resolved"]


def test_an_alert_that_fires_anew_is_news():
    story = Story()
    story.post(0, alert(ends=4))
    story.post(2, alert(ends=2))
    story.post(3, alert(starts=3, ends=8))
    assert story.told()[2:] == [("firing", 3, "condition")]


def test_a_process_that_knows_nothing_says_the_same_again_with_the_same_ids():
    first, second = Story(), Story()
    first.post(0, alert(ends=4))
    for story in (first, second):  # the second has just started
        story.post(1, alert(ends=5))
        story.post(9, alert(ends=8))
    assert [one.id for one in first.said] == [one.id for one in second.said]


def test_ends_are_forgotten_after_a_while():
    story = Story()
    story.post(0, alert(ends=4))
    story.time(4)
    story.board.forget(T0 + 4 * MINUTE)
    assert story.board.ended
    story.board.forget(T0 + 4 * MINUTE + 1)
    assert not story.board.ended


STEPS = st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["fires", "ends", "time"])), max_size=30)


@given(STEPS)
def test_firing_and_resolved_take_turns_and_time_does_not_go_back(steps: list[tuple[int, str]]):
    story, now, starts = Story(), 0, 0
    for pause, what in steps:
        now += pause
        if what == "fires":
            starts = starts if story.board.active else now
            story.post(now, alert(starts, now + 3))
        elif what == "ends":
            story.post(now, alert(starts, now))
        else:
            story.time(now)
    states = [state for state, _, _ in story.told()]
    times = [minute for _, minute, _ in story.told()]
    if states and states[0] == "resolved":  # of an alert that began before
        states, times = states[1:], times[1:]
    assert all(one != other for one, other in pairwise(states)), story.told()
    assert times == sorted(times)
