"""Go's time layouts: the reference time `Mon Jan 2 15:04:05 MST 2006` written the way a time is to be written."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta

MONTHS = "January February March April May June July August September October November December".split()  # noqa: SIM905
DAYS = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday".split()  # noqa: SIM905
CHUNK = re.compile(
    r"January|Jan(?![a-z])|Monday|Mon(?![a-z])|MST|2006|__2|_2(?!006)|002|0[1-6]|15|PM|pm"
    r"|[-Z]07:00:00|[-Z]070000|[-Z]07:00|[-Z]0700|[-Z]07|[.,](?:0+|9+)(?![0-9])|[1-5]"
)
_WRITE: dict[str, Callable[[datetime], str]] = {
    "January": lambda at: MONTHS[at.month - 1],
    "Jan": lambda at: MONTHS[at.month - 1][:3],
    "1": lambda at: str(at.month),
    "01": lambda at: f"{at.month:02}",
    "Monday": lambda at: DAYS[at.isoweekday() % 7],
    "Mon": lambda at: DAYS[at.isoweekday() % 7][:3],
    "2": lambda at: str(at.day),
    "_2": lambda at: f"{at.day:2}",
    "02": lambda at: f"{at.day:02}",
    "__2": lambda at: f"{at.timetuple().tm_yday:3}",
    "002": lambda at: f"{at.timetuple().tm_yday:03}",
    "15": lambda at: f"{at.hour:02}",
    "3": lambda at: str((at.hour + 11) % 12 + 1),
    "03": lambda at: f"{(at.hour + 11) % 12 + 1:02}",
    "4": lambda at: str(at.minute),
    "04": lambda at: f"{at.minute:02}",
    "5": lambda at: str(at.second),
    "05": lambda at: f"{at.second:02}",
    "2006": lambda at: f"{at.year:04}",
    "06": lambda at: f"{at.year % 100:02}",
    "PM": lambda at: "PM" if at.hour >= 12 else "AM",
    "pm": lambda at: "pm" if at.hour >= 12 else "am",
}


def format_time(local: datetime, ns: int, zone_name: str, layout: str) -> str:
    """A local date and time in a layout. `ns`: the nanoseconds of its second; a zone without a name is its offset."""
    offset_s = int((local.utcoffset() or timedelta()).total_seconds())

    def written(match: re.Match[str]) -> str:
        chunk = match[0]
        if chunk in _WRITE:
            return _WRITE[chunk](local)
        if chunk[0] in ".,":
            return _fraction(ns, chunk)
        if chunk == "MST":
            return zone_name or _offset(offset_s, "0700")
        return "Z" if chunk[0] == "Z" and offset_s == 0 else _offset(offset_s, chunk[1:])

    return CHUNK.sub(written, layout)


def _fraction(ns: int, chunk: str) -> str:
    digits = f"{ns:09}".ljust(len(chunk) - 1, "0")[: len(chunk) - 1]
    if chunk[1] == "0":
        return chunk[0] + digits
    digits = digits.rstrip("0")
    return chunk[0] + digits if digits else ""


def _offset(offset_s: int, form: str) -> str:
    minutes, seconds = divmod(abs(offset_s), 60)
    parts = [f"{minutes // 60:02}", f"{minutes % 60:02}", f"{seconds:02}"]
    count = len(form.replace(":", "")) // 2
    return ("-" if offset_s < 0 else "+") + (":" if ":" in form else "").join(parts[:count])
