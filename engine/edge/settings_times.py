"""Days, times of day and time zones as settings write them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Annotated, Literal, get_args
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, StringConstraints

from engine.edge.settings_base import Section
from engine.response.hours import Hours

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)
TimeOfDay = Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]


def _known_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"timezone {value!r} is not known") from error
    return value


TimeZone = Annotated[str, AfterValidator(_known_zone)]


def numbers(weekdays: Iterable[Weekday]) -> frozenset[int]:
    """The days by their number, Monday 0."""
    return frozenset(WEEKDAYS.index(day) for day in weekdays)


class BusinessHours(Section):
    """When a receiver is told of incidents of P2 and P3; what comes at another time waits. P0 and P1 never wait."""

    weekdays: list[Weekday] = Field(
        default=list(WEEKDAYS[:5]),
        min_length=1,
        description="Days on which the hours begin; left out: Monday to Friday.",
    )
    start: TimeOfDay = Field(description="Time of day in `timezone` at which they begin, `HH:MM`.")
    end: TimeOfDay = Field(description="Time of day at which they end, on the next day if it is not after `start`.")
    timezone: TimeZone = Field(default="UTC", description="Such as `Europe/Berlin`.")

    def hours(self) -> Hours:
        """The hours themselves."""
        start, end = dt.time.fromisoformat(self.start), dt.time.fromisoformat(self.end)
        return Hours(numbers(self.weekdays), start, end, self.timezone)
