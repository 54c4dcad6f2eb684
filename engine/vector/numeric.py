"""Sums that keep small terms beside large ones, and quantiles: numerics several functions share.

Prometheus sums with Kahan's compensation. Here numpy sums, and only where the result is small beside its terms (so
that compensation could matter) the sum is done again as Prometheus does it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from engine.core.expression import Values
from engine.core.series import Mask, Rows

_CANCELLATION = 1e-6


def _compensated_sum(values: Values) -> float:
    """Neumaier's variant of Kahan's summation, which is what Prometheus uses."""
    total = lost = 0.0
    for value in values.tolist():
        new = total + value
        lost += (total - new) + value if abs(total) >= abs(value) else (value - new) + total
        total = new
    return total + lost


def group_sums(values: Values, groups: Rows, count: int) -> Values:
    """The sum of the values of each group."""
    sums: Values = np.bincount(groups, weights=values, minlength=count).astype(np.float64, copy=False)
    if values.min(initial=0.0) >= 0:
        return sums  # nothing cancels
    size = np.bincount(groups, weights=np.abs(values), minlength=count)
    with np.errstate(invalid="ignore"):
        doubtful = np.flatnonzero(np.isfinite(size) & (np.abs(sums) < size * _CANCELLATION))
    for group in doubtful:
        sums[group] = _compensated_sum(values[groups == group])
    return sums


def row_sums(values: Values, mask: Mask) -> Values:
    """The sum of the masked values of each row."""
    kept = np.where(mask, values, 0.0)
    with np.errstate(all="ignore"):
        sums = kept.sum(axis=1)
        size = np.abs(kept).sum(axis=1)
        doubtful = np.flatnonzero(np.isfinite(size) & (np.abs(sums) < size * _CANCELLATION))
    for row in doubtful:
        sums[row] = _compensated_sum(kept[row])
    return np.asarray(sums)


def means(sums: Values, counts: Values, scaled: Callable[[], Values]) -> Values:
    """Sums over counts; where a sum overflowed, the sum of the terms already divided, which `scaled` works out."""
    with np.errstate(all="ignore"):
        finite = np.isfinite(sums)
        return sums / counts if finite.all() else np.where(finite, sums / counts, scaled())


def row_means(values: Values, mask: Mask) -> Values:
    """The mean of the masked values of each row; NaN for an empty row."""
    counts = mask.sum(axis=1)
    with np.errstate(all="ignore"):
        return means(row_sums(values, mask), counts, lambda: row_sums(values / counts[:, None], mask))


def row_variances(values: Values, mask: Mask) -> Values:
    """The population variance of the masked values of each row."""
    with np.errstate(all="ignore"):
        # Measured from the first value, so that equal values differ from their mean by exactly nothing.
        moved = values - values[:, :1]
        away = moved - row_means(moved, mask)[:, None]
        return row_means(away * away, mask)


def smaller(a: Values | float, b: Values | float) -> Values:
    """The smaller of two, NaN if one is NaN, but -Inf beside NaN is -Inf (Go's `math.Min`)."""
    return np.where(np.isneginf(a) | np.isneginf(b), -np.inf, np.minimum(a, b))


def larger(a: Values | float, b: Values | float) -> Values:
    """The larger of two, NaN if one is NaN, but +Inf beside NaN is +Inf (Go's `math.Max`)."""
    return np.where(np.isposinf(a) | np.isposinf(b), np.inf, np.maximum(a, b))


def quantile(q: float, values: NDArray[np.float64]) -> float:
    """The q-quantile by linear interpolation; NaN counts as the smallest value (Prometheus: `quantile`)."""
    if not len(values) or math.isnan(q):
        return math.nan
    if q < 0 or q > 1:
        return math.copysign(math.inf, q)
    nan = np.isnan(values)
    ordered = np.concatenate([values[nan], np.sort(values[~nan])])
    rank = q * (len(ordered) - 1)
    lower = max(0, math.floor(rank))
    upper = min(len(ordered) - 1, lower + 1)
    weight = rank - math.floor(rank)
    with np.errstate(all="ignore"):
        return float(ordered[lower] * (1 - weight) + ordered[upper] * weight)


def row_quantiles(q: float, values: Values, mask: Mask) -> Values:
    """The q-quantile of the masked values of each row; NaN for an empty row."""
    counts = mask.sum(axis=1)
    if math.isnan(q) or q < 0 or q > 1 or not values.shape[1] or np.isnan(values[mask]).any():
        return np.array([quantile(q, row[kept]) for row, kept in zip(values, mask, strict=True)])
    ordered = np.sort(np.where(mask, values, np.inf), axis=1)
    rank = q * (counts - 1)
    lower = np.maximum(np.floor(rank), 0).astype(np.intp)
    upper = np.minimum(np.maximum(counts - 1, 0), lower + 1)
    weight = rank - np.floor(rank)
    rows = np.arange(len(values))
    with np.errstate(all="ignore"):
        result = ordered[rows, lower] * (1 - weight) + ordered[rows, upper] * weight
    return np.where(counts > 0, result, np.nan)
