"""What is known of runs of samples, so that a long range is not looked through again for the few that are new.

The columns of a window are cut into runs. What a function needs to know of a full run (its largest value, how often it
changed) is worked out once, for all series together; a range is then its full runs and the samples at either end:

    columns  |......|......|......|......|...
    range       ^===================^
                head  full   full    tail
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.core.expression import Values
from engine.core.series import Rows

RUN = 32
"""Samples in a run: an hour of seconds is 111 runs and about as many samples at its ends."""


@dataclass(frozen=True)
class Digest:
    """What is kept of a run: `each(before, here)`, for all samples with the one before, joined by `join`.

    `nothing` changes nothing when it is joined.
    """

    each: Callable[[Values, Values], Values]
    join: np.ufunc
    nothing: float


@dataclass
class _Known:
    """Of row `i` the first `done[i]` runs are known."""

    runs: NDArray[np.float64]
    done: Rows


@dataclass
class Digests:
    """The digests of the rows of a matrix. Whoever changes samples that are there already says so by `forget`."""

    _known: dict[Digest, _Known] = field(default_factory=dict)

    def forget(self, rows: Rows | None = None) -> None:
        """Samples of these rows, or of all, have moved."""
        if rows is None:
            self._known.clear()
        else:
            for known in self._known.values():
                known.done[rows[rows < len(known.done)]] = 0

    def over(self, digest: Digest, values: NDArray[np.float64], rows: Rows, first: Rows, stop: Rows) -> Values:
        """The digest of the samples in the columns `first[i]:stop[i]` of row `rows[i]` of a matrix, for each `i`."""
        head = -(-first // RUN)
        tail = np.maximum(stop // RUN, head)
        known = self._learn(digest, values, rows, stop // RUN)
        runs = _gathered(known.runs, rows, head, tail, digest.nothing)
        parts = [digest.join.reduce(runs, axis=1, initial=digest.nothing)]
        for begin, end in ((first, np.minimum(head * RUN, stop)), (tail * RUN, stop)):
            here = _gathered(values, rows, begin, end, np.nan)
            before = _gathered(values, rows, begin - 1, end - 1, np.nan)
            each = digest.each(before, here)
            each[np.arange(each.shape[1]) >= (end - begin)[:, None]] = digest.nothing
            parts.append(digest.join.reduce(each, axis=1, initial=digest.nothing))
        return np.asarray(digest.join.reduce(parts, axis=0))

    def _learn(self, digest: Digest, values: NDArray[np.float64], rows: Rows, need: Rows) -> _Known:
        """Work out the runs before `need` that are not known yet."""
        known = self._room(digest, values)
        need_of = known.done.copy()
        np.maximum.at(need_of, rows, need)
        todo = np.flatnonzero(need_of > known.done)
        for run in range(int(known.done[todo].min(initial=values.shape[1])), int(need_of[todo].max(initial=0))):
            some = todo[(known.done[todo] <= run) & (run < need_of[todo])]
            columns = np.arange(run * RUN, (run + 1) * RUN)
            here, before = values[some[:, None], columns], values[some[:, None], np.maximum(columns - 1, 0)]
            known.runs[some, run] = digest.join.reduce(digest.each(before, here), axis=1)
        known.done[todo] = need_of[todo]
        return known

    def _room(self, digest: Digest, values: NDArray[np.float64]) -> _Known:
        known = self._known.get(digest)
        if known is None:
            known = _Known(np.empty((0, values.shape[1] // RUN)), np.empty(0, dtype=np.intp))
        more = len(values) - len(known.done)
        if more > 0:
            more += len(values) // 4
            known = _Known(np.pad(known.runs, ((0, more), (0, 0))), np.pad(known.done, (0, more)))
            self._known[digest] = known
        return known


def _gathered(matrix: NDArray[np.float64], rows: Rows, first: Rows, stop: Rows, nothing: float) -> NDArray[np.float64]:
    """The columns `first[i]:stop[i]` of each row, moved to the left and filled up."""
    width = int((stop - first).max(initial=0))
    columns = first[:, None] + np.arange(width)
    there = columns < stop[:, None]
    flat = rows[:, None] * matrix.shape[1] + np.clip(columns, 0, max(matrix.shape[1] - 1, 0))
    result = matrix.reshape(-1).take(flat) if matrix.size else np.zeros(columns.shape)
    result[~there] = nothing
    return result
