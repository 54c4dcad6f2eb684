"""Alerts that others raise, in the API of Alertmanager (`POST /api/v2/alerts`): from posts to transitions.

A sender says again and again that an alert fires, each time until when it may be believed (`endsAt`). So an alert ends
in one of two ways, and they are told apart: the sender says so, or it falls silent.

    posts       fires, ends 10:04   ends 10:05   ends 10:06      (nothing)        ends 10:03, in the past
    state       firing              still        still           10:06: resolved  resolved
    cause       condition                                        no_data          cleared

The id of a transition is a hash of the alert, its state and the time that the sender gave (`startsAt`, `endsAt`), so
what is posted twice, or again after a restart, is recognised by whoever reads it. What is kept here, in memory, are the
alerts that fire: to know that one was said already, and when to stop believing it.

API: https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import msgspec
from msgspec import Struct

from connectors import DecodeError
from engine.core.labels import Labels, fingerprint
from engine.core.messages import Transition

PATH = "/api/v2/alerts"
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_GROUP = "alertmanager"


class _Posted(Struct, frozen=True, rename="camel"):
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    generator_url: str = msgspec.field(default="", name="generatorURL")


_decode = msgspec.json.Decoder(list[_Posted]).decode


class External(Struct, frozen=True):
    """An alert as it was posted: it may be believed until `ends_ms`."""

    labels: Labels
    annotations: Labels
    starts_ms: int
    ends_ms: int

    @property
    def fingerprint(self) -> str:
        """The name of the alert."""
        return fingerprint(self.labels)


class Active(Struct, frozen=True):
    """An alert that fires, as it was last posted, and since when."""

    alert: External
    since_ms: int


class Change(Struct, frozen=True):
    """What becomes of one alert: its transition if there is something to say; how it goes on, or when it ended."""

    fingerprint: str
    transition: Transition | None = None
    active: Active | None = None
    ended_ms: int | None = None


def decode(body: bytes, now_ms: int, resolve_timeout_ms: int) -> tuple[list[External], list[str]]:
    """The alerts of a post, and what is wrong with those that are none: the good ones are to be taken.

    As Alertmanager fills them in: without `startsAt` it starts now (or when it ends), without `endsAt` it ends after
    the timeout, labels without a value are none. Raises `DecodeError` for a body that is no list of alerts.
    """
    try:
        posted = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DecodeError("bad_alerts", f"the body is not a list of alerts: {error}") from error
    alerts, problems = [], []
    for number, one in enumerate(posted):
        try:
            alerts.append(_filled_in(one, now_ms, resolve_timeout_ms))
        except ValueError as error:
            problems.append(f"alert {number}: {error}")
    return alerts, problems


@dataclass
class Board:
    """The alerts that fire, by fingerprint. `changes` and `expired` only say what would be; `keep` makes it so.

    `ended` remembers when alerts ended: that is posted again for a while, and an alert that ended by silence may go on
    with its old `startsAt`. `window_ms` is said in every transition: how long the sender's rules may take to show a
    repair.
    """

    window_ms: int
    active: dict[str, Active] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)

    def change(self, alert: External, now_ms: int) -> Change:
        """What a posted alert means now."""
        mark = alert.fingerprint
        known = self.active.get(mark)
        if alert.ends_ms <= now_ms:
            if known is None and alert.starts_ms <= self.ended.get(mark, alert.starts_ms - 1):
                return Change(mark, ended_ms=self.ended[mark])
            since_ms = known.since_ms if known else alert.starts_ms
            return self._end(alert, since_ms, "cleared", now_ms)
        if known is not None:
            return Change(mark, active=Active(alert, known.since_ms))
        since_ms = max(alert.starts_ms, self.ended.get(mark, alert.starts_ms))
        said = self._say(alert, "firing", since_ms, since_ms, "condition", now_ms)
        return Change(mark, said, Active(alert, since_ms))

    def expired(self, now_ms: int) -> list[Change]:
        """The alerts whose sender has fallen silent."""
        return [
            self._end(one.alert, one.since_ms, "no_data", now_ms)
            for _, one in sorted(self.active.items())
            if one.alert.ends_ms <= now_ms
        ]

    def keep(self, change: Change) -> None:
        """A change has been told to the others: from now on it is so."""
        if change.active is not None:
            self.active[change.fingerprint] = change.active
        else:
            self.active.pop(change.fingerprint, None)
        if change.ended_ms is not None:
            self.ended[change.fingerprint] = change.ended_ms

    def forget(self, before_ms: int) -> None:
        """Forget alerts that ended before a time."""
        self.ended = {mark: ended_ms for mark, ended_ms in self.ended.items() if ended_ms >= before_ms}

    def _end(self, alert: External, since_ms: int, cause: Literal["cleared", "no_data"], now_ms: int) -> Change:
        at_ms = max(alert.ends_ms, since_ms)
        said = self._say(alert, "resolved", at_ms, since_ms, cause, now_ms)
        return Change(alert.fingerprint, said, ended_ms=at_ms)

    def _say(
        self,
        alert: External,
        state: Literal["firing", "resolved"],
        at_ms: int,
        since_ms: int,
        cause: Literal["condition", "cleared", "no_data"],
        received_ms: int,
    ) -> Transition:
        mark, name = alert.fingerprint, alert.labels.get("alertname", "")
        return Transition(
            id=hashlib.blake2b(f"{_GROUP}|{mark}|{state}|{at_ms}".encode(), digest_size=16).hexdigest(),
            rule=f"{_GROUP}/{name}",
            alertname=name,
            fingerprint=mark,
            labels=dict(sorted(alert.labels.items())),
            annotations=alert.annotations,
            previous="inactive" if state == "firing" else "firing",
            state=state,
            at_ms=at_ms,
            active_since_ms=since_ms,
            value="NaN",  # the API has none
            cause=cause,
            window_ms=self.window_ms,
            received_ms=received_ms,
        )


def _filled_in(posted: _Posted, now_ms: int, resolve_timeout_ms: int) -> External:
    starts_ms, ends_ms = _ms(posted.starts_at), _ms(posted.ends_at)
    if starts_ms is None:
        starts_ms = now_ms if ends_ms is None else min(now_ms, ends_ms)
    if ends_ms is None:
        ends_ms = now_ms + resolve_timeout_ms
    labels = _named(posted.labels, "label")
    if not labels:
        raise ValueError("at least one label pair required")
    if ends_ms < starts_ms:
        raise ValueError("start time must be before end time")
    annotations = _named(posted.annotations, "annotation")
    if posted.generator_url:
        annotations["generatorURL"] = posted.generator_url
    return External(labels, annotations, starts_ms, ends_ms)


def _named(pairs: Mapping[str, str], what: str) -> Labels:
    for name in pairs:
        if not _LABEL_NAME.fullmatch(name):
            raise ValueError(f"invalid {what} set: invalid name {name!r}")
    return {name: value for name, value in pairs.items() if value}


def _ms(at: datetime | None) -> int | None:
    """Milliseconds since 1970; Go's zero time, which senders write for "not set", is none."""
    return None if at is None or at.year <= 1 else round(at.timestamp() * 1_000)
