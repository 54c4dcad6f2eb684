"""The storm brake: when many things fail at once, suspect the monitoring (design: Safety 4). Pure.

    fires   a b c   d e f g            h i           most 5, window 60 s
    time    0 5 9   30 31 40 55        300 310
    storm   |==================.....|  none: two within a window

What counts is what fails, whether or not anything was or is to be done about it. All that fires in such a window
belongs to one storm, also what had fired before the brake could know; the storm lasts a window longer than its last
firing. An alert that joins an incident which explains it, or whose incident is merged into that, is no failure of its
own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
from msgspec import Struct

from engine.response.words import span

_SAME_MS = 3_600_000  # for so long a storm keeps its number, also when what began it fires anew
# How Prometheus and Kubernetes name what is watched; a reason or a severity does not make it another thing.
_PLACES = {
    *("cluster", "namespace", "service", "job", "instance", "node", "host", "database"),
    *("pod", "container", "deployment", "statefulset", "daemonset", "persistentvolumeclaim"),
}
_encoder = msgspec.json.Encoder(order="deterministic")


class Firing(Struct, frozen=True):
    """An incident by what fails, and when its newest alert began to fire, by the responder's clock.

    `storm` is the number of the one that it waits in, 0 for none; `acknowledged`: a person has taken it.
    """

    incident: int
    subject: str
    fired_ms: int
    storm: int = 0
    acknowledged: bool = False


class Storm(Struct, frozen=True):
    """Many things failing at once, `subjects` in all. Its `number` is when it began, as was first known of it."""

    number: int
    subjects: int
    begun_ms: int
    last_ms: int


def subject_of(runbook: str, group: Mapping[str, str]) -> str:
    """What fails, whichever runbooks its incidents have: those of an incident's group labels that say where.

    Where none does, all of them; where there are none, the runbook.
    """
    labels = {name: value for name, value in group.items() if value}
    places = {name: value for name, value in labels.items() if name in _PLACES}
    return _encoder.encode(places or labels).decode() if labels else runbook


def storm_of(firings: Iterable[Firing], own: Firing, now_ms: int, window_ms: int, most: int) -> Storm | None:
    """The storm that an incident is in, by its own firing or by the time: when more than `most` fire in a window."""
    others = [one for one in firings if one.incident != own.incident]
    ordered = sorted([*others, own], key=lambda one: (one.fired_ms, one.incident))
    for storm in _storms(ordered, window_ms, most):
        if storm.begun_ms <= own.fired_ms <= storm.last_ms or now_ms - storm.last_ms < window_ms:
            return storm
    return None


def words(storm: Storm, window_ms: int) -> str:
    """A storm as people read it."""
    return f"{storm.subjects} targets fail at once (within {span(window_ms)}): suspect the monitoring"


def _storms(ordered: Sequence[Firing], window_ms: int, most: int) -> Iterator[Storm]:
    """Every storm in the firings, the earliest first: windows with too many, those that overlap taken together."""
    within: Counter[str] = Counter()
    start, found = 0, None  # the window's first firing, and the storm's (first, last) places
    for end, firing in enumerate(ordered):
        within[firing.subject] += 1
        while ordered[start].fired_ms <= firing.fired_ms - window_ms:
            gone = ordered[start].subject
            within[gone] -= 1
            if not within[gone]:
                del within[gone]
            start += 1
        if len(within) <= most:
            continue
        if found is not None and start > found[1]:
            yield _storm(ordered, *found)
            found = None
        found = (found[0] if found else start, end)
    if found is not None:
        yield _storm(ordered, *found)


def _storm(ordered: Sequence[Firing], first: int, last: int) -> Storm:
    members = ordered[first : last + 1]
    subjects, begun_ms = len({one.subject for one in members}), members[0].fired_ms
    known = [one.storm for one in members if one.storm and begun_ms - one.storm < _SAME_MS]
    return Storm(min(known, default=begun_ms), subjects, begun_ms, members[-1].fired_ms)
