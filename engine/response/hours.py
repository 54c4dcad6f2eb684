"""Hours in which somebody can be told: what they hold back, and how time goes by while nobody can hear.

    weekdays Mon-Fri, 09:00-17:00      Fri 16:00        17:00 ...... Mon 09:00         12:00
    a P2 notice at Fri 18:00             |                |············▶ told            |
    `after: 4h` from Fri 16:00           ├───── 1h ───────┤ (does not go by) ├─── 3h ────┤ next level

P0 and P1 are never held back, and their time always goes by. Pure: hours and the time are passed in.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Mapping, Sequence
from zoneinfo import ZoneInfo

from msgspec import Struct

from engine.response.steps import Priority

URGENT: frozenset[Priority] = frozenset({"P0", "P1"})
"""Told at any hour."""

_DAY = dt.timedelta(days=1)


class Hours(Struct, frozen=True):
    """From `start` to `end`, wall-clock times of its time zone, on days that begin on `weekdays` (Monday 0).

    An end that is not after the start is on the next day; one that equals it makes a whole day of it. A day on which
    the clocks change is as much longer or shorter. There must be a weekday.
    """

    weekdays: frozenset[int]
    start: dt.time
    end: dt.time
    timezone: str = "UTC"

    def spans(self, from_ms: int) -> Iterator[tuple[int, int]]:
        """The spans of time in which somebody can be told, what of them lies after `from_ms`; they go on for ever."""
        zone = ZoneInfo(self.timezone)
        day = dt.datetime.fromtimestamp(from_ms / 1000, zone).date() - _DAY
        while True:
            last = day + _DAY if self.end <= self.start else day
            start_ms, end_ms = _at_ms(day, self.start, zone), _at_ms(last, self.end, zone)
            if day.weekday() in self.weekdays and end_ms > max(start_ms, from_ms):
                yield max(start_ms, from_ms), end_ms
            day += _DAY

    def open_ms(self, now_ms: int) -> int:
        """When somebody can be told next: now, or when the hours begin."""
        return next(self.spans(now_ms))[0]


def told_ms(hours: Hours | None, priority: Priority, now_ms: int) -> int:
    """When a receiver may be told of something with this priority: now, or when its hours begin."""
    return now_ms if hours is None or priority in URGENT else hours.open_ms(now_ms)


def unheard_until_ms(
    told: Collection[str], hours: Mapping[str, Hours], priority: Priority, from_ms: int, after_ms: int
) -> int:
    """When `after_ms` have gone by in which one of those told at `from_ms` could hear; `hours` by receiver."""
    own = [hours[name] for name in told if name in hours]
    if priority in URGENT or not own or len(own) < len(told):
        return from_ms + after_ms
    return _gone_by_ms(own, from_ms, after_ms)


def _gone_by_ms(hours: Sequence[Hours], from_ms: int, span_ms: int) -> int:
    """When so much time has gone by within any of the hours."""
    at_ms, left_ms = from_ms, span_ms
    while True:
        start_ms, end_ms = min(next(one.spans(at_ms)) for one in hours)
        if left_ms <= end_ms - start_ms:
            return start_ms + left_ms
        left_ms -= end_ms - start_ms
        at_ms = end_ms


def _at_ms(day: dt.date, time: dt.time, zone: ZoneInfo) -> int:
    return int(dt.datetime.combine(day, time, zone).timestamp() * 1000)
