"""The storm brake: what counts as many things failing at once, in timelines of one letter a second."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.response.storm import Firing, storm_of, subject_of, words

WINDOW_MS, MOST = 10_000, 2


def firings(timeline: str) -> list[Firing]:
    """A letter is a subject that begins to fire at that second, a dot a second in which none does."""
    return [Firing(at_s, name, at_s * 1000) for at_s, name in enumerate(timeline, 1) if name != "."]


@pytest.mark.parametrize(
    ("situation", "timeline", "own", "now_s", "subjects"),
    [
        ("one", "a", 1, 1, None),
        ("as many as may be", "ab", 2, 2, None),
        ("one more", "abc", 3, 3, 3),
        ("the first belongs to it", "abc", 1, 3, 3),
        ("the same one again and again", "aaaaab", 6, 6, None),
        ("too far apart", "ab........c", 11, 11, None),
        ("just within the window", "ab.......c", 10, 10, 3),
        ("windows that overlap are one storm", "abc.....d.e", 11, 11, 5),
        ("it had fired long before, and a storm is on", "x.............abc", 1, 17, 3),
        ("the same, when it has passed", "x.............abc", 1, 27, None),
        ("its own storm is never over for it", "abc", 1, 3600, 3),
        ("between two storms", "abc...........x...........def", 15, 15, None),
        ("the second of two storms", "abc......................def", 28, 28, 3),
    ],
)
def test_more_subjects_than_may_be_within_a_window_are_a_storm(
    situation: str, timeline: str, own: int, now_s: int, subjects: int | None
) -> None:
    known = [one for one in firings(timeline) if one.fired_ms <= now_s * 1000]
    [mine] = [one for one in known if one.incident == own]
    found = storm_of(known, mine, now_s * 1000, WINDOW_MS, MOST)
    assert (found.subjects if found else None) == subjects, situation


def test_the_incident_itself_need_not_be_written_down_yet() -> None:
    known, own = firings("ab"), Firing(9, "c", 3000)
    found = storm_of(known, own, 3000, WINDOW_MS, MOST)
    assert found is not None
    assert words(found, WINDOW_MS) == "3 targets fail at once (within 10s): suspect the monitoring"


def test_a_storm_keeps_its_number_when_what_began_it_fires_anew() -> None:
    known = firings("abcd")
    first = storm_of(known, known[0], 4000, WINDOW_MS, MOST)
    assert first is not None
    assert first.number == 1000
    anew = [Firing(1, "a", 8000), *(Firing(one.incident, one.subject, one.fired_ms, 1000) for one in known[1:])]
    again = storm_of(anew, anew[0], 8000, WINDOW_MS, MOST)
    assert again is not None
    assert (again.number, again.begun_ms) == (1000, 2000)


@pytest.mark.parametrize(
    ("group", "subject"),
    [
        ({"service": "bridge", "namespace": "aureus"}, '{"namespace":"aureus","service":"bridge"}'),
        ({"namespace": "aureus", "service": "bridge", "reason": ""}, '{"namespace":"aureus","service":"bridge"}'),
        ({"service": "bridge", "reason": "tampered", "severity": "critical"}, '{"service":"bridge"}'),
        ({"job": "node", "instance": "a:9100"}, '{"instance":"a:9100","job":"node"}'),
        ({"user": "mallory"}, '{"user":"mallory"}'),
        ({"service": ""}, "HighLatency"),
        ({}, "HighLatency"),
    ],
)
def test_what_fails_is_what_incidents_are_grouped_by(group: dict[str, str], subject: str) -> None:
    assert subject_of("HighLatency", group) == subject


@given(st.lists(st.tuples(st.integers(0, 60), st.sampled_from("abcdefg")), min_size=1, max_size=30), st.data())
def test_it_is_a_storm_exactly_if_some_window_has_too_many(fired: list[tuple[int, str]], data: st.DataObject) -> None:
    known = [Firing(number, name, at_s * 1000) for number, (at_s, name) in enumerate(fired)]
    own = data.draw(st.sampled_from(known))
    now_ms = max(one.fired_ms for one in known)

    def crowded(end_ms: int) -> bool:
        within = {one.subject for one in known if end_ms - WINDOW_MS < one.fired_ms <= end_ms}
        return len(within) > MOST

    ends = [one.fired_ms for one in known if crowded(one.fired_ms)]
    expected = any(end - WINDOW_MS < own.fired_ms <= end or now_ms - end < WINDOW_MS for end in ends)
    assert (storm_of(known, own, now_ms, WINDOW_MS, MOST) is not None) == expected
