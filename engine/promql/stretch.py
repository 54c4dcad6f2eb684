"""Range functions for several evaluation times together.

Whoever catches up, replays or tests a rule evaluates it at many times on the same windows. Between two of them little
but values changes, and a numpy call costs as much for one time as for some; so the functions of a plain range
(`rate(x[5m])`) are worked out for a stretch of times in one call, one row for each time and series.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

from engine.core.expression import Times, Values
from engine.core.series import Mask, SeriesSet
from engine.core.window import MetricWindow
from engine.promql.runs import Kernel

_TIMES_AT_ONCE, _ROWS_AT_ONCE = 32, 50_000
"""More rows leave the processor's cache and gain nothing."""

Results = tuple[int, SeriesSet, Values, Mask]


@dataclass
class Stretch:
    """The times, ascending, at which an expression will be evaluated, and what is known for some of them already."""

    times: Sequence[int]
    _known: dict[Hashable, Results] = field(default_factory=dict)

    def result(
        self, key: Hashable, kernel: Kernel, window: MetricWindow, at_ms: int, bounds: tuple[int, int]
    ) -> tuple[SeriesSet, Values, Mask]:
        """What `kernel` gives at a time for the samples from `bounds[0]` to `bounds[1]` before it.

        Nothing later than the time itself is looked at. `key` tells apart what is asked for.
        """
        place = bisect_left(self.times, at_ms)
        begin, series, values, present = self._known.get(key, (len(self.times), window.series, _NONE, _NONE))
        if not begin <= place < begin + len(values):
            begin, series = place, window.series
            values, present = _together(kernel, window, self._next(place, len(series)), bounds)
            self._known[key] = begin, series, values, present
        return series, values[place - begin], present[place - begin]

    def _next(self, place: int, rows: int) -> Times:
        count = min(_TIMES_AT_ONCE, max(1, _ROWS_AT_ONCE // max(rows, 1)))
        return np.array(self.times[place : place + count], dtype=np.int64)


_NONE = np.zeros((0, 0))


def _together(kernel: Kernel, window: MetricWindow, times: Times, bounds: tuple[int, int]) -> tuple[Values, Mask]:
    starts_ms, ends_ms = times - bounds[0], times - bounds[1]
    data = window.ranges(starts_ms, ends_ms, seen_ms=np.minimum(ends_ms, times))
    values, present = kernel(data)
    shape = (len(times), len(window.series))
    return values.reshape(shape), present.reshape(shape)
