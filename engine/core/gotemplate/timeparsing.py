"""Times read from text by a Go layout."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from engine.core.gotemplate.layouts import CHUNK, DAYS, MONTHS
from engine.core.gotemplate.times import Time, at_local

_READ = {
    "January": f"(?i:{'|'.join(MONTHS)})",
    "Jan": f"(?i:{'|'.join(name[:3] for name in MONTHS)})",
    "1": r"[0-9]{1,2}",
    "01": r"[0-9]{2}",
    "Monday": f"(?i:{'|'.join(DAYS)})",
    "Mon": f"(?i:{'|'.join(name[:3] for name in DAYS)})",
    "2": r"[0-9]{1,2}",
    "_2": r" ?[0-9]{1,2}",
    "02": r"[0-9]{1,2}",
    "__2": r" {0,2}[0-9]{1,3}",
    "002": r"[0-9]{3}",
    "15": r"[0-9]{1,2}",
    "3": r"[0-9]{1,2}",
    "03": r"[0-9]{2}",
    "4": r"[0-9]{1,2}",
    "04": r"[0-9]{2}",
    "5": r"[0-9]{1,2}(?:[.,][0-9]+)?",
    "05": r"[0-9]{2}(?:[.,][0-9]+)?",
    "2006": r"[0-9]{4}",
    "06": r"[0-9]{2}",
    "PM": "AM|PM",
    "pm": "am|pm",
    "MST": r"[A-Z]{3,4}|[+-][0-9]{2}",
}
_OFFSETS = {
    "07": r"[+-][0-9]{2}",
    "0700": r"[+-][0-9]{4}",
    "07:00": r"[+-][0-9]{2}:[0-9]{2}",
    "070000": r"[+-][0-9]{6}",
    "07:00:00": r"[+-][0-9]{2}:[0-9]{2}:[0-9]{2}",
}
_KINDS = {
    **dict.fromkeys(("January", "Jan", "1", "01"), "month"),
    **dict.fromkeys(("2", "_2", "02"), "day"),
    **dict.fromkeys(("__2", "002"), "yearday"),
    "15": "hour",
    **dict.fromkeys(("3", "03"), "hour12"),
    **dict.fromkeys(("4", "04"), "minute"),
    **dict.fromkeys(("5", "05"), "second"),
    "2006": "year",
    "06": "year2",
    **dict.fromkeys(("PM", "pm"), "half"),
    "MST": "name",
    **dict.fromkeys(("Monday", "Mon"), "weekday"),
}


def parse_time(layout: str, text: str, zone: tzinfo) -> Time:
    """The time that a text gives in a layout; in `zone` if the text has none. Raises `ValueError`."""
    pattern, done = "", 0
    chunks: list[str] = []
    for match in CHUNK.finditer(layout):
        chunk = match[0]
        pattern += re.escape(layout[done : match.start()]) + f"({_reader(chunk, chunks)})"
        chunks.append(chunk)
        done = match.end()
    found = re.fullmatch(pattern + re.escape(layout[done:]), text)
    if found is None:
        raise ValueError(f"{text!r} is not in the layout {layout!r}")
    parts: dict[str, str] = {}
    for chunk, value in zip(chunks, found.groups(), strict=True):
        parts[_KINDS.get(chunk, chunk[0])] = value.strip()
    return _assembled(parts, zone)


def _reader(chunk: str, before: list[str]) -> str:
    """The pattern for a chunk; a fraction of a second is read whether the layout has it or not."""
    if chunk in _READ:
        return _READ[chunk]
    if chunk[0] in ".,":
        if before and before[-1] in ("5", "05"):
            return ""
        return rf"[.,][0-9]{{{len(chunk) - 1}}}" if chunk[1] == "0" else r"(?:[.,][0-9]+)?"
    return ("Z|" if chunk[0] == "Z" else "") + _OFFSETS[chunk[1:]]


def _assembled(parts: dict[str, str], zone: tzinfo) -> Time:
    second, _, fraction = re.sub("[.,]", ".", parts.get("second", "0")).partition(".")
    fraction = fraction or parts.get(".", parts.get(",", ""))[1:]
    ns = int(fraction[:9].ljust(9, "0")) if fraction else 0
    year = int(parts.get("year", "0")) or _century(parts.get("year2"))
    moment = datetime(
        year, _month(parts.get("month", "1")), int(parts.get("day", "1")), _hour(parts), int(parts.get("minute", "0"))
    ) + timedelta(seconds=_below(int(second), 60), microseconds=ns // 1000)
    if "yearday" in parts:
        moment = moment.replace(month=1, day=1) + timedelta(days=int(parts["yearday"]) - 1)
    moment = moment.replace(tzinfo=_zone(parts, zone))
    if moment.tzinfo is not UTC and moment.astimezone(zone).utcoffset() == moment.utcoffset():
        moment = moment.astimezone(zone)  # the offset that is written is the zone's own
    return at_local(moment, ns % 1000)


def _below(value: int, limit: int) -> int:
    if value >= limit:
        raise ValueError("second out of range")
    return value


def _century(two_digits: str | None) -> int:
    if two_digits is None:
        return 1  # Go has a year 0, Python has not
    return int(two_digits) + (1900 if int(two_digits) >= 69 else 2000)


def _month(text: str) -> int:
    if text.isdigit():
        return int(text)
    return next(i for i, name in enumerate(MONTHS, 1) if name[:3].lower() == text[:3].lower())


def _hour(parts: dict[str, str]) -> int:
    hour = int(parts.get("hour", parts.get("hour12", "0")))
    half = parts.get("half", "").lower()
    if half == "pm" and hour < 12:
        return hour + 12
    return 0 if half == "am" and hour == 12 else hour


def _zone(parts: dict[str, str], zone: tzinfo) -> tzinfo:
    offset = parts.get("-", parts.get("Z", ""))
    if offset == "Z" or (not offset and parts.get("name") in ("UTC", "GMT")):
        return UTC
    if not offset:
        return zone
    digits = offset[1:].replace(":", "").ljust(6, "0")
    seconds = int(digits[:2]) * 3600 + int(digits[2:4]) * 60 + int(digits[4:])
    return timezone(timedelta(seconds=-seconds if offset[0] == "-" else seconds)) if seconds else UTC
