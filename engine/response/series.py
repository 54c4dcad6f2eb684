"""The values of an alert's metric around an incident, and the threshold its rule compares them with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

AROUND_MS = 15 * 60_000
"""How long before an incident and after it the metric is looked at."""

STEP_MS = 15_000
LONGEST_MS = 24 * 3_600_000
_BELOW = ("<", "<=")

Point = tuple[int, float]


class MetricSeries(Struct, frozen=True):
    """Values in the order of time. `op` is the comparison that makes the alert fire, "" if none was seen."""

    query: str
    points: list[Point]
    op: str = ""
    threshold: float | None = None
    error: str = ""

    def worst(self) -> Point:
        """The value that went farthest in the direction of the alert. There must be points."""
        pick = min if self.op in _BELOW else max
        return pick(self.points, key=lambda point: point[1])


def merged(known: Iterable[Point], more: Iterable[Point]) -> list[Point]:
    """Points of two askings, each time once, the later word counts."""
    return sorted({**dict(known), **dict(more)}.items())


def fitting(found: Iterable[tuple[Mapping[str, str], list[Point]]], labels: Mapping[str, str]) -> list[Point]:
    """The points of the series that an alert with these labels is about: all of its labels are the alert's, as many
    as possible. None when there is no such series.
    """
    own = [
        (len(series), points)
        for series, points in ((_named(metric), points) for metric, points in found)
        if all(labels.get(name) == value for name, value in series.items())
    ]
    return max(own, key=lambda one: one[0])[1] if own else []


def _named(metric: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in metric.items() if name != "__name__"}
