"""Promtool's notation for the points of a series: `1+2x3` is 1 3 5 7, `4x2` is 4 4 4, `_` none, `stale` a marker.

Source: Prometheus documentation, "Unit testing for rules".
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.core.expression import Values
from engine.core.series import Mask
from engine.core.window import STALE

_NUMBER = r"(?:inf|nan|(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)"
_WORD = re.compile(rf"(?:(_)(?:x(\d+))?|(stale)|([-+]?{_NUMBER})(?:([-+])({_NUMBER})(?=x))?(?:x(\d+))?)", re.IGNORECASE)
_PLAIN = re.compile(r"[\d. \t\n]*")
MOST_POINTS = 1_000_000
_LARGEST_EXACT = 2.0**53
"""Sums of whole numbers below it are not rounded."""


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
    runs = list(map(_run, words))
    lengths = np.array([run.length for run in runs], dtype=np.int64)
    if lengths.sum() > MOST_POINTS:
        raise ValueError(f"more than {MOST_POINTS} values")
    values = _values(runs, lengths)
    return Points(values, np.repeat(np.array([not run.is_gap for run in runs], dtype=np.bool_), lengths))


def _values(runs: Sequence[_Run], lengths: NDArray[np.int64]) -> Values:
    """Each value is the one before it and the change, added one after the other, as promtool does it."""
    starts, changes = np.array([run.start for run in runs]), np.array([run.change for run in runs])
    ends = np.cumsum(lengths)
    values = np.repeat(starts, lengths)
    with np.errstate(invalid="ignore"):  # a marker is a NaN that signals
        whole = (starts == np.floor(starts)) & (changes == np.floor(changes))
        exact = whole & (np.abs(starts) + np.abs(changes) * lengths < _LARGEST_EXACT)  # then a product is the same
    rising = np.repeat(exact & (changes != 0), lengths)  # and no other: a sum with a marker is no marker
    place = np.arange(len(values)) - np.repeat(ends - lengths, lengths)
    values[rising] += (np.repeat(changes, lengths) * place)[rising]
    for number in np.flatnonzero(~exact & (changes != 0)):
        part = values[ends[number] - lengths[number] : ends[number]]
        part[1:] = changes[number]
        np.add.accumulate(part, out=part)
    return values


class _Run(NamedTuple):
    """What one word stands for: so many values, each by `change` larger than the one before, or none."""

    length: int
    start: float
    change: float = 0.0
    is_gap: bool = False


def _run(word: str) -> _Run:
    match = _WORD.fullmatch(word)
    if match is None:
        if word.startswith("{{"):
            raise ValueError("native histograms ({{...}}) are not supported")
        raise ValueError(f"not a value: {word!r} (write it like 1, 1+2x3, 5x10, _ or stale)")
    gap, gaps, stale, start, sign, change, times = match.groups()
    if gap:
        return _Run(int(gaps or 1), math.nan, is_gap=True)
    length = 1 + int(times or 0)
    if stale:
        return _Run(length, STALE)
    return _Run(length, float(start), float(sign + change) if change else 0.0)
