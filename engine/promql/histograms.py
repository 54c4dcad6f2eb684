"""Quantiles and fractions of classic histograms: the buckets of each histogram side by side in a matrix.

Reference: Prometheus `promql/quantile.go`, with its repairs: equal bounds merged, counts that fall made monotonic, and
tiny differences (floating point noise of `rate`) ignored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.core.expression import Values
from engine.core.series import NAME, Mask, Rows, SeriesSet, number, sort_key
from engine.vector import format as fmt
from engine.vector import names
from engine.vector.values import Context, InstantVector

BUCKET = "le"
_NOISE = 1e-12
_SMALLEST_NORMAL = 2.2250738585072014e-308


@dataclass(frozen=True, slots=True)
class Layout:
    """Which rows of a series set are buckets (ascending by histogram, then bound), and of what."""

    rows: Rows
    bounds: Values
    owner: Rows
    histograms: SeriesSet
    malformed: Rows


@dataclass(frozen=True, slots=True)
class Buckets:
    """Histogram `i` has the cumulative `counts[i, :size[i]]` at the upper `bounds[i, :size[i]]`, ascending.

    Only where it is `complete[i]`, with more than one and the last unbounded, has it quantiles. `repaired[i]` says that
    a count fell and was made monotonic.
    """

    bounds: NDArray[np.float64]
    counts: NDArray[np.float64]
    size: Rows
    complete: Mask
    repaired: Mask

    @property
    def totals(self) -> Values:
        """How many observations each histogram counts."""
        return self.counts[np.arange(len(self.size)), np.maximum(self.size - 1, 0)]

    @property
    def answerable(self) -> Mask:
        """Which have quantiles: those that are complete and count something."""
        return self.complete & (self.totals != 0) if self.counts.shape[1] else self.complete


def layout(series: SeriesSet) -> Layout:
    """The histograms in a set of series; worked out once per set."""
    return series.memo("buckets", lambda: _layout(series))


def _layout(series: SeriesSet) -> Layout:
    # Two metrics are two histograms, also where their labels are equal: the metric name goes only afterwards.
    bare = [{n: v for n, v in labels.items() if n != BUCKET} for labels in series.labels]
    owners, keys = number(list(map(sort_key, bare)))
    marks = np.ones(len(keys), dtype=np.bool_)
    histograms = names.like(SeriesSet([dict(key) for key in keys], distinct=True), [series], marks).without_name()
    bounds = np.array([_bound(labels.get(BUCKET)) for labels in series.labels], dtype=np.float64)
    order = np.lexsort((bounds, owners))
    order = order[~np.isnan(bounds[order])]
    return Layout(order, bounds[order], owners[order], histograms, np.flatnonzero(np.isnan(bounds)))


def _bound(text: str | None) -> float:
    try:
        return math.nan if text is None or "_" in text else float(text)
    except ValueError:
        return math.nan


def collect(vector: InstantVector, context: Context) -> tuple[SeriesSet, Buckets, Mask]:
    """The buckets of every histogram of which at least one bucket is present."""
    plan = layout(vector.series)
    for row in plan.malformed[vector.present[plan.malformed]]:
        labels = vector.series.labels[row]
        context.note(
            "warn",
            f'bucket label "{BUCKET}" is missing or has a malformed value of {fmt.quoted(labels.get(BUCKET, ""))} '
            f"for metric name {fmt.quoted(labels.get(NAME, ''))}",
        )
    kept = vector.present[plan.rows]
    if kept.all():
        grid = vector.series.memo("bucket grid", lambda: _grid(plan.owner, plan.bounds, len(plan.histograms)))
        counts = vector.values[plan.rows]
    else:
        grid = _grid(plan.owner[kept], plan.bounds[kept], len(plan.histograms))
        counts = vector.values[plan.rows[kept]]
    if grid.starts is not None:
        counts = np.add.reduceat(counts, grid.starts)
    repaired = np.zeros(len(grid.size), dtype=np.bool_)
    matrix = Buckets(grid.bounds, np.zeros(grid.bounds.shape), grid.size, grid.complete, repaired)
    matrix.counts[grid.owner, grid.column] = counts
    _make_monotonic(matrix)
    return plan.histograms, matrix, grid.size > 0


@dataclass(frozen=True, slots=True)
class _Grid:
    """Where counts go in the matrix of a `Buckets`; before that, those from each of `starts` on are added up."""

    starts: Rows | None
    owner: Rows
    column: Rows
    bounds: NDArray[np.float64]
    size: Rows
    complete: Mask


def _grid(owner: Rows, bounds: Values, histograms: int) -> _Grid:
    starts = None
    same = np.zeros(len(owner), dtype=np.bool_)
    same[1:] = (owner[1:] == owner[:-1]) & (bounds[1:] == bounds[:-1])
    if same.any():  # "1" and "1.0" are one bucket
        starts = np.flatnonzero(~same)
        owner, bounds = owner[starts], bounds[starts]
    size = np.bincount(owner, minlength=histograms)
    column = np.arange(len(owner)) - np.repeat(np.cumsum(size) - size, size)
    matrix = np.full((len(size), int(size.max(initial=0))), np.inf)
    matrix[owner, column] = bounds
    complete = np.zeros(len(size), dtype=np.bool_)
    complete[owner[np.isposinf(bounds) & (column > 0)]] = True
    return _Grid(starts, owner, column, matrix, size, complete)


def _make_monotonic(buckets: Buckets) -> None:
    """Repair counts in place, and mark where one really fell (not only by floating point noise)."""
    if _rises(buckets):
        return
    previous = buckets.counts[:, 0].copy()
    for i in range(1, buckets.counts.shape[1]):
        here = i < buckets.size
        current = buckets.counts[:, i]
        noise = here & _almost_equal(previous, current)
        fell = here & ~noise & (current < previous)
        buckets.repaired[fell] = True
        current[noise | fell] = previous[noise | fell]
        previous = np.where(here, current, previous)


def _rises(buckets: Buckets) -> bool:
    """Whether every count is the one before it or well above it, as it nearly always is: then there is no repair."""
    before, here = buckets.counts[:, :-1], buckets.counts[:, 1:]
    inside = np.arange(1, buckets.counts.shape[1]) < buckets.size[:, None]
    with np.errstate(all="ignore"):
        rise = here - before
        clear = (rise > _SMALLEST_NORMAL) & (rise >= _NOISE * (np.abs(here) + np.abs(before)))
    return bool((clear | (rise == 0) | ~inside).all())


def _almost_equal(a: Values, b: Values) -> Mask:
    with np.errstate(all="ignore"):
        size, difference = np.abs(a) + np.abs(b), np.abs(a - b)
        tiny = (a == 0) | (b == 0) | (size < _SMALLEST_NORMAL)
        close = np.where(tiny, difference < _NOISE * _SMALLEST_NORMAL, difference / size < _NOISE)
        return np.asarray((a == b) | close)


def quantile(q: float, buckets: Buckets) -> Values:
    """The q-quantile of each histogram, interpolated linearly within its bucket."""
    count = len(buckets.size)
    if math.isnan(q):
        return np.full(count, np.nan)
    if q < 0 or q > 1:
        return np.full(count, math.copysign(math.inf, q))
    if buckets.counts.shape[1] < 2:
        return np.full(count, np.nan)
    rows, last = np.arange(count), np.maximum(buckets.size - 1, 0)
    with np.errstate(all="ignore"):
        total = buckets.counts[rows, last]
        rank = q * total
        reached = buckets.counts >= rank[:, None]
        reached[rows, last] = True
        hit = reached.argmax(axis=1)
        end, here = buckets.bounds[rows, hit], buckets.counts[rows, hit]
        # Below the first bucket is a bound of 0 that nothing is under.
        start = np.where(hit > 0, buckets.bounds[rows, hit - 1], 0.0)
        before = np.where(hit > 0, buckets.counts[rows, hit - 1], 0.0)
        inside = start + (end - start) * ((rank - before) / (here - before))
        result = np.where((hit == 0) & (end <= 0), end, inside)
        result = np.where(hit == last, start, result)
        return np.where(buckets.complete & (total != 0), result, np.nan)


def fraction(lower: float, upper: float, buckets: Buckets) -> Values:
    """The share of observations between two values in each histogram, interpolated linearly."""
    rows, last = np.arange(len(buckets.size)), np.maximum(buckets.size - 1, 0)
    if not buckets.counts.shape[1] or math.isnan(lower) or math.isnan(upper):
        return np.full(len(rows), np.nan)
    with np.errstate(all="ignore"):
        total = buckets.counts[rows, last]
        complete = np.isposinf(buckets.bounds[rows, last]) & (total != 0)
        if lower >= upper:
            return np.where(complete, 0.0, np.nan)
        ranks = [_rank_of(value, buckets, total, lower=value == lower) for value in (lower, upper)]
        share = (ranks[1] - ranks[0]) / total
        return np.where(complete & ~np.isnan(total), share, np.nan)


def _rank_of(value: float, buckets: Buckets, total: Values, *, lower: bool) -> Values:
    """How many observations are not above a value.

    A bucket without lower bound counts for nothing where a limit lies in it, so it is all below a lower limit.
    """
    if math.isinf(value):
        return total if value > 0 else np.zeros(len(total))
    rows = np.arange(len(total))
    hit = (buckets.bounds >= value).argmax(axis=1)
    below = np.maximum(hit - 1, 0)
    end = buckets.bounds[rows, hit]
    first_start = np.where(end > 0, 0.0, -np.inf)
    start = np.where(hit > 0, buckets.bounds[rows, below], first_start)
    before = np.where(hit > 0, buckets.counts[rows, below], 0.0)
    inside = before + (buckets.counts[rows, hit] - before) * ((value - start) / (end - start))
    counts = buckets.counts[rows, hit]
    inside = np.where(np.isneginf(start), counts if lower else before, inside)
    result = np.where(value <= start, before, inside)
    result = np.where(np.isposinf(end), before, result)
    return np.where(value == end, counts, result)
