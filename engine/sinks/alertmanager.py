"""Which alerts an Alertmanager has to hear of, and when, as Prometheus's notifier does it.

```
 transition     firing            resolved
 sent           x      x      x   x      x      x      x
                |resend|resend|   |resend|resend|resend|      ... for 15 minutes
 endsAt         now + 4 resend    the time of the end
```

A firing alert is sent at once and again every `resend_ms`; each time it says that it ends in four times that, so that
the Alertmanager lets go of it when nobody is left to say it. An alert that ended is sent with its end, and again for a
while, so that an Alertmanager that was away hears of it as well. Pending alerts are not sent.

`Book` is what is true now. `Deliveries` is what one Alertmanager was told; it asks the book and never holds a message
of its own, so that one that was away is told what is true then, and there is no queue to run over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from engine.core.messages import Transition

MOST_PER_REQUEST = 64
RESOLVED_KEPT_MS = 15 * 60_000
MOST_ALERTS = 50_000
END_CAUSE = "end_cause"

Key = tuple[str, str]


class Entry(Struct):
    """One alert as it is now. `version` grows with every change, `ended_ms` is None while it fires (event times)."""

    key: Key
    version: int
    labels: dict[str, str]
    annotations: dict[str, str]
    fired_ms: int
    ended_ms: int | None = None
    forget_ms: int | None = None

    def is_news(self, transition: Transition) -> bool:
        """Whether a transition came after what is known, and is not something said again."""
        if self.ended_ms is None:
            return transition.at_ms > self.fired_ms or (transition.at_ms == self.fired_ms and _ends(transition))
        return transition.at_ms > self.ended_ms or (transition.at_ms == self.ended_ms and not _ends(transition))


@dataclass(frozen=True)
class Policy:
    """How alerts are sent. `external_labels` are added where an alert has no such label, as Prometheus does."""

    resend_ms: int
    external_labels: Mapping[str, str]
    generator_url: str


class Book:
    """The alerts that fire, and those that ended a short while ago, by rule and fingerprint."""

    def __init__(self, most: int = MOST_ALERTS) -> None:
        self._entries: dict[Key, Entry] = {}
        self._most = most
        self._versions = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> Iterable[Entry]:
        """Every alert, those that changed last at the end."""
        return self._entries.values()

    def note(self, transition: Transition, now_ms: int) -> int:
        """Take a transition into account; how many alerts had to be let go because there are too many."""
        key = (transition.rule, transition.fingerprint)
        known = self._entries.get(key)
        if known is not None and not known.is_news(transition):
            return 0
        if transition.state == "firing":
            self._put(Entry(key, 0, transition.labels, transition.annotations, transition.at_ms))
        elif _ends(transition) and known is not None and known.ended_ms is None:
            self._put(_ended(known, transition, now_ms))
        dropped = 0
        while len(self._entries) > self._most:  # the oldest change first
            del self._entries[next(iter(self._entries))]
            dropped += 1
        return dropped

    def forget_ended(self, now_ms: int | None = None) -> None:
        """Let go of alerts that ended long enough ago; of all that ended if no time is given."""
        over = [
            key
            for key, entry in self._entries.items()
            if entry.forget_ms is not None and (now_ms is None or entry.forget_ms <= now_ms)
        ]
        for key in over:
            del self._entries[key]

    def _put(self, entry: Entry) -> None:
        self._versions += 1
        entry.version = self._versions
        self._entries.pop(entry.key, None)  # to the end
        self._entries[entry.key] = entry


def _ends(transition: Transition) -> bool:
    return transition.state == "resolved"


def _ended(known: Entry, transition: Transition, now_ms: int) -> Entry:
    """The alert with its end. That its data vanished, or its rule, is said: it is no all-clear."""
    annotations = dict(transition.annotations or known.annotations)
    if transition.cause != "cleared":
        annotations[END_CAUSE] = transition.cause
    return Entry(
        known.key,
        0,
        known.labels,
        annotations,
        known.fired_ms,
        ended_ms=max(transition.at_ms, known.fired_ms),
        forget_ms=now_ms + RESOLVED_KEPT_MS,
    )


class Deliveries:
    """What one Alertmanager was told, and when."""

    def __init__(self, book: Book, resend_ms: int) -> None:
        self._book = book
        self._resend_ms = resend_ms
        self._told: dict[Key, tuple[int, int]] = {}

    def due(self, now_ms: int) -> list[Entry]:
        """What it has to be told now, what changed first before what is only repeated."""
        news, repeats = [], []
        for entry in self._book.entries:
            version, at_ms = self._told.get(entry.key, (0, 0))
            if version != entry.version:
                news.append(entry)
            elif now_ms - at_ms >= self._resend_ms:
                repeats.append(entry)
        return news + repeats

    def next_ms(self) -> int | None:
        """When something will have to be repeated, if nothing changes before."""
        known = [self._told[entry.key][1] for entry in self._book.entries if entry.key in self._told]
        return min(known) + self._resend_ms if known else None

    def told(self, entries: Sequence[Entry], now_ms: int) -> None:
        """It was told these, or will never take them as they are."""
        self._told.update((entry.key, (entry.version, now_ms)) for entry in entries)
        if len(self._told) > 2 * len(self._book) + MOST_PER_REQUEST:  # of alerts that the book has let go
            held = {entry.key for entry in self._book.entries}
            self._told = {key: told for key, told in self._told.items() if key in held}


def requests(entries: Sequence[Entry]) -> list[Sequence[Entry]]:
    """The same in portions that an Alertmanager takes at once."""
    return [entries[first : first + MOST_PER_REQUEST] for first in range(0, len(entries), MOST_PER_REQUEST)]


def postable(entry: Entry, policy: Policy, now_ms: int) -> dict[str, Any]:
    """An alert as `POST /api/v2/alerts` takes it.

    Event times that lie ahead of the clock are taken as now: to an Alertmanager an end in the future is none.
    """
    starts_ms = min(entry.fired_ms, now_ms)
    ends_ms = now_ms + 4 * policy.resend_ms if entry.ended_ms is None else min(entry.ended_ms, now_ms)
    return {
        "labels": {**policy.external_labels, **entry.labels},
        "annotations": entry.annotations,
        "startsAt": _rfc3339(starts_ms),
        "endsAt": _rfc3339(ends_ms),
        "generatorURL": policy.generator_url,
    }


def _rfc3339(t_ms: int) -> str:
    return datetime.fromtimestamp(t_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
