"""The recent lines that a log selector wants, reduced to what arithmetic needs: three columns sorted by time.

A row is (time in nanoseconds, number of its series, value). New lines go to the end; one that comes out of order is put
in its place. Forgetting moves the begin; the columns are repacked when half of them is forgotten, so both cost next
to nothing per line. A range aggregation is then numpy on one slice.

Lines that failed in the pipeline belong to series with the label `__error_details__`. They are kept as rows like the
others, so that they can be counted, and `failed` tells them apart.

A window holds 200,000 series: lines that would make more are kept out, and it says how many, until others are
forgotten. So lines that make up label values cost memory and time within bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.core.expression import Presence, Times, Values
from engine.core.labels import Labels
from engine.core.messages import EvidenceLine
from engine.core.series import Mask, Rows, SeriesSet
from engine.logql.evidence import EvidenceStore
from engine.logql.line import DETAILS
from engine.logql.pipeline import decode_series, encode_series
from engine.logql.totals import RunningTotals, are_exact

NS_PER_MS = 1_000_000
_FEWEST_ROWS = 1024
_MOST_RANGES = 16
MOST_SERIES = 200_000


@dataclass(frozen=True, slots=True)
class Slice:
    """The lines of a range in time order: row `i` belongs to `series.labels[ids[i]]`."""

    series: SeriesSet
    times: Times
    ids: Rows
    values: Values


@dataclass(frozen=True, slots=True)
class Totals:
    """A sum for each series that has a line in a range; valid until the window is asked again."""

    series: SeriesSet
    sums: Values
    present: Mask


class LogWindow:
    """An `engine.core.expression.LogWindow`."""

    def __init__(self, most_series: int = MOST_SERIES) -> None:
        self._most_series = most_series
        self._times: NDArray[np.int64] = np.zeros(_FEWEST_ROWS, np.int64)
        self._ids: NDArray[np.intp] = np.zeros(_FEWEST_ROWS, np.intp)
        self._values: NDArray[np.float64] = np.zeros(_FEWEST_ROWS)
        self._begin = self._end = 0
        self._number: dict[bytes, int] = {}
        self._labels: list[Labels] = []
        self._series: SeriesSet | None = None
        self._names: set[tuple[str, ...]] = set()  # the label names that series have
        self._failed: set[int] = set()
        self._lines = EvidenceStore()
        self._forgotten = 0  # rows that stood before the columns' first one
        self._exact = True
        self._totals: dict[tuple[int, int], RunningTotals] = {}

    def __len__(self) -> int:
        return self._end - self._begin

    @property
    def series(self) -> SeriesSet:
        """The label sets by number; the same object until a series comes or goes.

        An earlier object shares the list of labels, so it is of no use any more once there is a new one.
        """
        if self._series is None:
            self._series = SeriesSet(self._labels, distinct=True)
        return self._series

    def append(self, series: Sequence[bytes], t_ms: Times, values: Values) -> None:
        """Add lines without their text, in any order; repeated ones count."""
        self._add(self._numbers(series), np.asarray(t_ms, np.int64) * NS_PER_MS, np.asarray(values, np.float64))

    def append_lines(
        self, series: Sequence[bytes], t_ns: Times, values: Values, lines: Sequence[str], stream: Labels
    ) -> int:
        """Add lines of one stream, in any order; repeated ones count. `series[i]` is what `lines[i]` counts for.

        Returns how many were kept out because the window holds too many series.
        """
        ids, times, values = self._numbers(series), np.asarray(t_ns, np.int64), np.asarray(values, np.float64)
        refused = ids < 0
        if refused.any():
            rows = np.flatnonzero(~refused)
            ids, times, values = ids[rows], times[rows], values[rows]
            lines = [lines[row] for row in rows.tolist()]
        self._add(ids, times, values)
        self._lines.add(ids, times, lines, stream)
        return int(refused.sum())

    def evict(self, before_ms: int) -> None:
        """Forget what is older than `before_ms`."""
        before_ns = before_ms * NS_PER_MS
        self._begin += int(np.searchsorted(self._times[self._begin : self._end], before_ns))
        self._lines.evict(before_ns)
        if self._begin > max(_FEWEST_ROWS, len(self)):
            self._repack(max(_FEWEST_ROWS, len(self) * 2))
            self._forget_series()

    def presence(self, at_ms: int, labels: Labels) -> Presence:
        """Always "live": that nothing was logged is an answer, too."""
        return "live"

    def slice(self, start_ms: int, end_ms: int) -> Slice:
        """The lines in `(start_ms, end_ms]`, without failed ones."""
        first, stop = self._position(start_ms * NS_PER_MS), self._position(end_ms * NS_PER_MS)
        times, ids, values = self._times[first:stop], self._ids[first:stop], self._values[first:stop]
        if self._failed:
            fine = ~self._failed_mask()[ids]
            times, ids, values = times[fine], ids[fine], values[fine]
        return Slice(self.series, times, ids, values)

    def totals(self, start_ms: int, end_ms: int, range_key: tuple[int, int]) -> Totals | None:
        """The sums of the values in `(start_ms, end_ms]` by series, without failed lines; None if they are not exact.

        `range_key` names the moving range that this is a position of: it costs what it moved by.
        """
        if not self._exact:
            return None
        running = self._totals.get(range_key)
        first, stop = (self._forgotten + self._position(ms * NS_PER_MS) for ms in (start_ms, end_ms))
        if running is None:
            if len(self._totals) >= _MOST_RANGES:
                self._totals.clear()
            running = self._totals[range_key] = RunningTotals.empty(first)
        count = len(self._labels)
        running.move(first, stop, (self._ids, self._values, self._forgotten), count)
        present = running.counts[:count] > 0
        if self._failed:
            present &= ~self._failed_mask()
        return Totals(self.series, running.sums[:count], present)

    def failed(self, start_ms: int, end_ms: int) -> list[tuple[Labels, int]]:
        """The series of lines in `(start_ms, end_ms]` that failed in the pipeline, and how many lines each."""
        if not self._failed:
            return []
        first, stop = self._position(start_ms * NS_PER_MS), self._position(end_ms * NS_PER_MS)
        ids, counts = np.unique(self._ids[first:stop], return_counts=True)
        pairs = zip(ids.tolist(), counts.tolist(), strict=True)
        return [(self._labels[number], count) for number, count in pairs if number in self._failed]

    def evidence(self, start_ms: int, end_ms: int, labels: Labels, limit: int) -> list[EvidenceLine]:
        """The most recent lines in `(start_ms, end_ms]`, oldest first, whose series agree with `labels`."""
        return self._lines.find(start_ms * NS_PER_MS, end_ms * NS_PER_MS, self._agreeing(labels), limit)

    def _agreeing(self, labels: Labels) -> Mask:
        """Which series agree with labels on every name both have."""
        if not all(name in labels for names in self._names for name in names):
            return self.series.agreeing(labels)
        keys = (encode_series({name: labels[name] for name in names}) for names in self._names)
        agreeing = np.zeros(len(self._labels), dtype=np.bool_)
        agreeing[[self._number[key] for key in keys if key in self._number]] = True
        return agreeing

    def _numbers(self, series: Sequence[bytes]) -> Rows:
        found = list(map(self._number.get, series))
        if None in found:
            for i, number in enumerate(found):
                if number is None:
                    found[i] = self._new_series(series[i])
        return np.array(found, dtype=np.intp)

    def _new_series(self, key: bytes) -> int:
        """The number of a series that was not known; -1 if there are too many."""
        if len(self._labels) >= self._most_series and key not in self._number:
            return -1
        if key not in self._number:  # it may stand twice in one batch
            number = self._number[key] = len(self._labels)
            labels = decode_series(key)
            if DETAILS in labels:
                self._failed.add(number)
            self._labels.append(labels)
            self._names.add(tuple(labels))
            self._series = None
        return self._number[key]

    def _failed_mask(self) -> Mask:
        mask = np.zeros(len(self._labels), dtype=np.bool_)
        mask[list(self._failed)] = True
        return mask

    def _position(self, t_ns: int) -> int:
        """The row after the last one that is not later than `t_ns`."""
        return self._begin + int(self._times[self._begin : self._end].searchsorted(t_ns, side="right"))

    def _add(self, ids: Rows, times: Times, values: Values) -> None:
        if not len(times):
            return
        self._exact = self._exact and are_exact(values)
        if len(times) > 1 and (times[1:] < times[:-1]).any():
            order = np.argsort(times, kind="stable")
            ids, times, values = ids[order], times[order], values[order]
        late = self._position(int(times[0])) if len(self) else self._end
        if late < self._end:  # what is newer than the first of these is merged with them
            ids = np.concatenate([self._ids[late : self._end], ids])
            values = np.concatenate([self._values[late : self._end], values])
            times = np.concatenate([self._times[late : self._end], times])
            order = np.argsort(times, kind="stable")
            ids, times, values = ids[order], times[order], values[order]
            self._end = late
            self._totals.clear()
        end = self._end + len(times)
        if end > len(self._times):
            self._repack(max(_FEWEST_ROWS, (len(self) + len(times)) * 2))
            end = self._end + len(times)
        self._times[self._end : end] = times
        self._ids[self._end : end] = ids
        self._values[self._end : end] = values
        self._end = end

    def _repack(self, rows: int) -> None:
        count = len(self)
        for name in ("_times", "_ids", "_values"):
            old = getattr(self, name)
            new = np.zeros(rows, dtype=old.dtype)
            new[:count] = old[self._begin : self._end]
            setattr(self, name, new)
        self._forgotten += self._begin
        self._begin, self._end = 0, count

    def _forget_series(self) -> None:
        """Drop the series of which no line is left, and number the others anew."""
        own = self._ids[self._begin : self._end]
        alive, renumbered = np.unique(own, return_inverse=True)
        if len(alive) == len(self._labels):
            return
        names = {number: key for key, number in self._number.items()}
        kept = alive.tolist()
        self._number = {names[number]: new for new, number in enumerate(kept)}
        self._failed = {new for new, number in enumerate(kept) if number in self._failed}
        self._labels = [self._labels[number] for number in kept]
        self._names = set(map(tuple, self._labels))
        self._ids[self._begin : self._end] = renumbered
        self._lines.renumber(alive)
        self._series = None
        self._totals.clear()
