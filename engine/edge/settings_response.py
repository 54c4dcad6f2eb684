"""The settings of maintenance windows."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Self

from pydantic import Field, model_validator

from engine.core.labels import MatcherSet, parse_matcher
from engine.edge.settings_base import Section
from engine.edge.settings_times import WEEKDAYS, TimeOfDay, TimeZone, Weekday, numbers
from engine.response.silences import Window

_WEEK_S = 7 * 86_400


class MaintenanceWindow(Section):
    """Planned work that comes again: alerts that match are recorded, nothing is done and nobody is told."""

    name: str = Field(min_length=1, description="Named in the incidents that it holds.")
    match: list[str] = Field(
        min_length=1, description='Matchers as Alertmanager writes them, all must hold; everything: `alertname=~".+"`.'
    )
    weekdays: list[Weekday] = Field(
        default=list(WEEKDAYS), min_length=1, description="Days on which it begins; left out: every day."
    )
    start: TimeOfDay = Field(description="Time of day in `timezone` at which it begins, `HH:MM`.")
    duration_s: Annotated[float, Field(gt=0, le=_WEEK_S)] = Field(description="How long it lasts.")
    timezone: TimeZone = Field(default="UTC", description="Such as `Europe/Berlin`.")

    @model_validator(mode="after")
    def _usable(self) -> Self:
        self.window()
        return self

    def window(self) -> Window:
        """The window itself; raises `ValueError` for a bad matcher."""
        matchers = tuple(parse_matcher(text) for text in self.match)
        MatcherSet(matchers)
        return Window(
            name=self.name,
            matchers=matchers,
            weekdays=numbers(self.weekdays),
            start=dt.time.fromisoformat(self.start),
            duration_ms=int(self.duration_s * 1000),
            timezone=self.timezone,
        )
