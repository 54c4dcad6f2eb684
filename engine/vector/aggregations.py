"""Aggregation over series: `sum by (job) (...)` and its kin.

Most kinds reduce each group to one number with one numpy call; which row is in which group is worked out once per
set of series (`SeriesSet.grouped`). The rest choose rows (`topk`) or make new groups (`count_values`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engine.core.expression import EvaluationError, Values
from engine.core.labels import Labels
from engine.core.series import Rows, SeriesSet, sort_key
from engine.vector import format as fmt
from engine.vector import names, numeric, ratio
from engine.vector.values import (
    Context,
    InstantVector,
    Node,
    from_rows,
    scalar_value,
    string_value,
    unique,
    vector_value,
)

Reduce = Callable[[Values, Rows, int], Values]


@dataclass(frozen=True, slots=True)
class Aggregation:
    """`operator [by|without (labels)] ([parameter,] operand)`."""

    operator: str
    operand: Node
    parameter: Node | None
    labels: tuple[str, ...]
    by: bool

    def evaluate(self, context: Context) -> InstantVector:
        """One element per group, or the chosen elements."""
        vector = vector_value(self.operand.evaluate(context))
        if self.operator in REDUCTIONS:
            return self._reduce(vector, REDUCTIONS[self.operator])
        if self.parameter is None:
            raise EvaluationError(f"{self.operator} needs a parameter")
        parameter = self.parameter.evaluate(context)
        if self.operator == "count_values":
            return self._count_values(vector, string_value(parameter))
        number = scalar_value(parameter)
        if self.operator == "quantile":
            if not 0 <= number <= 1:
                context.note("warn", f"quantile value should be between 0 and 1, got {fmt.general(number)}")
            return self._reduce(vector, lambda v, g, n: _quantiles(number, v, g, n))
        if self.operator == "limit_ratio":
            return self._share(vector, number, context)
        return self._choose(vector, number)

    def _groups(self, series: SeriesSet) -> tuple[Rows, SeriesSet]:
        return series.grouped(self.labels, by=self.by)

    def _reduce(self, vector: InstantVector, reduce: Reduce) -> InstantVector:
        groups, series = self._groups(vector.series)
        order = vector.series.canonical
        if len(order) and vector.present.all():
            own = vector.series.memo(("canonical groups", self.labels, self.by), lambda: groups[order])
            present = np.ones(len(series), dtype=np.bool_)  # as each group has a row
        else:
            order = order[vector.present[order]]
            own = groups[order]
            present = np.bincount(own, minlength=len(series)) > 0
        with np.errstate(all="ignore"):
            return InstantVector(series, reduce(vector.values[order], own, len(series)), present)

    def _choose(self, vector: InstantVector, parameter: float) -> InstantVector:
        """The first `parameter` rows of each group: by value, or in label order for `limitk`."""
        if math.isnan(parameter):
            raise EvaluationError("Parameter value is NaN")
        if abs(parameter) >= 2**63:
            raise EvaluationError(f"Scalar value {fmt.general(parameter)} overflows int64")
        rows = np.flatnonzero(vector.present)
        values, rank = vector.values[rows], vector.series.rank[rows]
        groups = self._groups(vector.series)[0][rows]
        sign = {"topk": -1.0, "bottomk": 1.0, "limitk": 0.0}[self.operator]
        with np.errstate(invalid="ignore"):
            key = np.zeros(len(rows)) if sign == 0 else values * sign
        first = np.full(len(vector.series), len(vector.series))
        np.minimum.at(first, groups, rank)  # groups come in the order of their first elements
        order = np.lexsort((rank, key, np.isnan(key), first[groups]))
        ordered_groups = first[groups][order]
        starts = np.searchsorted(ordered_groups, ordered_groups)
        chosen = rows[order[np.arange(len(order)) - starts < int(parameter)]]
        present = np.zeros(len(vector.present), dtype=np.bool_)
        present[chosen] = True
        return InstantVector(vector.series, vector.values, present, chosen if sign else None)

    def _share(self, vector: InstantVector, parameter: float, context: Context) -> InstantVector:
        if math.isnan(parameter):
            raise EvaluationError("Ratio value is NaN")
        capped = max(-1.0, min(1.0, parameter))
        if capped != parameter:
            got, cap = fmt.general(parameter), fmt.general(capped)
            context.note("warn", f"ratio value should be between -1 and 1, got {got}, capping to {cap}")
        kept = ratio.chosen(vector.series, capped)
        return InstantVector(vector.series, vector.values, vector.present & kept)

    def _count_values(self, vector: InstantVector, name: str) -> InstantVector:
        if not name or "\ufffd" in name:
            raise EvaluationError(f"invalid label name {fmt.quoted(name)}")
        groups, series = self._groups(vector.series)
        counts: dict[tuple[tuple[str, str], ...], tuple[Labels, int]] = {}
        for row in np.flatnonzero(vector.present):
            labels = dict(series.labels[groups[row]])
            if self.by or name not in self.labels:
                labels[name] = fmt.number(float(vector.values[row]))
            key = sort_key(labels)
            counts[key] = (labels, counts[key][1] + 1 if key in counts else 1)
        found = SeriesSet([labels for labels, _ in counts.values()], distinct=True)
        values = np.array([float(count) for _, count in counts.values()])
        return unique(from_rows(names.kept(found, vector.series), values))


def _sum(values: Values, groups: Rows, count: int) -> Values:
    return numeric.group_sums(values, groups, count)


def _avg(values: Values, groups: Rows, count: int) -> Values:
    sizes = np.bincount(groups, minlength=count).astype(np.float64)
    sums = numeric.group_sums(values, groups, count)
    return numeric.means(sums, sizes, lambda: numeric.group_sums(values / sizes[groups], groups, count))


def _count(_: Values, groups: Rows, count: int) -> Values:
    return np.bincount(groups, minlength=count).astype(np.float64)


def _group(_: Values, groups: Rows, count: int) -> Values:
    return np.ones(count)


def _min(values: Values, groups: Rows, count: int) -> Values:
    result = np.full(count, np.nan)
    np.fmin.at(result, groups, values)
    return result


def _max(values: Values, groups: Rows, count: int) -> Values:
    result = np.full(count, np.nan)
    np.fmax.at(result, groups, values)
    return result


def _stdvar(values: Values, groups: Rows, count: int) -> Values:
    # Measured from the smallest value, so that equal values differ from their mean by exactly nothing.
    moved = values - _min(values, groups, count)[groups]
    away = moved - _avg(moved, groups, count)[groups]
    return _avg(away * away, groups, count)


def _stddev(values: Values, groups: Rows, count: int) -> Values:
    return np.sqrt(_stdvar(values, groups, count))


def _quantiles(q: float, values: Values, groups: Rows, count: int) -> Values:
    order = np.argsort(groups, kind="stable")
    ends = np.cumsum(np.bincount(groups, minlength=count))[:count]
    return np.array([numeric.quantile(q, part) for part in np.split(values[order], ends)[:count]], dtype=np.float64)


REDUCTIONS: dict[str, Reduce] = {
    "sum": _sum,
    "avg": _avg,
    "count": _count,
    "group": _group,
    "min": _min,
    "max": _max,
    "stddev": _stddev,
    "stdvar": _stdvar,
}
AGGREGATIONS = {*REDUCTIONS, "quantile", "count_values", "topk", "bottomk", "limitk", "limit_ratio"}
