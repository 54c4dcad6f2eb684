"""The settings of maintenance windows."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal, Self, get_args
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from engine.core.labels import MatcherSet, parse_matcher
from engine.edge.settings_base import Section
from engine.response.silences import Window

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DAYS: tuple[Weekday, ...] = get_args(Weekday)
_WEEK_S = 7 * 86_400


class MaintenanceWindow(Section):
    """Planned work that comes again: alerts that match are recorded, nothing is done and nobody is told."""

    name: str = Field(min_length=1, description="Named in the incidents that it holds.")
    match: list[str] = Field(
        min_length=1, description='Matchers as Alertmanager writes them, all must hold; everything: `alertname=~".+"`.'
    )
    weekdays: list[Weekday] = Field(
        default=list(_DAYS), min_length=1, description="Days on which it begins; left out: every day."
    )
    start: str = Field(
        pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="Time of day in `timezone` at which it begins, `HH:MM`."
    )
    duration_s: Annotated[float, Field(gt=0, le=_WEEK_S)] = Field(description="How long it lasts.")
    timezone: str = Field(default="UTC", description="Such as `Europe/Berlin`.")

    @model_validator(mode="after")
    def _usable(self) -> Self:
        self.window()
        return self

    def window(self) -> Window:
        """The window itself; raises `ValueError` for a bad matcher or an unknown time zone."""
        matchers = tuple(parse_matcher(text) for text in self.match)
        MatcherSet(matchers)
        try:
            ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"timezone {self.timezone!r} is not known") from error
        return Window(
            name=self.name,
            matchers=matchers,
            weekdays=frozenset(_DAYS.index(day) for day in self.weekdays),
            start=dt.time.fromisoformat(self.start),
            duration_ms=int(self.duration_s * 1000),
            timezone=self.timezone,
        )
