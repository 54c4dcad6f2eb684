"""Loki's functions on dates. Where Loki takes its server's zone this takes UTC, so that a replay says the same."""

from __future__ import annotations

import re
from datetime import tzinfo

from engine.core.gotemplate.frame import Frame
from engine.core.gotemplate.functions import Functions, function
from engine.core.gotemplate.timeparsing import parse_time
from engine.core.gotemplate.times import SECOND_NS, ZERO_TIME, Time, load_zone
from engine.core.gotemplate.values import Named, TemplateError, Uint8, Value

_EPOCH = re.compile(r"[+-]?[0-9]+")
_EPOCH_UNITS_NS = {5: 86_400 * SECOND_NS, 10: SECOND_NS, 13: 1_000_000, 16: 1_000, 19: 1}  # by number of digits


def now(frame: Frame) -> Time:
    """The time that the caller gave."""
    if frame.context.now_ms is None:
        raise TemplateError("there is no time here")
    return Time(frame.context.now_ms * 1_000_000)


def date(frame: Frame, layout: str, value: Value) -> str:
    """A time, or seconds since 1970, in a Go layout; anything else counts as now."""
    if isinstance(value, Time):
        return Time(value.unix_ns).format(layout)
    if isinstance(value, int) and not isinstance(value, bool | Uint8 | Named):
        return Time(value * SECOND_NS).format(layout)
    return now(frame).format(layout)


def to_date(layout: str, text: str, zone: tzinfo) -> Time:
    """The time that a text gives in a layout; Go's zero time, 1 January of the year 1, if it does not fit."""
    try:
        return parse_time(layout, text, zone)
    except (ValueError, OverflowError):
        return ZERO_TIME


def unix_to_time(epoch: str) -> Time:
    """Days, seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their number of digits."""
    unit = _EPOCH_UNITS_NS.get(len(epoch))
    if unit is None or not _EPOCH.fullmatch(epoch):
        raise TemplateError(f"unable to parse time {epoch!r} (5, 10, 13, 16 or 19 digits)")
    return Time(int(epoch) * unit)


FUNCTIONS: Functions = {
    "now": function(now, takes_context=True),
    "date": function(date, "string any", takes_context=True),
    "toDate": function(lambda layout, text: to_date(layout, text, load_zone("UTC")), "string string"),
    "toDateInZone": function(lambda layout, zone, text: to_date(layout, text, load_zone(zone)), "string string string"),
    "unixToTime": function(unix_to_time, "string"),
    "unixEpoch": function(lambda time: str(time.unix_ns // SECOND_NS), "time.Time"),
    "unixEpochMillis": function(lambda time: str(time.unix_ns // 1_000_000), "time.Time"),
    "unixEpochNanos": function(lambda time: str(time.unix_ns), "time.Time"),
}
