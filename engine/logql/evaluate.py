"""The nodes of a compiled LogQL expression: range aggregations over windows of lines, and what LogQL adds to vectors.

Vector aggregations, operators and matching are PromQL's, and its nodes are used for them. A range aggregation reduces
the rows of a slice per series with one numpy call. Semantics: Loki `pkg/logql/range_vector.go`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from engine.core.expression import EvaluationError, Selector, Values, Vector, Window
from engine.core.labels import Labels, Matcher
from engine.core.messages import EvidenceLine
from engine.core.series import SeriesSet
from engine.logql.window import LogWindow, Slice, Totals
from engine.vector import numeric, relabel
from engine.vector.aggregations import REDUCTIONS
from engine.vector.values import (
    ONE,
    Context,
    InstantVector,
    Node,
    Value,
    from_rows,
    single,
    sorted_vector,
    vector_value,
)

_REDUCED = {
    "count_over_time": "count",
    "sum_over_time": "sum",
    "bytes_over_time": "sum",
    "avg_over_time": "avg",
    "min_over_time": "min",
    "max_over_time": "max",
    "stddev_over_time": "stddev",
    "stdvar_over_time": "stdvar",
}
_PER_SECOND = {"rate", "bytes_rate"}
_TOTALS = {"count_over_time", "sum_over_time", "bytes_over_time", *_PER_SECOND}
NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class LogRange:
    """Where a range aggregation finds its lines."""

    key: str
    range_ms: int
    offset_ms: int

    def bounds(self, at_ms: int) -> tuple[int, int]:
        """The range is `(start, end]`."""
        return at_ms - self.offset_ms - self.range_ms, at_ms - self.offset_ms

    def totals(self, context: Context) -> Totals | None:
        """The sums of the lines' values in the range, where whole numbers make them exact however they are reached."""
        window = window_of(context.windows, self.key)
        return window.totals(*self.bounds(context.at_ms), (self.range_ms, self.offset_ms))

    def slice(self, context: Context) -> Slice:
        """The lines of the range."""
        return window_of(context.windows, self.key).slice(*self.bounds(context.at_ms))


def window_of(windows: Mapping[str, Window], key: str) -> LogWindow:
    """The window of a selector."""
    window = windows.get(key)
    if not isinstance(window, LogWindow):
        raise EvaluationError(f"no window of lines for {key}")
    return window


@dataclass(frozen=True, slots=True)
class RangeNode:
    """`op({...} [range])`: one element per series that has a line in the range."""

    op: str
    lines: LogRange
    parameter: float = 0.0

    def evaluate(self, context: Context) -> Value:
        """An instant vector."""
        if self.op in _TOTALS:
            totals = self.lines.totals(context)
            if totals is not None:
                divide_by = self.lines.range_ms / 1000 if self.op in _PER_SECOND else 1.0
                return InstantVector(totals.series, totals.sums / divide_by, totals.present)
        found = self.lines.slice(context)
        count = len(found.series)
        present = np.bincount(found.ids, minlength=count) > 0
        with np.errstate(all="ignore"):
            values = self._reduce(found, count, self.lines.bounds(context.at_ms))
        return InstantVector(found.series, values, present)

    def _reduce(self, found: Slice, count: int, bounds: tuple[int, int]) -> Values:
        if self.op in _REDUCED:
            return REDUCTIONS[_REDUCED[self.op]](found.values, found.ids, count)
        if self.op in _PER_SECOND:
            return REDUCTIONS["sum"](found.values, found.ids, count) / (self.lines.range_ms / 1000)
        values = np.zeros(count)
        if self.op == "last_over_time":
            values[found.ids] = found.values  # of several the last one stays
        elif self.op == "first_over_time":
            values[found.ids[::-1]] = found.values[::-1]
        else:
            order = np.argsort(found.ids, kind="stable")
            ids, starts = np.unique(found.ids[order], return_index=True)
            parts = np.split(order, starts[1:]) if len(ids) else []
            for number, rows in zip(ids.tolist(), parts, strict=True):
                values[number] = self._of_series(found, rows, bounds)
        return values

    def _of_series(
        self, found: Slice, rows: np.ndarray[tuple[int], np.dtype[np.intp]], bounds: tuple[int, int]
    ) -> float:
        if self.op == "quantile_over_time":
            return numeric.quantile(self.parameter, found.values[rows])
        return counter_rate(found.times[rows] / NS_PER_S, found.values[rows], bounds[0] / 1000, bounds[1] / 1000)


def counter_rate(times_s: Values, values: Values, start_s: float, end_s: float) -> float:
    """The rate of a counter over a range, extrapolated to its borders as Prometheus does (`rate_counter`)."""
    if len(values) < 2:
        return 0.0
    increase = float(values[-1] - values[0] + values[:-1][values[1:] < values[:-1]].sum())
    sampled_s = float(times_s[-1] - times_s[0])
    if sampled_s <= 0:
        return 0.0
    average_s = sampled_s / (len(values) - 1)
    before_s, after_s = float(times_s[0]) - start_s, end_s - float(times_s[-1])
    before_s = average_s / 2 if before_s >= average_s * 1.1 else before_s
    after_s = average_s / 2 if after_s >= average_s * 1.1 else after_s
    if increase > 0 and values[0] >= 0:
        before_s = min(before_s, sampled_s * float(values[0]) / increase)
    return increase * (sampled_s + before_s + after_s) / sampled_s / (end_s - start_s)


