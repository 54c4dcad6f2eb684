"""Hours in which somebody can be told: when a notice is, and how long an acknowledgement may take.

Unless a row says otherwise the hours are Monday to Friday, 09:00 to 17:00 in Berlin.

```
        Mon 2 Mar 2026                Fri 6 Mar                                     Mon 9 Mar
   ──────├────────┤───── ... ────────├────────┤────────── Sat, Sun ────────────────├────────┤
         09      17                  09      17                                    09      17
```
"""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.response.hours import Hours, told_ms, unheard_until_ms
from engine.response.steps import Priority

BERLIN = "Europe/Berlin"
HOUR_MS = 3_600_000


def hours(start: str = "09:00", end: str = "17:00", days: str = "01234", zone: str = BERLIN) -> Hours:
    return Hours(frozenset(map(int, days)), dt.time.fromisoformat(start), dt.time.fromisoformat(end), zone)


def at(text: str, zone: str = BERLIN) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


OFFICE, NIGHT, ALWAYS = hours(), hours("22:00", "06:00", "4"), hours("00:00", "00:00", "0123456")


@pytest.mark.parametrize(
    ("given_hours", "now", "told"),
    [
        (OFFICE, "2026-03-06 08:59", "2026-03-06 09:00"),
        (OFFICE, "2026-03-06 09:00", "2026-03-06 09:00"),
        (OFFICE, "2026-03-06 16:59", "2026-03-06 16:59"),
        (OFFICE, "2026-03-06 17:00", "2026-03-09 09:00"),  # the end is out of hours, and then it is Saturday
        (OFFICE, "2026-03-08 12:00", "2026-03-09 09:00"),
        (OFFICE, "2026-03-28 12:00", "2026-03-30 09:00"),  # the clocks go forward in between: 44 hours later
        (OFFICE, "2026-10-24 12:00", "2026-10-26 09:00"),  # and back: 46 hours later
        (NIGHT, "2026-03-07 05:59", "2026-03-07 05:59"),  # Friday's night shift ends on Saturday
        (NIGHT, "2026-03-07 06:00", "2026-03-13 22:00"),
        (NIGHT, "2026-03-05 23:00", "2026-03-06 22:00"),  # Thursday's night is nobody's
        (ALWAYS, "2026-03-08 00:00", "2026-03-08 00:00"),
        (hours("02:30", "04:00", "6"), "2026-03-29 00:00", "2026-03-29 03:30"),  # 02:30 does not exist that day
        (hours("02:30", "03:00", "6"), "2026-03-29 00:00", "2026-04-05 02:30"),  # nor do these hours
    ],
)
def test_what_is_not_urgent_waits_until_the_hours_begin(given_hours: Hours, now: str, told: str) -> None:
    assert told_ms(given_hours, "P2", at(now)) == at(told)
    assert told_ms(given_hours, "P3", at(now)) == at(told)


@pytest.mark.parametrize("priority", ["P0", "P1"])
def test_what_is_urgent_never_waits(priority: Priority) -> None:
    sunday = at("2026-03-08 03:00")
    assert told_ms(OFFICE, priority, sunday) == sunday
    assert unheard_until_ms(["lead"], {"lead": OFFICE}, priority, sunday, HOUR_MS) == sunday + HOUR_MS


@pytest.mark.parametrize(
    ("told", "begun", "after_h", "due"),
    [
        ("lead", "2026-03-06 10:00", 4, "2026-03-06 14:00"),
        ("lead", "2026-03-06 16:00", 4, "2026-03-09 12:00"),  # one hour on Friday, three on Monday
        ("lead", "2026-03-06 13:00", 4, "2026-03-06 17:00"),
        ("lead", "2026-03-07 03:00", 4, "2026-03-09 13:00"),
        ("lead", "2026-03-05 09:00", 24, "2026-03-09 17:00"),  # three days of eight hours
        ("lead", "2026-03-27 16:00", 4, "2026-03-30 12:00"),
        ("night", "2026-03-28 00:00", 7, "2026-04-03 23:00"),  # six hours until 06:00, then Friday's first
        ("lead+night", "2026-03-06 16:00", 4, "2026-03-07 01:00"),  # whichever of the two can hear
        ("lead+on-call", "2026-03-06 16:00", 4, "2026-03-06 20:00"),  # one who can always be told
        ("on-call", "2026-03-06 16:00", 4, "2026-03-06 20:00"),
        ("", "2026-03-06 16:00", 4, "2026-03-06 20:00"),
    ],
)
def test_the_time_to_acknowledge_goes_by_while_somebody_can_hear(told: str, begun: str, after_h: int, due: str) -> None:
    names = told.split("+") if told else []
    known = {"lead": OFFICE, "night": NIGHT}
    assert unheard_until_ms(names, known, "P2", at(begun), after_h * HOUR_MS) == at(due)


def test_a_night_in_which_the_clocks_change_is_as_much_shorter_or_longer() -> None:
    night = hours("22:00", "06:00", "5")
    spring, autumn = at("2026-03-28 21:00"), at("2026-10-24 21:00")
    assert [end - start for start, end in (next(night.spans(spring)), next(night.spans(autumn)))] == [
        7 * HOUR_MS,
        9 * HOUR_MS,
    ]


TIMES = st.integers(at("2026-01-01 00:00"), at("2027-01-01 00:00"))
ANY = st.builds(
    Hours,
    st.frozensets(st.integers(0, 6), min_size=1),
    st.times(timezones=st.none()).map(lambda t: t.replace(second=0, microsecond=0)),
    st.times(timezones=st.none()).map(lambda t: t.replace(second=0, microsecond=0)),
    st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "UTC"]),
)


@given(ANY, TIMES)
def test_who_is_told_is_told_within_the_hours_and_not_again_later(any_hours: Hours, now_ms: int) -> None:
    told = any_hours.open_ms(now_ms)
    assert told >= now_ms
    assert any_hours.open_ms(told) == told


@given(ANY, TIMES, st.integers(1, 100 * HOUR_MS), st.integers(1, 100 * HOUR_MS))
def test_two_times_one_after_the_other_are_as_long_as_their_sum(
    any_hours: Hours, from_ms: int, first_ms: int, second_ms: int
) -> None:
    def until(begun_ms: int, after_ms: int) -> int:
        return unheard_until_ms(["lead"], {"lead": any_hours}, "P3", begun_ms, after_ms)

    assert until(until(from_ms, first_ms), second_ms) == until(from_ms, first_ms + second_ms)
    assert until(from_ms, first_ms) >= from_ms + first_ms
