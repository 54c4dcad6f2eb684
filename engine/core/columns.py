"""The samples of many series as a matrix of times and one of values.

Row = series, filled from the left in time order. Samples that are not wanted any more are skipped by moving the row's
`begin`; the gap is closed when the matrix runs out of columns.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.core.digests import Digests
from engine.core.expression import Times, Values
from engine.core.series import Rows

Number = TypeVar("Number", np.int64, np.float64)
NEVER_MS = np.iinfo(np.int64).min
_FEWEST_COLUMNS = 8
_ROWS_AT_ONCE = 4_096
"""Rows whose gaps are closed at once: copies of so many stay in the processor's cache."""


class Columns:
    """Samples of many series: row `i` holds `times[i, begin[i]:end[i]]`, ascending and without repeats."""

    def __init__(self, rows: int = 0) -> None:
        self.times: NDArray[np.int64] = np.zeros((rows, _FEWEST_COLUMNS), dtype=np.int64)
        self.values: NDArray[np.float64] = np.zeros((rows, _FEWEST_COLUMNS))
        self.begin = np.zeros(rows, dtype=np.intp)
        self.end = np.zeros(rows, dtype=np.intp)
        self.drop_ms = np.full(rows, NEVER_MS, dtype=np.int64)
        """When the value of the series last fell: a counter without a newer fall needs no look at every sample."""
        self.digests = Digests()

    def resize_rows(self, rows: int) -> None:
        """Make room for so many rows, or give room back."""
        keep = min(rows, len(self.begin))
        for name in ("times", "values", "begin", "end", "drop_ms"):
            old = getattr(self, name)
            new = np.zeros((rows, *old.shape[1:]), dtype=old.dtype)
            new[:keep] = old[:keep]
            setattr(self, name, new)
        self.drop_ms[keep:] = NEVER_MS
        self.digests.forget()

    def position(self, rows: Rows, at_ms: int | Times) -> Rows:
        """For each row the column after its last sample that is not later than `at_ms` (one time, or one for each)."""
        low, high = self.begin[rows], self.end[rows]
        if not len(rows) or not self.times.shape[1]:
            return high
        flat, base = self.times.ravel(), rows * self.times.shape[1]
        # Series are sampled side by side, so nearly all have the answer of one of them, or everything.
        held = self.times[rows[0], low[0] : high[0]]
        after = np.searchsorted(held, at_ms, side="right")
        result = np.where(after == len(held), high, np.minimum(low + after, high))
        too_far = (result > low) & (flat.take(base + np.maximum(result - 1, 0)) > at_ms)
        too_near = (result < high) & (flat.take(base + np.minimum(result, self.times.shape[1] - 1)) <= at_ms)
        todo = np.flatnonzero(too_far | too_near)
        if len(todo):
            at_ms = at_ms if isinstance(at_ms, int) else at_ms[todo]
            result[todo] = self._bisect(flat, base[todo], low[todo], high[todo], at_ms)
        return result

    def _bisect(self, flat: Times, base: Rows, low: Rows, high: Rows, at_ms: int | Times) -> Rows:
        for _ in range(int(self.times.shape[1]).bit_length() + 1):
            middle = (low + high) >> 1
            open_ = low < high
            right = open_ & (flat[base + np.minimum(middle, self.times.shape[1] - 1)] <= at_ms)
            low = np.where(right, middle + 1, low)
            high = np.where(open_ & ~right, middle, high)
        return low

    def extend(self, rows: Rows, times: Times, values: Values) -> bool:
        """Add one sample to each of these (distinct) rows if all are newer than what their rows hold; else nothing."""
        end = self.end.take(rows)
        if int(end.max()) >= self.times.shape[1]:
            self._reserve(rows, np.ones(len(rows), dtype=np.intp))
            end = self.end.take(rows)
        at = rows * self.times.shape[1] + end
        flat_times, flat_values = self.times.reshape(-1), self.values.reshape(-1)
        has = end > self.begin.take(rows)
        if not ((flat_times.take(at - 1) < times) | ~has).all():
            return False
        fell = has & (flat_values.take(at - 1) > values)
        flat_times[at], flat_values[at] = times, values
        self.end[rows] = end + 1
        if fell.any():
            self.drop_ms[rows[fell]] = np.maximum(self.drop_ms[rows[fell]], times[fell])
        return True

    def append(self, rows: Rows, times: Times, values: Values) -> None:
        """Add samples that are newer than what their rows hold; several of one row stand together, ascending."""
        new_run = np.ones(len(rows), dtype=np.bool_)
        new_run[1:] = rows[1:] != rows[:-1]
        starts = np.flatnonzero(new_run)
        lengths = np.diff(np.append(starts, len(rows)))
        self._reserve(rows[starts], lengths)
        column = self.end[rows] + np.arange(len(rows)) - np.repeat(starts, lengths)
        self.times[rows, column] = times
        self.values[rows, column] = values
        self.end[rows[starts]] += lengths
        before = np.maximum(column - 1, 0)
        fell = (column > self.begin[rows]) & (self.values[rows, before] > values)
        if fell.any():
            np.maximum.at(self.drop_ms, rows[fell], times[fell])

    def insert(self, row: int, at_ms: int, value: float) -> bool:
        """Add one sample anywhere in its row; False if there is one at that time already."""
        begin, end = self.begin[row], self.end[row]
        column = begin + int(np.searchsorted(self.times[row, begin:end], at_ms))
        if column < end and self.times[row, column] == at_ms:
            return False
        shift = column - begin
        self._reserve(np.array([row]), np.array([1]))
        begin, end = self.begin[row], self.end[row]
        column = begin + shift
        for matrix, new in ((self.times, at_ms), (self.values, value)):
            matrix[row, column + 1 : end + 1] = matrix[row, column:end].copy()
            matrix[row, column] = new
        self.end[row] = end + 1
        self.digests.forget(np.array([row]))
        held = self.values[row, begin : end + 1]
        falls = np.flatnonzero(held[1:] < held[:-1])
        self.drop_ms[row] = self.times[row, begin + falls[-1] + 1] if len(falls) else NEVER_MS
        return True

    def has(self, row: int, at_ms: int) -> bool:
        """Whether the row holds a sample of exactly that time."""
        held = self.times[row, self.begin[row] : self.end[row]]
        column = int(np.searchsorted(held, at_ms))
        return column < len(held) and held[column] == at_ms

    def evict(self, rows: int, before_ms: int) -> None:
        """Skip what is older than `before_ms` in the first `rows` rows."""
        every = np.arange(rows)
        self.begin[:rows] = self.position(every, before_ms - 1)

    def move(self, source: Rows, target: Rows) -> None:
        """Copy whole rows over others."""
        for matrix in (self.times, self.values, self.begin, self.end, self.drop_ms):
            matrix[target] = matrix[source]
        self.digests.forget(target)

    def clear(self, rows: Rows) -> None:
        """Empty rows."""
        self.begin[rows] = self.end[rows] = 0
        self.drop_ms[rows] = NEVER_MS
        self.digests.forget(rows)

    def shrink(self) -> None:
        """Give columns back when the longest row needs less than a quarter of them."""
        longest = int((self.end - self.begin).max(initial=0))
        if longest * 4 < self.times.shape[1] and self.times.shape[1] > _FEWEST_COLUMNS:
            self._repack(max(_FEWEST_COLUMNS, longest * 3 // 2))

    def _reserve(self, rows: Rows, more: Rows) -> None:
        if int((self.end[rows] + more).max(initial=0)) <= self.times.shape[1]:
            return
        need = int((self.end[rows] - self.begin[rows] + more).max())
        columns = self.times.shape[1]
        # Repacking into a nearly full matrix would have to be done again at once; and the matrix is most of the memory.
        self._repack(columns if need * 4 <= columns * 3 else need * 3 // 2)

    def _repack(self, columns: int) -> None:
        length = self.end - self.begin
        take = min(int(length.max(initial=0)), columns)
        for name in ("times", "values"):
            old = getattr(self, name)
            new = old if columns == old.shape[1] else np.zeros((len(length), columns), dtype=old.dtype)
            for some in range(0, len(length), _ROWS_AT_ONCE):
                rows = slice(some, some + _ROWS_AT_ONCE)
                new[rows, :take] = _from(old[rows], self.begin[rows], take)
            setattr(self, name, new)
        self.begin[:] = 0
        self.end[:] = length
        self.digests.forget()


def _from(matrix: NDArray[Number], begin: Rows, take: int) -> NDArray[Number]:
    """So many columns of each row, from `begin[i]` on; what a row does not have is anything."""
    first = int(begin[0])
    if first + take <= matrix.shape[1] and (begin == first).all():  # series are sampled side by side
        return matrix[:, first : first + take]
    columns = np.minimum(begin[:, None] + np.arange(take), matrix.shape[1] - 1)
    return np.take_along_axis(matrix, columns, axis=1)
