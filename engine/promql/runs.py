"""Range functions that do not look again at samples they have seen: those that digests of runs know all about.

What is joined in any order must not be rounded, as a result must not depend on where runs begin: the smallest and the
largest, counts, and sums of whole numbers, which counters and most gauges hold. Other sums are made anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from engine.core.digests import RUN, Digest, Digests
from engine.core.expression import Values
from engine.core.series import Mask, Rows
from engine.vector.values import RangeVector

Result = tuple[Values, Mask]
Kernel = Callable[..., Result]
_LARGEST_WHOLE = 2.0**53
"""Whole numbers below it are added without rounding, in any order."""


def _is_whole(values: Values) -> Mask:
    return np.asarray((values == np.floor(values)) & (np.abs(values) < _LARGEST_WHOLE))


def fell(before: Values, here: Values) -> Mask:
    """Where a value is smaller than the one before."""
    return np.asarray(here < before)


def differs(before: Values, here: Values) -> Values:
    """1 where a value is another than the one before; NaN is like NaN."""
    return np.asarray((here != before) & ~(np.isnan(here) & np.isnan(before)), dtype=np.float64)


SMALLEST = Digest(lambda _, here: here.copy(), np.fmin, np.nan)
LARGEST = Digest(lambda _, here: here.copy(), np.fmax, np.nan)
_SUM = Digest(lambda _, here: here.copy(), np.add, 0.0)
_SIZE = Digest(lambda _, here: np.where(_is_whole(here), np.abs(here), np.inf), np.add, 0.0)
CHANGES = Digest(differs, np.add, 0.0)
RESETS = Digest(lambda before, here: fell(before, here).astype(np.float64), np.add, 0.0)
_LOST = Digest(lambda before, here: np.where(fell(before, here), before, 0.0), np.add, 0.0)
_LOST_SIZE = Digest(
    lambda before, here: np.where(fell(before, here), np.where(_is_whole(before), np.abs(before), np.inf), 0.0),
    np.add,
    0.0,
)
_LONG = 8 * RUN
"""Shorter ranges are looked through as quickly."""


def is_long(data: RangeVector) -> bool:
    """Whether digests are to be used."""
    return data.digests is not None and int((data.stop - data.first).max(initial=0)) >= _LONG


def _digest(data: RangeVector, digest: Digest, *, of_pairs: bool = False, rows: Rows | None = None) -> Values:
    """The digest of the samples in the range (of some rows), or of each with the one before it."""
    own = np.arange(len(data.first)) if rows is None else rows
    first, stop = data.first[own] + of_pairs, data.stop[own]
    matrix_rows = own if data.rows is None else data.rows[own]
    digests = data.digests or Digests()
    with np.errstate(all="ignore"):
        return digests.over(digest, data.values, matrix_rows, np.minimum(first, stop), stop)


def losses(data: RangeVector, rows: Rows, first: Values, last: Values) -> tuple[Values, Mask]:
    """What the counters in some rows lost by falling, and where the sum of that and `last - first` is exact."""
    size = _digest(data, _LOST_SIZE, of_pairs=True, rows=rows) + np.abs(first) + np.abs(last)
    exact = (size < _LARGEST_WHOLE) & _is_whole(first) & _is_whole(last)
    return _digest(data, _LOST, of_pairs=True, rows=rows), exact


def of_digest(digest: Digest, rescan: Kernel, *, of_pairs: bool = False) -> Kernel:
    """A function of which digests know all, in any order: long ranges are not looked through again."""

    def kernel(data: RangeVector) -> Result:
        if not is_long(data):
            return rescan(data)
        return _digest(data, digest, of_pairs=of_pairs), data.stop > data.first

    return kernel


def of_sums(rescan: Kernel, finish: Callable[[Values, Rows], Values]) -> Kernel:
    """A function of the sum and count of samples: of whole numbers, whose order does not matter, by digests."""

    def kernel(data: RangeVector) -> Result:
        if not is_long(data):
            return rescan(data)
        present, count = data.stop > data.first, data.stop - data.first
        exact = _digest(data, _SIZE) < _LARGEST_WHOLE
        with np.errstate(all="ignore"):
            result = finish(_digest(data, _SUM), count)
        others = np.flatnonzero(~exact)
        if len(others):
            result[others] = rescan(_some(data, others))[0]
        return result, present

    return kernel


def _some(data: RangeVector, rows: Rows) -> RangeVector:
    """Some rows of a range vector, for a function that asks neither for labels nor for bounds."""
    own = rows if data.rows is None else data.rows[rows]
    return replace(
        data, first=data.first[rows], stop=data.stop[rows], drop_ms=data.drop_ms[rows], rows=own, digests=None
    )
