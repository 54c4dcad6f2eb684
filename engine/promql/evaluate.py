"""The parts of an expression that read windows or stand for themselves, and the compiled expression.

Operators, aggregations and functions have files of their own; all are `values.Node`s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from engine.core.expression import EvaluationError, Selector, Values, Vector, Window
from engine.core.labels import Labels, Matcher
from engine.core.messages import EvidenceLine
from engine.core.series import Mask, Rows, SeriesSet, sort_key
from engine.core.window import MetricWindow
from engine.promql.runs import Kernel
from engine.promql.stretch import Stretch
from engine.vector import names
from engine.vector.values import (
    LOOKBACK_MS,
    ONE,
    Context,
    InstantVector,
    Node,
    RangeVector,
    Value,
    range_of_columns,
    sorted_vector,
    vector_value,
)

DEFAULT_STEP_MS = 60_000


@dataclass(frozen=True, slots=True)
class Text:
    """A string."""

    value: str

    def evaluate(self, _: Context) -> str:
        """The string."""
        return self.value


@dataclass(frozen=True, slots=True)
class Shift:
    """When a selector looks: `@ at_ms` (or the start or end of the query) and `offset`."""

    at: int | Literal["start", "end"] | None = None
    offset_ms: int = 0

    def resolve(self, context: Context) -> int:
        """The time to look at."""
        if self.at is None:
            return context.at_ms - self.offset_ms
        fixed = {"start": context.start_ms, "end": context.end_ms}.get(str(self.at))
        return (int(self.at) if fixed is None else fixed) - self.offset_ms


@dataclass(frozen=True, slots=True)
class InstantSelector:
    """`name{matchers}`: the newest sample of each series within the lookback."""

    key: str
    matchers: tuple[Matcher, ...]
    shift: Shift

    def evaluate(self, context: Context) -> InstantVector:
        """The values."""
        return self.newest(context)[0]

    def newest(self, context: Context) -> tuple[InstantVector, np.typing.NDArray[np.int64]]:
        """The values and when they were sampled."""
        at_ms = self.shift.resolve(context)
        seen_ms = context.visible_ms(at_ms)
        view = window_of(context, self.key).instant(seen_ms, LOOKBACK_MS - (at_ms - seen_ms))
        return InstantVector(_named(view.series, context), view.values, view.present), view.times


@dataclass(frozen=True, slots=True)
class RangeSelector:
    """`name{matchers}[range]`: the samples in `(at - range, at]`."""

    key: str
    matchers: tuple[Matcher, ...]
    range_ms: int
    shift: Shift

    def evaluate(self, context: Context) -> RangeVector:
        """The samples."""
        at_ms = self.shift.resolve(context)
        view = window_of(context, self.key).range(at_ms - self.range_ms, context.visible_ms(at_ms))
        return replace(view, end_ms=at_ms, series=_named(view.series, context))

    def reduced(self, kernel: Kernel, context: Context) -> tuple[SeriesSet, Values, Mask]:
        """The series, what a function makes of their samples, and where it does."""
        if context.stretch is None or self.shift.at is not None:
            data = self.evaluate(context)
            return data.series, *kernel(data)
        window, bounds = window_of(context, self.key), (self.range_ms + self.shift.offset_ms, self.shift.offset_ms)
        series, values, present = context.stretch.result(
            (self.key, bounds, kernel), kernel, window, context.at_ms, bounds
        )
        return _named(series, context), values, present


@dataclass(frozen=True, slots=True)
class Subquery:
    """`operand[range:step]`: the operand evaluated at every multiple of the step in the range."""

    operand: Node
    range_ms: int
    step_ms: int
    shift: Shift

    def evaluate(self, context: Context) -> RangeVector:
        """The results as samples."""
        end_ms = self.shift.resolve(context)
        start_ms = end_ms - self.range_ms
        first_ms = (start_ms // self.step_ms + 1) * self.step_ms
        times = np.arange(first_ms, end_ms + 1, self.step_ms, dtype=np.int64)
        # `start()`, `end()` and `step()` are those of the whole query, also in here.
        inside = replace(context, stretch=None)
        vectors = [vector_value(self.operand.evaluate(inside.at(int(t)))) for t in times]
        series, row_maps = _union([vector.series for vector in vectors])
        values = np.zeros((len(series), len(times)))
        present = np.zeros((len(series), len(times)), dtype=np.bool_)
        for column, (vector, rows) in enumerate(zip(vectors, row_maps, strict=True)):
            kept = np.flatnonzero(vector.present)
            values[rows[kept], column] = vector.values[kept]
            present[rows[kept], column] = True
        return range_of_columns(series, times, values, present, (start_ms, end_ms))


@dataclass(frozen=True, slots=True)
class Negation:
    """`-operand`."""

    operand: Node

    def evaluate(self, context: Context) -> Value:
        """The negative of a scalar or of every element."""
        value = self.operand.evaluate(context)
        return -value if isinstance(value, float) else vector_value(value).with_values(-vector_value(value).values)


def _named(series: SeriesSet, context: Context) -> SeriesSet:
    return names.delayed(series) if context.delayed_names else series


def window_of(context: Context, key: str) -> MetricWindow:
    """The window of a selector. Raises `EvaluationError` if there is none."""
    window = context.windows.get(key)
    if not isinstance(window, MetricWindow):
        raise EvaluationError(f"no window of metrics for {key}")
    return window


def _union(sets: Sequence[SeriesSet]) -> tuple[SeriesSet, list[Rows]]:
    """All series of several sets, each once, and for each set where its rows went."""
    different = {id(series): series for series in sets}
    if len(different) == 1:
        only = sets[0]
        if only.distinct:
            return only, [np.arange(len(only))] * len(sets)
    rows: dict[tuple[tuple[str, str], ...], int] = {}
    labels: list[Labels] = []
    maps: dict[int, Rows] = {}
    for key, series in different.items():
        target = np.empty(len(series), dtype=np.intp)
        for i, own in enumerate(series.labels):
            row = target[i] = rows.setdefault(sort_key(own), len(rows))
            if row == len(labels):
                labels.append(own)
        maps[key] = target
    marks = np.zeros(len(labels), dtype=np.bool_)
    for key, series in different.items():
        marks[maps[key]] |= names.leaving(series)
    union = names.like(SeriesSet(labels, distinct=True), list(different.values()), marks)
    return union, [maps[id(series)] for series in sets]


@dataclass(frozen=True)
class PromQLExpression:
    """A compiled PromQL expression (an `engine.core.expression.Expression`).

    With `delayed_names`, a rule's metric names go at the end of its evaluation, not at once.
    """

    text: str
    selectors: tuple[Selector, ...]
    root: Node
    delayed_names: bool = False

    def evaluate(self, windows: Mapping[str, Window], at_ms: int) -> Vector:
        """Its value at `at_ms`, as a rule sees it: nothing later than that is looked at."""
        return self._evaluate(windows, None, at_ms)

    def _evaluate(self, windows: Mapping[str, Window], stretch: Stretch | None, at_ms: int) -> Vector:
        names_late = self.delayed_names
        context = Context(windows, at_ms, at_ms, at_ms, horizon_ms=at_ms, delayed_names=names_late, stretch=stretch)
        value = self.evaluate_in(context)
        if isinstance(value, float):
            return Vector(ONE.labels, np.array([value]), is_scalar=True)
        if isinstance(value, InstantVector):
            return sorted_vector(value)
        raise EvaluationError(f"a rule needs a vector or a scalar, not {type(value).__name__}")

    def ahead(self, windows: Mapping[str, Window], times: Sequence[int]) -> Callable[[int], Vector]:
        """`evaluate` for each of these times, to be asked in their order while the windows stay as they are."""
        return partial(self._evaluate, windows, Stretch(times) if len(times) > 1 else None)

    def evaluate_in(self, context: Context) -> Value:
        """Its value in any context: one step of a range query, say. Raises `EvaluationError`."""
        value = self.root.evaluate(context)
        if isinstance(value, InstantVector):
            return names.final(value)
        return replace(value, series=names.without(value.series)) if isinstance(value, RangeVector) else value

    def evidence(self, windows: Mapping[str, Window], at_ms: int, labels: Labels, limit: int) -> list[EvidenceLine]:
        """Metrics have no lines to show."""
        return []
