"""Go's `time.Time` and `time.Duration`, with the methods that templates call."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any, ClassVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from engine.core.gotemplate.functions import Function, function
from engine.core.gotemplate.layouts import DAYS, MONTHS, format_time
from engine.core.gotemplate.numerals import fits_int64
from engine.core.gotemplate.values import Int64, Named, Stringer, TemplateError, Value

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND_NS = 1_000_000_000
_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": SECOND_NS,
    "m": 60 * SECOND_NS,
    "h": 3_600 * SECOND_NS,
}
_PART = re.compile(r"([0-9]*)(\.[0-9]*)?(ns|us|µs|μs|ms|s|m|h)")


class Month(Named):
    """Go's time.Month."""

    go_type = "time.Month"

    def string(self) -> str:
        """The English name."""
        return MONTHS[self - 1]


class Weekday(Named):
    """Go's time.Weekday; Sunday is 0."""

    go_type = "time.Weekday"

    def string(self) -> str:
        """The English name."""
        return DAYS[self]


class Duration(Named):
    """Go's time.Duration: nanoseconds."""

    go_type = "time.Duration"
    go_methods: ClassVar[Mapping[str, Function]]

    def string(self) -> str:
        """`1h2m3.5s`; below a second in the largest unit that gives a whole number before the point."""
        size, sign = abs(int(self)), "-" if self < 0 else ""
        if size == 0:
            return "0s"
        if size < SECOND_NS:
            unit = next(unit for unit in ("ms", "µs", "ns") if size >= _UNITS_NS[unit])
            return sign + _with_fraction(size, _UNITS_NS[unit]) + unit
        minutes, rest = divmod(size, 60 * SECOND_NS)
        hours, minutes = divmod(minutes, 60)
        seconds = _with_fraction(rest, SECOND_NS) + "s"
        if hours:
            return f"{sign}{hours}h{minutes}m{seconds}"
        return f"{sign}{minutes}m{seconds}" if minutes else sign + seconds


def _with_fraction(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    digits = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)


def parse_duration(text: str) -> Duration:
    """A Go duration such as `1h2m0.5s`. Raises `TemplateError`."""
    body = text[1:] if text[:1] in ("+", "-") else text
    if body == "0":
        return Duration(0)
    total, at = 0, 0
    for match in _PART.finditer(body):
        fraction = (match[2] or ".")[1:]
        if match.start() != at or not (match[1] or fraction):
            break
        unit = _UNITS_NS[match[3]]
        total += int(match[1] or 0) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
        at = match.end()
    if at != len(body) or not body or not fits_int64(total):
        raise TemplateError(f'time: invalid duration "{text}"')
    return Duration(-total if text[0] == "-" else total)


