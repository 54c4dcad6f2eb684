"""Functions over a range of samples: one numpy operation for all series.

Each kernel takes the range vector (and scalar parameters) and gives a value per row and which rows have one.
Reference: Prometheus `promql/functions.go`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from engine.core.columns import NEVER_MS
from engine.core.expression import Times, Values
from engine.core.series import Mask, Rows
from engine.promql import runs
from engine.promql.runs import Kernel, Result
from engine.vector import numeric
from engine.vector.values import RangeVector

_EXTRAPOLATE_WITHIN = 1.1
"""Samples count as reaching the edge of the range up to so many mean distances away."""


def block(data: RangeVector, rows: Rows | None = None) -> tuple[NDArray[np.int64], Values, Mask]:
    """Times, values and mask of the samples in the range (of some rows), moved to the left."""
    first = data.first if rows is None else data.first[rows]
    stop = data.stop if rows is None else data.stop[rows]
    width = int((stop - first).max(initial=0))
    if rows is None and data.rows is None and len(first) and (first == first[0]).all() and (stop == stop[0]).all():
        cut = slice(int(first[0]), int(stop[0]))
        return data.times[:, cut], data.values[:, cut], np.ones((len(first), width), dtype=np.bool_)
    column = first[:, None] + np.arange(width)
    mask = column < stop[:, None]
    np.minimum(column, max(data.times.shape[1] - 1, 0), out=column)
    own = np.arange(len(first)) if rows is None else rows
    own = (own if data.rows is None else data.rows[own])[:, None]
    return data.times[own, column], data.values[own, column], mask


def ends(data: RangeVector) -> tuple[Rows, Rows]:
    """Where the first and last sample in the range stand in the matrices laid flat (column 0 where there is none)."""
    rows = np.arange(len(data.first)) if data.rows is None else data.rows
    base = rows * data.times.shape[1]
    some = data.stop > data.first
    return base + data.first * some, base + (data.stop - 1) * some


def times_at(data: RangeVector, places: Rows) -> Times:
    """The times that stand in some places."""
    return data.times.reshape(-1).take(places)


def values_at(data: RangeVector, places: Rows) -> Values:
    """The values that stand in some places."""
    return data.values.reshape(-1).take(places)


def _with_resets(data: RangeVector, first_ms: Times, change: Values) -> None:
    """Add to each change what the counter lost when it fell, one loss after the other as Prometheus does.

    In another order the sum could be rounded to another side of zero.
    """
    fallen = np.flatnonzero((data.drop_ms > first_ms) & (data.stop - data.first > 1))
    if len(fallen) and runs.is_long(data):
        first, last = (values_at(data, places[fallen]) for places in ends(data))
        lost, exact = runs.losses(data, fallen, first, last)
        change[fallen[exact]] += lost[exact]
        fallen = fallen[~exact]
    if len(fallen):
        _, values, mask = block(data, fallen)
        fell = mask[:, 1:] & runs.fell(values[:, :-1], values[:, 1:])
        lost = np.where(fell, values[:, :-1], 0.0)
        change[fallen] = np.add.accumulate(np.column_stack([change[fallen], lost]), axis=1)[:, -1]


def _extrapolated(data: RangeVector, *, counter: bool, per_second: bool) -> Result:
    """Prometheus's `extrapolatedRate` (3.x)."""
    first, last = ends(data)
    count = data.stop - data.first
    first_ms, last_ms = times_at(data, first), times_at(data, last)
    first_value = values_at(data, first)
    with np.errstate(all="ignore"):
        change = values_at(data, last) - first_value
        if counter:
            _with_resets(data, first_ms, change)
        sampled = (last_ms - first_ms) / 1000
        between = sampled / (count - 1)
        reach = between * _EXTRAPOLATE_WITHIN
        to_start = (first_ms - data.start_ms) / 1000
        to_start = np.where(to_start >= reach, between / 2, to_start)
        to_end = (data.end_ms - last_ms) / 1000
        to_end = np.where(to_end >= reach, between / 2, to_end)
        if counter:
            to_zero = sampled * (first_value / change)
            nearer = (change > 0) & (first_value >= 0) & (to_zero < to_start)
            to_start = np.where(nearer, to_zero, to_start)
        factor = (sampled + to_start + to_end) / sampled
        if per_second:
            factor /= (data.end_ms - data.start_ms) / 1000
        return change * factor, count > 1


