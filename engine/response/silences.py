"""Silences and maintenance windows: while one holds for an alert, nothing is done about it and nobody is told.

The incident is opened and investigated as ever, so that what happened is known afterwards; a command is refused with
the reason `silenced` or `maintenance`. When the time is over and the alert still fires, its runbook starts again.

    alert     ────firing─────────────────────────────────────▶
    silence   ········├──────────────────────┤················
    incident  open, investigated, held       runbook again

Pure: what there is and the time are passed in (design: Safety 4).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

from msgspec import Struct

from engine.core.labels import Matcher, MatcherSet

MuteReason = Literal["silenced", "maintenance"]
SilenceKind = Literal["silence", "maintenance"]
_DAY_MS = 86_400_000
_LAST_MS = 253_402_300_799_000  # the end of the year 9999, which a calendar still has
_REASON: dict[SilenceKind, MuteReason] = {"silence": "silenced", "maintenance": "maintenance"}


class Silence(Struct, frozen=True):
    """What a person has said: from `starts_ms` until `ends_ms` alerts that all `matchers` fit are left alone.

    `kind` maintenance: the same for planned work, told apart in the audit.
    """

    id: str
    matchers: tuple[Matcher, ...]
    starts_ms: int
    ends_ms: int
    by: str
    comment: str
    kind: SilenceKind = "silence"

    def state(self, now_ms: int) -> Literal["pending", "active", "expired"]:
        """Where it stands, in Alertmanager's words."""
        if now_ms >= self.ends_ms:
            return "expired"
        return "active" if now_ms >= self.starts_ms else "pending"


class Window(Struct, frozen=True):
    """A maintenance window of the settings: on `weekdays` (Monday 0) at `start` of its time zone, for `duration_ms`.

    The start is wall-clock time there; the duration is time that passes, also over a change of the clocks.
    """

    name: str
    matchers: tuple[Matcher, ...]
    weekdays: frozenset[int]
    start: dt.time
    duration_ms: int
    timezone: str = "UTC"

    def until_ms(self, now_ms: int) -> int | None:
        """When the occurrence that is under way ends (the last one, should two overlap); None outside."""
        zone = ZoneInfo(self.timezone)
        today = dt.datetime.fromtimestamp(now_ms / 1000, zone).date()
        for back in range(self.duration_ms // _DAY_MS + 2):
            day = today - dt.timedelta(days=back)
            start_ms = int(dt.datetime.combine(day, self.start, zone).timestamp() * 1000)
            if day.weekday() in self.weekdays and start_ms <= now_ms < start_ms + self.duration_ms:
                return start_ms + self.duration_ms
        return None


class Mute(Struct, frozen=True):
    """Why an alert is left alone, by which silence or window, and until when."""

    reason: MuteReason
    name: str
    until_ms: int


class Mutes(Struct, frozen=True):
    """Every silence and maintenance window that there is."""

    silences: tuple[Silence, ...] = ()
    windows: tuple[Window, ...] = ()

    def of(self, labels: Mapping[str, str], now_ms: int) -> Mute | None:
        """What mutes an alert with these labels now: of several, what ends last."""
        found = [
            Mute(_REASON[silence.kind], f"{silence.kind} {silence.id} by {silence.by}", silence.ends_ms)
            for silence in self.silences
            if silence.state(now_ms) == "active" and _compiled(silence.matchers)(labels)
        ]
        for window in self.windows:
            until_ms = window.until_ms(now_ms)
            if until_ms is not None and _compiled(window.matchers)(labels):
                found.append(Mute("maintenance", f"maintenance window {window.name}", until_ms))
        return max(found, key=lambda mute: (mute.until_ms, mute.name), default=None)

    def of_all(self, alerts: Sequence[Mapping[str, str]], now_ms: int) -> Mute | None:
        """What mutes all of several alerts: of theirs, what ends first. One that is not muted speaks for all."""
        found = [self.of(labels, now_ms) for labels in alerts]
        muted = [mute for mute in found if mute is not None]
        return min(muted, key=lambda mute: mute.until_ms) if muted and len(muted) == len(found) else None


def checked(silence: Silence) -> Silence:
    """The silence, if it can be one. Raises `ValueError` as Alertmanager refuses: no matcher that asks for something,
    a bad regular expression, an end before its start, nobody's name, no comment.
    """
    if not silence.matchers:
        raise ValueError('a silence needs a matcher, e.g. alertname="HighLatency"')
    _compiled(silence.matchers)
    if _compiled(silence.matchers)({}):
        raise ValueError("these matchers fit every alert; at least one must ask for a text that is not empty")
    if silence.ends_ms <= silence.starts_ms:
        raise ValueError("a silence ends after its start")
    if silence.ends_ms > _LAST_MS:
        raise ValueError("a silence ends before the year 10000")
    if not silence.by.strip():
        raise ValueError("a silence needs the name of who makes it")
    if not silence.comment.strip():
        raise ValueError("a silence needs a comment: why, and what is being done")
    return silence


@lru_cache(maxsize=4096)
def _compiled(matchers: tuple[Matcher, ...]) -> MatcherSet:
    """Compiled once, however often they are asked; raises `ValueError`."""
    return MatcherSet(matchers)