@dataclass(frozen=True)
class Time(Stringer):
    """A point in time: nanoseconds since 1970 in UTC, shown in a zone."""

    unix_ns: int
    zone: tzinfo = field(default=UTC, compare=False)

    go_type = "time.Time"
    go_methods: ClassVar[Mapping[str, Function]]

    def string(self) -> str:
        """As Go prints a time: date, time, offset and zone."""
        return self.format("2006-01-02 15:04:05.999999999 -0700 MST")

    def go_string(self) -> str:
        """As Go source."""
        at, zone = self.local(), "time.UTC" if self.zone is UTC else f'time.Location("{self.zone}")'
        parts = f"{at.day}, {at.hour}, {at.minute}, {at.second}, {self.unix_ns % SECOND_NS}"
        return f"time.Date({at.year}, time.{MONTHS[at.month - 1]}, {parts}, {zone})"

    def local(self) -> datetime:
        """Date and time in the zone, to the microsecond. Raises `TemplateError` beyond the years 1 to 9999."""
        try:
            return (EPOCH + timedelta(microseconds=self.unix_ns // 1000)).astimezone(self.zone)
        except (OverflowError, ValueError):
            raise TemplateError(f"time {self.unix_ns} ns is beyond the years 1 to 9999") from None

    def format(self, layout: str) -> str:
        """The time in a Go layout."""
        return format_time(self.local(), self.unix_ns % SECOND_NS, self.zone_name(), layout)

    def zone_name(self) -> str:
        """The zone's short name, or its offset where it has none."""
        if self.zone is UTC:
            return "UTC"
        name = self.local().tzname() or ""
        return "" if name.startswith("UTC") and isinstance(self.zone, timezone) else name


ZERO_TIME = Time(-62_135_596_800 * SECOND_NS)  # 1 January of the year 1, Go's zero time


@lru_cache(maxsize=500)  # the name may come out of a log line
def load_zone(name: str) -> tzinfo:
    """A time zone by its IANA name; UTC for an unknown one, and for `Local`: a replay must not hang on the machine."""
    if name in ("", "UTC", "Local"):
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def from_seconds(seconds: float) -> Time:
    """The time so many seconds after 1970. Raises `TemplateError` if Go's nanoseconds cannot hold it."""
    ns = seconds * 1e9
    if not -(2.0**63) <= ns < 2.0**63:
        raise TemplateError(f"{seconds:g} cannot be represented as a nanoseconds timestamp since it overflows int64")
    return Time(int(ns))


def _added(time: Time, duration: Duration) -> Time:
    return Time(time.unix_ns + duration, time.zone)


def _date_added(time: Time, years: int, months: int, days: int) -> Time:
    local = time.local()
    extra, month = divmod(local.month - 1 + months, 12)
    try:
        moved = local.replace(year=local.year + years + extra, month=month + 1, day=1)
        moved += timedelta(days=local.day - 1 + days)
    except (OverflowError, ValueError):
        raise TemplateError("time is beyond the years 1 to 9999") from None
    return at_local(moved, time.unix_ns % 1000)


def at_local(moment: datetime, ns: int = 0) -> Time:
    """The time of a local date and time, plus nanoseconds below its microsecond."""
    since = moment - EPOCH
    zone = moment.tzinfo or UTC
    return Time(((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000 + ns, zone)


def _truncated(time: Time, duration: Duration) -> Time:
    if duration <= 0:
        return time
    return Time(time.unix_ns - (time.unix_ns - ZERO_TIME.unix_ns) % duration, time.zone)


def _part(read: Callable[[datetime], Value]) -> Function:
    return function(lambda time: read(time.local()))


def _of(read: Callable[[Any], Value], signature: str = "") -> Function:
    return function(read, signature)


Duration.go_methods = {
    "String": _of(Duration.string),
    "Hours": _of(lambda duration: duration / _UNITS_NS["h"]),
    "Minutes": _of(lambda duration: duration / _UNITS_NS["m"]),
    "Seconds": _of(lambda duration: duration / SECOND_NS),
    "Milliseconds": _of(lambda duration: Int64(int(duration / 1_000_000))),
    "Microseconds": _of(lambda duration: Int64(int(duration / 1_000))),
    "Nanoseconds": _of(Int64),
    "Abs": _of(lambda duration: Duration(abs(duration))),
}
Time.go_methods = {
    "String": _of(Time.string),
    "Format": function(Time.format, "string"),
    "Unix": _of(lambda time: Int64(time.unix_ns // SECOND_NS)),
    "UnixMilli": _of(lambda time: Int64(time.unix_ns // 1_000_000)),
    "UnixMicro": _of(lambda time: Int64(time.unix_ns // 1_000)),
    "UnixNano": _of(lambda time: Int64(time.unix_ns)),
    "UTC": _of(lambda time: Time(time.unix_ns)),
    "Local": _of(lambda time: Time(time.unix_ns)),
    "IsZero": _of(lambda time: time == ZERO_TIME),
    "Add": function(_added, "time.Duration"),
    "AddDate": function(_date_added, "int int int"),
    "Sub": function(lambda time, other: Duration(time.unix_ns - other.unix_ns), "time.Time"),
    "Before": function(lambda time, other: time.unix_ns < other.unix_ns, "time.Time"),
    "After": function(lambda time, other: time.unix_ns > other.unix_ns, "time.Time"),
    "Equal": function(lambda time, other: time.unix_ns == other.unix_ns, "time.Time"),
    "Truncate": function(_truncated, "time.Duration"),
    "Year": _part(lambda local: local.year),
    "Month": _part(lambda local: Month(local.month)),
    "Day": _part(lambda local: local.day),
    "YearDay": _part(lambda local: local.timetuple().tm_yday),
    "Weekday": _part(lambda local: Weekday(local.isoweekday() % 7)),
    "Hour": _part(lambda local: local.hour),
    "Minute": _part(lambda local: local.minute),
    "Second": _part(lambda local: local.second),
    "Nanosecond": _of(lambda time: time.unix_ns % SECOND_NS),
}
