"""Sums over a range that moves forward: what enters is added, what leaves is taken off.

A rule on logs is evaluated at many near times, each time over nearly the same lines. Adding whole numbers is exact, so
the moved sum is the sum; for other values it would depend on the way, so they are summed anew (by the caller).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.core.expression import Values
from engine.core.series import Rows

_LARGEST = 2.0**31  # so that no sum of a window can reach what a float does not hold exactly


def are_exact(values: Values) -> bool:
    """Whether sums of these values do not depend on the order of their terms."""
    return bool(((values == np.floor(values)) & (np.abs(values) <= _LARGEST)).all())


@dataclass
class RunningTotals:
    """Line counts and sums of values by series number, of the rows `first` to `stop` of a window.

    Rows are numbered from the beginning of the window's life; `ids` and `values` given to `move` begin at row `base`.
    """

    counts: NDArray[np.int64]
    sums: Values
    first: int
    stop: int

    @classmethod
    def empty(cls, at: int) -> RunningTotals:
        """Of no rows, before row `at`."""
        return cls(np.zeros(0, np.int64), np.zeros(0), at, at)

    def move(self, first: int, stop: int, columns: tuple[Rows, Values, int], series: int) -> None:
        """Make it the totals of other rows; `series` is how many series there are."""
        ids, values, base = columns
        if series > len(self.counts):
            more = max(series, 2 * len(self.counts)) - len(self.counts)
            self.counts = np.concatenate([self.counts, np.zeros(more, np.int64)])
            self.sums = np.concatenate([self.sums, np.zeros(more)])
        if self.first < base or first < self.first or stop < self.stop or first > self.stop:
            self.counts[:] = 0
            self.sums[:] = 0
            self.first = self.stop = first
        for begin, end, sign in ((self.stop, stop, 1), (self.first, first, -1)):
            if end > begin:
                rows = ids[begin - base : end - base]
                np.add.at(self.counts, rows, sign)
                np.add.at(self.sums, rows, values[begin - base : end - base] * sign)
        self.first, self.stop = first, stop