@dataclass(frozen=True, slots=True)
class AbsentNode:
    """`absent_over_time({...} [range])`: one element if the range has no line."""

    lines: LogRange
    matchers: tuple[Matcher, ...]

    def evaluate(self, context: Context) -> Value:
        """One element with the labels that the selector pins down, or none."""
        if len(self.lines.slice(context).ids):
            return from_rows(SeriesSet([], distinct=True), np.zeros(0))
        return from_rows(SeriesSet([relabel.absent_labels(self.matchers)], distinct=True), np.ones(1))


@dataclass(frozen=True, slots=True)
class VectorNode:
    """`vector(1)`."""

    value: float

    def evaluate(self, context: Context) -> Value:
        """One element without labels."""
        return single(self.value)


@dataclass(frozen=True, slots=True)
class SortNode:
    """`sort(operand)` and `sort_desc(operand)`."""

    operand: Node
    descending: bool

    def evaluate(self, context: Context) -> Value:
        """The operand's elements in the order of their values, NaN last."""
        return relabel.ordered_by_value(vector_value(self.operand.evaluate(context)), descending=self.descending)


@dataclass(frozen=True, slots=True)
class ZeroIsNaN:
    """A divisor: in LogQL dividing by zero gives NaN, where PromQL gives an infinity."""

    operand: Node

    def evaluate(self, context: Context) -> Value:
        """The operand's value, NaN for zero."""
        value = self.operand.evaluate(context)
        if isinstance(value, float):
            return value or math.nan
        vector = vector_value(value)
        return vector.with_values(np.where(vector.values == 0, np.nan, vector.values))


@dataclass(frozen=True, slots=True)
class OrderKept:
    """An operator between a vector and a scalar, which in LogQL leaves a sorted vector sorted."""

    operation: Node
    operand: Node

    def evaluate(self, context: Context) -> Value:
        """The operation's value in the operand's order."""
        result = vector_value(self.operation.evaluate(context))
        return replace(result, order=vector_value(self.operand.evaluate(context)).order)


@dataclass(frozen=True, slots=True)
class LabelReplaceNode:
    """`label_replace(operand, target, template, source, expression)`."""

    operand: Node
    target: str
    template: str
    source: str
    expression: str

    def evaluate(self, context: Context) -> Value:
        """The operand with changed labels."""
        vector = vector_value(self.operand.evaluate(context))
        return relabel.label_replace(vector, self.target, self.template, self.source, self.expression)


@dataclass(frozen=True)
class LogQLExpression:
    """A compiled LogQL expression (an `engine.core.expression.Expression`).

    `ranges` are its log ranges. Lines that fail in the pipeline (`__error__`) make Loki refuse the whole query. In a
    stream that would let one malformed line blind a rule for the length of its range, so they are left out here and
    `failed_lines` tells of them; with `strict` they raise as in Loki. `instant_only` marks what Loki refuses in range
    queries.
    """

    text: str
    selectors: tuple[Selector, ...]
    root: Node
    ranges: tuple[LogRange, ...]
    strict: bool = False
    instant_only: str = ""

    def evaluate(self, windows: Mapping[str, Window], at_ms: int) -> Vector:
        """Its value at `at_ms`. Raises `EvaluationError`."""
        if self.strict:
            for labels, _ in self.failed_lines(windows, at_ms):
                raise EvaluationError(f"pipeline error: '{labels['__error__']}' for series: '{labels}'")
        value = self.root.evaluate(Context(windows, at_ms, at_ms, at_ms))
        if isinstance(value, float):
            return Vector(ONE.labels, np.array([value]), is_scalar=True)
        return sorted_vector(vector_value(value))

    def failed_lines(self, windows: Mapping[str, Window], at_ms: int) -> list[tuple[Labels, int]]:
        """The series (with `__error__`) and counts of lines in the ranges that failed in the pipeline."""
        return [found for lines in self.ranges for found in window_of(windows, lines.key).failed(*lines.bounds(at_ms))]

    def evidence(self, windows: Mapping[str, Window], at_ms: int, labels: Labels, limit: int) -> list[EvidenceLine]:
        """The last lines inside the ranges whose series agree with `labels` on every name both have, oldest first."""
        found: dict[tuple[int, str], EvidenceLine] = {}
        for lines in self.ranges:
            for line in window_of(windows, lines.key).evidence(*lines.bounds(at_ms), labels, limit):
                found[line.t_ns, line.line] = line
        return [found[key] for key in sorted(found)][-limit:] if limit > 0 else []
