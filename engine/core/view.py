"""A metric window seen through a query: only the series the query asks for, and never past what is held.

A query may be answered from a window that holds more series than it wants, for longer or for not as long as it looks
back. The view shows the wanted rows without copying the window, and refuses to look at times of which the window may
have forgotten samples: a wrong answer must not look like a right one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from engine.core import labels as label_sets
from engine.core.expression import EvaluationError, Presence, Times, Values
from engine.core.labels import Labels, Matcher, MatcherSet
from engine.core.series import Rows, SeriesSet
from engine.core.window import InstantView, MetricWindow, RangeView

READ_COST, ROW_COST = 4_000, 8
"""What a look at a window, and at a series in it, costs beside its samples, in samples: small looks add up, too."""

VIEWS_KEPT = 32


class NotHeldError(EvaluationError):
    """A query looks at a time of which samples may have been forgotten."""


@dataclass
class Budget:
    """How many samples may still be looked at. A query that is too large is refused, not worked through."""

    left: int

    def spend(self, series: int, samples: int) -> None:
        """Count a look at so many samples of so many series. Raises `EvaluationError` when the budget is spent."""
        self.left -= samples + series * ROW_COST + READ_COST
        if self.left < 0:
            raise EvaluationError(
                "one step of the query looks at too many samples; ask for fewer series, a shorter range, or a "
                "subquery with a longer step"
            )


class WindowView(MetricWindow):
    """The series of `window` that match, as a `MetricWindow` that cannot be written to.

    `held_from_ms()` is the oldest time of which everything is held. The view follows its window as that changes; what
    it returned before holds until then.
    """

    def __init__(
        self, window: MetricWindow, matches: MatcherSet, held_from_ms: Callable[[], int], budget: Budget | None = None
    ) -> None:
        self._window = window
        self._matches = matches
        self._held_from_ms = held_from_ms
        self._budget = budget
        self._seen: SeriesSet | None = None
        self._kept_rows: Rows = np.zeros(0, dtype=np.intp)
        self._chosen = SeriesSet([], distinct=True)

    def __len__(self) -> int:
        rows = self._wanted()
        view = self._window.range(-(2**62), 2**62)
        return int((view.stop[rows] - view.first[rows]).sum())

    @property
    def series(self) -> SeriesSet:
        """The label sets that match; the same object until a series comes or goes."""
        self._wanted()
        return self._chosen

    def append(self, series: Sequence[bytes], t_ms: Times, values: Values) -> None:
        """Not for a view. Raises `TypeError`."""
        raise TypeError("a view of a window takes no samples")

    def append_rows(self, rows: Rows, times: Times, values: Values, places: Rows | None = None) -> None:
        """Not for a view. Raises `TypeError`."""
        raise TypeError("a view of a window takes no samples")

    def rows(self, series: Sequence[bytes]) -> Rows:
        """Not for a view. Raises `TypeError`."""
        raise TypeError("a view of a window has no rows of its own")

    def keys(self, rows: Rows) -> list[bytes]:
        """Not for a view. Raises `TypeError`."""
        raise TypeError("a view of a window has no rows of its own")

    def evict(self, before_ms: int) -> None:
        """Not for a view. Raises `TypeError`."""
        raise TypeError("a view of a window forgets nothing")

    def presence(self, at_ms: int, labels: Labels) -> Presence:
        """As the window says it, of all its series."""
        return self._window.presence(at_ms, labels)

    def instant(self, at_ms: int, lookback_ms: int) -> InstantView:
        """As `MetricWindow.instant`, of the matching series. Raises `NotHeldError`."""
        self._require(at_ms - lookback_ms)
        rows = self._wanted()
        self._spend(len(rows), len(rows))
        view = self._window.instant(at_ms, lookback_ms)
        if len(rows) == len(view.series):
            return view
        return InstantView(self._chosen, view.times[rows], view.values[rows], view.present[rows])

    def range(self, start_ms: int, end_ms: int) -> RangeView:
        """As `MetricWindow.range`, of the matching series. Raises `NotHeldError`."""
        self._require(start_ms)
        rows = self._wanted()
        view = self._window.range(start_ms, end_ms)
        first, stop = view.first[rows], view.stop[rows]
        self._spend(len(rows), int((stop - first).sum()))
        if len(rows) == len(view.series):
            return view
        # Only the columns in which something was found are taken out of the window's matrix.
        some = stop > first
        low, high = int(first[some].min(initial=view.times.shape[1])), int(stop[some].max(initial=0))
        low = min(low, high)
        times, values = view.times[rows, low:high], view.values[rows, low:high]
        bounds = (np.where(some, first - low, 0), np.where(some, stop - low, 0))
        return RangeView(self._chosen, times, values, *bounds, view.drop_ms[rows], start_ms, end_ms)

    def ranges(self, starts_ms: Times, ends_ms: Times, seen_ms: Times) -> RangeView:
        """Not for a view. Raises `TypeError`: a query is worked through step by step."""
        raise TypeError("a view of a window is looked at one range at a time")

    def _wanted(self) -> Rows:
        series = self._window.series
        if series is not self._seen:
            self._seen = series
            self._kept_rows, self._chosen = _chosen(series, self._matches)
        return self._kept_rows

    def _require(self, after_ms: int) -> None:
        held_from_ms = self._held_from_ms()
        if after_ms + 1 < held_from_ms:
            raise NotHeldError(f"samples from {after_ms + 1} are asked for, and held are those from {held_from_ms}")

    def _spend(self, series: int, samples: int) -> None:
        if self._budget is not None:
            self._budget.spend(series, samples)


def _chosen(series: SeriesSet, matches: MatcherSet) -> tuple[Rows, SeriesSet]:
    """The rows that match and their label sets; the last few answers are kept, as dashboards ask again and again."""
    known: dict[tuple[Matcher, ...], tuple[Rows, SeriesSet]] = series.memo("views", dict)
    found = known.pop(matches.matchers, None)
    if found is None:
        rows = [row for row, labels in enumerate(series.labels) if matches(labels)]
        chosen = [series.labels[row] for row in rows]
        # Keyed as the window's own series are: sums add up in the same order, to the same last digit.
        keys = [label_sets.encode(labels) for labels in chosen]
        whole = len(rows) == len(series)
        found = (np.array(rows, dtype=np.intp), series if whole else SeriesSet(chosen, distinct=True, keys=keys))
        if len(known) >= VIEWS_KEPT:
            del known[next(iter(known))]
    known[matches.matchers] = found
    return found