def rate(data: RangeVector) -> Result:
    """Per-second increase of a counter, extrapolated to the edges of the range."""
    return _extrapolated(data, counter=True, per_second=True)


def increase(data: RangeVector) -> Result:
    """Increase of a counter, extrapolated to the edges of the range."""
    return _extrapolated(data, counter=True, per_second=False)


def delta(data: RangeVector) -> Result:
    """Difference of a gauge, extrapolated to the edges of the range."""
    return _extrapolated(data, counter=False, per_second=False)


def _last_two(data: RangeVector, *, counter: bool) -> Result:
    _, last = ends(data)
    before = np.maximum(last - 1, 0)
    present = data.stop - data.first > 1
    new, old = values_at(data, last), values_at(data, before)
    with np.errstate(all="ignore"):
        change = np.where(counter & (new < old), new, new - old)
        if counter:
            change = change / ((times_at(data, last) - times_at(data, before)) / 1000)
    return change, present


def irate(data: RangeVector) -> Result:
    """Per-second increase of a counter between its last two samples."""
    return _last_two(data, counter=True)


def idelta(data: RangeVector) -> Result:
    """Difference of the last two samples."""
    return _last_two(data, counter=False)


def count_over_time(data: RangeVector) -> Result:
    """How many samples."""
    count = data.stop - data.first
    return count.astype(np.float64), count > 0


def present_over_time(data: RangeVector) -> Result:
    """1 where there is any sample."""
    present = data.stop > data.first
    return np.ones(len(present)), present


def last_over_time(data: RangeVector) -> Result:
    """The newest sample."""
    return values_at(data, ends(data)[1]), data.stop > data.first


def first_over_time(data: RangeVector) -> Result:
    """The oldest sample."""
    return values_at(data, ends(data)[0]), data.stop > data.first


def _per_row(reduce: Callable[[Values, Mask], Values]) -> Kernel:
    def kernel(data: RangeVector) -> Result:
        _, values, mask = block(data)
        if not values.shape[1]:
            return np.zeros(len(data.first)), data.stop > data.first
        return reduce(values, mask), data.stop > data.first

    return kernel


def _smallest(values: Values, mask: Mask) -> Values:
    return np.asarray(np.fmin.reduce(np.where(mask, values, np.nan), axis=1))


def _largest(values: Values, mask: Mask) -> Values:
    return np.asarray(np.fmax.reduce(np.where(mask, values, np.nan), axis=1))


def _changes(values: Values, mask: Mask) -> Values:
    return np.asarray((runs.differs(values[:, :-1], values[:, 1:]) * mask[:, 1:]).sum(axis=1))


def _resets(values: Values, mask: Mask) -> Values:
    with np.errstate(invalid="ignore"):
        return np.asarray((runs.fell(values[:, :-1], values[:, 1:]) & mask[:, 1:]).sum(axis=1), dtype=np.float64)


def _mad(values: Values, mask: Mask) -> Values:
    middle = numeric.row_quantiles(0.5, values, mask)
    with np.errstate(invalid="ignore"):
        result = numeric.row_quantiles(0.5, np.abs(values - middle[:, None]), mask)
    return np.where((np.isnan(values) & mask).any(axis=1), np.nan, result)


sum_over_time = runs.of_sums(_per_row(numeric.row_sums), lambda sums, _: sums)
avg_over_time = runs.of_sums(_per_row(numeric.row_means), lambda sums, count: sums / count)
min_over_time = runs.of_digest(runs.SMALLEST, _per_row(_smallest))
max_over_time = runs.of_digest(runs.LARGEST, _per_row(_largest))
stdvar_over_time = _per_row(numeric.row_variances)
stddev_over_time = _per_row(lambda values, mask: np.sqrt(numeric.row_variances(values, mask)))
changes = runs.of_digest(runs.CHANGES, _per_row(_changes), of_pairs=True)
resets = runs.of_digest(runs.RESETS, _per_row(_resets), of_pairs=True)
mad_over_time = _per_row(_mad)


def quantile_over_time(q: float, data: RangeVector) -> Result:
    """The q-quantile of the samples."""
    _, values, mask = block(data)
    return numeric.row_quantiles(q, values, mask), data.stop > data.first


