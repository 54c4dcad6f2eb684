"""Promtool's notation for the points of a series: `1+2x3` is 1 3 5 7, `4x2` is 4 4 4, `_` none, `stale` a marker.

Source: Prometheus documentation, "Unit testing for rules".
"""

from __future__ import annotations

import contextlib
import math
import re
from dataclasses import dataclass

import numpy as np

from engine.core.expression import Values
from engine.core.series import Mask
from engine.core.window import STALE

_NUMBER = r"(?:inf|nan|(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)"
_WORD = re.compile(rf"(?:(_)(?:x(\d+))?|(stale)|([-+]?{_NUMBER})(?:([-+])({_NUMBER})(?=x))?(?:x(\d+))?)", re.IGNORECASE)
_PLAIN = re.compile(r"[\d. \t\n]*")
MOST_POINTS = 1_000_000


@dataclass(frozen=True)
class Points:
    """The values of a series, one after the other; `present[i]` is false for a gap. `STALE` is a staleness marker."""

    values: Values
    present: Mask

    def __len__(self) -> int:
        return len(self.values)


def expand(text: str) -> Points:
    """The points of a series. Raises `ValueError` for what is not understood."""
    words = text.split()
    if _PLAIN.fullmatch(text) and len(words) <= MOST_POINTS:  # long series are often plain numbers
        with contextlib.suppress(ValueError):
            return Points(np.array(list(map(float, words))), np.ones(len(words), np.bool_))
    values, present = [np.empty(0)], [np.empty(0, np.bool_)]
    count = 0
    for word in words:
        run, there = _run(word, MOST_POINTS - count)
        count += len(run)
        values.append(run)
        present.append(np.full(len(run), there))
    return Points(np.concatenate(values), np.concatenate(present))


def _run(word: str, room: int) -> tuple[Values, bool]:
    """The values of one word, and whether they are there at all."""
    match = _WORD.fullmatch(word)
    if match is None:
        if word.startswith("{{"):
            raise ValueError("native histograms ({{...}}) are not supported")
        raise ValueError(f"not a value: {word!r} (write it like 1, 1+2x3, 5x10, _ or stale)")
    gap, gaps, stale, start, sign, change, times = match.groups()
    length = int(gaps or 1) if gap else 1 + int(times or 0)
    if length > room:
        raise ValueError(f"more than {MOST_POINTS} values")
    if gap or stale:
        return np.full(length, math.nan if gap else STALE), not gap
    steps = np.full(length, float(f"{sign or '+'}{change or 0}"))
    steps[0] = float(start)
    return np.add.accumulate(steps), True  # one addition after the other, as promtool does it
