"""The recent samples of every series that a metric selector wants, in columns, so that one numpy operation serves all.

A series without samples gives its row to the last one, so rows stay dense and memory follows the live series.

Staleness markers (the NaN with the bits `STALE_BITS`) stand in columns of their own: range functions never see them,
and an instant look-up asks whether the newest marker is newer than the newest sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.core.blocks import share
from engine.core.columns import NEVER_MS, Columns
from engine.core.digests import Digests
from engine.core.expression import Presence, Times, Values
from engine.core.labels import Labels, decode
from engine.core.series import Mask, Rows, SeriesSet

STALE_BITS = 0x7FF0000000000002
STALE = float(np.array([STALE_BITS], dtype=np.uint64).view(np.float64)[0])
SILENCE_MIN_MS, SILENCE_ONE_SAMPLE_MS = 5_000, 100_000


def is_stale(values: Values) -> Mask:
    """Which values are staleness markers: by their bits, for they are not the only NaN."""
    return np.asarray(np.ascontiguousarray(values).view(np.uint64) == STALE_BITS)


@dataclass(frozen=True, slots=True)
class InstantView:
    """The newest sample of each series at a time: row `i` counts only where `present[i]`."""

    series: SeriesSet
    times: Times
    values: Values
    present: Mask


@dataclass(frozen=True, slots=True)
class RangeView:
    """Samples in `(start_ms, end_ms]`: of row `i` those in the columns `first[i]:stop[i]` of both matrices.

    `drop_ms[i]` is when the value last fell (at any time, maybe later than the range). The arrays are the window's own:
    they hold until it changes. Where `rows` are given, they are the rows of the matrices, and several ranges stand one
    after the other, each with its own bounds. `digests` are those of the matrix, if it has any.
    """

    series: SeriesSet
    times: NDArray[np.int64]
    values: NDArray[np.float64]
    first: Rows
    stop: Rows
    drop_ms: Times
    start_ms: int | Times
    end_ms: int | Times
    rows: Rows | None = None
    digests: Digests | None = None


class MetricWindow:
    """A `Window` of metric samples (see `engine.core.expression`)."""

    def __init__(self) -> None:
        self._row_of: dict[bytes, int] = {}
        self._keys: list[bytes] = []
        self._labels: list[Labels] = []
        self._series: SeriesSet | None = None
        self._samples = Columns()
        self._stale: Columns | None = None  # of the same rows; most windows hold no marker at all
        self._mark = np.zeros(0, dtype=np.int32)
        self.version = 0
        """Grows when rows that `rows` has named become those of other series."""

    def __len__(self) -> int:
        rows = len(self._keys)
        return sum(int((c.end[:rows] - c.begin[:rows]).sum()) for c in self._columns)

    @property
    def _columns(self) -> list[Columns]:
        return [self._samples] if self._stale is None else [self._samples, self._stale]

    @property
    def series(self) -> SeriesSet:
        """The label sets of the rows; the same object until a series comes or goes."""
        if self._series is None:
            self._series = SeriesSet(list(self._labels), distinct=True, keys=list(self._keys))
        return self._series

    def append(self, series: Sequence[bytes], t_ms: Times, values: Values) -> None:
        """Add samples in any order; a second one of a series at one time is ignored (the first wins)."""
        if len(series):
            times, values = np.asarray(t_ms, dtype=np.int64), np.asarray(values, dtype=np.float64)
            self.append_rows(self.rows(series), times, values)

    def append_rows(self, rows: Rows, times: Times, values: Values, places: Rows | None = None) -> None:
        """As `append`, with the `rows` that the series have; at least one sample.

        `places` say in what order the samples came, where they do not stand in it.
        """
        if len(rows) > 1 and not self._are_distinct(rows):
            if places is not None:
                came = np.argsort(places, kind="stable")
                rows, times, values = rows[came], times[came], values[came]
            order = np.lexsort((times, rows))
            again = np.zeros(len(rows), dtype=np.bool_)
            again[1:] = (np.diff(rows[order]) == 0) & (np.diff(times[order]) == 0)
            order = order[~again]
            rows, times, values = rows[order], times[order], values[order]
        elif self._stale is None and not np.isnan(values).any() and self._samples.extend(rows, times, values):
            return
        stale = is_stale(values)
        if stale.any() and self._stale is None:
            self._stale = Columns(len(self._samples.begin))
        if self._stale is not None:
            self._append_with_stale(self._stale, rows, (times, values), stale)
        else:
            _add(self._samples, rows, times, values)

    def _are_distinct(self, rows: Rows) -> bool:
        if len(self._mark) != len(self._samples.begin):
            self._mark = np.zeros(len(self._samples.begin), dtype=np.int32)
        own = np.arange(len(rows), dtype=np.int32)
        self._mark[rows] = own
        return bool((self._mark.take(rows) == own).all())

    def _append_with_stale(self, markers: Columns, rows: Rows, samples: tuple[Times, Values], stale: Mask) -> None:
        times, values = samples
        taken = np.zeros(len(rows), dtype=np.bool_)
        for own, other in ((stale, self._samples), (~stale, markers)):
            for i in np.flatnonzero(own & (other.end[rows] > other.begin[rows])):
                taken[i] = other.has(int(rows[i]), int(times[i]))
        for which, columns in ((stale & ~taken, markers), (~stale & ~taken, self._samples)):
            if which.any():
                _add(columns, rows[which], times[which], values[which])

    def evict(self, before_ms: int) -> None:
        """Forget what is older than `before_ms`, and series of which nothing is left."""
        count = len(self._keys)
        filled = np.zeros(count, dtype=np.bool_)
        for columns in self._columns:
            columns.evict(count, before_ms)
            filled |= columns.end[:count] > columns.begin[:count]
        if self._stale is not None and not (self._stale.end > self._stale.begin).any():
            self._stale = None
        dead = np.flatnonzero(~filled)
        if len(dead):
            self._remove(dead)
        for columns in self._columns:
            columns.shrink()

    def presence(self, at_ms: int, labels: Labels) -> Presence:
        """Whether series that agree with `labels` still get samples at `at_ms`.

        A series has vanished when a staleness marker is its newest entry, or when it has been silent for
        three times the distance of its last two samples (at least `SILENCE_MIN_MS`).
        """
        rows = np.flatnonzero(self.series.agreeing(labels))
        if not len(rows):
            return "absent"
        newest, _, live = _newest(self._samples, rows, at_ms)
        before = self._samples.position(rows, at_ms) - 2
        has_two = live & (before >= self._samples.begin[rows])
        spacing = np.where(has_two, newest - self._samples.times[rows, np.maximum(before, 0)], SILENCE_ONE_SAMPLE_MS)
        live &= at_ms - newest < np.maximum(3 * spacing, SILENCE_MIN_MS)
        if self._stale is not None:
            gone_ms, _, gone = _newest(self._stale, rows, at_ms)
            live &= ~(gone & (gone_ms > newest))
        return "live" if live.any() else "vanished"

    def instant(self, at_ms: int, lookback_ms: int) -> InstantView:
        """The newest sample of each series in `(at_ms - lookback_ms, at_ms]`, unless it has gone stale since."""
        rows = np.arange(len(self._keys))
        times, values, present = _newest(self._samples, rows, at_ms)
        if self._stale is not None:
            gone_ms, _, gone = _newest(self._stale, rows, at_ms)
            present &= ~(gone & (gone_ms > times))
        return InstantView(self.series, times, values, present & (times > at_ms - lookback_ms))

    def range(self, start_ms: int, end_ms: int) -> RangeView:
        """The samples of each series in `(start_ms, end_ms]`, without staleness markers."""
        rows = np.arange(len(self._keys))
        data = self._samples
        return RangeView(
            self.series,
            data.times[: len(rows)],
            data.values[: len(rows)],
            data.position(rows, start_ms),
            data.position(rows, end_ms),
            data.drop_ms[: len(rows)],
            start_ms,
            end_ms,
            digests=data.digests,
        )

    def ranges(self, starts_ms: Times, ends_ms: Times, seen_ms: Times) -> RangeView:
        """As `range`, for several at once: all rows of the first range, then all of the second, and so on.

        Of each range only the samples until `seen_ms` are taken.
        """
        count, data = len(self._keys), self._samples
        rows = np.tile(np.arange(count), len(starts_ms))
        start_ms, end_ms = np.repeat(starts_ms, count), np.repeat(ends_ms, count)
        first, stop = data.position(rows, start_ms), data.position(rows, np.repeat(seen_ms, count))
        times, values, drop_ms = data.times[:count], data.values[:count], data.drop_ms[rows]
        return RangeView(self.series, times, values, first, stop, drop_ms, start_ms, end_ms, rows, data.digests)

    def keys(self, rows: Rows) -> list[bytes]:
        """The label bytes of rows."""
        return [self._keys[row] for row in rows.tolist()]

    def rows(self, series: Sequence[bytes]) -> Rows:
        """The row of each series, a new one if it has none; they hold until `version` changes."""
        found = list(map(self._row_of.get, series))
        if None in found:
            for i, row in enumerate(found):
                if row is None:
                    found[i] = self._new_row(series[i])
            self._series = None
            if len(self._keys) > len(self._samples.begin):
                for columns in self._columns:
                    columns.resize_rows(max(16, len(self._keys) * 5 // 4))
        return np.array(found, dtype=np.intp)

    def _new_row(self, key: bytes) -> int:
        if key not in self._row_of:  # it may stand twice in one batch
            self._row_of[key] = len(self._keys)
            self._keys.append(key)
            self._labels.append(share(decode(key)))
        return self._row_of[key]

    def _remove(self, dead: Rows) -> None:
        """Give dead rows to the last live ones, so that rows stay dense."""
        left = len(self._keys) - len(dead)
        is_dead = np.zeros(len(self._keys), dtype=np.bool_)
        is_dead[dead] = True
        holes = dead[dead < left]
        movers = left + np.flatnonzero(~is_dead[left:])
        for row in dead:
            del self._row_of[self._keys[row]]
        for columns in self._columns:
            columns.move(movers, holes)
            columns.clear(np.arange(left, len(self._keys)))
        for source, target in zip(movers, holes, strict=True):
            self._keys[target], self._labels[target] = self._keys[source], self._labels[source]
            self._row_of[self._keys[target]] = int(target)
        del self._keys[left:], self._labels[left:]
        self._series = None
        self.version += 1
        if left * 4 < len(self._samples.begin):
            for columns in self._columns:
                columns.resize_rows(max(16, left * 5 // 4))


def _add(columns: Columns, rows: Rows, times: Times, values: Values) -> None:
    """Add samples sorted by time within each row: at the end where they are newer, else by insertion."""
    has = columns.end[rows] > columns.begin[rows]
    newest = np.where(has, columns.times[rows, np.maximum(columns.end[rows] - 1, 0)], NEVER_MS)
    newer = times > newest
    if newer.all():
        columns.append(rows, times, values)
        return
    if newer.any():
        columns.append(rows[newer], times[newer], values[newer])
    for i in np.flatnonzero(~newer):
        columns.insert(int(rows[i]), int(times[i]), float(values[i]))


def _newest(columns: Columns, rows: Rows, at_ms: int) -> tuple[Times, Values, Mask]:
    position = columns.position(rows, at_ms)
    present = position > columns.begin[rows]
    column = np.maximum(position - 1, 0)
    return columns.times[rows, column], columns.values[rows, column], present