def _regression(data: RangeVector, origin_ms: Times) -> tuple[Values, Values, Mask]:
    """Slope per second and intercept at `origin_ms` of the least-squares line through each row."""
    times, values, mask = block(data)
    present = data.stop - data.first > 1
    if not values.shape[1]:
        return np.zeros(len(present)), np.zeros(len(present)), present
    with np.errstate(all="ignore"):
        count = mask.sum(axis=1)
        x = np.where(mask, (times - origin_ms[:, None]) / 1000, 0.0)
        y = np.where(mask, values, 0.0)
        mean_x, mean_y = x.sum(axis=1) / count, y.sum(axis=1) / count
        # The moments about the means: the same line, without the cancellation of the textbook sums.
        away_x = np.where(mask, x - mean_x[:, None], 0.0)
        away_y = np.where(mask, y - mean_y[:, None], 0.0)
        slope = (away_x * away_y).sum(axis=1) / (away_x * away_x).sum(axis=1)
        # With infinite values only the textbook sums have the signs that Prometheus gets.
        by_sums = (x * y).sum(axis=1) - x.sum(axis=1) * mean_y
        by_sums /= (x * x).sum(axis=1) - x.sum(axis=1) * mean_x
        slope = np.where(np.isfinite(y).all(axis=1), slope, by_sums)
        constant = ((values == values[:, :1]) | ~mask).all(axis=1)
        flat = np.where(np.isinf(values[:, 0]), np.nan, 0.0)
        slope = np.where(constant, flat, slope)
        level = np.where(np.isinf(values[:, 0]), np.nan, values[:, 0])
        return slope, np.where(constant, level, mean_y - slope * mean_x), present


def deriv(data: RangeVector) -> Result:
    """Slope per second of a gauge by linear regression."""
    slope, _, present = _regression(data, times_at(data, ends(data)[0]))
    return slope, present


def predict_linear(data: RangeVector, seconds: float, at_ms: int) -> Result:
    """The value expected `seconds` after `at_ms`, by linear regression."""
    slope, level, present = _regression(data, np.full(len(data.first), at_ms))
    with np.errstate(all="ignore"):
        return slope * seconds + level, present


def double_exponential_smoothing(data: RangeVector, smoothing: float, trend: float) -> Result:
    """Holt's linear trend method; both factors lie strictly between 0 and 1."""
    _, values, _ = block(data)
    count = data.stop - data.first
    present = count > 1
    result = np.zeros(len(count))
    if values.shape[1] < 2:
        return result, present
    with np.errstate(all="ignore"):
        level = before = values[:, 0]
        slope = values[:, 1] - values[:, 0]
        for i in range(1, values.shape[1]):
            if i > 1:
                slope = trend * (level - before) + (1 - trend) * slope
            before = level
            level = smoothing * values[:, i] + (1 - smoothing) * (level + slope)
            result = np.where(count > i, level, result)
    return result, present


def _time_of(choose: Callable[[Values, Mask], Mask]) -> Kernel:
    """The time in seconds of the newest sample that `choose` marks."""

    def kernel(data: RangeVector) -> Result:
        times, values, mask = block(data)
        present = data.stop > data.first
        if not values.shape[1]:
            return np.zeros(len(present)), present
        chosen = np.where(choose(values, mask) & mask, times, NEVER_MS).max(axis=1)
        return chosen / 1000, present

    return kernel


def _is_extreme(reduce: Callable[[Values, Mask], Values]) -> Callable[[Values, Mask], Mask]:
    def choose(values: Values, mask: Mask) -> Mask:
        extreme = reduce(values, mask)[:, None]
        return np.asarray((values == extreme) | (np.isnan(values) & np.isnan(extreme)))

    return choose


def ts_of_first_over_time(data: RangeVector) -> Result:
    """When the oldest sample was taken, in seconds."""
    return times_at(data, ends(data)[0]) / 1000, data.stop > data.first


def ts_of_last_over_time(data: RangeVector) -> Result:
    """When the newest sample was taken, in seconds."""
    return times_at(data, ends(data)[1]) / 1000, data.stop > data.first


ts_of_max_over_time = _time_of(_is_extreme(_largest))
ts_of_min_over_time = _time_of(_is_extreme(_smallest))
