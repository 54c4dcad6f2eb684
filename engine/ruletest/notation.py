"""Promtool's notation for the points of a series: `1+2x3` is 1 3 5 7, `4x2` is 4 4 4, `_` none, `stale` a marker.

Source: Prometheus documentation, "Unit testing for rules".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

Point = float | Literal["stale"] | None

_NUMBER = r"[-+]?(?:inf|nan|(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)"
_WORD = re.compile(rf"(?:(_|stale)|({_NUMBER})(?:([-+])({_NUMBER}))?)(?:x(\d+))?", re.IGNORECASE)
MOST_POINTS = 1_000_000


def expand(text: str) -> tuple[Point, ...]:
    """The points of a series. Raises `ValueError` for what is not understood."""
    points: list[Point] = []
    for word in text.split():
        match = _WORD.fullmatch(word)
        if match is None:
            if word.startswith("{{"):
                raise ValueError("native histograms ({{...}}) are not supported")
            raise ValueError(f"not a value: {word!r} (write it like 1, 1+2x3, 5x10, _ or stale)")
        if len(points) + int(match[5] or 0) > MOST_POINTS:
            raise ValueError(f"more than {MOST_POINTS} values")
        points += _points(match)
    return tuple(points)


def _points(match: re.Match[str]) -> Iterator[Point]:
    special, start, sign, change, times = match.groups()
    count = int(times or 0)
    if special:
        point: Point = None if special == "_" else "stale"
        yield from [point] * max(1, count)
        return
    value = float(start)
    delta = (float(change) if change else 0.0) * (-1 if sign == "-" else 1)
    yield value
    for _ in range(count):
        value += delta
        yield value
